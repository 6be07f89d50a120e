"""Draws users, texts and requests for splits: by seed, the same on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Split

T = TypeVar("T")


def drawn_users(users: Iterable[str], count: int, seed: int) -> frozenset[str]:
    """So many of the users, drawn by seed; all of them if count is 0 or there are no more."""
    names = set(users)
    if not 0 < count < len(names):
        return frozenset(names)
    return frozenset(sorted(names, key=lambda u: (uniform(seed, "user", u), u))[:count])


def held_out(texts: Iterable[tuple[str, Split]], seed: int) -> frozenset[str]:
    """The texts that dev and test may ask of, where no text may be both there and in train.

    A text is held out with the probability of its own occurrences: nothing is lost where everyone judged it in the same
    phase, and as little as can be where everyone's order is another.

    Args:
        texts: each occurrence, and in which split it is.
        seed: of the draw.
    """
    total: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for text, split in texts:
        total[text] += 1
        held[text] += split != "train"
    return frozenset(text for text, n in total.items() if uniform(seed, "text", text) < held[text] / n)


def limited(
    items: Iterable[T], part_of: Callable[[T], tuple[str, Split]], per_user: int, eval_per_user: int
) -> Iterator[T]:
    """At most so many of each user's items in a split: in train evenly spread, else the newest; 0 is no limit.

    Args:
        items: each user's oldest first.
        part_of: an item's user and split.
        per_user: in train.
        eval_per_user: in dev, and in test.
    """
    parts: defaultdict[tuple[str, Split], list[T]] = defaultdict(list)
    for item in items:
        parts[part_of(item)].append(item)
    for (_, split), part in parts.items():
        limit = per_user if split == "train" else eval_per_user
        if not 0 < limit < len(part):
            yield from part
        elif split == "train":
            yield from evenly_spaced(part, limit)
        else:
            yield from part[-limit:]


def uniform(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone: the same on every machine and in every process."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
