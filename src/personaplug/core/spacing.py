"""Some of a row of things, evenly spread over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """The middle of each of `count` equal stretches; all of the items where there are no more than that.

    >>> spread("abcdefgh", 2), spread("ab", 5)
    (['c', 'g'], ['a', 'b'])
    """
    n = len(items)
    count = min(n, count)
    return [items[(2 * i + 1) * n // (2 * count)] for i in range(count)]
