"""The board: every method beside every task over all seeds, with the gains that hold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from personaplug.bench import results as files
from personaplug.bench.compare import Gain, corrected, gain, interval, pool, values_of
from personaplug.bench.controls import newest
from personaplug.bench.measure import NLL, Row, headline, lower_is_better
from personaplug.bench.report.summary import Line
from personaplug.bench.results import Result
from personaplug.core.errors import DataError, UnknownNameError, did_you_mean
from personaplug.metrics.bootstrap import Interval
from personaplug.tasks.base import TaskInfo

BASELINE, REFERENCE = "none", "task_prompt"
SHUFFLED = "shuffled users"
KINDS = ("baseline", "reference", "shuffled")
"""What every method is compared with: the bare model, what knows the task alone, and itself with strangers."""

LEVEL = 0.05
"""A gain holds where its chance, corrected by Holm's method for all gains of its kind in a table, is below this."""

_NO_RESULT = ("claims.json", files.SET_RESULT, files.VOICES_RESULT)  # what ends so stands beside results and is none
_CONTROLS = (SHUFFLED, "no history")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a method costs, the mean over seeds.

    Attributes:
        tokens: of a prompt, soft ones included.
        soft: how many of them are soft.
        seconds: wall time of a request, preparing users not counted.
        prepare: seconds of preparing all users.
        stored: bytes a user, beside their behaviours.
    """

    tokens: float
    soft: int
    seconds: float
    prepare: float
    stored: float


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a cold-start curve: the users' newest `behaviors` alone; None is all of them."""

    behaviors: int | None
    interval: Interval


@dataclass(frozen=True, slots=True)
class Cell:
    """A method on a task.

    Attributes:
        method: its label.
        line: its scores with the users' own histories, or None where it could not be measured.
        cost: what it costs, or None.
        gains: kind of comparison (`KINDS`) -> gain in the headline.
        oracle: whether it saw the right answers: an upper bound, never the best.
        best: whether no method of the column has a better score.
        failure: why it was not measured, in some seed or under some control; "" if all went well.
    """

    method: str
    line: Line | None = None
    cost: Cost | None = None
    gains: Mapping[str, Gain] = field(default_factory=dict)
    oracle: bool = False
    best: bool = False
    failure: str = ""

    def better(self, kind: str) -> bool:
        """Whether the gain of this kind holds."""
        return self._sure(kind) and self.gains[kind].interval.mean > 0

    def worse(self, kind: str) -> bool:
        """Whether a loss of this kind holds."""
        return self._sure(kind) and self.gains[kind].interval.mean < 0

    def _sure(self, kind: str) -> bool:
        return not self.oracle and kind in self.gains and self.gains[kind].adjusted < LEVEL


@dataclass(frozen=True, slots=True)
class Column:
    """An experiment over its seeds.

    Attributes:
        title: the task's name, with the experiment's where several are of one task.
        results: one a seed, by seed.
        metric: the headline.
        cells: method -> what was measured, in the order of measuring, what failed last.
        lines: every row over its seeds, controls and points of cold-start curves included.
        main: the method that the experiment is about; "" if nothing was measured.
    """

    title: str
    results: tuple[Result, ...]
    metric: str
    cells: Mapping[str, Cell]
    lines: tuple[Line, ...]
    main: str

    @property
    def task(self) -> TaskInfo:
        """What was asked."""
        return self.results[0].task

    @property
    def lower(self) -> bool:
        """Whether a lower headline is better."""
        return lower_is_better(self.metric)

    @property
    def measured(self) -> dict[str, Line]:
        """Method -> its line with the users' own histories, oracles left out."""
        return {m: cell.line for m, cell in self.cells.items() if cell.line and not cell.oracle}

    def row(self, method: str, control: str = "") -> Row | None:
        """A row over all seeds, or None."""
        return next((n.row for n in self.lines if (n.row.method, n.row.control) == (method, control)), None)


@dataclass(frozen=True, slots=True)
class Table:
    """The experiments of one kind of split; kinds of split are never mixed.

    Attributes:
        split: `time` within users, or by `user`.
        columns: the experiments.
        methods: of all of them, oracles last.
    """

    split: str
    columns: tuple[Column, ...]
    methods: tuple[str, ...]

    def cell(self, method: str, column: Column) -> Cell:
        """A method on a task; an empty cell where nobody tried."""
        return column.cells.get(method, Cell(method))

    def oracle(self, method: str) -> bool:
        """Whether a method is an upper bound."""
        return any(self.cell(method, c).oracle for c in self.columns)


@dataclass(frozen=True, slots=True)
class Board:
    """Everything a report is made of; what each kind of gain is over stands in `over`."""

    tables: tuple[Table, ...]
    over: Mapping[str, str]

    @property
    def columns(self) -> list[Column]:
        """All experiments."""
        return [c for table in self.tables for c in table.columns]

    def compared(self, kind: str) -> bool:
        """Whether any method has a gain of this kind."""
        return any(kind in cell.gains for column in self.columns for cell in column.cells.values())


# -- reading ----------------------------------------------------------------------------------------------------------


