"""Sentence encoders of the sentence-transformers library: semantic vectors from a small model."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from personaplug.core.errors import ConfigError, ModelError
from personaplug.core.registry import missing_extra
from personaplug.core.sequences import token_batches
from personaplug.encoders.base import TextRole, TrainableEncoder, Vectors
from personaplug.models import ResolvedModel, cache_dir, resolve
from personaplug.models.cache import install
from personaplug.models.devices import pick_device, pick_dtype

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Only looked for here and imported where a model is loaded: it takes seconds, and `personaplug list` needs none of it.
if find_spec("sentence_transformers") is None:
    raise ModuleNotFoundError("No module named 'sentence_transformers'", name="sentence_transformers")

_STRIDE = 8  # tokens: OpenVINO compiles anew for each shape, which takes as long as encoding a short text
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}  # what OpenVINO calls them


@dataclass(frozen=True, slots=True)
class SentenceConfig:
    """Which model and how it runs.

    Attributes:
        model: a bundle's name, a folder or a hub id.
        query_prefix: put before each query (BGE: "Represent this sentence for searching relevant passages: ").
        normalize: make the vectors unit-length.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto` is float32 on every device, so that vectors of one machine fit another's; bfloat16 is more than
            twice as fast on CPUs that compute in it (avx512_bf16, amx_bf16).
        backend: what runs the transformer. `openvino` is up to twice as fast as `torch` and runs on the CPU alone; it
            converts the model once and keeps the result in the cache. In float32 both give the same vectors up to
            rounding, and the same key; in bfloat16 neither.
        tokens_per_batch: batches are filled up to this many tokens, padding included; 0 is 1,024 on a CPU, so that a
            batch stays in its caches, and 16,384 elsewhere.
        threads: of OpenVINO; 0 is as many as torch has.
    """

    model: str = "minilm"
    query_prefix: str = ""
    normalize: bool = True
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    backend: Literal["torch", "openvino"] = "torch"
    tokens_per_batch: int = 0
    threads: int = 0


class SentenceEncoder(TrainableEncoder):
    """A sentence-transformers model with its own pooling; texts beyond its maximum length are cut.

    Raises:
        ModelError: the model cannot be loaded or converted, or it is not a sentence-transformers model of text.
        ConfigError: the device or dtype cannot be had here, or not with this backend.
        MissingExtraError: the backend is openvino, and it is not installed.
    """

    Config = SentenceConfig
    summary = "a sentence-transformers model: semantic, mostly blind to style"
    source = "Reimers and Gurevych 2019, Sentence-BERT; weights of the named model"

    def __init__(self, config: SentenceConfig) -> None:
        self._resolved = resolved = resolve(config.model)
        dtype = "float32" if config.dtype == "auto" else config.dtype
        self.config = config
        if config.backend == "openvino":
            self._model = _load_openvino(resolved, config.device, dtype, config.threads or torch.get_num_threads())
        else:
            self._model = _load(resolved, pick_device(config.device), pick_dtype(dtype, "cpu"))
        self._budget = config.tokens_per_batch or (1024 if self._model.device.type == "cpu" else 16_384)
        width = self._model.get_embedding_dimension()
        if width is None:
            raise ModelError(f"model {config.model!r} does not tell the width of its vectors; use another model")
        self.width = width
        rounding = f"{dtype}-openvino" if config.backend == "openvino" and dtype != "float32" else dtype
        shape = "unit" if config.normalize else "raw"
        self.key = f"sentence:{resolved.identity}:{_pooling(self._model)}:{rounding}:{shape}"
        if config.query_prefix:
            self.key += f":query-{hashlib.blake2b(config.query_prefix.encode(), digest_size=4).hexdigest()}"

    def encode(
        self, texts: Sequence[str], role: TextRole = "history", progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors [n, e], float32."""
        prefix = self.config.query_prefix if role == "query" else ""
        out = np.zeros((len(texts), self.width), np.float32)
        alone = len(texts) == 1  # as a request mostly is: no need to count its tokens
        for batch in [[0]] if alone else token_batches(self._lengths(texts, prefix), self._budget):
            vectors = self._model.encode(
                [texts[i] for i in batch],
                prompt=prefix,  # the empty prompt switches off a default one of the model's
                batch_size=len(batch),
                convert_to_tensor=True,
                show_progress_bar=False,
            ).float()
            # In float32, since a norm taken in bfloat16 is off by up to 0.4%.
            out[batch] = (F.normalize(vectors, dim=-1) if self.config.normalize else vectors).cpu().numpy()
            if progress is not None:
                progress(len(batch))
        return out

    def copy_for_training(self) -> nn.Module:
        """A float32 copy that gives queries their vectors [b, e], with gradients."""
        if self.config.backend == "openvino":  # its graph has no gradients: the weights are loaded anew
            model = _load(self._resolved, pick_device(self.config.device), torch.float32)
        else:
            model = copy.deepcopy(self._model)
        return _QueryEncoder(model, self.config)

    def _lengths(self, texts: Sequence[str], prefix: str) -> list[int]:
        """Tokens of each text, at most the model's maximum."""
        if not texts:
            return []
        longest = self._model.max_seq_length or 2**30
        ids = self._model.tokenizer([prefix + t for t in texts], verbose=False)["input_ids"]
        return [min(len(row), longest) for row in ids]


class _QueryEncoder(nn.Module):
    """A trainable sentence encoder: b texts in, query vectors [b, e] out."""

    def __init__(self, model: SentenceTransformer, config: SentenceConfig) -> None:
        super().__init__()
        self.model = model.float().requires_grad_(True)
        self.config = config

    def forward(self, texts: Sequence[str]) -> Tensor:
        features = self.model.preprocess(list(texts), prompt=self.config.query_prefix)
        device = next(self.model.parameters()).device
        vectors = self.model({k: v.to(device) if isinstance(v, Tensor) else v for k, v in features.items()})
        embeddings: Tensor = vectors["sentence_embedding"]
        return F.normalize(embeddings, dim=-1) if self.config.normalize else embeddings


def _load(resolved: ResolvedModel, device: str, dtype: torch.dtype) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = SentenceTransformer(
            resolved.location, revision=resolved.revision, device=device, model_kwargs={"dtype": dtype}
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"model {resolved.name!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    return model.requires_grad_(False).eval()


def _load_openvino(resolved: ResolvedModel, device: str, dtype: str, threads: int) -> SentenceTransformer:
    """The model with its transformer run by OpenVINO; tokenizing and pooling stay sentence-transformers'."""
    if device not in ("auto", "cpu"):
        raise ConfigError(f"encoder 'sentence': backend 'openvino' runs on the cpu, not on {device!r}; use 'torch'")
    model = _load(resolved, "cpu", torch.float32)
    try:
        model[0].model = _OpenVINO(model[0].model, resolved, dtype, threads)
    except ModuleNotFoundError as error:
        raise missing_extra("encoder 'sentence' with backend = 'openvino'", error) from error
    return model


class _OpenVINO(nn.Module):
    """Stands in for a transformer: token ids [b, t] in, states [b, t, e] out."""

    def __init__(self, model: Any, resolved: ResolvedModel, dtype: str, threads: int) -> None:
        import openvino

        super().__init__()
        self.config, self.device = model.config, model.device
        graph = cache_dir() / "openvino" / resolved.identity.replace("/", "--")
        install(graph, lambda folder: _convert(model, folder, resolved.name))
        self._compiled = openvino.Core().compile_model(
            graph / "model.xml",
            "CPU",
            # Its own choice would be bfloat16 where the CPU has it.
            {"INFERENCE_PRECISION_HINT": _HINTS[dtype], "INFERENCE_NUM_THREADS": threads},
        )
        runs = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if runs != _HINTS[dtype]:
            raise ConfigError(
                f"encoder 'sentence': OpenVINO cannot compute in {dtype} on this CPU; use dtype = 'float32'"
            )

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> dict[str, Tensor]:
        length = input_ids.shape[1]
        padding = (0, -length % _STRIDE)
        given = [F.pad(part, padding).numpy() for part in (input_ids, attention_mask)]
        return {"last_hidden_state": torch.from_numpy(self._compiled(given)[0])[:, :length]}


class _States(nn.Module):
    """A transformer cut down to its last hidden states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _convert(model: Any, folder: Path, name: str) -> None:
    """Write the transformer's graph into `folder`, in float32."""
    import openvino
    from openvino.frontend import OpConversionFailure

    example = {n: torch.ones((2, 8), dtype=torch.long) for n in ("input_ids", "attention_mask")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that shapes are traced: the sizes stay free, as the tests show
            graph = openvino.convert_model(_States(model), example_input=example)
    except (OpConversionFailure, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"model {name!r} cannot be converted to OpenVINO ({reason}); use backend = 'torch'") from error
    openvino.save_model(graph, folder / "model.xml", compress_to_fp16=False)


def _pooling(model: SentenceTransformer) -> str:
    """The model's own way of pooling, for the key."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    modes = [m.pooling_mode for m in model if isinstance(m, Pooling)]
    return "+".join(m if isinstance(m, str) else "+".join(m) for m in modes) or "own"
