"""Train a run's method, or load what was trained: data into the store, vectors, checkpoints, the artifact saved."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from personaplug.backbones.base import Backbone
from personaplug.core.config import from_mapping, read_toml, to_mapping, with_retired
from personaplug.core.errors import ConfigError
from personaplug.core.files import write_json
from personaplug.core.registry import Section
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Behavior, Example, Split
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.pipeline.artifacts import CONFIG, is_artifact, load_info, load_tensors
from personaplug.pipeline.build import (
    Components,
    RunConfig,
    build_backbone,
    build_components,
    build_encoder,
    build_store,
    build_task,
    load,
    read_run,
)
from personaplug.pipeline.fingerprint import content, fingerprint, portable
from personaplug.stores import DEFAULT
from personaplug.stores.base import Store
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""`with progress("measuring", 600) as advance:` ... `advance(32)`: shows a long step; a total of 0 is unknown."""

RUN = "run.toml"
"""The run's configuration in its folder."""

_CHUNK = 2_000  # behaviours in one transaction


@contextmanager
def no_progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows nothing."""
    del name, total
    yield lambda _: None


@dataclass(frozen=True, slots=True)
class Curve:
    """The loss of a training: (step, mean loss since the last point), and its seconds."""

    steps: int
    seconds: float
    curve: tuple[tuple[int, float], ...]
    dev_curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained method; `reused` if its artifact was there already."""

    components: Components
    curve: Curve
    folder: Path
    reused: bool


