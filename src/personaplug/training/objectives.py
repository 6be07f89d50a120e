"""What a plug learns from a batch: small functions of the real answers' token log-probabilities.

Shapes: b: batch, s: answer tokens (padded).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def nll(logprobs: Tensor, counts: Tensor) -> Tensor:
    """Mean negative log-likelihood [b] of tokens' log-probabilities [b, s] (0 at padding), counts [b] of them.

    Source: arXiv 2409.11901, eq. 6.
    """
    return -logprobs.sum(-1) / counts


def weighted(logprobs: Tensor, without: Tensor, counts: Tensor) -> Tensor:
    """`nll` with each token weighted by how much the persona changes it (arXiv 2603.06595, 2506.02368).

    The weight is a floor plus |log p(with the persona) - log p(without)|, at most 1; a request's weights have mean 1.

    Args:
        logprobs: [b, s], with the persona; 0 at padding.
        without: [b, s], of the unknown user's persona; no gradient flows to either weight.
        counts: [b], tokens of each answer.
    """
    real = (torch.arange(logprobs.shape[1], device=logprobs.device) < counts[:, None]).float()
    weight = (_FLOOR + (logprobs - without).detach().abs().clamp(max=1.0)) * real
    weight = weight * (counts / weight.sum(-1))[:, None]
    return nll(weight * logprobs, counts)


def preference(liked: Tensor, disliked: Tensor, against: Tensor) -> Tensor:
    """`nll` of the liked answers plus how little they are preferred to disliked ones, [b].

    The second term is SimPO's (arXiv 2405.14734, eq. 6): the logistic loss of the difference of the answers' mean
    token log-probabilities, sharpened, over a margin. It needs no reference model: the frozen model holds what is said
    near its own language, since only a few soft tokens can move.

    Args:
        liked: [b], `nll` of the liked answers.
        disliked: [a], `nll` of the disliked answers of those requests that have one.
        against: [a], which requests these are.
    """
    return liked.index_add(0, against, -F.logsigmoid(_SHARPNESS * (disliked - liked[against]) - _MARGIN))


def options(scores: Sequence[Tensor], right: Sequence[int]) -> Tensor:
    """Cross-entropy [b] of each request's right option given the scores (log-probabilities) of its options."""
    return torch.stack(
        [F.cross_entropy(s[None], torch.tensor([r], device=s.device)) for s, r in zip(scores, right, strict=True)]
    )


_FLOOR = 0.2
_SHARPNESS = 2.0  # SimPO's beta; its published range is 2 to 2.5
_MARGIN = 1.0  # SimPO's gamma; published: 0.3 to 1.6
