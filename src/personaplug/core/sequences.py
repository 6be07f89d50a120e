"""Sequences: some of a row of things, evenly spaced, and batches of like lengths under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """The middle of each of `count` equal stretches; all of the items where there are no more than that.

    >>> evenly_spaced("abcdefgh", 2), evenly_spaced("ab", 5)
    (['c', 'g'], ['a', 'b'])
    """
    n = len(items)
    count = min(n, count)
    return [items[(2 * i + 1) * n // (2 * count)] for i in range(count)]


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Positions 0..n-1, longest first, in batches of at most `budget` tokens, padding included.

    Longest first: a batch that does not fit in memory shows at once, and not after an hour. A text longer than the
    whole budget has a batch to itself.

    >>> list(token_batches([1, 5, 2, 2], budget=6))
    [[1], [2, 3, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        rows = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + rows]
        start += rows
