"""Poolings: how much each behaviour of a history counts for a request. A plug may use several side by side.

Each is a small module that turns what behaviours are compared by into logits; the plug softmaxes them together with
the logit of "nobody", the average user, so that a history that is short or beside the point falls back on it.

Shapes: b: batch, n: behaviours (padded), e: encoder width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Pooling(nn.Module):
    """Keys [b, n, e], query [b, e] or None and age [b, n] (0 is a user's newest behaviour) -> logits [b, n]."""

    wants_query: ClassVar[bool] = False
    ordered: ClassVar[bool] = False  # whether the order of behaviours counts
    unit: ClassVar[bool] = False  # whether it is given keys of length 1

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

    wants_query = True

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__(width, temperature)
        self.temperature = temperature

    def forward(self, keys: Tensor, query: Tensor | None, age: Tensor) -> Tensor:
        """Products."""
        del age
        return _products(_needed(query), keys) / self.temperature


class Nearest(Pooling):
    """Cosine of the projected query and the key over a learned temperature, which begins where neighbours stand out.

    The projection begins as the identity: untrained, it is a nearest-neighbour estimate in the encoder's space. Keys
    are not projected: that would cost n·e² a request, and a product of two projections is a single one.
    """

    wants_query = True
    unit = True

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__(width, temperature)
        self.project = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.project.weight)
        self.log_sharpness = nn.Parameter(torch.tensor(_SHARPNESS).log())

    def forward(self, keys: Tensor, query: Tensor | None, age: Tensor) -> Tensor:
        """Cosines, sharpened."""
        del age
        return self.log_sharpness.exp() * _products(F.normalize(self.project(_needed(query)), dim=-1), keys)


class Learned(Pooling):
    """A learned query, the same for every request: which behaviours say most of a person (a resampler's latent)."""

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__(width, temperature)
        self.query = nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, keys: Tensor, query: Tensor | None, age: Tensor) -> Tensor:
        """Products with the learned query."""
        del query, age
        return _products(self.query.expand(len(keys), -1), keys)


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
    "nearest": Nearest,
    "learned": Learned,
    "recent": Recent,
}


def _products(queries: Tensor, keys: Tensor) -> Tensor:
    """[b, e], [b, n, e] -> [b, n]; keys in half precision are read as they are stored."""
    return torch.einsum("be,bne->bn", queries.to(keys.dtype), keys).to(queries.dtype)


def _needed(query: Tensor | None) -> Tensor:
    if query is None:
        raise ValueError("this pooling needs a query [b, e]")
    return query