def gather(paths: Sequence[Path]) -> list[tuple[Result, ...]]:
    """Results by experiment, in the order of their paths, each experiment's by seed.

    Args:
        paths: result files, or folders that are searched with all that is in them.

    Raises:
        DataError: nothing is there, a file is no result, a seed stands there twice, or seeds are of other examples.
    """
    experiments: dict[tuple[str, str, str], dict[int, tuple[Path, Result]]] = {}
    for path in _files(paths):
        result = files.load(path)
        seeds = experiments.setdefault((result.task.name, result.name, result.task.split), {})
        if result.seed in seeds:
            raise DataError(
                f"{path}: seed {result.seed} of {result.task.name}/{result.name} stands in "
                f"{seeds[result.seed][0]} too; report one of the two"
            )
        seeds[result.seed] = path, result
    for seeds in experiments.values():
        _check_alike(list(seeds.values()))
    return [tuple(seeds[seed][1] for seed in sorted(seeds)) for seeds in experiments.values()]


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        inside = sorted(p for p in path.rglob("*.json") if not p.name.endswith(_NO_RESULT)) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path}: no results (*.json) in this folder; measure with: personaplug bench")
        for file in inside:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def _check_alike(seeds: Sequence[tuple[Path, Result]]) -> None:
    measured = [(path, result.rows[0].ids) for path, result in seeds if result.rows]
    for path, ids in measured[1:]:
        if ids != measured[0][1]:
            raise DataError(
                f"{path}: of other examples than {measured[0][0]}, so the seeds cannot be pooled; measure both alike"
            )


# -- computing --------------------------------------------------------------------------------------------------------


def board(
    experiments: Sequence[Sequence[Result]], baseline: str = BASELINE, reference: str = REFERENCE, metric: str = ""
) -> Board:
    """Compare every method of every experiment.

    Args:
        experiments: each its seeds, as `gather` finds them.
        baseline: label of the method that knows nothing.
        reference: label of the method that knows the task and no user.
        metric: what tables and gains are in; by default each task's headline.

    Raises:
        DataError: there are no experiments, or one of them was not measured in the metric.
        UnknownNameError: no experiment measured the baseline or the reference that was asked for.
    """
    if not experiments:
        raise DataError("there are no results to report; measure with: personaplug bench")
    over = {"baseline": baseline, "reference": reference, "shuffled": SHUFFLED}
    titles = Counter(seeds[0].task.name for seeds in experiments)
    columns = [
        _column(seeds, name if titles[name := seeds[0].task.name] == 1 else f"{name} / {seeds[0].name}", over, metric)
        for seeds in experiments
    ]
    known = {m for column in columns for m in column.cells}
    for asked, usual in ((baseline, BASELINE), (reference, REFERENCE)):
        if asked not in known and asked != usual:
            raise UnknownNameError(f"no result has a method {asked!r} to compare with; {did_you_mean(asked, known)}")
    splits = sorted({column.task.split for column in columns})  # known users first
    return Board(tuple(_table(split, [c for c in columns if c.task.split == split]) for split in splits), over)


def _table(split: str, columns: Sequence[Column]) -> Table:
    methods = list(dict.fromkeys(m for c in columns for m in c.cells))
    table = Table(split, tuple(_corrected(columns)), ())
    return dataclasses.replace(table, methods=tuple(sorted(methods, key=table.oracle)))


def _corrected(columns: Sequence[Column]) -> list[Column]:
    """Each kind of adjusted corrected for how many of it a table has; an oracle's is no claim and not counted."""
    changed = [dict(c.cells) for c in columns]
    for kind in KINDS:
        at = [(cells, m) for cells in changed for m, cell in cells.items() if kind in cell.gains and not cell.oracle]
        for (cells, m), adjusted in zip(at, corrected([cells[m].gains[kind] for cells, m in at]), strict=True):
            cells[m] = dataclasses.replace(cells[m], gains={**cells[m].gains, kind: adjusted})
    return [dataclasses.replace(c, cells=cells) for c, cells in zip(columns, changed, strict=True)]


def _column(seeds: Sequence[Result], title: str, over: Mapping[str, str], metric: str) -> Column:
    rows: dict[tuple[str, str], list[Row]] = {}
    for result in seeds:
        for row in result.rows:
            rows.setdefault((row.method, row.control), []).append(row)
    lines = {key: _line(own) for key, own in rows.items()}
    metric = metric or headline(seeds[0].task)
    measured = {m for line in lines.values() for m in line.scores}
    if lines and metric not in measured:
        raise DataError(f"{title} was not measured in {metric!r}; {did_you_mean(metric, measured)}")
    failures = _failures(seeds)
    scores = [
        line.scores[metric][0] for (_, control), line in lines.items()
        if not control and not line.row.oracle and metric in line.scores
    ]  # fmt: skip
    best = (min if lower_is_better(metric) else max)(scores, default=None)
    cells: dict[str, Cell] = {}
    for method in dict.fromkeys([*(m for m, _ in rows), *failures]):
        line = lines.get((method, ""))
        oracle = any(row.oracle for (m, _), own in rows.items() if m == method for row in own)
        cells[method] = Cell(
            method, line,
            cost=_cost(rows[method, ""]) if line else None,
            gains=_gains(method, lines, metric, over),
            oracle=oracle,
            best=line is not None and not oracle and len(scores) > 1 and line.scores.get(metric, (None,))[0] == best,
            failure="; ".join(failures.get(method, [])),
        )  # fmt: skip
    return Column(title, tuple(seeds), metric, cells, tuple(lines.values()), _main(seeds, cells, over))


