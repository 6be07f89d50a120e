"""Static embeddings of the model2vec library: a text is the mean of its tokens' vectors; no transformer runs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from model2vec import StaticModel

from personaplug.core.errors import ConfigError, ModelError
from personaplug.core.registry import missing_extra
from personaplug.encoders.base import Encoder, TextRole, Vectors
from personaplug.models import ResolvedModel, cache_dir, resolve
from personaplug.models.cache import install

# How strongly frequent tokens are weighted down, a in a / (a + p). Of 1e-4 (the library's) to 1e-7 this came nearest to
# the similarities of minilm, on chats, film plots, product reviews and a mix of them.
_SIF = 1e-5


@dataclass(frozen=True, slots=True)
class StaticConfig:
    """Which model, and how one is made of a sentence encoder.

    Attributes:
        model: a bundle's name, a folder or a hub id, of a static model or of a sentence-transformers model; of the
            latter a static one is distilled, once: it is stored in the cache.
        width: e of a model that is distilled here; a static model has its own.
        normalize: make the vectors unit-length.
    """

    model: str = "minilm"
    width: int = 256
    normalize: bool = True


class StaticEncoder(Encoder):
    """A model2vec model: the mean of the vectors of a text's first 512 tokens; word order is lost.

    A distilled model's token vector is the sentence encoder's vector of that token alone, projected on the principal
    components of all and weighted down where the token is frequent (by its rank in the vocabulary). No text is needed,
    and nothing is drawn at random. The empty text gets zeros: nothing is in it.

    Raises:
        ModelError: the model cannot be loaded, or none can be distilled from it.
        ConfigError: a width below 2, or above the width of the model to be distilled.
        MissingExtraError: a model is to be distilled, and a library for it is not installed.
    """

    Config = StaticConfig
    summary = "a static model (model2vec), distilled from a sentence encoder: very fast, blind to word order"
    source = "van Dongen and Tulkens 2024, Model2Vec; Arora et al. 2017, A Simple but Tough-to-Beat Baseline"

    def __init__(self, config: StaticConfig) -> None:
        resolved = resolve(config.model)
        folder = _local(resolved)
        self.config = config
        self.key = f"static:{resolved.identity}"
        if not _is_static(folder):
            # Another release of the library may distil in another way.
            how = f"distilled-{config.width}-{_SIF:g}-model2vec-{'.'.join(version('model2vec').split('.')[:2])}"
            self.key += f":{how}"
            static = cache_dir() / "static" / f"{resolved.identity.replace('/', '--')}-{how}"
            folder = install(static, lambda work: _distil(folder, config, work))
        self.key += f":{'unit' if config.normalize else 'raw'}"
        try:
            self._model = StaticModel.from_pretrained(folder, quantize_to="float32")
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model {config.model!r} cannot be loaded: {str(error).splitlines()[0]}") from error
        self.width = self._model.dim

    def encode(
        self, texts: Sequence[str], role: TextRole = "history", progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors [n, e], float32; both roles get the same vector."""
        del role
        if not texts:
            return np.zeros((0, self.width), np.float32)
        # Its multiprocessing is threads that set an environment variable for all; tokenizing is parallel without.
        vectors = self._model.encode(list(texts), normalize=self.config.normalize, use_multiprocessing=False)
        if progress is not None:
            progress(len(texts))
        return vectors


def _local(resolved: ResolvedModel) -> Path:
    """The model's folder; a hub's model is fetched at the commit that its identity names."""
    if resolved.source != "hub":
        return Path(resolved.location)
    from huggingface_hub import snapshot_download

    files = ["*.json", "*.safetensors", "*.txt", "*.model"]
    return Path(snapshot_download(resolved.location, revision=resolved.revision, allow_patterns=files))


def _is_static(folder: Path) -> bool:
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return described.get("model_type") == "model2vec"


def _distil(teacher: Path, config: StaticConfig, folder: Path) -> None:
    """Write a static model of the teacher into `folder`."""
    try:
        importlib.import_module("skeletoken")  # model2vec's own error names no extra of ours
        from model2vec.distill import distill
        from transformers import AutoConfig
    except ModuleNotFoundError as error:
        raise missing_extra(f"distilling a static model of {config.model!r}", error) from error
    try:
        widest = AutoConfig.from_pretrained(teacher).hidden_size
        if not 2 <= config.width <= widest:
            raise ConfigError(
                f"encoder 'static': width is {config.width}, expected 2 to {widest} (of {config.model!r})"
            )
        distilled = distill(str(teacher), device="cpu", pca_dims=config.width, sif_coefficient=_SIF)
        distilled.save_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"no static model can be distilled from {config.model!r}: {reason}") from error
