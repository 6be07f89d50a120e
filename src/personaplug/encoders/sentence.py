"""Sentence encoders of the sentence-transformers library: semantic vectors from a small model."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from personaplug.batching import token_batches
from personaplug.devices import DTYPES, pick_device
from personaplug.encoders.base import TextRole, TrainableEncoder, Vectors
from personaplug.errors import ModelError
from personaplug.models import ResolvedModel, resolve
from personaplug.registry import missing_extra


@dataclass(frozen=True, slots=True)
class SentenceConfig:
    """Which model and how it runs.

    Attributes:
        model: a bundle's name, a folder or a hub id.
        query_prefix: put before each query (BGE: "Represent this sentence for searching relevant passages: ").
        normalize: make the vectors unit-length.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto` is float32 on every device, so that vectors of one machine fit another's; bfloat16 is about twice
            as fast on CPUs with avx512_bf16.
        tokens_per_batch: batches are filled up to this many tokens, padding included.
    """

    model: str = "minilm"
    query_prefix: str = ""
    normalize: bool = True
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    tokens_per_batch: int = 4096


class SentenceEncoder(TrainableEncoder):
    """A sentence-transformers model with its own pooling; texts beyond its maximum length are cut.

    Raises:
        ModelError: the model cannot be loaded, or it is not a sentence-transformers model of text.
    """

    Config = SentenceConfig
    summary = "a sentence-transformers model: semantic, mostly blind to style"
    source = "Reimers and Gurevych 2019, Sentence-BERT; weights of the named model"

    def __init__(self, config: SentenceConfig) -> None:
        found = resolve(config.model)
        dtype = "float32" if config.dtype == "auto" else config.dtype
        self.config = config
        self._model = _load(found, pick_device(config.device), DTYPES[dtype])
        width = self._model.get_embedding_dimension()
        if width is None:
            raise ModelError(f"model {config.model!r} does not tell the width of its vectors; use another model")
        self.width = width
        shape = "unit" if config.normalize else "raw"
        self.key = f"sentence:{found.identity}:{_pooling(self._model)}:{dtype}:{shape}"
        if config.query_prefix:
            self.key += f":query-{hashlib.blake2b(config.query_prefix.encode(), digest_size=4).hexdigest()}"

    def encode(
        self, texts: Sequence[str], role: TextRole = "history", progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors [n, e], float32."""
        prefix = self.config.query_prefix if role == "query" else ""
        out = np.zeros((len(texts), self.width), np.float32)
        for batch in token_batches(self._lengths(texts, prefix), self.config.tokens_per_batch):
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

    def copy_for_training(self, how: Literal["full", "lora"] = "full") -> nn.Module:
        """A float32 copy that gives queries their vectors [b, e], with gradients."""
        copied = _QueryEncoder(self._model, self.config)
        if how == "lora":
            try:
                from peft import LoraConfig, inject_adapter_in_model
            except ModuleNotFoundError as error:
                raise missing_extra("query_encoder = 'lora'", error) from error
            copied.requires_grad_(False)
            inject_adapter_in_model(LoraConfig(r=8, target_modules="all-linear"), copied.model[0].auto_model)
        return copied

    def _lengths(self, texts: Sequence[str], prefix: str) -> list[int]:
        """Tokens of each text, at most the model's maximum."""
        if not texts:
            return []
        longest = self._model.max_seq_length or 2**30
        ids = self._model.tokenizer([prefix + t for t in texts], verbose=False)["input_ids"]
        return [min(len(row), longest) for row in ids]


class _QueryEncoder(nn.Module):
    """A trainable copy of a sentence encoder: b texts in, query vectors [b, e] out."""

    def __init__(self, model: SentenceTransformer, config: SentenceConfig) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).float().requires_grad_(True)
        self.config = config

    def forward(self, texts: Sequence[str]) -> Tensor:
        features = self.model.preprocess(list(texts), prompt=self.config.query_prefix)
        device = next(self.model.parameters()).device
        vectors = self.model({k: v.to(device) if isinstance(v, Tensor) else v for k, v in features.items()})
        found: Tensor = vectors["sentence_embedding"]
        return F.normalize(found, dim=-1) if self.config.normalize else found


def _load(found: ResolvedModel, device: str, dtype: torch.dtype) -> SentenceTransformer:
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = SentenceTransformer(
            found.location, revision=found.revision, device=device, model_kwargs={"dtype": dtype}
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"model {found.name!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    return model.requires_grad_(False).eval()


def _pooling(model: SentenceTransformer) -> str:
    """The model's own way of pooling, for the key."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    modes = [m.pooling_mode for m in model if isinstance(m, Pooling)]
    return "+".join(m if isinstance(m, str) else "+".join(m) for m in modes) or "own"
