"""The report of many experiments: the board as one HTML file that needs no other file, no script and no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from personaplug.bench.compare import gain_by_history, gain_by_user
from personaplug.bench.controls import newest
from personaplug.bench.measure import NLL, Row, lower_is_better
from personaplug.bench.report import charts, table
from personaplug.bench.report.board import KINDS, Board, Cell, Column, cold_start, gain_of, own_interval
from personaplug.bench.report.charts import Spot
from personaplug.bench.report.render import METRIC_NAMES, check_installed, duration, fill_page, flat, markup, unit
from personaplug.bench.report.summary import Line
from personaplug.bench.results import Result, Shown

_WIDE = 4  # columns of a table that a printed page has room for


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method answered to a shown request.

    Attributes:
        method: its label.
        text: the answer; "" where none was generated.
        used: the behaviours in its prompt.
        nll: nats a token of what the user really wrote.
        right: whether it is exactly what they wrote or chose.
        oracle: whether the method saw that.
    """

    method: str
    text: str
    used: tuple[str, ...]
    nll: float
    right: bool
    oracle: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A shown request: who asked, what they really wrote, and every method's answer."""

    user: str
    behaviors: int
    request: str
    target: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best method of a column, and what it is better than: words, gain, `yes`, `no` or `bad`."""

    column: Column
    method: str
    score: str
    gains: tuple[tuple[str, str, str], ...]


def render_board(board: Board) -> str:
    """The report as HTML; all text of users, models and configurations is escaped.

    Raises:
        MissingExtraError: the libraries of the extra `report` are not installed.
    """
    check_installed()
    columns = board.columns
    users = {(c.task.name, user) for c in columns for line in c.lines[:1] for user in line.row.users}
    return fill_page(
        "board.html.j2",
        board=board,
        counts=_counts(board, len(users)),
        verdicts=[v for c in columns if (v := _verdict(board, c))],
        # Known users first; a table wider than a printed page goes on below.
        groups=[(t, [t.columns[i : i + _WIDE] for i in range(0, len(t.columns), _WIDE)]) for t in board.tables],
        table=table,
        explained={board.over["baseline"]: "the bare model", board.over["reference"]: "knows the task, no user"},
        details=[(c, *_details(board, c)) for c in columns if c.lines],
        sections=_sections(board),
        cases=[(c, cases) for c in columns if (cases := _cases(c))],
        facts=[(c, _facts(c), flat(c.results[0].config)) for c in columns],
        version=columns[0].results[0].versions.get("personaplug", ""),
    )


def _counts(board: Board, users: int) -> str:
    """How much was measured, in words."""
    methods = len({m for t in board.tables for m in t.methods})
    tasks = len({c.task.name for c in board.columns})
    requests = sum(len(c.lines[0].row.ids) for c in board.columns if c.lines)

    def of(n: int, what: str) -> str:
        return f"{n:,} {what}{'s' if n != 1 else ''}"

    return f"{of(methods, 'method')} on {of(tasks, 'task')}: {of(requests, 'request')} of {of(users, 'user')}"


def _verdict(board: Board, column: Column) -> Verdict | None:
    best = next((cell for cell in column.cells.values() if cell.best), None)
    if best is None:
        return None
    words = {"baseline": board.over["baseline"], "reference": board.over["reference"], "shuffled": "shuffled"}
    gains = []
    for kind in KINDS:
        if kind in best.gains:
            state = "yes" if best.better(kind) else "bad" if best.worse(kind) else "no"
            gains.append((f"over {words[kind]}", f"{best.gains[kind].interval.mean:+.3f}", state))
    return Verdict(column, best.method, table.score(best, column.metric)[0], tuple(gains))


# -- all rows of a task -----------------------------------------------------------------------------------------------


def _details(board: Board, column: Column) -> tuple[list[str], list[tuple[Line, list[str]]]]:
    """The heads of a task's own table and its lines: every metric, and what it costs."""
    metrics = list(dict.fromkeys([column.metric, NLL, *(m for line in column.lines for m in line.scores)]))
    heads = [f"{METRIC_NAMES.get(m, m)} {'↓' if lower_is_better(m) else '↑'}" for m in metrics]
    rows = [
        (line, [_detail(line, m, column.metric) for m in metrics] + _costs(board, column, line))
        for line in column.lines
        if newest(line.row.control) is None
    ]
    return [*heads, "tokens", "soft", "time", "preparing", "a user"], rows


