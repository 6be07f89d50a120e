"""What rankers share: which text of a behaviour they look at, and the best k of some scores.

Shapes: n: behaviours, e: the encoder's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personaplug.methods.retrieval import RetrievalConfig
from personaplug.tasks.base import TaskInfo

_BLOCK = 1024  # rows that stay in the processor's cache while they are widened
_BIAS = np.float32(2.0**112)  # float32 counts exponents from -127, float16 from -15


@dataclass(frozen=True, slots=True)
class RankingConfig(RetrievalConfig):
    """How much of a history goes into a prompt, and what the ranker sees of it.

    Attributes:
        history_text: template of what the ranker sees of a behaviour; empty means the task's own.
    """

    history_text: str = ""


def ranked_text(config: Any, task: TaskInfo | None) -> str:
    """The template of what a ranker sees of a behaviour."""
    return config.history_text or (task.history_text if task else "{input} {output}")


def best(scores: NDArray[np.floating], k: int) -> list[int]:
    """Indices of the k highest of n scores, the highest first; of equal ones the newer, which has the higher index.

    >>> best(np.array([0.5, 2.0, 0.5, 1.0]), 3)
    [1, 3, 2]
    """
    candidates = np.arange(len(scores)) if k >= len(scores) else np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    order: list[int] = candidates[np.lexsort((-candidates, -scores[candidates]))][:k].tolist()
    return order


def dot(vectors: NDArray[np.float16], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores [n]: float16 vectors [n, e] times a query [e], summed in float32; both finite and at most of unit length.

    NumPy widens float16 number by number, which takes over ten times as long as the product itself. A float16 whose
    bits are put where a float32 has them is the same number times 2^-112; the query makes up for it.
    """
    scores = np.empty(len(vectors), np.float32)
    scaled = query * _BIAS
    bits = np.ascontiguousarray(vectors).view(np.int16)
    for at in range(0, len(bits), _BLOCK):
        wide = bits[at : at + _BLOCK].astype(np.int32)  # the sign is spread over the upper half
        wide <<= 13
        wide &= ~0x70000000  # of the sign, only the top bit is the float's
        np.dot(wide.view(np.float32), scaled, out=scores[at : at + _BLOCK])
    return scores


def reciprocal_ranks(rankings: Sequence[Sequence[int]], n: int, constant: float) -> NDArray[np.float64]:
    """Scores [n]: for each behaviour the sum of 1 / (constant + its rank), the first rank being 1."""
    scores = np.zeros(n)
    for ranking in rankings:
        scores[list(ranking)] += 1.0 / (constant + np.arange(1, len(ranking) + 1))
    return scores.round(12)  # sums of the same numbers in another order are equal
