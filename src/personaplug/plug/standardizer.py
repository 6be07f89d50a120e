"""Encoder vectors as they are compared and projected: standardised by what training histories look like.

Shapes: v: views of a behaviour, e: encoder width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Standardizer(nn.Module):
    """Per coordinate: minus the mean, over the standard deviation, over sqrt(e), so that lengths are about 1.

    Args:
        width: v·e.
        view: e.
        standardize: whether to; without it vectors stay as the encoder gives them.
        unit_length: whether each view is then scaled to length 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, view: int, standardize: bool, unit_length: bool) -> None:
        super().__init__()
        self.view, self.standardize, self.unit_length = view, standardize, unit_length
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def fit(self, vectors: Tensor) -> None:
        """Take the statistics of raw vectors [N, v·e]; NaN is a missing view."""
        self.mean.copy_(vectors.nanmean(0).nan_to_num())
        std = ((vectors - self.mean) ** 2).nanmean(0).sqrt().nan_to_num()
        # A coordinate that never varied says nothing: where it does later, it must not drown all others.
        self.std.copy_(torch.where(std < 1e-4, 1.0, std))

    def forward(self, vectors: Tensor) -> Tensor:
        """Raw vectors [..., e] of first views, or [..., v·e] of all; a missing view (NaN) counts as the average."""
        if self.standardize:
            width = vectors.shape[-1]
            vectors = ((vectors - self.mean[:width]) / self.std[:width]).clamp(-_FAR, _FAR) / self.view**0.5
        if self.unit_length:
            vectors = F.normalize(vectors.unflatten(-1, (-1, self.view)), dim=-1).flatten(-2)
        return vectors.nan_to_num()


_FAR = 10.0  # standard deviations: a rare feature counts, but does not drown all others