def _line(rows: Sequence[Row]) -> Line:
    """The seeds of a row as one line, without intervals: they cost time, and a table shows few of them."""
    row = pool(rows)
    spread = {m: float(np.std([r.scores[m] for r in rows], ddof=len(rows) > 1)) for m in row.scores}
    return Line(row, len(rows), {m: (v, spread[m]) for m, v in row.scores.items()}, {})


def _gains(method: str, lines: Mapping[tuple[str, str], Line], metric: str, over: Mapping[str, str]) -> dict[str, Gain]:
    own = lines.get((method, ""))
    rivals = {
        "baseline": (over["baseline"], ""), "reference": (over["reference"], ""), "shuffled": (method, SHUFFLED)
    }  # fmt: skip
    gains = {}
    for kind, rival in rivals.items():
        if own and rival in lines and rival != (method, "") and (g := gain_of(own.row, lines[rival].row, metric)):
            gains[kind] = g
    return gains


def gain_of(row: Row, other: Row, metric: str) -> Gain | None:
    """The gain of a row over another, or None where it has no interval: fewer than two users, or other answers."""
    if metric != NLL and (metric not in row.values or metric not in other.values or row.answered != other.answered):
        return None
    return gain(row, other, metric) if len(set(values_of(row, metric)[1])) > 1 else None


def own_interval(row: Row, metric: str) -> Interval | None:
    """A row's score with its interval, or None where it has none: no mean over requests, or fewer than two users."""
    # The root of a mean is no mean: rmse's interval would be that of the squared errors.
    if metric == "rmse" or metric not in (NLL, *row.values) or len(set(values_of(row, metric)[1])) < 2:
        return None
    return interval(row, metric)


def cold_start(column: Column, method: str, baseline: str) -> tuple[Point, ...]:
    """What a method gains over the baseline with more and more history; its scores where that was not measured.

    Returns:
        From short to long; nothing if only the whole histories were measured.
    """
    rows = {n.row.control: n.row for n in column.lines if n.row.method == method}
    by_count: dict[int | None, Row] = {k: row for control, row in rows.items() if (k := newest(control)) is not None}
    if not by_count or "" not in rows:
        return ()
    if "no history" in rows:
        by_count.setdefault(0, rows["no history"])
    by_count[None] = rows[""]
    base = column.row(baseline)
    intervals = {}
    for n, row in by_count.items():
        over = gain_of(row, base, column.metric) if base else None
        intervals[n] = over.interval if over else None if base else own_interval(row, column.metric)
    ordered = sorted(intervals, key=lambda n: float("inf") if n is None else n)
    return tuple(Point(n, i) for n in ordered if (i := intervals[n]) is not None)


def _cost(rows: Sequence[Row]) -> Cost:
    requests = max(1, len(rows[0].ids))
    return Cost(
        tokens=float(np.mean([r.prompt_tokens + r.prefix_tokens for r in rows])),
        soft=max(r.prefix_tokens for r in rows),
        seconds=float(np.mean([(r.seconds - r.prepare_seconds) / requests for r in rows])),
        prepare=float(np.mean([r.prepare_seconds for r in rows])),
        stored=float(np.mean([r.bytes_per_user for r in rows])),
    )


def _main(seeds: Sequence[Result], cells: Mapping[str, Cell], over: Mapping[str, str]) -> str:
    named = next((r.main for r in seeds if r.main in cells and cells[r.main].line), "")
    measured = [m for m, cell in cells.items() if cell.line and not cell.oracle]
    ours = [m for m in measured if m not in over.values()]
    return named or next(iter([*ours[::-1], *measured[::-1]]), "")


def _failures(seeds: Sequence[Result]) -> dict[str, list[str]]:
    """Method -> why something of it could not be measured, each reason once, with where it holds."""
    where: dict[tuple[str, str, str], list[int]] = {}
    for result in seeds:
        for title, reason in result.failures.items():
            method, control = _method_and_control(title)
            where.setdefault((method, control, " ".join(reason.split())), []).append(result.seed)
    failures: dict[str, list[str]] = {}
    for (method, control, reason), numbers in where.items():
        parts = [control] * bool(control)
        if len(numbers) < len(seeds):
            parts.append(f"seed {', '.join(map(str, numbers))}")
        failures.setdefault(method, []).append(f"{', '.join(parts)}: {reason}" if parts else reason)
    return failures


def _method_and_control(title: str) -> tuple[str, str]:
    method, _, control = title.rpartition(", ")
    return (method, control) if method and (control in _CONTROLS or newest(control) is not None) else (title, "")
