"""Compare rows on the same requests: paired gains with intervals in which whole users are resampled."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personaplug.bench.measure import NLL, Row, lower_is_better
from personaplug.core.errors import DataError
from personaplug.metrics.bootstrap import Interval, bootstrap, holm, paired_bootstrap


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better `row` is than `other`; positive is better, whichever way the metric points.

    Attributes:
        metric: of what.
        row: title of the row that is claimed to be better.
        other: title of the row that it is compared with.
        interval: mean over the examples with a 95% interval.
        users: how many users the examples are from; they are what is resampled.
        examples: how many.
        adjusted: the interval's p, corrected for the comparisons that stand in one table with it.
    """

    metric: str
    row: str
    other: str
    interval: Interval
    users: int
    examples: int
    adjusted: float = 1.0


@dataclass(frozen=True, slots=True)
class Band:
    """The gain among the requests with `low` to `high` behaviours of history."""

    low: int
    high: int
    examples: int
    interval: Interval


def values_of(row: Row, metric: str) -> tuple[list[float], list[str]]:
    """A row's number for each example that has one, with the examples' users.

    Raises:
        DataError: the row has no such numbers.
    """
    if metric == NLL:
        return list(row.nll), list(row.users)
    if metric not in row.values:
        raise DataError(f"row {row.title!r} has no values of {metric!r} for single examples; choose nll or another")
    return list(row.values[metric]), [row.users[i] for i in row.answered]


def interval(row: Row, metric: str) -> Interval:
    """A row's own score with its interval.

    Raises:
        DataError: the metric has no values for single examples, or there are fewer than two users.
    """
    values, users = values_of(row, metric)
    return bootstrap(values, groups=users)


def gain(row: Row, other: Row, metric: str, seed: int = 0) -> Gain:
    """The paired gain of `row` over `other`.

    Raises:
        DataError: the rows are of different examples, or there are fewer than two users.
    """
    mine, theirs, users = _paired(row, other, metric)
    interval = paired_bootstrap(mine, theirs, seed=seed, groups=users)
    return Gain(metric, row.title, other.title, interval, len(set(users)), len(users))


def corrected(gains: Sequence[Gain]) -> list[Gain]:
    """The gains of one table with their chances corrected by Holm's method."""
    adjusted = holm([g.interval.p for g in gains])
    return [dataclasses.replace(g, adjusted=p) for g, p in zip(gains, adjusted, strict=True)]


def gain_by_history(row: Row, other: Row, metric: str, bands: int = 3) -> list[Band]:
    """The gain in bands of about equally many requests, from short to long histories; a band of one user is omitted."""
    mine, theirs, users = _paired(row, other, metric)
    difference = np.asarray(mine) - np.asarray(theirs)
    lengths = np.asarray(row.histories)[_indices(row, metric)]
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, bands + 1)[1:-1], method="lower"))
    which = np.searchsorted(edges, lengths, side="left")
    measured = []
    for band in np.unique(which):
        inside = which == band
        mine_users = [u for u, i in zip(users, inside, strict=True) if i]
        if len(set(mine_users)) > 1:
            low, high = int(lengths[inside].min()), int(lengths[inside].max())
            measured.append(Band(low, high, len(mine_users), bootstrap(difference[inside], groups=mine_users)))
    return measured


def gain_by_user(row: Row, other: Row, metric: str) -> dict[str, float]:
    """Each user's mean gain."""
    mine, theirs, users = _paired(row, other, metric)
    gains: defaultdict[str, list[float]] = defaultdict(list)
    for user, a, b in zip(users, mine, theirs, strict=True):
        gains[user].append(a - b)
    return {user: float(np.mean(own)) for user, own in gains.items()}


def pool(rows: Sequence[Row]) -> Row:
    """Several seeds of a row as one: the mean over seeds of each example's values and of each score.

    Raises:
        DataError: the rows are of different examples.
    """
    first = rows[0]
    for row in rows:
        _check(first, row)
    metrics = [m for m in first.values if all(m in r.values and r.answered == first.answered for r in rows)]
    return dataclasses.replace(
        first,
        nll=tuple(np.mean([r.nll for r in rows], axis=0).tolist()),
        values={m: tuple(np.mean([r.values[m] for r in rows], axis=0).tolist()) for m in metrics},
        scores={
            m: float(np.mean([r.scores[m] for r in rows])) for m in first.scores if all(m in r.scores for r in rows)
        },
        seconds=float(np.mean([r.seconds for r in rows])),
    )


def _paired(row: Row, other: Row, metric: str) -> tuple[list[float], list[float], list[str]]:
    _check(row, other)
    if metric != NLL and row.answered != other.answered:
        raise DataError(f"rows {row.title!r} and {other.title!r} answered different examples; measure both alike")
    mine, users = values_of(row, metric)
    theirs, _ = values_of(other, metric)
    return (theirs, mine, users) if lower_is_better(metric) else (mine, theirs, users)


def _check(row: Row, other: Row) -> None:
    if row.ids != other.ids:
        raise DataError(f"rows {row.title!r} and {other.title!r} are of different examples; measure both on the same")


def _indices(row: Row, metric: str) -> list[int]:
    return list(range(len(row.ids))) if metric == NLL else list(row.answered)
