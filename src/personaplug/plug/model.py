"""The plug: from a user's history vectors and a request's vector to soft tokens for a frozen language model.

    behaviour i ── encoder ─► its views [v·e] ── W1, GELU ─► value [n, d] ──────────┐
                                │ the first view: key [n, e]                        │
    request x ──── encoder ─► query [e] ── p poolings ─► w [p, n] (softmax) ──► Σ w·value [p·d] ── W2 ─► persona [k, d]
    instruction (learned, shared by all users) ── its own MLP ────────────────────────────────────► instruction [i, d]
                                                                        the prefix is [instruction ; persona] [i + k, d]

Shapes: b: batch, n: behaviours (padded), v: views of a behaviour, e: encoder width, p: poolings, k: persona tokens,
i: instruction tokens, d: the language model's width. Source: Persona-Plug, arXiv 2409.11901, equations 3 to 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from personaplug.plug.instruction import learned_instruction, repeat_words
from personaplug.plug.pooling import POOLINGS, softmax_weights, weighted_sum
from personaplug.plug.prototypes import Prototypes
from personaplug.plug.standardizer import Standardizer


@dataclass(frozen=True, slots=True)
class PlugConfig:
    """The shape of a plug's weights. What each choice is worth: docs/ablation.md.

    Attributes:
        persona_tokens: k, soft tokens that carry the user, at least 1.
        instruction_tokens: i, soft tokens shared by all users.
        pooling: names in `POOLINGS`, joined by +: `mean+nearest` is a static and a query-aware one side by side.
        nobody: the average user takes part in every pooling, with a learned logit.
        temperature: divides the logits of the pooling `softmax`; the paper has 1.
        unit_length: scale each key and query to length 1.
        standardize: by mean and standard deviation of the training histories' vectors; no history is the average user.
        prototypes: clusters of training users whose behaviours stand in for what little feedback says; 0 is off.
    """

    persona_tokens: int = 4
    instruction_tokens: int = 1
    pooling: str = "mean+nearest"
    nobody: bool = False
    temperature: float = 1.0
    unit_length: bool = False
    standardize: bool = True
    prototypes: int = 0

    def __post_init__(self) -> None:
        for name, low in {"persona_tokens": 1, "instruction_tokens": 0, "prototypes": 0}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {low}")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a positive number")
        if wrong := [p for p in self.poolings if p not in POOLINGS]:
            raise ValueError(f"pooling {wrong[0]!r} is unknown, expected names joined by + of: {', '.join(POOLINGS)}")

    @property
    def poolings(self) -> tuple[str, ...]:
        """The names in `pooling`."""
        return tuple(self.pooling.split("+"))


class Plug(nn.Module):
    """The trained part, about 2 M parameters in front of a 135 M model.

    Args:
        config: its shape.
        encoder_width: e.
        model_width: d.
        token_norm: mean L2 norm of the language model's token embeddings, the length of a natural token.
        views: v.
    """

    start: Tensor  # [i + k, d], the prefix before training
    instruction_norm: Tensor

    def __init__(
        self, config: PlugConfig, encoder_width: int, model_width: int, token_norm: float, views: int = 1
    ) -> None:
        super().__init__()
        self.config, self.encoder_width, self.scale = config, encoder_width, token_norm
        self.standard = Standardizer(views * encoder_width, encoder_width, config.standardize, config.unit_length)
        self.poolings = nn.ModuleList(POOLINGS[p](encoder_width, config.temperature) for p in config.poolings)
        self.static_poolings = [i for i, p in enumerate(self.poolings) if not p.uses_query]  # one persona a user
        self.query_poolings = [i for i, p in enumerate(self.poolings) if p.uses_query]  # one persona a request
        self.unit_keys = bool(self.query_poolings) and all(self.poolings[i].normalized for i in self.query_poolings)
        self.null_user = nn.Parameter(torch.zeros(len(self.poolings))) if config.nobody else None
        self.inner = nn.Linear(views * encoder_width, model_width)
        tracks = len(self.poolings) + (config.prototypes > 0)
        self.outer = nn.Linear(tracks * model_width, config.persona_tokens * model_width)
        self.instruction, self.instruction_mlp, norm = learned_instruction(
            config.instruction_tokens, encoder_width, model_width
        )
        self.register_buffer("start", torch.zeros(config.instruction_tokens + config.persona_tokens, model_width))
        self.register_buffer("instruction_norm", norm)
        self.prototypes = Prototypes(config.prototypes, views * encoder_width) if config.prototypes else None

    @torch.no_grad()
    def start_from(self, words: Tensor) -> None:
        """Begin at the embeddings of words [w, d], repeated as needed: before training, the prefix is those words."""
        self.start.copy_(repeat_words(words, len(self.start)))
        for parameter in (*self.outer.parameters(), *self.instruction_mlp[2].parameters()):
            parameter.zero_()

    def project(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Raw vectors [..., v·e] -> keys [..., e] and values [..., d]: the projector up to its last layer.

        The last layer is linear: applied once after the weighted sum (eq. 4), it is exact and n times cheaper.
        """
        views = self.standard(vectors)
        keys = views[..., : self.encoder_width]
        return F.normalize(keys, dim=-1) if self.unit_keys else keys, F.gelu(self.inner(views))

    def prototype_values(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """What prototype users like these did [b, 1 or 0, d], from raw vectors [b, n, v·e] and mask [b, n]."""
        if self.prototypes is None:
            return self.inner.bias.new_zeros(len(vectors), 0, len(self.inner.bias))
        return F.gelu(self.inner(self.prototypes(self.standard(vectors), mask)))[:, None]

    def weights(
        self, keys: Tensor, mask: Tensor, query: Tensor | None, poolings: Sequence[int] | None = None
    ) -> Tensor:
        """Shares [b, p, n] of behaviours by keys [b, n, e], mask [b, n] and query [b, e] in poolings by number; eq. 3.

        What is missing from 1 is the null user's, all of it for an empty history.
        """
        chosen = list(range(len(self.poolings)) if poolings is None else poolings)
        null = None if self.null_user is None else self.null_user[chosen]
        return softmax_weights([self.poolings[i] for i in chosen], keys, mask, query, null, unit=self.unit_keys)

    def pooled(self, values: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums [b, p, d] of values [b, n, d] with weights [b, p, n], the null user's zero vector included."""
        return weighted_sum(values, weights) + (1 - weights.sum(-1, keepdim=True)) * F.gelu(self.inner.bias)

    def prefix(self, pooled: Tensor) -> Tensor:
        """Prefix [b, i + k, d] from what all poolings gave [b, p, d], the prototype users last; eq. 5."""
        instruction = self.instruction_mlp(self.instruction) / self.instruction_norm
        persona = self.outer(pooled.flatten(1)).unflatten(-1, (self.config.persona_tokens, -1))
        return self.start + self.scale * torch.cat([instruction.expand(len(pooled), -1, -1), persona], dim=1)

    def forward(self, vectors: Tensor, mask: Tensor, query: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors [b, n, v·e], mask [b, n] of behaviours, query [b, e] -> prefix [b, i + k, d], weights [b, p, n]."""
        keys, values = self.project(vectors)
        weights = self.weights(keys, mask, None if query is None else self.standard(query))
        pooled = torch.cat([self.pooled(values, weights), self.prototype_values(vectors, mask)], dim=1)
        return self.prefix(pooled), weights
