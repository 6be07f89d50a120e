"""What a plug learns from a batch: small functions of the real answers' token log-probabilities.

Shapes: b: batch, s: answer tokens (padded).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

OBJECTIVES: dict[str, str] = {
    "nll": "next-token loss (arXiv 2409.11901, eq. 6)",
    "weighted": "the same, with more weight on tokens that the persona changes (arXiv 2603.06595, 2506.02368)",
    "options": "cross-entropy over the task's options alone",
    "contrast": "the same answer must be less likely with another user's persona",
}


def parse(objective: str) -> tuple[str, ...]:
    """The names in an objective.

    >>> parse("nll+contrast")
    ('nll', 'contrast')

    Raises:
        ValueError: one is unknown, or it is not one of them with or without a contrast.
    """
    names = tuple(objective.split("+"))
    if wrong := [n for n in names if n not in OBJECTIVES]:
        raise ValueError(f"objective {wrong[0]!r} is unknown, expected names joined by + of: {', '.join(OBJECTIVES)}")
    if len(set(names) - {"contrast"}) != 1:
        raise ValueError(f"objective {objective!r}: expected one of nll, weighted, options, and maybe +contrast")
    return names


def nll(logprobs: Tensor, counts: Tensor) -> Tensor:
    """Mean negative log-likelihood [b] of tokens' log-probabilities [b, s] (0 at padding), counts [b] of them."""
    return -logprobs.sum(-1) / counts


def weighted(logprobs: Tensor, without: Tensor, counts: Tensor) -> Tensor:
    """`nll` with each token weighted by how much the persona changes it.

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


def options(scores: Sequence[Tensor], right: Sequence[int]) -> Tensor:
    """Cross-entropy [b] of each request's right option given the scores (log-probabilities) of its options."""
    return torch.stack(
        [F.cross_entropy(s[None], torch.tensor([r], device=s.device)) for s, r in zip(scores, right, strict=True)]
    )


def contrast(own: Tensor, other: Tensor) -> Tensor:
    """Two-way InfoNCE [b] of an answer's `nll` under its own user's persona and another's: log(1 + e^(own - other))."""
    return F.softplus(own - other)


_FLOOR = 0.2