class TrainingRun:
    """A run's configuration with everything that it leaves in its folder.

        OUT/users.db               behaviours, vectors, states (unless [store] has its own url, or `shared` holds them)
        OUT/checkpoints/           trainings that are under way
        OUT/LABEL/                 a trained artifact: plug, task_prompt, plug-seed1, ...
        OUT/LABEL.training.json    its learning curve

    Args:
        run: the configuration; names a task.
        out: the folder.
        name: what the run is called.
        progress: how long steps are shown.
        by_content: name artifacts by what they depend on as well, so that another configuration trains anew instead
            of being refused.
        shared: a store that is used instead of OUT/users.db if it holds all behaviours of the task.
    """

    def __init__(
        self,
        run: RunConfig,
        out: Path,
        name: str,
        progress: Progress = no_progress,
        *,
        by_content: bool = False,
        shared: Section | None = None,
    ) -> None:
        if run.task is None:
            raise ConfigError(f"run {name!r} has no task; name one under [task]")
        self.run = run
        self.out = out
        self.name = name
        self.progress = progress
        self.task = build_task(run.task)
        self.info = self.task.info
        self.by_content = by_content
        self.shared = shared
        self._vectors: dict[str, VectorCache] = {}  # by the encoder's section as JSON
        self._contents: dict[tuple[Split, int], str] = {}

    # -- what it works with ---------------------------------------------------------------------------------------

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen model, loaded once for all methods and seeds."""
        return build_backbone(self.run.backbone)

    @cached_property
    def store(self) -> Store:
        """The store, with the task's behaviours in it: a vector belongs to a stored behaviour."""
        section = self.run.store
        if section.name == DEFAULT and "url" not in section.given:
            if (shared := self._shared_store()) is not None:
                return shared
            self.out.mkdir(parents=True, exist_ok=True)
            section = section.updated(url=str(self.out / "users.db"))
        store = build_store(section)
        with self.progress(f"storing behaviours in {section.given.get('url', section.name)}", 0) as advance:
            behaviors = self.task.behaviors()
            while chunk := list(itertools.islice(behaviors, _CHUNK)):
                store.add(chunk)
                advance(len(chunk))
        return store

    def _shared_store(self) -> Store | None:
        """The shared store, if it holds the task's behaviours."""
        if self.shared is None:
            return None
        store = build_store(self.shared)
        if not holds(store, self.task.behaviors()):
            store.close()
            return None
        with self.progress(f"using the store {self.shared.given['url']}, which holds the task's behaviours", 0):
            return store

    def close(self) -> None:
        """Release the store, if it was opened."""
        if "store" in self.__dict__:
            self.store.close()

    def examples(self, split: Split, limit: int = 0) -> list[Example]:
        """The split's examples, at most `limit` of them, evenly spaced."""
        examples = self.task.examples(split)
        return evenly_spaced(examples, limit) if limit > 0 else examples

    def content(self, split: Split, limit: int = 0) -> str:
        """A digest of a split's requests, histories and targets."""
        key = (split, limit)
        if key not in self._contents:
            self._contents[key] = content(self.examples(split, limit))
        return self._contents[key]

    def components(self, run: RunConfig | None = None) -> Components:
        """A run's components, untrained; backbone, store and encoders are shared by all methods of this run."""
        run = (run or self.run).without_unused_encoder()
        if run.encoder is None:
            return build_components(run, self.info, None, self.backbone)
        key = json.dumps(run.to_mapping()["encoder"], sort_keys=True)
        if key not in self._vectors:
            self._vectors[key] = VectorCache(build_encoder(run.encoder, self.backbone), self.store)
        return build_components(run, self.info, self.store, self.backbone, self._vectors[key])

    # -- training -------------------------------------------------------------------------------------------------

    def fit(self, run: RunConfig | None = None, label: str = "") -> Fitted:
        """Train a run's method, or load it if it was trained here before; goes on from the newest checkpoint.

        Args:
            run: by default this one.
            label: what it is called here; by default the method's name.

        Raises:
            ConfigError: the folder holds the same method trained with another configuration.
        """
        components = self.components(run)
        run, method = components.run, components.method
        label = label or method.name
        if run.training.seed != self.run.training.seed:
            label = f"{label}-seed{run.training.seed}"
        if self.by_content and method.trained:
            label = f"{label}-{_digest(run, self.content('train'))}"
        folder, log = self.out / label, self.out / f"{label}.training.json"
        if method.name == "none" or (self.by_content and not method.trained):
            return Fitted(components, Curve(0, 0.0, ()), folder, reused=True)
        if (folder / CONFIG).exists():
            self._check_same(folder, components)
            if method.trained:
                method.load_tensors(load_tensors(folder))
            curve = from_mapping(Curve, json.loads(log.read_text(encoding="utf-8")), where=str(log))
            return Fitted(components, curve, folder, reused=True)
        return self._train(components, label, folder, log)

    def _train(self, components: Components, label: str, folder: Path, log: Path) -> Fitted:
        run, method = components.run, components.method
        # 1) the examples, and vectors of all behaviours in their histories
        train = self.examples("train") if method.trained else []
        dev = self.examples("dev") if method.trained and (run.training.eval_every or method.tunes_on_dev) else []
        self.encode(components, [*train, *dev])
        # 2) optimizer steps, with checkpoints that only the same run goes on from
        checkpoints = self.out / "checkpoints" / f"{label}-{_digest(run)}"
        with self.progress(f"training {label}", 0):
            done = method.fit(train, dev, run.training, checkpoints)
        # 3) the artifact, last: a folder with one is a finished training
        curve = Curve(done.steps, done.seconds, done.curve, done.dev_curve) if done else Curve(0, 0.0, ())
        write_json(log, to_mapping(curve))
        components.save(folder, self._data(run), {})
        shutil.rmtree(checkpoints, ignore_errors=True)
        return Fitted(components, curve, folder, reused=False)

    def encode(self, components: Components, examples: Sequence[Example]) -> int:
        """Encode the behaviours of the examples' histories that no store has vectors of; returns how many."""
        distinct = {(b.user, b.id): b for e in examples for b in e.history}
        if not (total := len(distinct) * texts_per_behavior(components)):
            return 0
        with self.progress("encoding", total) as advance:
            return encode(components, list(distinct.values()), advance)

    def _data(self, run: RunConfig) -> dict[str, Any]:
        train = self.examples("train")
        users = len({e.history.user for e in train})
        return {"task": _task_of(run), "train_requests": len(train), "train_users": users}

    def _check_same(self, folder: Path, components: Components) -> None:
        """Refuse an artifact of another configuration: it would be measured under a wrong name."""
        info = load_info(folder)
        run, method = components.run, components.method
        info.check(components.backbone_spec, components.encoder_spec)
        pairs = {
            "method": tuple(with_retired(type(method.config), c) for c in (info.config, to_mapping(method.config))),
            "training": tuple(with_retired(TrainingConfig, c) for c in (info.training, to_mapping(run.training)))
            if method.trained
            else ({}, {}),
            "task": (info.data.get("task", {}), _task_of(run)),
        }
        for section, (there, here) in pairs.items():
            for key in sorted({*there, *here}):
                if there.get(key) != here.get(key):
                    raise ConfigError(
                        f"{folder}: was trained with {section}.{key} = {there.get(key)!r}, now it is "
                        f"{here.get(key)!r}; choose another --out, or delete this folder"
                    )


