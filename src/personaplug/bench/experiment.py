"""Train a method with its control and measure both: the path of train, eval and demo; a killed run goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaplug import registry
from personaplug.artifacts import CONFIG, load_info, load_tensors
from personaplug.assembly import Assembly, RunConfig, assemble, build_backbone, build_store, build_task, split_section
from personaplug.bench import results
from personaplug.bench.results import Curve, Result
from personaplug.bench.run import Row, measure
from personaplug.config import from_mapping, to_mapping
from personaplug.errors import ConfigError
from personaplug.types import Example, Needs, Split

if TYPE_CHECKING:
    from personaplug.backbones.base import Backbone
    from personaplug.stores.base import Store

Watch = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""`with watch("measuring", 600) as advance:` ... `advance(32)`: how a long step is shown; 0 is an unknown size."""

_CHUNK = 2_000  # behaviours in one transaction
_IMPERSONAL = ("none", "task_prompt")  # methods that read no history


@contextmanager
def silent(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows nothing."""
    del name, total
    yield lambda _: None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A method ready to be measured; `reused` if its artifact was there already."""

    assembly: Assembly
    curve: Curve
    folder: Path
    reused: bool


@dataclass(frozen=True, slots=True)
class Measuring:
    """What to measure.

    Attributes:
        limit: at most so many test requests, evenly spread; 0 is all.
        generate: how many of them get a generated answer (text tasks).
        batch_size: requests run together.
    """

    limit: int = 0
    generate: int = 64
    batch_size: int = 128


class Experiment:
    """A run's configuration with everything that it leaves in its folder.

        OUT/users.db               behaviours, vectors, states (unless [store] has its own url)
        OUT/checkpoints/           trainings that are under way
        OUT/LABEL/                 a trained artifact: plug, task_prompt, plug-seed1, ...
        OUT/LABEL.training.json    its learning curve
        OUT/results/               what was measured so far

    Args:
        run: the configuration.
        out: the folder.
        name: the experiment's name in results.
        watch: how long steps are shown.
    """

    def __init__(self, run: RunConfig, out: Path, name: str, watch: Watch = silent) -> None:
        self.run = run
        self.out = out
        self.name = name
        self.watch = watch
        self.task = build_task(run.task)
        self.info = self.task.info
        self._without_training: dict[str, Row] = {}

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen model, loaded once for all methods and seeds."""
        return build_backbone(self.run.backbone)

    @cached_property
    def store(self) -> Store:
        """The store, with the task's behaviours in it, so that vectors have something to belong to."""
        section = dict(self.run.store)
        if section.get("name") == "sql" and "url" not in section:
            self.out.mkdir(parents=True, exist_ok=True)
            section["url"] = str(self.out / "users.db")
        store = build_store(section)
        with self.watch("storing behaviours", 0) as advance:
            behaviors = self.task.behaviors()
            while chunk := list(itertools.islice(behaviors, _CHUNK)):
                store.add(chunk)
                advance(len(chunk))
        return store

    def examples(self, split: Split, limit: int = 0) -> list[Example]:
        """The split's examples, at most `limit` of them, evenly spread."""
        found = self.task.examples(split)
        if not 0 < limit < len(found):
            return found
        return [found[(2 * i + 1) * len(found) // (2 * limit)] for i in range(limit)]

    # -- training -------------------------------------------------------------------------------------------------

    def seeded(self, seed: int) -> RunConfig:
        """The run with another training seed."""
        return dataclasses.replace(self.run, training=dataclasses.replace(self.run.training, seed=seed))

    def fit(self, run: RunConfig | None = None) -> Fitted:
        """Train the run's method, or load it if it was trained here before; goes on from the newest checkpoint.

        Raises:
            ConfigError: the folder holds the same method trained with another configuration.
        """
        run = run or self.run
        name, _ = split_section(run.method, "method")
        if name in _IMPERSONAL:
            run = dataclasses.replace(run, encoder={})
        assembly = assemble(run, self.info, self.store if run.encoder else None, self.backbone)
        label = name if run.training.seed == self.run.training.seed else f"{name}-seed{run.training.seed}"
        folder, log = self.out / label, self.out / f"{label}.training.json"
        if name == "none":
            return Fitted(assembly, Curve(0, 0.0, ()), folder, reused=True)
        if (folder / CONFIG).exists():
            self._check_same(folder, assembly)
            if assembly.method.trained:
                assembly.method.load_tensors(load_tensors(folder))
            curve = from_mapping(Curve, json.loads(log.read_text(encoding="utf-8")), where=str(log))
            return Fitted(assembly, curve, folder, reused=True)
        train = self.examples("train") if assembly.method.trained else []
        dev = self.examples("dev") if assembly.method.trained and run.training.eval_every else []
        self.encode(assembly, [*train, *dev])
        checkpoints = self.out / "checkpoints" / f"{label}-{_digest(run)}"
        with self.watch(f"training {label}", 0):
            done = assembly.method.fit(train, dev, run.training, checkpoints)
        curve = Curve(done.steps, done.seconds, done.curve, done.dev_curve) if done else Curve(0, 0.0, ())
        results.write_json(log, to_mapping(curve))
        assembly.save(folder, self._data(run), {})
        shutil.rmtree(checkpoints, ignore_errors=True)
        return Fitted(assembly, curve, folder, reused=False)

    def encode(self, assembly: Assembly, examples: Sequence[Example]) -> int:
        """Encode the behaviours of the examples' histories that no store has vectors of; returns how many."""
        if assembly.vectors is None:
            return 0
        distinct = {(b.user, b.id): b for e in examples for b in e.history}
        template = to_mapping(assembly.method.config).get("history_text") or self.info.history_text
        with self.watch("encoding", 0):
            return assembly.vectors.warm(distinct.values(), template, progress=self.watch is not silent)

    def _data(self, run: RunConfig) -> dict[str, Any]:
        train = self.examples("train")
        users = len({e.history.user for e in train})
        return {"task": results.portable(run.task), "train_requests": len(train), "train_users": users}

    def _check_same(self, folder: Path, assembly: Assembly) -> None:
        """Refuse an artifact of another configuration: it would be measured under a wrong name."""
        info = load_info(folder)
        run, method = assembly.run, assembly.method
        info.check(assembly.part("backbone"), assembly.part("encoder") if assembly.vectors else None)
        pairs = {
            "method": (info.config, to_mapping(method.config)),
            "training": (info.training, to_mapping(run.training) if method.trained else {}),
            "task": (info.data.get("task", {}), results.portable(run.task)),
        }
        for section, (there, here) in pairs.items():
            for key in sorted({*there, *here}):
                if there.get(key) != here.get(key):
                    raise ConfigError(
                        f"{folder}: was trained with {section}.{key} = {there.get(key)!r}, now it is "
                        f"{here.get(key)!r}; choose another --out, or delete this folder"
                    )

    # -- measuring ------------------------------------------------------------------------------------------------

    def control(self) -> RunConfig | None:
        """The same training of a task prompt: as many soft tokens at the same place, none of which sees a user."""
        from personaplug.plug import PlugConfig

        name, section = split_section(self.run.method, "method")
        if name in _IMPERSONAL or Needs.PREFIX not in self.backbone.accepts:
            return None
        config = from_mapping(registry.find("method", name).Config, section, where=f"method {name!r}")
        method: dict[str, Any] = {"name": "task_prompt"}
        if isinstance(config, PlugConfig):
            tokens = config.persona_tokens + config.instruction_tokens
            method |= {"instruction_tokens": tokens, "position": config.position, "scale": config.scale}
        return dataclasses.replace(self.run, method=method)

    def evaluate(self, seed: int, measuring: Measuring) -> Result:
        """Train and measure everything for one seed: none, task prompt, the method, and the method's controls.

        Every finished row is kept at once in `OUT/results`, so a killed evaluation repeats at most one row.
        """
        path = self.out / "results" / f"{self.name}-seed{seed}.json"
        config = self.config(measuring)
        before = results.load(path) if path.exists() else None
        done = {(r.method, r.control): r for r in before.rows} if before and before.config == config else {}
        spent = dict(before.seconds) if before and done else {}
        result = Result(
            self.name, seed, self.info, config, seconds=spent,
            device=results.device_name(getattr(self.backbone, "device", "cpu")),
            versions=results.versions(), commit=results.commit(),
        )  # fmt: skip
        for run, controls in self._plan(seed):
            start = time.perf_counter()
            fitted = self.fit(run)
            name = fitted.assembly.method.name
            result = _with_training(result, fitted, time.perf_counter() - start)
            for control in controls:
                row = self._row(fitted, control, seed, measuring, done.get((name, control)))
                seconds = {**result.seconds, f"measuring {row.title}": row.seconds}
                result = dataclasses.replace(result, rows=(*result.rows, row), seconds=seconds, date=_now())
                results.save(path, result)
        return result

    def config(self, measuring: Measuring) -> dict[str, Any]:
        """The configuration as results keep it: without the store, the seed and this machine's paths."""
        plain = to_mapping(self.run)
        del plain["store"], plain["training"]["seed"]
        return {**results.portable(plain), "measuring": to_mapping(measuring)}

    def _plan(self, seed: int) -> Iterator[tuple[RunConfig, tuple[str, ...]]]:
        run = self.seeded(seed)
        name, _ = split_section(run.method, "method")
        if name != "none":
            yield dataclasses.replace(run, method={"name": "none"}), ("",)
        if control := self.control():
            yield dataclasses.replace(control, training=run.training), ("",)
        yield run, ("",) if name in _IMPERSONAL else ("", "shuffled users", "no history")

    def _row(self, fitted: Fitted, control: str, seed: int, measuring: Measuring, before: Row | None) -> Row:
        examples = self.examples("test", measuring.limit)
        method = fitted.assembly.method
        known = self._without_training.get(method.name) or before
        if known and known.key == method.key and known.ids == tuple(e.id for e in examples):
            return known
        if not control:
            self.encode(fitted.assembly, examples)
        with self.watch(f"measuring {method.name}{', ' * bool(control)}{control}", len(examples)) as advance:
            row = measure(
                method, self.info, examples,
                control=control, seed=seed, generate=0 if control == "no history" else measuring.generate,
                batch_size=measuring.batch_size, progress=advance,
            )  # fmt: skip
        if not method.trained and method.name in _IMPERSONAL:
            self._without_training[method.name] = row  # the same for every seed
        return row


def read_run(mapping: Mapping[str, Any], where: str) -> RunConfig:
    """A run's configuration from plain data.

    Raises:
        ConfigError: a section or key is unknown, or there is no task.
    """
    run = from_mapping(RunConfig, mapping, where=where)
    if not run.task:
        raise ConfigError(f'{where}: no [task]; name one, for example: [task] name = "jsonl", path = "FOLDER"')
    return run


def _digest(run: RunConfig) -> str:
    """8 hex digits of everything but the store: a training that was killed is continued only by its own run."""
    plain = {k: v for k, v in to_mapping(run).items() if k != "store"}
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=4).hexdigest()


def _with_training(result: Result, fitted: Fitted, seconds: float) -> Result:
    """Note a training and what it took; a reused one keeps the time of when it was trained."""
    if not fitted.assembly.method.trained:
        return result
    name = fitted.assembly.method.name
    spent = fitted.curve.seconds if fitted.reused else seconds
    return dataclasses.replace(
        result,
        curves={**result.curves, name: fitted.curve},
        seconds={**result.seconds, f"training {name}": spent},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
