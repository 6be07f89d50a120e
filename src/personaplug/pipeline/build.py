"""Build the parts that a run's configuration names, in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from personaplug.backbones.base import Backbone
from personaplug.backbones.local.base import InProcessBackbone
from personaplug.core import registry
from personaplug.core.config import from_mapping, to_mapping
from personaplug.core.errors import ConfigError
from personaplug.encoders.base import Encoder
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method
from personaplug.pipeline.artifacts import ArtifactInfo, Part, load_info, load_tensors, locate, save_pretrained
from personaplug.stores.base import Store
from personaplug.tasks.base import Task, TaskInfo
from personaplug.training.trainer import TrainingConfig


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

    task: Mapping[str, Any] = field(default_factory=dict)
    backbone: Mapping[str, Any] = field(default_factory=lambda: {"name": "causal"})
    encoder: Mapping[str, Any] = field(default_factory=lambda: {"name": "hidden"})
    method: Mapping[str, Any] = field(default_factory=lambda: {"name": "plug"})
    store: Mapping[str, Any] = field(default_factory=lambda: {"name": "sql"})
    training: TrainingConfig = TrainingConfig()
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)


def build_task(section: Mapping[str, Any]) -> Task:
    """The task of a `[task]` section."""
    return registry.build("task", *registry.split_section(section, "task"))


def build_store(section: Mapping[str, Any]) -> Store:
    """The store of a `[store]` section."""
    return registry.build("store", *registry.split_section(section, "store"))


def build_backbone(section: Mapping[str, Any]) -> Backbone:
    """The backbone of a `[backbone]` section; its weights are loaded."""
    return registry.build("backbone", *registry.split_section(section, "backbone"))


def build_encoder(section: Mapping[str, Any], backbone: Backbone) -> Encoder:
    """The encoder of an `[encoder]` section; a `hidden` one of the backbone's own model shares its weights.

    So does a `hidden` part of a `joined` one: parts are built here too.
    """
    name, config = registry.split_section(section, "encoder")
    shared: dict[str, Any] = {}
    if name == "hidden" and isinstance(backbone, InProcessBackbone):
        config.setdefault("model", backbone.config.model)
        shared["backbone"] = backbone
    elif name == "joined":
        shared["build"] = partial(build_encoder, backbone=backbone)
    return registry.build("encoder", name, config, **shared)


def build_method(
    section: Mapping[str, Any], backbone: Backbone, vectors: VectorCache | None, task: TaskInfo | None
) -> Method:
    """The method of a `[method]` section; refused if it does not fit the backbone."""
    name, config = registry.split_section(section, "method")
    return registry.build("method", name, config, backbone=backbone, vectors=vectors, task=task)


@dataclass(slots=True)
class Assembly:
    """The parts of a run that outlive it."""

    run: RunConfig
    backbone: Backbone
    vectors: VectorCache | None
    method: Method
    info: TaskInfo

    def part(self, kind: str) -> Part:
        """What identifies the backbone or the encoder."""
        section = self.run.backbone if kind == "backbone" else self.run.encoder
        name, _ = registry.split_section(section, kind)
        thing: Any = self.backbone if kind == "backbone" else self._encoder()
        return Part(name, thing.key, getattr(thing, "width", 0), to_mapping(thing.config))

    def _encoder(self) -> Encoder:
        if self.vectors is None:
            raise ConfigError("this run has no encoder; name one under [encoder]")
        return self.vectors.encoder

    def save(self, folder: Path, data: Mapping[str, Any], scores: Mapping[str, Any]) -> ArtifactInfo:
        """Write the method as an artifact that says what it was trained against."""
        info = ArtifactInfo(
            method=self.method.name,
            config=to_mapping(self.method.config),
            backbone=self.part("backbone"),
            encoder=self.part("encoder") if self.vectors else None,
            task=self.info,
            data=data,
            scores=scores,
            training=to_mapping(self.run.training) if self.method.trained else {},
        )
        save_pretrained(folder, info, self.method.tensors())
        return info


def needs_encoder(run: RunConfig) -> bool:
    """Whether the run's method looks at vectors."""
    name, section = registry.split_section(run.method, "method")
    cls: type[Method] = registry.find("method", name)
    return cls.needs_encoder(from_mapping(cls.Config, section, where=f"method {name!r}"))


def assemble(
    run: RunConfig,
    info: TaskInfo,
    store: Store | None,
    backbone: Backbone | None = None,
    vectors: VectorCache | None = None,
) -> Assembly:
    """Build backbone, encoder and method; a backbone or vectors that are there already may be given."""
    backbone = backbone or build_backbone(run.backbone)
    if vectors is None and run.encoder:
        vectors = VectorCache(build_encoder(run.encoder, backbone), store)
    return Assembly(run, backbone, vectors, build_method(run.method, backbone, vectors, info), info)


def load(
    artifact: str | Path,
    store: Store | None,
    backbone: Backbone | None = None,
    encoder: Encoder | None = None,
    vectors: VectorCache | None = None,
) -> Assembly:
    """Build an artifact's parts again and give the method its trained tensors.

    Args:
        artifact: a folder, or a hub repository.
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
        backbone={"name": info.backbone.name, **info.backbone.config},
        encoder={"name": info.encoder.name, **info.encoder.config} if info.encoder else {},
        method={"name": info.method, **info.config},
        training=from_mapping(TrainingConfig, info.training, where=str(folder)),
    )
    backbone = backbone or build_backbone(run.backbone)
    if vectors is not None:
        encoder = vectors.encoder
    if info.encoder and encoder is None:
        encoder = build_encoder(run.encoder, backbone)
    if encoder and vectors is None:
        vectors = VectorCache(encoder, store)
    mine = Part(info.backbone.name, backbone.key, getattr(backbone, "width", 0))
    info.check(mine, Part("", encoder.key, encoder.width) if encoder else None)
    method = build_method(run.method, backbone, vectors, info.task)
    method.load_tensors(load_tensors(folder) if method.trained else {})
    return Assembly(run, backbone, vectors, method, info.task)
