"""Intervals for what is compared: the paired bootstrap over users, and Holm's correction for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personaplug.core.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the ends of its 95% interval, and how likely a mean so far from zero is by chance (two-sided)."""

    mean: float
    low: float
    high: float
    p: float = 1.0

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0.0 or self.high < 0.0

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    samples: int = 10_000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Interval:
    """The mean of a - b over the same examples, with its 95% percentile interval.

    Args:
        a: one number per example.
        b: one number per example, in the same order.
        samples: how many resamples.
        seed: equal seeds give equal intervals.
        groups: each example's user; whole users are resampled, since one user's examples are alike. Needed wherever
            a user has several examples: without it the interval is too narrow.

    Raises:
        DataError: lengths differ, a number is not finite, or there are fewer than two things to resample.
    """
    if len(a) != len(b):
        raise DataError(f"paired bootstrap of {len(a)} and {len(b)} values; both must be of the same examples")
    return bootstrap(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), samples, seed, groups)


def bootstrap(
    values: Sequence[float] | Floats, samples: int = 10_000, seed: int = 0, groups: Sequence[str] | None = None
) -> Interval:
    """The mean of one row of numbers with its 95% percentile interval; arguments as in `paired_bootstrap`.

    Raises:
        DataError: a number is not finite, or there are fewer than two things to resample.
    """
    row = np.asarray(values, dtype=np.float64)  # [n]
    if not np.isfinite(row).all():
        raise DataError(f"bootstrap: value {row[~np.isfinite(row)][0]} is not finite; look for what made it")
    sums, sizes = _by_group(row, groups)  # [g], [g]
    if len(sums) < 2:
        what = "examples" if groups is None else "users"
        raise DataError(f"bootstrap over {len(sums)} {what}; an interval needs at least 2")
    rng = np.random.default_rng(seed)
    step = max(1, 4_000_000 // len(sums))  # bounds the index array to 32 MB
    means = np.empty(samples)
    for start in range(0, samples, step):
        drawn = rng.integers(0, len(sums), (min(step, samples - start), len(sums)))  # [s, g]
        means[start : start + step] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    # Twice the share of resamples on the other side of zero; one more on each, so that no chance is called none.
    p = 2.0 * (min(int((means <= 0.0).sum()), int((means >= 0.0).sum())) + 1) / (samples + 1)
    return Interval(float(row.mean()), float(low), float(high), min(p, 1.0))


def holm(ps: Sequence[float]) -> list[float]:
    """The chances of several comparisons, corrected for their number: Holm's step-down (1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(ps)), key=ps.__getitem__)
    out, reached = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(ps) - rank) * ps[i]))
        out[i] = reached
    return out


def _by_group(row: Floats, groups: Sequence[str] | None) -> tuple[Floats, Floats]:
    if groups is None:
        return row, np.ones_like(row)
    if len(groups) != len(row):
        raise DataError(f"bootstrap: {len(row)} values but {len(groups)} groups; give each value its user")
    index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    sums, sizes = np.bincount(index, weights=row), np.bincount(index)
    return np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
