"""Train methods and measure them beside each other: the path of train, eval, bench and demo; a killed run goes on."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaplug.bench import results
from personaplug.bench.fingerprint import content, fingerprint, pseudonym
from personaplug.bench.measure import Measuring, Row, measure, numbered, with_judgement
from personaplug.bench.plan import Entry, entries, main_label
from personaplug.bench.report.showcase import used_texts
from personaplug.bench.results import Curve, Result, Shown
from personaplug.bench.states import StateCache
from personaplug.core.config import from_mapping, to_mapping, with_retired
from personaplug.core.errors import ConfigError, PersonaplugError
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Conditioning, Example, Split
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.pipeline.artifacts import CONFIG, load_info, load_tensors
from personaplug.pipeline.build import (
    Assembly,
    RunConfig,
    assemble,
    build_backbone,
    build_encoder,
    build_store,
    build_task,
    needs_encoder,
)
from personaplug.tasks.base import JudgedTask

if TYPE_CHECKING:
    from personaplug.backbones.base import Backbone
    from personaplug.stores.base import Store

Watch = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""`with watch("measuring", 600) as advance:` ... `advance(32)`: how a long step is shown; 0 is an unknown size."""

_CHUNK = 2_000  # behaviours in one transaction


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


class Experiment:
    """A run's configuration with everything that it leaves in its folder.

        OUT/users.db               behaviours, vectors, states (unless [store] has its own url)
        OUT/checkpoints/           trainings that are under way
        OUT/LABEL/                 a trained artifact: plug, task_prompt, plug-seed1, ...
        OUT/LABEL.training.json    its learning curve
        OUT/states/                users prepared by methods that are slow to prepare them, by content

    Args:
        run: the configuration.
        out: the folder.
        name: the experiment's name in results.
        watch: how long steps are shown.
        by_content: name artifacts by what they depend on as well, so that another configuration trains anew instead
            of being refused.
    """

    def __init__(
        self, run: RunConfig, out: Path, name: str, watch: Watch = silent, *, by_content: bool = False
    ) -> None:
        self.run = run
        self.out = out
        self.name = name
        self.watch = watch
        self.task = build_task(run.task)
        self.info = self.task.info
        self.by_content = by_content
        self.states = StateCache(out / "states")
        self._vectors: dict[str, VectorCache] = {}
        self._rows: dict[str, Row] = {}  # by fingerprint
        self._contents: dict[tuple[Split, int], str] = {}

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

    def close(self) -> None:
        """Release the store, if it was opened."""
        if "store" in self.__dict__:
            self.store.close()

    def examples(self, split: Split, limit: int = 0) -> list[Example]:
        """The split's examples, at most `limit` of them, evenly spread."""
        found = self.task.examples(split)
        return evenly_spaced(found, limit) if limit > 0 else found

    # -- training -------------------------------------------------------------------------------------------------

    def seeded(self, seed: int) -> RunConfig:
        """The run with another training seed."""
        return dataclasses.replace(self.run, training=dataclasses.replace(self.run.training, seed=seed))

    def fit(self, run: RunConfig | None = None, label: str = "") -> Fitted:
        """Train a run's method, or load it if it was trained here before; goes on from the newest checkpoint.

        Args:
            run: by default the experiment's own.
            label: what it is called here; by default its name.

        Raises:
            ConfigError: the folder holds the same method trained with another configuration.
        """
        run = run or self.run
        if not needs_encoder(run):
            run = dataclasses.replace(run, encoder={})
        assembly = self._assembled(run)
        method = assembly.method
        label = label or method.name
        if run.training.seed != self.run.training.seed:
            label = f"{label}-seed{run.training.seed}"
        if self.by_content and method.trained:
            label = f"{label}-{_own(run, self.content('train'))}"
        folder, log = self.out / label, self.out / f"{label}.training.json"
        if method.name == "none" or (self.by_content and not method.trained):
            return Fitted(assembly, Curve(0, 0.0, ()), folder, reused=True)
        if (folder / CONFIG).exists():
            self._check_same(folder, assembly)
            if method.trained:
                method.load_tensors(load_tensors(folder))
            curve = from_mapping(Curve, json.loads(log.read_text(encoding="utf-8")), where=str(log))
            return Fitted(assembly, curve, folder, reused=True)
        return self._fit(assembly, label, folder, log)

    def _fit(self, assembly: Assembly, label: str, folder: Path, log: Path) -> Fitted:
        run, method = assembly.run, assembly.method
        train = self.examples("train") if method.trained else []
        dev = self.examples("dev") if method.trained and (run.training.eval_every or method.tunes_on_dev) else []
        self.encode(assembly, [*train, *dev])
        checkpoints = self.out / "checkpoints" / f"{label}-{_own(run)}"
        with self.watch(f"training {label}", 0):
            done = method.fit(train, dev, run.training, checkpoints)
        curve = Curve(done.steps, done.seconds, done.curve, done.dev_curve) if done else Curve(0, 0.0, ())
        results.write_json(log, to_mapping(curve))
        assembly.save(folder, self._data(run), {})
        shutil.rmtree(checkpoints, ignore_errors=True)
        return Fitted(assembly, curve, folder, reused=False)

    def _assembled(self, run: RunConfig) -> Assembly:
        """Backbone, store and encoders are shared by all methods of the experiment."""
        if not run.encoder:
            return assemble(run, self.info, None, self.backbone)
        key = json.dumps(to_mapping(run)["encoder"], sort_keys=True)
        if key not in self._vectors:
            self._vectors[key] = VectorCache(build_encoder(run.encoder, self.backbone), self.store)
        return assemble(run, self.info, self.store, self.backbone, self._vectors[key])

    def encode(self, assembly: Assembly, examples: Sequence[Example]) -> int:
        """Encode the behaviours of the examples' histories that no store has vectors of; returns how many."""
        templates = assembly.method.history_templates
        if assembly.vectors is None or not templates:
            return 0
        distinct = {(b.user, b.id): b for e in examples for b in e.history}
        with self.watch("encoding", 0):
            shown = self.watch is not silent
            return sum(assembly.vectors.warm(distinct.values(), t, progress=shown) for t in templates)

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
            "method": tuple(with_retired(type(method.config), c) for c in (info.config, to_mapping(method.config))),
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

    def evaluate(
        self, seed: int, how: Measuring, path: Path, chosen: Sequence[str] = (), stop_at_failure: bool = False
    ) -> Result:
        """Train and measure every method of the experiment for one seed, each beside its controls.

        Every finished row is written to `path` at once and never measured again while nothing that it depends on
        changes, so a killed evaluation repeats at most one row. A method that fails is noted and the others go on.

        Args:
            seed: of the training and of the controls' draws.
            how: what to measure.
            path: the result's file.
            chosen: labels of methods, as in `plan.entries`.
            stop_at_failure: raise instead of going on.

        Raises:
            PersonaplugError: nothing at all could be measured; then no file is written.
        """
        self.backbone.check_scores("a measurement")
        examples = self.examples(how.split, how.limit)
        planned = entries(self.seeded(seed), chosen, Conditioning.PREFIX in self.backbone.accepts)
        before = results.load(path) if path.exists() else None
        ids = tuple(pseudonym(e.id) for e in examples)
        old = [r for r in before.rows if r.ids == ids] if before else []
        self._rows.update({r.fingerprint: r for r in old if r.fingerprint})
        result = self._blank(seed, how, before if old else None)
        first: Exception | None = None
        for entry in planned:
            try:
                for row, fitted in self._rows_of(entry, seed, how, examples):
                    result = _with_row(result, row, fitted)
                    if fitted is not None:  # what has not come up yet stays in the file until it does
                        results.save(path, _with_old(result, old))
            except Exception as error:
                if stop_at_failure:
                    raise
                first = first or error
                said = str(error) if isinstance(error, PersonaplugError) else f"{type(error).__name__}: {error}"
                result = dataclasses.replace(result, failures={**result.failures, entry.label: said.splitlines()[0]})
                with self.watch(f"{entry.label} FAILED: {result.failures[entry.label]}", 0):
                    pass
        if not result.rows and first:
            raise first
        result = _with_old(result, old if chosen else [])
        if before is None or results.plain(result) != results.plain(before):
            results.save(path, result)
        return result

    def content(self, split: Split, limit: int = 0) -> str:
        """A digest of a split's requests, histories and targets."""
        key = (split, limit)
        if key not in self._contents:
            self._contents[key] = content(self.examples(split, limit))
        return self._contents[key]

    def config(self, how: Measuring) -> dict[str, Any]:
        """The configuration as results keep it: without the store, the seed and this machine's paths."""
        plain = to_mapping(self.run)
        del plain["store"], plain["training"]["seed"], plain["bench"]
        return {**results.portable(plain), "measuring": to_mapping(how)}

    def _blank(self, seed: int, how: Measuring, before: Result | None) -> Result:
        """A result without rows; what is the same as before keeps its date and times."""
        fresh = Result(
            self.name, seed, self.info, self.config(how), main=main_label(self.run),
            device=results.device_name(getattr(self.backbone, "device", "cpu")),
            versions=results.versions(), commit=results.commit(), date=_now(),
        )  # fmt: skip
        if before is not None:
            fresh = dataclasses.replace(
                fresh, commit=before.commit, date=before.date, versions=before.versions, device=before.device,
                curves=before.curves, seconds=before.seconds,
            )  # fmt: skip
        return dataclasses.replace(fresh, shown=self._shown(how))

    def _shown(self, how: Measuring) -> tuple[Shown, ...]:
        examples = self.examples(how.split, how.limit)
        pool: Sequence[int] = range(len(examples))
        if self.info.kind in ("text", "multilabel") and how.generate:
            pool = evenly_spaced(pool, how.generate)  # those that are answered
        return tuple(
            Shown(i, examples[i].request.messages[-1].content, examples[i].target)
            for i in evenly_spaced(pool, how.examples)
        )

    def _rows_of(
        self, entry: Entry, seed: int, how: Measuring, examples: Sequence[Example]
    ) -> Iterator[tuple[Row, Fitted | None]]:
        """The rows of one method, with the method where they were measured just now; it is fitted only if one is."""
        fitted: Fitted | None = None
        for control in entry.controls(how, main_label(self.run)):
            print_ = self._fingerprint(entry, control, seed, how)
            known = self._rows.get(print_)
            if known is not None:
                yield dataclasses.replace(known, method=entry.label), None
                continue
            fitted = fitted or self.fit(entry.run, entry.label)
            row = self._measured(entry, fitted, control, seed, how, examples)
            self._rows[print_] = dataclasses.replace(row, fingerprint=print_)
            yield self._rows[print_], fitted

    def _fingerprint(self, entry: Entry, control: str, seed: int, how: Measuring) -> str:
        trained = entry.cls.trained
        return fingerprint(
            results.portable(to_mapping(entry.run)),
            control=control,
            seed=seed if trained or control == "shuffled users" else 0,
            trained=self.content("train") if trained else "",
            measured=self.content(how.split, how.limit),
            how=[how.generate, how.examples],
        )

    def _measured(
        self, entry: Entry, fitted: Fitted, control: str, seed: int, how: Measuring, examples: Sequence[Example]
    ) -> Row:
        method = fitted.assembly.method
        if not control:
            self.encode(fitted.assembly, examples)
        with self.watch(f"measuring {entry.label}{', ' * bool(control)}{control}", len(examples)) as advance:
            aside = (control == "no history" or "newest" in control) and not isinstance(self.task, JudgedTask)
            plain = dataclasses.replace(how, generate=0) if aside else how
            row = measure(
                method, self.info, examples, plain, control=control, seed=seed, states=self.states, progress=advance
            )
        if isinstance(self.task, JudgedTask) and row.answered:
            row = with_judgement(row, self.task, examples)
        row = dataclasses.replace(row, method=entry.label, section=results.portable(dict(entry.run.method)))
        shown = [] if control else [s.index for s in self._shown(how)]
        answered = dict(zip(row.answered, row.predictions, strict=True))
        if examples[0].options and not self.info.options:
            row = numbered(row, examples)
        return dataclasses.replace(
            row,
            used=tuple(used_texts(method, examples[i]) for i in shown),
            answers=tuple(answered.get(i, "") for i in shown),
        )


