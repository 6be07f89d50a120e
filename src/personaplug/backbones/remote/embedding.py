"""A model's tokenizer and token embeddings without the rest of it."""

from __future__ import annotations

import json
from typing import Any

from personaplug.backbones.local.positions import context_length
from personaplug.core.errors import ModelError
from personaplug.models import ResolvedModel
from personaplug.models.loading import loading

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def load_tokenizer(resolved: ResolvedModel) -> Any:
    """The tokenizer of a model.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    with loading(resolved):
        return AutoTokenizer.from_pretrained(resolved.location, revision=resolved.revision)


def load_embedding(resolved: ResolvedModel) -> tuple[Any, int]:
    """The layer of token embeddings of a decoder-only model, as it is stored, and how many tokens the model reads.

    The layer is the model's own class, since some scale what they look up; of the weights, only its matrix is read.

    Raises:
        ModelError: the model cannot be made, or holds no such matrix as safetensors; names the model and the cause.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    with loading(resolved):
        config = AutoConfig.from_pretrained(resolved.location, revision=resolved.revision)
        with init_empty_weights(include_buffers=False):  # a scale is a buffer
            model = AutoModelForCausalLM.from_config(config)
    embedding = model.get_input_embeddings()
    name = next(n for n, p in model.named_parameters() if p is embedding.weight)
    with loading(resolved):
        matrix = _read(resolved, name)
    if matrix.shape != embedding.weight.shape:
        raise ModelError(
            f"model {resolved.name!r}: {name} is stored as {tuple(matrix.shape)}, but its config says "
            f"{tuple(embedding.weight.shape)}; fetch the model again"
        )
    embedding.weight = torch.nn.Parameter(matrix, requires_grad=False)
    return embedding, context_length(model)


def _read(resolved: ResolvedModel, name: str) -> Any:
    """One tensor of a model's safetensors."""
    from safetensors import safe_open
    from transformers.utils import cached_file

    def file(part: str) -> str | None:
        # A file that is not there is None.
        return cached_file(
            resolved.location, part, revision=resolved.revision, _raise_exceptions_for_missing_entries=False
        )

    index, parts = file(_INDEX), {}
    if index is not None:
        with open(index, encoding="utf-8") as lines:  # noqa: PTH123 - a path as the library gives it
            parts = json.load(lines)["weight_map"]
    elif (whole := file(_WHOLE)) is not None:
        with safe_open(whole, "pt") as tensors:
            parts = dict.fromkeys(tensors.keys(), _WHOLE)
    # Files may name the same tensor with or without what the model is called inside.
    own = [k for k in parts if k == name or name.endswith(f".{k}") or k.endswith(f".{name}")]
    if len(own) != 1:
        raise ModelError(
            f"model {resolved.name!r}: no {name} in its safetensors; save it with save_pretrained and name the folder"
        )
    with safe_open(file(parts[own[0]]), "pt") as tensors:
        return tensors.get_tensor(own[0])
