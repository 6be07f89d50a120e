"""Loads trained methods for a server: backbones, encoders and engines that several share are built once."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaplug.core import registry
from personaplug.core.errors import ConfigError, ModelError
from personaplug.models.devices import pick_device
from personaplug.models.threads import helper_threads
from personaplug.pipeline.artifacts import ComponentSpec, load_info, locate
from personaplug.pipeline.build import build_backbone, load
from personaplug.pipeline.personalizer import Personalizer
from personaplug.serve.runtime.engine import Engine, RerankEngine, engine_of
from personaplug.serve.runtime.service import Served, Service
from personaplug.serve.settings import Settings
from personaplug.stores.base import Store

if TYPE_CHECKING:
    from personaplug.backbones.base import Backbone
    from personaplug.encoders.base import Encoder
    from personaplug.encoders.cache.embeddings import VectorCache


class ModelLoader:
    """Builds a service from artifacts: weights that several methods share are loaded once."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.models: dict[str, Served] = {}
        self.vectors: dict[str, VectorCache] = {}
        self._backbones: dict[str, tuple[str, Backbone, Engine]] = {}
        self._encoders: dict[str, str] = {}

    def add(self, artifact: str, label: str = "") -> Served:
        """Serve a trained method; `none` on the same backbone comes with it.

        Args:
            artifact: a folder or a hub id.
            label: what it is called; by default the method's name, or the folder's where that is taken.

        Raises:
            ModelError: there is no artifact, or a model is missing.
            ConfigError: the label is taken.
        """
        folder = locate(artifact)
        info = load_info(folder)
        key = _identity(info.backbone)
        if key not in self._backbones:
            backbone = build_backbone(self._backbone_section(info.backbone))
            self._backbones[key] = _model_name(info.backbone), backbone, engine_of(backbone, self.settings)
        name, backbone, engine = self._backbones[key]
        encoder = self._encoders.get(_identity(info.encoder), "")
        faster = self._faster(info.encoder) if info.encoder and not encoder else None
        loaded = load(folder, self.store, backbone, faster, self.vectors.get(encoder))
        if info.encoder and loaded.vectors and not encoder:
            model = f"{_model_name(info.encoder)}:" if info.encoder.config.get("model") else ""
            named = f"{model}{info.encoder.name}"
            encoder = named if named not in self.vectors else f"{named}-{len(self.vectors) + 1}"
            self._encoders[_identity(info.encoder)] = encoder
            self.vectors[encoder] = loaded.vectors
        personalizer = Personalizer(loaded.method, self.store, loaded.info)
        label = label or (folder.name if f"{name}:{info.method}" in self.models else info.method)
        served = self._serve(f"{name}:{label}", personalizer, engine, encoder)
        if f"{name}:none" not in self.models:
            self.add_untrained(served, "none")
        return served

    def _backbone_section(self, part: ComponentSpec) -> dict[str, Any]:
        """How an artifact's backbone is built here."""
        if self.settings.backbone:
            own = {"model": part.config["model"]} if "model" in part.config else {}
            return {**own, **self.settings.backbone}
        bounded = {"prompt_cache": self.settings.prompt_cache} if "prompt_cache" in part.config else {}
        return {"name": part.name, **part.config, **bounded}

    def _faster(self, part: ComponentSpec) -> Encoder | None:
        """The same encoder in OpenVINO, where that is asked for, or useful and installed.

        Raises:
            MissingExtraError: it is asked for and not installed.
            ModelError: it is asked for and cannot run the model.
        """
        wanted = self.settings.openvino
        useful = (
            part.config.get("dtype", "auto") in ("auto", "float32")
            and pick_device(str(part.config.get("device", "auto"))) == "cpu"
            and importlib.util.find_spec("openvino") is not None
        )
        if part.name != "sentence" or not (useful if wanted is None else wanted):
            return None
        runtime = {"backend": "openvino", "threads": helper_threads()}
        with contextlib.suppress(*(() if wanted else (ModelError, ConfigError))):
            encoder: Encoder = registry.build("encoder", part.name, {**part.config, **runtime})
            return encoder
        return None

    def add_untrained(self, other: Served, method: str) -> Served:
        """Serve a method that needs no training, on the backbone and with the vectors and words of another.

        Raises:
            ConfigError: it must be trained, or the label is taken.
        """
        if registry.find("method", method).trained:
            raise ConfigError(f"method {method!r} must be trained; give the folder of a trained one")
        main = other.personalizer
        parts = {"backbone": main.backbone, "vectors": main.method.vectors, "task": main.task}
        personalizer = Personalizer(registry.build("method", method, {}, **parts), self.store, main.task)
        return self._serve(f"{other.id.rsplit(':', 1)[0]}:{method}", personalizer, other.engine, other.encoder)

    def service(self) -> Service:
        """What was added."""
        return Service(self.store, self.models, self.vectors, self.settings)

    def _serve(self, id_: str, personalizer: Personalizer, engine: Engine, encoder: str) -> Served:
        if id_ in self.models:
            raise ConfigError(f"two models would be called {id_!r}; name one with LABEL=ARTIFACT")
        settings, method = self.settings, personalizer.method
        rerank = RerankEngine(method, settings.max_running, settings.max_waiting) if method.reranks else None
        self.models[id_] = Served(id_, personalizer, engine, encoder, rerank=rerank)
        return self.models[id_]


def _identity(part: ComponentSpec | None) -> str:
    """Equal for parts that may be one."""
    return "" if part is None else f"{part.name} {part.key} {sorted(part.config.items(), key=lambda kv: kv[0])!r}"


def _model_name(part: ComponentSpec) -> str:
    """What a part's model is called: the last word of its name or path, or the part's own name."""
    return Path(str(part.config.get("model") or part.name)).name
