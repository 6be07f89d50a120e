"""A run's configuration, and its components: backbone, encoder and method, built in the order of their needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from personaplug.backbones.base import Backbone
from personaplug.backbones.local.base import InProcessBackbone
from personaplug.core.config import from_mapping, to_mapping
from personaplug.core.errors import ConfigError
from personaplug.core.registry import Section
from personaplug.encoders.base import Encoder
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method
from personaplug.pipeline.artifacts import ArtifactInfo, ComponentSpec, load_info, load_tensors, locate, save_pretrained
from personaplug.stores import DEFAULT
from personaplug.stores.base import Store
from personaplug.tasks.base import Task, TaskInfo
from personaplug.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One run: each section names a thing on a shelf and configures it.

    Example:
        [task]
        name = "jsonl"
        path = "data/mail"

        [method]
        name = "plug"
        persona_tokens = 4

    An experiment of several methods names them under `[methods.LABEL]` (the label is the name, unless `name` says
    otherwise; `encoder` and `training` there replace the run's own), and how they are measured under `[bench]`.
    """

    task: Section | None = None
    backbone: Section = Section("backbone", "causal")
    encoder: Section | None = Section("encoder", "hidden")
    method: Section = Section("method", "plug")
    store: Section = Section("store", DEFAULT)
    training: TrainingConfig = TrainingConfig()
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, where: str = "run", /, **sections: Any) -> RunConfig:
        """A run from plain data, one keyword a section; an empty task or encoder is none.

        Raises:
            ConfigError: a section or key is unknown, or a section has no name.
        """
        if isinstance(training := sections.get("training"), Mapping):
            sections["training"] = from_mapping(TrainingConfig, training, where=f"{where}.training")
        plain = from_mapping(_RunFile, sections, where=where)
        return cls(
            task=Section.parse("task", plain.task) if plain.task else None,
            backbone=Section.parse("backbone", plain.backbone),
            encoder=Section.parse("encoder", plain.encoder) if plain.encoder else None,
            method=Section.parse("method", plain.method),
            store=Section.parse("store", plain.store),
            training=plain.training,
            methods=plain.methods,
            bench=plain.bench,
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain data that `parse` reads back; what was not written down stays out of it."""
        named = {kind: getattr(self, kind) for kind in ("task", "backbone", "encoder", "method", "store")}
        sections = {kind: section.to_mapping() if section else {} for kind, section in named.items()}
        return to_mapping(_RunFile(**sections, training=self.training, methods=self.methods, bench=self.bench))

    @property
    def needs_encoder(self) -> bool:
        """Whether the run's method looks at vectors."""
        return bool(self.method.cls.needs_encoder(self.method.config))

    def without_unused_encoder(self) -> RunConfig:
        """The run itself, or without an encoder where its method looks at no vectors."""
        return self if self.needs_encoder else dataclasses.replace(self, encoder=None)

    def with_seed(self, seed: int) -> RunConfig:
        """The run with another training seed."""
        return dataclasses.replace(self, training=dataclasses.replace(self.training, seed=seed))


@dataclass(frozen=True, slots=True)
class _RunFile:
    """A run as it stands in a TOML file."""

    task: Mapping[str, Any] = field(default_factory=dict)
    backbone: Mapping[str, Any] = field(default_factory=lambda: {"name": "causal"})
    encoder: Mapping[str, Any] = field(default_factory=lambda: {"name": "hidden"})
    method: Mapping[str, Any] = field(default_factory=lambda: {"name": "plug"})
    store: Mapping[str, Any] = field(default_factory=lambda: {"name": DEFAULT})
    training: TrainingConfig = TrainingConfig()
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)


def read_run(mapping: Mapping[str, Any], where: str) -> RunConfig:
    """A run that names a task, from plain data.

    Raises:
        ConfigError: a section or key is unknown, or there is no task.
    """
    run = RunConfig.parse(where, **mapping)
    if run.task is None:
        raise ConfigError(f'{where}: no [task]; name one, for example: [task] name = "jsonl", path = "FOLDER"')
    return run


def build_task(section: Section | Mapping[str, Any]) -> Task:
    """The task of a `[task]` section."""
    task: Task = Section.parse("task", section).build()
    return task


def build_store(section: Section | Mapping[str, Any]) -> Store:
    """The store of a `[store]` section."""
    store: Store = Section.parse("store", section).build()
    return store


def build_backbone(section: Section | Mapping[str, Any]) -> Backbone:
    """The backbone of a `[backbone]` section; its weights are loaded."""
    backbone: Backbone = Section.parse("backbone", section).build()
    return backbone