def encoding_components(target: str, store: Store) -> Components:
    """The components whose vectors are to be made ahead: those of a run, of an artifact, or of the default method.

    Args:
        target: a run's .toml file, the folder of an artifact or of a run, or the name of a language model.
        store: where the vectors go.

    Raises:
        ConfigError: the run's method looks at no vectors, or something in the file is wrong.
    """
    path = Path(target).expanduser()
    components: Components | None = None
    if is_artifact(path):
        components = load(path, store)
    else:
        file = path / RUN if path.is_dir() else path
        if file.suffix == ".toml" and (path.suffix == ".toml" or file.exists()):
            run = read_run(read_toml(file), str(file)).without_unused_encoder()
            info = build_task(run.task or {}).info
        else:
            run, info = RunConfig.parse(backbone={"name": "causal", "model": target}), TaskInfo("chat", "text")
        if run.encoder:
            components = build_components(run, info, store)
    if components is None or not texts_per_behavior(components):
        raise ConfigError(f"{target}: its method looks at no vectors, so there is nothing to encode")
    return components


def texts_per_behavior(components: Components) -> int:
    """How many vectors the method looks at for each behaviour."""
    return len(components.method.history_templates) if components.vectors is not None else 0


def encode(components: Components, behaviors: Sequence[Behavior], advance: Callable[[int], None] | None = None) -> int:
    """Make and store the vectors of stored behaviours that the method looks at; returns how many were missing.

    Args:
        components: with an encoder.
        behaviors: a vector is stored with its behaviour.
        advance: called with the number of texts done since the last call, `texts_per_behavior` for each behaviour.
    """
    if components.vectors is None:
        return 0
    return sum(components.vectors.precompute(behaviors, t, advance) for t in components.method.history_templates)


def encode_users(components: Components, store: Store, users: Collection[str], progress: Progress = no_progress) -> int:
    """`encode` for all that a store holds of some users, a few users at a time; returns how many were missing."""
    chosen = [u for u in store.users() if u.user in users]
    made = 0
    with progress("encoding", sum(u.behaviors for u in chosen) * texts_per_behavior(components)) as advance:
        batch: list[Behavior] = []
        for user in chosen:
            batch += store.history(user.user)
            if len(batch) >= _CHUNK:
                made += encode(components, batch, advance)
                batch = []
        return made + encode(components, batch, advance)


def holds(store: Store, behaviors: Iterable[Behavior]) -> bool:
    """Whether a store has all of the behaviours, with the same content."""
    users = {user.user for user in store.users()}
    rest = iter(behaviors)
    while chunk := list(itertools.islice(rest, _CHUNK)):
        for user in {b.user for b in chunk}:
            if user not in users:
                return False
            stored = {b.id: b for b in store.history(user)}
            if any(stored.get(b.id) != b for b in chunk if b.user == user):
                return False
    return True


def _task_of(run: RunConfig) -> dict[str, Any]:
    return dict(portable(run.to_mapping()["task"]))


def _digest(run: RunConfig, data: str = "") -> str:
    """8 hex digits of a training's run: one that was killed is continued only by its own."""
    return fingerprint(run.to_mapping(), trained=data or "here")[:8]