def _detail(line: Line, metric: str, headline: str) -> str:
    if metric not in line.scores:
        return "–"
    mean, deviation = line.scores[metric]
    text = f"{mean:.3f}" + (f" ± {deviation:.3f}" if line.seeds > 1 and deviation >= 0.0005 else "")
    interval = own_interval(line.row, metric) if metric == headline else None
    return f"{text} [{interval.low:.3f}, {interval.high:.3f}]" if interval else text


def _costs(board: Board, column: Column, line: Line) -> list[str]:
    cell = column.cells[line.row.method]
    if line.row.control or cell.cost is None:
        return [""] * 5
    cost, base = cell.cost, column.cells.get(board.over["baseline"], Cell("")).cost
    relative = f"{cost.seconds / base.seconds:.2f} ×" if base and base.seconds > 0 else f"{1000 * cost.seconds:.0f} ms"
    prepare = duration(cost.prepare) if cost.prepare >= 0.05 else "–"
    return [f"{cost.tokens:.0f}", str(cost.soft or "–"), relative, prepare, _bytes(cost.stored)]


def _bytes(count: float) -> str:
    for size, name in ((1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {name}"
    return f"{count:.0f} B" if count else "–"


# -- charts -----------------------------------------------------------------------------------------------------------


_SECTIONS = (
    (
        "gains", "Which gains hold",
        "Mean gain and 95% interval, whole users resampled; right is better. Full dots hold after correction for all "
        "gains of their kind in the table, hollow ones may be chance. The best score stands on top.",
        {"forest": "Gains"},
    ),
    (
        "cost", "What it costs",
        "Up is better, right is dearer. The line joins the methods that nothing cheaper beats; larger dots store more "
        "of a user. Times are relative to {baseline} in the same run, since machines differ; a late persona is helped "
        "by prompts that an earlier row ran, as it is by other users in a server.",
        {"tokens": "Quality against tokens", "time": "Quality against time"},
    ),
    (
        "history", "How much history it takes",
        "Cold start: the same requests, and of every user the newest behaviours alone. By length: requests with short, "
        "middling and long histories. Bands and bars are 95% intervals.",
        {"cold": "Cold start", "bands": "By length of history"},
    ),
    (
        "users", "Who gains", "Each user's mean gain, one count a user. Right of the dashed line, the method helped.",
        {"users": "Each user"},
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with what stands over it."""

    title: str
    note: str
    svg: Any


def _sections(board: Board) -> list[tuple[str, str, str, list[Chart]]]:
    """The page's sections that have charts: id, title, words, charts task by task."""
    drawn = [(column, _charts(board, column, n)) for n, column in enumerate(board.columns)]
    sections = []
    for id_, title, words, wanted in _SECTIONS:
        rows = [
            Chart(head, _note(board, column, name), markup(svgs[name]))
            for column, svgs in drawn
            for name, head in wanted.items()
            if name in svgs
        ]
        if rows:
            sections.append((id_, title, words.format(baseline=board.over["baseline"]), rows))
    return sections


def _note(board: Board, column: Column, name: str) -> str:
    if name in ("users", "bands"):
        return f"{column.title}, {column.main} over {_rival(board, column)}"
    return column.title if name != "forest" else f"{column.title}, {table.heading(column)}"


def _charts(board: Board, column: Column, n: int) -> dict[str, str]:
    """The charts of a task by name; what was not measured is not there."""
    of_gain = f"gain, {unit(column.metric)}"
    measured = column.measured
    scored = [m for m in measured if column.metric in measured[m].scores]
    ranked = sorted(scored, key=lambda m: measured[m].scores[column.metric][0], reverse=not column.lower)
    drawn = {}
    gains = {m: column.cells[m].gains for m in ranked if column.cells[m].gains}
    over = {"baseline": f"over {board.over['baseline']}", "reference": f"over {board.over['reference']}"}
    over = {kind: words for kind, words in (over | {"shuffled": "over its own shuffled users"}).items()
            if any(kind in own for own in gains.values())}  # fmt: skip
    if gains:
        drawn["forest"] = charts.forest_chart(f"gains {n}", gains, over, of_gain)
    if len(scored) > 1:
        drawn |= _cost_charts(board, column, n, scored)
    base = board.over["baseline"]
    curves = {m: points for m in measured if (points := cold_start(column, m, base))}
    if curves:
        gained = column.row(base) is not None
        words = f"gain over {base}, {unit(column.metric)}" if gained else unit(column.metric)
        drawn["cold"] = charts.cold_chart(f"cold start {n}", curves, column.main, words, gained)
    return drawn | _user_charts(board, column, n)


def _cost_charts(board: Board, column: Column, n: int, scored: list[str]) -> dict[str, str]:
    plain = {board.over["baseline"], board.over["reference"]}
    base = column.cells.get(board.over["baseline"], Cell("")).cost
    tokens, times = [], []
    for method in scored:
        cost, line = column.cells[method].cost, column.cells[method].line
        assert cost is not None
        assert line is not None
        tone = "main" if method == column.main else "soft" if method in plain else "rival"
        score = line.scores[column.metric][0]
        tokens.append(Spot(method, cost.tokens, score, cost.stored, tone))
        if base and base.seconds > 0 and cost.seconds > 0:
            times.append(Spot(method, cost.seconds / base.seconds, score, cost.stored, tone))
    quality = table.heading(column)
    drawn = {
        "tokens": charts.cost_chart(
            f"tokens {n}", tokens, "tokens of a prompt, soft ones included", quality, column.lower
        )
    }
    if len(times) > 1:
        words = f"time of a request, × {board.over['baseline']}"
        drawn["time"] = charts.cost_chart(f"time {n}", times, words, quality, column.lower)
    return drawn


def _rival(board: Board, column: Column) -> str:
    """What the main method is compared with user by user: the reference, else the baseline; "" if neither is there."""
    main = column.row(column.main)
    for name in (board.over["reference"], board.over["baseline"]):
        other = column.row(name)
        if main and other and other.method != main.method and gain_of(main, other, column.metric):
            return name
    return ""


def _user_charts(board: Board, column: Column, n: int) -> dict[str, str]:
    """Who gains: each user, and users by their length of history."""
    main, rival = column.row(column.main), column.row(_rival(board, column))
    if main is None or rival is None:
        return {}
    gains = list(gain_by_user(main, rival, column.metric).values())
    words = f"gain of {main.title}, {unit(column.metric)}"
    drawn = {"users": charts.users_chart(gains, words, f"users {n}")}
    if bands := gain_by_history(main, rival, column.metric):
        drawn["bands"] = charts.bands_chart(bands, words, f"bands {n}", height=3.4)
    return drawn


# -- examples and facts -----------------------------------------------------------------------------------------------


def _cases(column: Column) -> list[Case]:
    """The shown requests of the first seed that has any."""
    result = next((r for r in column.results if r.shown), None)
    rows = [row for row in result.rows if not row.control] if result else []
    if result is None or not rows:
        return []
    cases = []
    for n, shown in enumerate(result.shown):
        answers = tuple(_answer(row, n, shown) for row in sorted(rows, key=lambda row: row.oracle))
        user, behaviors = rows[0].users[shown.index], rows[0].histories[shown.index]
        cases.append(Case(user, behaviors, shown.request, shown.target, answers))
    return cases


def _answer(row: Row, n: int, shown: Shown) -> Answer:
    text = row.answers[n] if n < len(row.answers) else ""
    used = row.used[n] if n < len(row.used) else ()
    return Answer(row.method, text, used, row.nll[shown.index], text.strip() == shown.target.strip(), row.oracle)


def _facts(column: Column) -> list[tuple[str, str]]:
    first = column.results[0]
    row = column.lines[0].row if column.lines else None
    facts = [("measured on", table.measured_on(column)), ("split", table.SPLITS[column.task.split])]
    if row:
        facts.append(("history before a request", f"{min(row.histories)} to {max(row.histories)} behaviours"))
        facts.append(("answers generated or chosen", f"{len(row.answered):,}"))
    facts += [
        ("seeds", ", ".join(str(r.seed) for r in column.results)),
        ("training", _trainings(first)),
        ("device", _several(r.device for r in column.results)),
        ("measured", _several(r.date for r in column.results)),
        ("commit", _several(r.commit[:12] for r in column.results)),
        ("versions", ", ".join(f"{name} {version}" for name, version in first.versions.items())),
    ]
    return [(name, text) for name, text in facts if text]


def _trainings(result: Result) -> str:
    steps = [(name.removeprefix("training "), s) for name, s in result.seconds.items() if name.startswith("training ")]
    return ", ".join(f"{name} {duration(seconds)}" for name, seconds in steps)


def _several(texts: Any) -> str:
    return ", ".join(dict.fromkeys(text for text in texts if text))
