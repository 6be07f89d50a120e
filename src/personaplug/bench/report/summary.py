"""Pool the seeds of an experiment: scores with intervals, and the gains that its claims are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personaplug.bench import claims
from personaplug.bench.compare import Gain, corrected, gain, interval, pool
from personaplug.bench.controls import newest
from personaplug.bench.measure import NLL, Row, headline
from personaplug.bench.results import Result
from personaplug.core.errors import DataError
from personaplug.metrics.bootstrap import Interval

CLAIMED = {"task_prompt": "a task prompt of the same size", "shuffled users": "itself with shuffled users"}
"""What the measured method must beat (a method or a control), in words."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row over all seeds.

    Attributes:
        row: the seeds pooled.
        seeds: how many.
        scores: metric -> (mean, standard deviation over seeds).
        intervals: metric -> its interval over users, where each example has a value.
    """

    row: Row
    seeds: int
    scores: Mapping[str, tuple[float, float]]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Summary:
    """An experiment over all its seeds.

    Attributes:
        results: one a seed, by seed.
        lines: one a row, in the order of measuring.
        metric: the headline.
        gains: of the measured method over every other row, in the headline.
    """

    results: tuple[Result, ...]
    lines: tuple[Line, ...]
    metric: str
    gains: tuple[Gain, ...]

    @property
    def main(self) -> Row:
        """The measured method with the users' own histories."""
        return main_row([line.row for line in self.lines], self.results[0].main)

    def line(self, method: str, control: str = "") -> Line | None:
        """The line of a method under a control."""
        return next((n for n in self.lines if (n.row.method, n.row.control) == (method, control)), None)


def main_row(rows: Sequence[Row], main: str = "") -> Row:
    """The measured method with the users' own histories: the row of that name, else the last one without a control."""
    plain = [r for r in rows if not r.control]
    return next((r for r in plain if r.method == main), plain[-1])


def summarize(results: Sequence[Result]) -> Summary:
    """Pool the seeds of one experiment.

    Raises:
        DataError: nothing is given, or the results are not of one experiment on the same examples.
    """
    if not results or not results[0].rows:
        raise DataError("there are no measured rows to summarize; run: personaplug eval")
    results = sorted(results, key=lambda r: r.seed)
    if len({(r.name, r.task.name) for r in results}) > 1:
        names = ", ".join(sorted({f"{r.task.name}/{r.name}" for r in results}))
        raise DataError(f"results of different experiments cannot be pooled: {names}; give the seeds of one")
    lines = []
    for method, control in [(r.method, r.control) for r in results[0].rows]:
        rows = [row for result in results if (row := result.row(method, control)) is not None]
        lines.append(_line(rows))
    metric = headline(results[0].task)
    if any(metric not in line.scores for line in lines):  # nothing was answered
        metric = NLL
    main = main_row([line.row for line in lines], results[0].main)
    rivals = [n.row for n in lines if n.row is not main and newest(n.row.control) is None and not n.row.oracle]
    gains = tuple(corrected([gain(main, row, metric) for row in rivals]))
    return Summary(tuple(results), tuple(lines), metric, gains)


def _line(rows: Sequence[Row]) -> Line:
    row = pool(rows)
    scores = {m: (v, float(np.std([r.scores[m] for r in rows], ddof=len(rows) > 1))) for m, v in row.scores.items()}
    intervals = {m: interval(row, m) for m in scores if m == "nll" or m in row.values}
    # The root of a mean is no mean: rmse's interval would be that of the squared errors.
    intervals.pop("rmse", None)
    return Line(row, len(rows), scores, intervals)


def record_claims(folder: Path, summary: Summary) -> list[claims.Claim]:
    """Record in the folder's ledger whether the measured method beats its controls; returns the claims."""
    first, main = summary.results[0], summary.main
    unit = "nats a token of the users' real answers" if summary.metric == NLL else summary.metric
    recorded = []
    by_title = {n.row.title: n.row for n in summary.lines}
    for over in summary.gains:
        row = by_title[over.other]
        rival = row.control or row.method
        if rival not in CLAIMED or (row.control and row.method != main.method):
            continue
        words = (
            f"on {first.task.name}, {main.method} beats {CLAIMED[rival]} by this many {unit} "
            f"({over.examples} held-out requests of {over.users} users, {len(summary.results)} seeds)"
        )
        id_ = f"{first.task.name}.{first.name}.{main.method}-beats-{rival.replace(' ', '-').replace('_', '-')}"
        recorded.append(claims.Claim.now(id_, words, over.interval, "> 0", over.interval.low > 0))
    claims.record(folder, *recorded)
    return recorded
