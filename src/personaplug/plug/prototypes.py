"""Prototype users: clusters of the training users, which stand in for what little is known of a new one.

Shapes: b: batch, n: behaviours (padded), c: prototypes, w: width of a behaviour's vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Prototypes(nn.Module):
    """Attention over c prototype users by the cosine of mean vectors, sharpened, and by how many users each stands for.

    One behaviour says little of a taste, but which tastes there are is known, and so most of what is accidental goes. A
    user without behaviours is like all prototypes.
    """

    means: Tensor
    shares: Tensor

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(count, width))
        self.register_buffer("shares", torch.ones(count) / count)
        self.log_sharpness = nn.Parameter(torch.tensor(_SHARPNESS).log())

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Standardised vectors [b, n, w] and mask [b, n] -> what users like these did on average [b, w]."""
        mean = (vectors * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        cosines = F.normalize(mean, dim=-1) @ F.normalize(self.means, dim=-1).T
        shares = (self.log_sharpness.exp() * cosines + self.shares.log()).softmax(-1)
        return shares @ self.means

    @torch.no_grad()
    def fit(self, users: Sequence[Tensor], projection: Tensor, seed: int = 0) -> None:
        """Cluster the means of training users' standardised vectors [n, w] by k-means; of fewer users, the rest stay 0.

        Means over many behaviours are short, and what differs between users is little of them: they are scaled so that
        their projection [d, w] has unit spread, else it would learn what all share long before who is who.
        """
        from sklearn.cluster import KMeans

        means = torch.stack([own.mean(0) for own in users if len(own)])
        distinct = means.round(decimals=4)  # near doubles are one point
        count = min(len(self.means), len(distinct.unique(dim=0)))
        labels = KMeans(count, n_init=1, random_state=seed).fit(distinct.cpu().numpy()).labels_
        label = torch.as_tensor(labels, dtype=torch.long, device=means.device)
        self.shares.zero_()
        for at, cluster in enumerate(label.unique()):
            self.means[at] = means[label == cluster].mean(0)
            self.shares[at] = (label == cluster).float().mean()
        self.means /= F.linear(self.means, projection).std().clamp(min=1e-4)


_SHARPNESS = 10.0  # of the softmax over cosines, before training
