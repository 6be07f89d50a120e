"""The plug: from a user's history vectors and a request's vector to soft tokens for a frozen language model.

    history h_1..h_n ── encoder ─► vectors [n, e] ── W1, GELU ─► values [n, m] ─┐
                                        │ (keys)                                │
    request x ───────── encoder ─► query [e] ─── softmax over keys ─► w [n] ────┴─► Σ w·values ── W2 ─► persona [k, d]
    instruction (learned, shared by all users) [i, e] ── its own W1, GELU, W2 ──────────────────► instruction [i, d]
                                                                      the prefix is [instruction ; persona] [i + k, d]

This file knows torch and nothing of the rest of the package: it can be read, tested and lifted out alone.

Shapes: b: batch, n: behaviours (padded), e: encoder width, m: projector width, k: persona tokens, i: instruction
tokens, d: the language model's width. Source: Persona-Plug, arXiv 2409.11901, section 3, equations 3 to 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class PlugConfig:
    """Every choice of a plug; the defaults are ours, `pplug` is the paper.

    Attributes:
        persona_tokens: k, soft tokens that carry the user; 0 leaves only the instruction (the task prompt control).
        instruction_tokens: i, soft tokens shared by all users.
        position: `first` (before the whole prompt, as in the paper) or `last` (right before the answer).
        pooling: `softmax` (weights from query and keys, eq. 3) or `mean` (all behaviours alike; needs no query).
        temperature: divides the softmax's logits; the paper has 1.
        unit_length: scale each key and query to length 1.
        standardize: subtract the mean and divide by the standard deviation of the training histories' vectors,
            per coordinate (then by sqrt(e), so that lengths are about 1). Cold start is then the average user.
        projector_width: m; 0 means d.
        scale: length that a unit output is brought to; 0 means the backbone's mean token-embedding norm.
        history_text: template of what the encoder sees of a behaviour; empty means the task's own.
        query_prefix: put before the request's query before encoding (BGE-style encoders want one).
        train_query_encoder: train a copy of the encoder for queries (history vectors stay frozen).
        history_dropout: while training, up to this share of a history is left out, drawn afresh at each use.
        max_history: at most this many behaviours, the newest (while training: a random subset).
        text: section of a text method whose messages the persona joins, as {name = "bm25", k = 1}; empty is none.
    """

    persona_tokens: int = 4
    instruction_tokens: int = 1
    position: Literal["first", "last"] = "last"
    pooling: Literal["softmax", "mean"] = "softmax"
    temperature: float = 1.0
    unit_length: bool = False
    standardize: bool = True
    projector_width: int = 0
    scale: float = 0.0
    history_text: str = ""
    query_prefix: str = ""
    train_query_encoder: bool = False
    history_dropout: float = 0.5
    max_history: int = 512
    text: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low in (("persona_tokens", 0), ("instruction_tokens", 0), ("max_history", 1), ("scale", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {low}")
        if self.persona_tokens + self.instruction_tokens == 0:
            raise ValueError("persona_tokens and instruction_tokens are both 0: the prefix would be empty")
        if not 0.0 <= self.history_dropout < 1.0:
            raise ValueError(f"history_dropout is {self.history_dropout}, expected a share in [0, 1)")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a positive number")


class Pooled(NamedTuple):
    """The prefix [b, i + k, d] and each behaviour's weight [b, n] (rows add up to 1, or to 0 for an empty history)."""

    prefix: Tensor
    weights: Tensor


