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


_SHARPNESS = 2.0  # SimPO's beta; its published range is 2 to 2.5
_MARGIN = 1.0  # SimPO's gamma; published: 0.3 to 1.6
