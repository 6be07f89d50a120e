"""Poolings: how much each behaviour of a history counts for a request. A plug may use several side by side.

Each is a small module that turns keys into logits. The softmax over them may include the logit of the null user, the
average one, on whom a history that is short or beside the point then falls back.

Shapes: b: batch, n: behaviours (padded), p: poolings, e: encoder width, d: width of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Pooling(nn.Module):
    """Keys [b, n, e], query [b, e] or None and age [b, n] (0 is a user's newest behaviour) -> logits [b, n]."""

    uses_query: ClassVar[bool] = False
    ordered: ClassVar[bool] = False  # whether the order of behaviours counts
    normalized: ClassVar[bool] = False  # whether it expects keys of length 1

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__()
        del width, temperature

    def forward(self, keys: Tensor, query: Tensor | None, age: Tensor) -> Tensor:
        """The logits."""
        raise NotImplementedError


class Mean(Pooling):
    """All behaviours alike (the paper's ablation, arXiv 2409.11901 section 4.4): one persona a user."""

    def forward(self, keys: Tensor, query: Tensor | None, age: Tensor) -> Tensor:
        """Zeros."""
        del query, age
        return keys.new_zeros(keys.shape[:2])


class Softmax(Pooling):
    """The paper's: the plain product of query and key (arXiv 2409.11901, eq. 3), over a set temperature."""

    uses_query = True

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__(width, temperature)
        self.temperature = temperature

    def forward(self, keys: Tensor, query: Tensor | None, age: Tensor) -> Tensor:
        """Products."""
        del age
        return _products(_needed(query), keys) / self.temperature


class CosineAttention(Pooling):
    """Cosine of the projected query and the key over a learned temperature, which begins where neighbours stand out.

    The projection begins as the identity: untrained, it is a nearest-neighbour estimate in the encoder's space. Keys
    are not projected: that would cost n·e² a request, and a product of two projections is a single one.
    """

    uses_query = True
    normalized = True

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__(width, temperature)
        self.project = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.project.weight)
        self.log_sharpness = nn.Parameter(torch.tensor(_SHARPNESS).log())

    def forward(self, keys: Tensor, query: Tensor | None, age: Tensor) -> Tensor:
        """Cosines, sharpened."""
        del age
        return self.log_sharpness.exp() * _products(F.normalize(self.project(_needed(query)), dim=-1), keys)


class Recent(Pooling):
    """Newer behaviours count more: -decay * log(1 + age), with a learned decay (as in TAP-PER, arXiv 2606.04547)."""

    ordered = True

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__(width, temperature)
        self.decay = nn.Parameter(torch.tensor(0.0))  # softplus(0) = 0.69

    def forward(self, keys: Tensor, query: Tensor | None, age: Tensor) -> Tensor:
        """Decayed."""
        del keys, query
        return -F.softplus(self.decay) * age.float().log1p()


_SHARPNESS = 10.0  # one over the temperature: cosines of neighbours and of strangers differ by about 0.3

POOLINGS: dict[str, type[Pooling]] = {
    "mean": Mean,
    "softmax": Softmax,
    "nearest": CosineAttention,
    "recent": Recent,
}


def softmax_weights(
    poolings: Sequence[nn.Module], keys: Tensor, mask: Tensor, query: Tensor | None, null: Tensor | None, *, unit: bool
) -> Tensor:
    """Each behaviour's share in each pooling [b, p, n]; arXiv 2409.11901, eq. 3, for the pooling `softmax`.

    Args:
        poolings: p of them.
        keys: [b, n, e].
        mask: [b, n], True where there is a behaviour; rows without any give zeros.
        query: [b, e], or None where no pooling uses it.
        null: [p], the null user's logits, whose share is left out of the result; None for no null user.
        unit: whether the keys have length 1 already.
    """
    if not poolings or not keys.shape[1]:
        return keys.new_zeros(len(keys), len(poolings), keys.shape[1])
    normal = F.normalize(keys, dim=-1) if not unit and any(p.normalized for p in poolings) else keys
    age = mask.flip(1).cumsum(1).flip(1) - mask.long()
    logits = torch.stack([p(normal if p.normalized else keys, query, age).float() for p in poolings], dim=1)
    # A finite floor, not -inf: softmax over an empty history must not be NaN.
    logits = logits.masked_fill(~mask[:, None], torch.finfo(logits.dtype).min)
    if null is None:
        return logits.softmax(-1) * mask[:, None]
    joined = torch.cat([logits, null[None, :, None].expand(len(logits), -1, 1)], dim=-1)
    return joined.softmax(-1)[..., :-1] * mask[:, None]


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums [b, p, d] of values [b, n, d] with weights [b, p, n]; arXiv 2409.11901, eq. 4.

    Values in half precision, as stored, are read where they lie, without a float32 copy of a whole history: that copy
    costs twice the sum.
    """
    if values.dtype == weights.dtype or not values.shape[1]:
        return weights @ values.to(weights.dtype)
    bags = torch.arange(values.shape[:2].numel(), device=values.device).view(len(values), 1, -1).expand_as(weights)
    shares = weights.flatten(0, 1).to(values.dtype)
    summed = F.embedding_bag(bags.flatten(0, 1), values.flatten(0, 1), per_sample_weights=shares, mode="sum")
    return summed.view(*weights.shape[:2], -1).to(weights.dtype)


def _products(queries: Tensor, keys: Tensor) -> Tensor:
    """[b, e], [b, n, e] -> [b, n]; keys in half precision are read as they are stored."""
    return torch.einsum("be,bne->bn", queries.to(keys.dtype), keys).to(queries.dtype)


def _needed(query: Tensor | None) -> Tensor:
    if query is None:
        raise ValueError("this pooling needs a query [b, e]")
    return query