class Plug(nn.Module):
    """The trained part: a projector and an instruction; about 1 M parameters in front of a 135 M model.

    Args:
        config: the choices.
        encoder_width: e.
        model_width: d.
        token_norm: mean L2 norm of the backbone's token embeddings, the length of a natural token.
    """

    center: Tensor
    spread: Tensor
    instruction_norm: Tensor

    def __init__(self, config: PlugConfig, encoder_width: int, model_width: int, token_norm: float) -> None:
        super().__init__()
        self.config = config
        self.encoder_width = encoder_width
        self.model_width = model_width
        self.scale = config.scale or token_norm
        width = config.projector_width or model_width
        self.inner = nn.Linear(encoder_width, width)
        self.outer = nn.Linear(width, max(config.persona_tokens, 1) * model_width)
        self.instruction = nn.Parameter(torch.rand(config.instruction_tokens, encoder_width))
        self.instruction_mlp = nn.Sequential(
            nn.Linear(encoder_width, model_width), nn.GELU(), nn.Linear(model_width, model_width)
        )
        self.register_buffer("center", torch.zeros(encoder_width))
        self.register_buffer("spread", torch.ones(encoder_width))
        # The paper's code divides by 7.0, which is this norm for its encoder: the instruction starts at token length.
        with torch.no_grad():
            norm = self.instruction_mlp(self.instruction).norm(dim=-1).mean() if config.instruction_tokens else 1.0
        self.register_buffer("instruction_norm", torch.as_tensor(norm, dtype=torch.float32))

    def set_statistics(self, vectors: Tensor) -> None:
        """Take the mean and standard deviation of vectors [N, e] for `standardize`."""
        self.center.copy_(vectors.mean(0))
        self.spread.copy_(vectors.std(0, correction=0).clamp(min=1e-4))

    def keys(self, vectors: Tensor) -> Tensor:
        """Raw encoder vectors [..., e] as the plug compares and projects them."""
        if self.config.standardize:
            vectors = (vectors - self.center) / (self.spread * self.encoder_width**0.5)
        return F.normalize(vectors, dim=-1) if self.config.unit_length else vectors

    def values(self, keys: Tensor) -> Tensor:
        """The projector up to its last linear layer, [..., e] -> [..., m].

        The last layer is linear, so it commutes with the weighted sum and is applied once after it: exact, and n
        times cheaper than projecting every behaviour (eq. 4).
        """
        return F.gelu(self.inner(keys))

    def weights(self, keys: Tensor, mask: Tensor, query: Tensor | None) -> Tensor:
        """Each behaviour's share, [b, n, e], [b, n], [b, e] -> [b, n]; eq. 3 for `softmax`. Empty rows give zeros."""
        if self.config.pooling == "mean" or not self.config.persona_tokens:
            return mask / mask.sum(-1, keepdim=True).clamp(min=1)
        if query is None:
            raise ValueError("pooling 'softmax' needs a query [b, e]")
        logits = torch.einsum("be,bne->bn", query, keys) / self.config.temperature
        # A finite floor, not -inf: softmax over an empty history must not be NaN.
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        return torch.softmax(logits, dim=-1) * mask

    def pool(self, values: Tensor, weights: Tensor) -> Tensor:
        """Prefix [b, i + k, d] from values [b, n, m] and weights [b, n]; eq. 4 and 5.

        An empty history is pooled as one behaviour with the zero key: a finite persona, and with `standardize`
        that of the average user.
        """
        pooled = torch.einsum("bn,bnm->bm", weights, values)
        empty = weights.sum(-1, keepdim=True) == 0
        pooled = torch.where(empty, F.gelu(self.inner.bias), pooled)
        parts = []
        if self.config.instruction_tokens:
            instruction = self.instruction_mlp(self.instruction) / self.instruction_norm
            parts.append(instruction.expand(len(pooled), -1, -1))
        if self.config.persona_tokens:
            parts.append(self.outer(pooled).unflatten(-1, (self.config.persona_tokens, self.model_width)))
        return self.scale * torch.cat(parts, dim=1)

    def forward(self, vectors: Tensor, mask: Tensor, query: Tensor | None = None) -> Pooled:
        """Raw vectors [b, n, e], mask [b, n] (True: a behaviour), raw query [b, e] -> prefix and weights."""
        keys = self.keys(vectors)
        weights = self.weights(keys, mask, None if query is None else self.keys(query))
        return Pooled(self.pool(self.values(keys), weights), weights)


def drop_history(n: int, config: PlugConfig, generator: torch.Generator) -> Tensor:
    """Indices [r], ascending, of the behaviours that a training step sees of a history of length n.

    As in the reference's augmentation: of more than two, a share drawn from [0, history_dropout) plus one is left
    out, then at most `max_history` remain, chosen at random. The reference wrote 10 such copies to disk; here each
    use draws afresh.
    """
    keep = n
    if n > 2 and config.history_dropout > 0:
        keep = n - min(n - 1, int(n * config.history_dropout * torch.rand((), generator=generator).item()) + 1)
    keep = min(keep, config.max_history)
    return torch.randperm(n, generator=generator)[:keep].sort().values
