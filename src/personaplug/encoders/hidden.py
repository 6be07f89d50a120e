"""A frozen language model's own hidden states as vectors: they see case, spelling, punctuation and length.

    [BOS] tok_1 ... tok_t ── blocks 1..layer ── hidden states [b, t+1, e] ── mean over tok_1..tok_t ── [b, e]

b: texts of a batch, t: tokens, e: the model's width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from personaplug.backbones.base import Backbone
from personaplug.backbones.causal import CausalBackbone
from personaplug.backbones.local.base import load_pretrained
from personaplug.backbones.local.chat import ControlWords
from personaplug.core.errors import ConfigError
from personaplug.core.sequences import token_batches
from personaplug.encoders.base import Encoder, TextRole, Vectors
from personaplug.models import ResolvedModel, resolve
from personaplug.models.devices import pick_device, pick_dtype

_LARGEST = 65504.0  # the largest float16: stored vectors stay finite

# Families whose base model is `norm(layers(embeddings))`: a view of it with fewer layers and no norm is the first
# blocks alone. Of any other family all blocks run, and the layer is picked from the model's hidden states.
_CUTTABLE = frozenset({"gemma2", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"})


@dataclass(frozen=True, slots=True)
class HiddenConfig:
    """Which model, where to look, and how it runs.

    Attributes:
        model: a bundle's name, a folder or a hub id.
        layer: how many blocks run; 0 is half of them.
        pooling: `mean` over the text's tokens, or the `last` one.
        max_tokens: of a longer text only the first so many are seen.
        tokens_per_batch: batches are filled up to this many tokens, padding included.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: what the model computes in.
    """

    model: str = "smollm2-135m"
    layer: int = 0
    pooling: Literal["mean", "last"] = "mean"
    max_tokens: int = 96
    tokens_per_batch: int = 2048
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"


class HiddenEncoder(Encoder):
    """Pooled hidden states of a decoder-only model, taken after a block in its middle.

    The text is tokenized as it is, with no chat template. Models use their first token as an attention sink, whose
    state is huge and says nothing of the text; so the tokenizer's BOS goes in front and is left out of the mean.
    Without a BOS the first text token is the sink and is left out, if it is not the only one.

    The vectors are NOT standardised here, though raw hidden states have a few dimensions that drown all others: which
    users came first must not change a vector. The plug standardises, with statistics of its training histories that are
    stored in its artifact.

    Args:
        config: which model, layer and pooling.
        backbone: if it runs the same weights in the same dtype, they are shared with it (on its device) and not
            loaded twice; the backbone is never changed.

    Raises:
        ConfigError: the layer does not exist, or max_tokens is below 1.
        ModelError: the weights cannot be loaded.
    """

    Config = HiddenConfig
    summary = "a frozen language model's own hidden states: they see style; by default the backbone's"
    source = "Ethayarajh 2019 (layers differ in what they hold); Xiao et al. 2023 (attention sinks)"

    def __init__(self, config: HiddenConfig, backbone: Backbone | None = None) -> None:
        resolved = resolve(config.model)
        if _same(backbone, resolved, config):
            model, self._tokenizer = backbone.model, backbone.tokenizer
        else:
            model, self._tokenizer = load_pretrained(AutoModelForCausalLM, resolved, pick_dtype(config.dtype, "cpu"))
            model.to(pick_device(config.device))
        self.config = config
        self._control_words = ControlWords(self._tokenizer)
        self._layer = _layer(config, model.config.num_hidden_layers)
        self._cut = model.config.model_type in _CUTTABLE
        self._blocks = _first_blocks(model.base_model, self._layer) if self._cut else model.base_model
        self._device = model.device
        self.width = int(model.config.hidden_size)
        self.key = (
            f"hidden:{resolved.identity}:layer{self._layer}:{config.pooling}:max{config.max_tokens}:{config.dtype}"
        )

    @torch.inference_mode()
    def encode(
        self, texts: Sequence[str], role: TextRole = "history", progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors [n, e], float32, within the range of float16; both roles get the same vector."""
        del role
        rows = self._tokenize(texts)
        out = np.zeros((len(texts), self.width), np.float32)
        for batch in token_batches([len(r) for r in rows], self.config.tokens_per_batch):
            out[batch] = self._pooled([rows[i] for i in batch]).cpu().numpy()
            if progress is not None:
                progress(len(batch))
        return out

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, at least one, with the sink in front."""
        if not texts:
            return []
        tokenizer, limit = self._tokenizer, self.config.max_tokens
        rows = tokenizer([self._control_words.broken(text) for text in texts], add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        # The empty text of a model without BOS still needs a token to look at.
        alone = bos or [tokenizer.eos_token_id or 0]
        return [(bos + row[:limit]) or alone for row in rows]

    def _pooled(self, rows: Sequence[list[int]]) -> Tensor:
        """Hidden states of one batch, pooled: [b, e], float32."""
        ids = pad_sequence([torch.tensor(r) for r in rows], batch_first=True).to(self._device)  # [b, t]
        lengths = torch.tensor([len(r) for r in rows], device=self._device)[:, None]  # [b, 1]
        columns = torch.arange(ids.shape[1], device=self._device)[None]  # [1, t]
        states = self._states(ids, (columns < lengths).long()).float()  # [b, t, e]
        if self.config.pooling == "mean":
            chosen = (columns < lengths) & ((columns > 0) | (lengths == 1))
        else:
            chosen = columns == lengths - 1
        # Filled, and not multiplied by 0: in float16 the sink's state may be infinite.
        total = states.masked_fill(~chosen[..., None], 0.0).sum(1)
        return (total / chosen.sum(1, keepdim=True)).clamp(-_LARGEST, _LARGEST)

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self._cut:
            states: Tensor = self._blocks(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            return states
        run = self._blocks(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True)
        picked: Tensor = run.hidden_states[self._layer]
        return picked


def _same(backbone: Backbone | None, resolved: ResolvedModel, config: HiddenConfig) -> TypeGuard[CausalBackbone]:
    """Whether the backbone runs the weights that are wanted, as wanted."""
    return (
        isinstance(backbone, CausalBackbone)
        and backbone.key == f"causal:{resolved.identity}"
        and backbone.dtype == pick_dtype(config.dtype, "cpu")
    )


def _layer(config: HiddenConfig, blocks: int) -> int:
    if config.max_tokens < 1:
        raise ConfigError(f"encoder 'hidden': max_tokens is {config.max_tokens}, expected at least 1")
    if not 0 <= config.layer <= blocks:
        raise ConfigError(
            f"encoder 'hidden': layer is {config.layer}, but {config.model!r} has {blocks} layers; 0 is half of them"
        )
    return config.layer or max(1, blocks // 2)


def _first_blocks(base: Any, layer: int) -> nn.Module:
    """A view of `base` that ends after `layer` blocks, before the final norm; `base` stays as it is."""
    view = copy.copy(base)
    view._modules = dict(base._modules)  # a shallow copy of a module shares this dictionary with its original
    view.layers = base.layers[:layer]
    view.norm = nn.Identity()
    return view