def read_run(mapping: Mapping[str, Any], where: str) -> RunConfig:
    """A run's configuration from plain data.

    Raises:
        ConfigError: a section or key is unknown, or there is no task.
    """
    run = from_mapping(RunConfig, mapping, where=where)
    if not run.task:
        raise ConfigError(f'{where}: no [task]; name one, for example: [task] name = "jsonl", path = "FOLDER"')
    return run


def _own(run: RunConfig, data: str = "") -> str:
    """8 hex digits of a training's run: one that was killed is continued only by its own."""
    return fingerprint(to_mapping(run), trained=data or "here")[:8]


def _with_old(result: Result, old: Sequence[Row]) -> Result:
    """The result with those rows of an earlier one that it does not have itself."""
    mine = {(r.method, r.control) for r in result.rows}
    return dataclasses.replace(result, rows=(*result.rows, *(r for r in old if (r.method, r.control) not in mine)))


def _with_row(result: Result, row: Row, fitted: Fitted | None) -> Result:
    """The result with one more row; a training that was reused keeps the time of when it was trained."""
    seconds = {**result.seconds, f"measuring {row.title}": row.seconds}
    curves = dict(result.curves)
    if fitted is not None:
        result = dataclasses.replace(result, commit=results.commit(), date=_now(), versions=results.versions())
        if fitted.assembly.method.trained:
            curves[row.method] = fitted.curve
            seconds[f"training {row.method}"] = fitted.curve.seconds
    return dataclasses.replace(result, rows=(*result.rows, row), seconds=seconds, curves=curves)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