def build_encoder(section: Section | Mapping[str, Any], backbone: Backbone) -> Encoder:
    """The encoder of an `[encoder]` section; a `hidden` one of the backbone's own model shares its weights.

    So does a `hidden` part of a `joined` one: parts are built here too.
    """
    section = Section.parse("encoder", section)
    shared: dict[str, Any] = {}
    if section.name == "hidden" and isinstance(backbone, InProcessBackbone):
        section = section if "model" in section.given else section.updated(model=backbone.config.model)
        shared["backbone"] = backbone
    elif section.name == "joined":
        shared["build"] = partial(build_encoder, backbone=backbone)
    encoder: Encoder = section.build(**shared)
    return encoder


def build_method(
    section: Section | Mapping[str, Any], backbone: Backbone, vectors: VectorCache | None, task: TaskInfo | None
) -> Method:
    """The method of a `[method]` section; refused if it does not fit the backbone."""
    method: Method = Section.parse("method", section).build(backbone=backbone, vectors=vectors, task=task)
    return method


@dataclass(slots=True)
class Components:
    """What a run is made of, built and fitting together.

    Attributes:
        run: the configuration.
        backbone: the frozen model.
        vectors: of behaviours and queries, or None where the method needs no encoder.
        method: built for this backbone and these vectors; trained or not.
        info: how requests are put.
    """

    run: RunConfig
    backbone: Backbone
    vectors: VectorCache | None
    method: Method
    info: TaskInfo

    @property
    def backbone_spec(self) -> ComponentSpec:
        """What identifies the backbone."""
        return _spec(self.run.backbone, self.backbone)

    @property
    def encoder_spec(self) -> ComponentSpec | None:
        """What identifies the encoder, or None where there is none."""
        if self.vectors is None:
            return None
        return _spec(self.run.encoder, self.vectors.encoder)

    def save(self, folder: Path, data: Mapping[str, Any], scores: Mapping[str, Any]) -> ArtifactInfo:
        """Write the method as an artifact that says what it was trained against."""
        info = ArtifactInfo(
            method=self.method.name,
            config=to_mapping(self.method.config),
            backbone=self.backbone_spec,
            encoder=self.encoder_spec,
            task=self.info,
            data=data,
            scores=scores,
            training=to_mapping(self.run.training) if self.method.trained else {},
        )
        save_pretrained(folder, info, self.method.tensors())
        return info


def build_components(
    run: RunConfig,
    info: TaskInfo,
    store: Store | None,
    backbone: Backbone | None = None,
    vectors: VectorCache | None = None,
) -> Components:
    """Build backbone, encoder and method; a backbone or vectors that are there already may be given."""
    backbone = backbone or build_backbone(run.backbone)
    if vectors is None and run.encoder is not None:
        vectors = VectorCache(build_encoder(run.encoder, backbone), store)
    return Components(run, backbone, vectors, build_method(run.method, backbone, vectors, info), info)


def load(
    artifact: str | Path,
    store: Store | None,
    backbone: Backbone | None = None,
    encoder: Encoder | None = None,
    vectors: VectorCache | None = None,
) -> Components:
    """Build an artifact's components again and give the method its trained tensors.

    Args:
        artifact: a folder, the name of a model that a plug is shipped for, or a hub repository.
        store: where vectors last.
        backbone: if it is loaded already.
        encoder: if it is loaded already.
        vectors: its vectors, if others look at them too.

    Raises:
        ModelError: there is no artifact, or it is damaged.
        MismatchError: the backbone or encoder is not the one that it was trained against.
    """
    folder = locate(str(artifact))
    info = load_info(folder)
    run = RunConfig(
        backbone=info.backbone.section("backbone"),
        encoder=info.encoder.section("encoder") if info.encoder else None,
        method=Section("method", info.method, info.config),
        training=from_mapping(TrainingConfig, info.training, where=str(folder)),
    )
    backbone = backbone or build_backbone(run.backbone)
    if vectors is not None:
        encoder = vectors.encoder
    if run.encoder and encoder is None:
        encoder = build_encoder(run.encoder, backbone)
    if encoder and vectors is None:
        vectors = VectorCache(encoder, store)
    info.check(_spec(run.backbone, backbone), _spec(run.encoder, encoder) if encoder else None)
    method = build_method(run.method, backbone, vectors, info.task)
    method.load_tensors(load_tensors(folder) if method.trained else {})
    return Components(run, backbone, vectors, method, info.task)


def _spec(section: Section | None, component: Any) -> ComponentSpec:
    """What identifies a backbone or an encoder; a backbone that runs elsewhere has no width."""
    name = section.name if section else ""
    return ComponentSpec(name, component.key, getattr(component, "width", 0), to_mapping(component.config))
