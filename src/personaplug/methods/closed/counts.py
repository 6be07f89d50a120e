"""Labels that a user gave before, counted: a user's own shares, pulled towards everybody's.

    chance of option o = (own count of o + s · everybody's share of o) / (own behaviours + s)

Shapes: n: behaviours, o: options.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from personaplug.core.types import Behavior, Example
from personaplug.data.feedback import preference
from personaplug.metrics.scores import labels

Floats = NDArray[np.float64]

LEAST = 1e-6
"""No chance is smaller: an answer that nobody gave yet is not impossible."""


def right_labels(answer: str, options: Sequence[str]) -> list[int]:
    """Indices of the options that an answer names: itself, or its comma-separated parts.

    >>> right_labels("joy, fear", ("fear", "joy", "none"))
    [0, 1]
    """
    named = labels(answer, options)
    return [i for i, option in enumerate(options) if option in named or option.strip() == answer.strip()]


def label_matrix(behaviors: Iterable[Behavior], options: Sequence[str]) -> Floats:
    """Which options each behaviour's output names [n, o], 0 or 1; a row of zeros where it names none."""
    known = {option: i for i, option in enumerate(options)}
    rows = []
    for behavior in behaviors:
        row = np.zeros(len(options))
        at = known.get(behavior.output.strip())
        row[[at] if at is not None else right_labels(behavior.output, options)] = 1.0
        rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, len(options)))


def smoothed(given: Floats, share: Floats, weight: float) -> Floats:
    """A user's chances of the options [o].

    Args:
        given: labels of the user's behaviours [n, o]; rows of zeros do not count.
        share: everybody's [o].
        weight: as how many behaviours everybody's share counts.
    """
    counted = float((given.sum(axis=1) > 0).sum())
    return np.clip((given.sum(axis=0) + weight * share) / (counted + weight), LEAST, 1.0 - LEAST)


def nats(chances: Floats, right: Sequence[int], *, multilabel: bool = False) -> float:
    """Nats of a right answer: of one option, or of a set of labels that are independent of each other.

    Args:
        chances: of the options [o].
        right: which of them the answer names.
        multilabel: whether the chances are of labels.
    """
    if multilabel:
        named = np.zeros(len(chances), bool)
        named[list(right)] = True
        return float(-np.log(np.where(named, chances, 1.0 - chances)).sum())
    return float(-np.log(chances[right[0]])) if right else -float(np.log(LEAST))


@dataclass(frozen=True, slots=True)
class Everybody:
    """What all training users together said.

    Attributes:
        share: of each of the task's options among their answers [o], or None before fitting.
        texts: digest of a text that requests bring along -> (how often it was preferred, how often it was not).
    """

    share: Floats | None = None
    texts: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    def of(self, options: Sequence[str], fixed: Sequence[str]) -> Floats:
        """Everybody's share of these options [o], where `fixed` are the task's; equal where nothing is known."""
        if tuple(options) == tuple(fixed) and self.share is not None:
            return self.share
        known = [self.texts.get(digest_of_text(o), (0.0, 0.0)) for o in options]
        rates = np.array([(won + 1.0) / (won + lost + 2.0) for won, lost in known])
        return rates / rates.sum()

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What an artifact keeps."""
        return {
            "share": np.zeros(0) if self.share is None else self.share,
            "texts": np.array(list(self.texts), np.int64),
            "rates": np.array(list(self.texts.values()), np.float64).reshape(-1, 2),
        }

    @staticmethod
    def of_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> Everybody:
        """What `arrays` gave."""
        share = np.asarray(arrays["share"], np.float64)
        rates = [(float(a), float(b)) for a, b in np.asarray(arrays["rates"], np.float64)]
        return Everybody(share if len(share) else None, dict(zip(arrays["texts"].tolist(), rates, strict=True)))


def everybody(train: Sequence[Example], options: Sequence[str]) -> Everybody:
    """Count the training users' answers; where each request brings its own texts, how often each was preferred."""
    if options:
        given = np.stack([_named(e.target, options) for e in train]) if train else np.zeros((0, len(options)))
        return Everybody((given.sum(axis=0) + 1.0 / len(options)) / (len(given) + 1.0))
    won: Counter[int] = Counter()
    lost: Counter[int] = Counter()
    pairs = {(b.user, b.id): b for e in train for b in e.history}  # a behaviour stands in many histories
    for behavior in pairs.values():
        said = preference(behavior)
        won.update([digest_of_text(said.liked)] if said.liked else [])
        lost.update([digest_of_text(said.disliked)] if said.disliked else [])
    return Everybody(None, {text: (float(won[text]), float(lost[text])) for text in [*won, *(lost - won)]})


def digest_of_text(text: str) -> int:
    """A text as a number: an artifact holds no user's texts."""
    data = text.strip().encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def _named(answer: str, options: Sequence[str]) -> Floats:
    row = np.zeros(len(options))
    row[right_labels(answer, options)] = 1.0
    return row
