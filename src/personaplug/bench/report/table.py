"""The board as a Markdown or LaTeX table; the README's is put between two marks by a command and never by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from personaplug.bench.compare import Gain
from personaplug.bench.report.board import KINDS, Board, Cell, Column, Table
from personaplug.bench.report.render import unit
from personaplug.core.errors import DataError

BEGIN, END = "<!-- results -->", "<!-- /results -->"
SPLITS = {
    "time": "Known users (the requests come after their histories)",
    "user": "Unseen users (nobody is in training and test)",
}
"""What the kinds of split are called."""

MARKS: Mapping[str, str] = {"baseline": "*", "reference": "†", "shuffled": "‡"}
"""Kind of gain -> what marks a gain that holds."""
WORSE = "▾"
"""Marks a method that does worse than the baseline."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    WORSE: r"$^\triangledown$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "–": "--",
}  # fmt: skip


def heading(column: Column) -> str:
    """A column's metric and its direction."""
    return f"{unit(column.metric)} {'↓' if column.lower else '↑'}"


def score(cell: Cell, metric: str) -> tuple[str, str]:
    """A cell's mean and its deviation over seeds as text; the latter "" where every seed gave the same."""
    if cell.line is None or metric not in cell.line.scores:
        return ("failed" if cell.failure and cell.line is None else "–"), ""
    mean, deviation = cell.line.scores[metric]
    spread = f"± {deviation:.3f}"
    return f"{mean:.3f}", spread if cell.line.seeds > 1 and float(spread[2:]) else ""


def marks(cell: Cell) -> str:
    """The marks behind a score."""
    held = "".join(MARKS[kind] for kind in ("baseline", "reference") if cell.better(kind))
    return held + WORSE * cell.worse("baseline")


def shuffled(cell: Cell) -> str:
    """A cell's second line: its gain over itself with other people's histories, or ""."""
    gain = cell.gains.get("shuffled")
    return f"{signed(gain)}{MARKS['shuffled'] * cell.better('shuffled')}" if gain else ""


def signed(gain: Gain) -> str:
    """A gain with its interval."""
    interval = gain.interval
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


SECOND_LINES = "Second lines: the gain over shuffled users with its 95% interval; it is what is personal."


def legend(board: Board, table: Table, gains: str = SECOND_LINES) -> list[str]:
    """What a reader of a table must know, in sentences; `gains` says where the gains over shuffled users stand."""
    said = []
    if any(len(c.results) > 1 for c in table.columns):
        said.append("Means over seeds, ± their standard deviation.")
    words = {
        "baseline": f"better than {board.over['baseline']}",
        "reference": f"better than {board.over['reference']}",
        "shuffled": "better than the same method with other users' histories",
    }
    compared = [kind for kind in KINDS if board.compared(kind)]
    if compared:
        explained = ", ".join(f"{MARKS[kind]} {words[kind]}" for kind in compared)
        worse = f", {WORSE} worse than {board.over['baseline']}" if "baseline" in compared else ""
        said.append(
            f"{explained}{worse}: p < 0.05, paired bootstrap over users, corrected by Holm's method within the table."
        )
    if "shuffled" in compared:
        said.append(gains)
    if any(table.oracle(m) for m in table.methods):
        said.append("Oracles saw the right answer: upper bounds, not methods.")
    return said


def measured_on(column: Column) -> str:
    """Requests, users, seeds and backbone of a column."""
    row = column.lines[0].row if column.lines else None
    parts = [f"{len(row.ids):,} requests of {len(set(row.users)):,} users"] if row else []
    parts.append(f"{len(column.results)} seed{'s' if len(column.results) > 1 else ''}")
    backbone = column.results[0].config.get("backbone", {}).get("model", "")
    return ", ".join([*parts, *([Path(backbone).name] if backbone else [])])


def failures(table: Table) -> list[tuple[str, str, str]]:
    """Task, method and reason of everything that could not be measured."""
    return [(c.title, m, cell.failure) for c in table.columns for m, cell in c.cells.items() if cell.failure]


# -- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(board: Board) -> str:
    """A table for each kind of split, with what its marks mean."""
    return "\n\n".join(_markdown(board, table, named=len(board.tables) > 1) for table in board.tables)


def _markdown(board: Board, table: Table, named: bool) -> str:
    heads = [f"{_md(c.title)}<br>{heading(c)}" for c in table.columns]
    lines = [f"**{SPLITS[table.split]}**", ""] if named else []
    lines += [f"| method | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for method in table.methods:
        name = f"*{_md(method)}* (oracle)" if table.oracle(method) else _md(method)
        cells = [_markdown_cell(table.cell(method, c), c.metric) for c in table.columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", _md(" ".join(legend(board, table)))]
    lines += ["", *(f"- {_md(c.title)}: {_md(measured_on(c))}" for c in table.columns)]
    lines += [f"- {_md(title)}, {_md(method)}: failed: {_md(reason)}" for title, method, reason in failures(table)]
    return "\n".join(lines)


def _markdown_cell(cell: Cell, metric: str) -> str:
    mean, spread = score(cell, metric)
    first = " ".join(p for p in (f"**{mean}**" if cell.best else mean, spread, _md(marks(cell))) if p)
    return "<br>".join(p for p in (first, shuffled(cell)) if p)


def _md(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(text.split()))


# -- LaTeX ------------------------------------------------------------------------------------------------------------


def latex(board: Board) -> str:
    r"""A `table` environment for each kind of split; needs `\usepackage{booktabs,amssymb}`."""
    return "\n\n".join(_latex(board, table) for table in board.tables) + "\n"


def _latex(board: Board, table: Table) -> str:
    heads = " & ".join(_tex(c.title) for c in table.columns)
    metrics = " & ".join(_tex(heading(c)) for c in table.columns)
    lines = [
        r"% needs \usepackage{booktabs,amssymb}",
        r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule",
        rf" & {heads} \\", rf"method & {metrics} \\", r"\midrule",
    ]  # fmt: skip
    for n, method in enumerate(table.methods):
        if n and table.oracle(method) > table.oracle(table.methods[n - 1]):
            lines.append(r"\midrule")
        cells = [table.cell(method, c) for c in table.columns]
        # The braces keep a label that begins with [ or * from being read as an argument of the \\ before it.
        name = f"{{{_tex(method)}}}" + " (oracle)" * table.oracle(method)
        shown = [_latex_cell(cell, c.metric) for cell, c in zip(cells, table.columns, strict=True)]
        lines.append(rf"{name} & {' & '.join(shown)} \\")
        if any(second := [_tex(shuffled(cell)).replace("-", "$-$") for cell in cells]):
            small = " & ".join(rf"{{\scriptsize {text}}}" if text else "" for text in second)
            lines.append(rf" & {small} \\[2pt]")
    words = [SPLITS[table.split] + ".", *legend(board, table)]
    words += [f"{c.title}: {measured_on(c)}." for c in table.columns]
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{_tex(' '.join(words))}}}", r"\end{table}"]
    return "\n".join(lines)


def _latex_cell(cell: Cell, metric: str) -> str:
    mean, spread = score(cell, metric)
    first = rf"\textbf{{{mean}}}" if cell.best else _tex(mean)
    return first + (rf" {{\scriptsize {_tex(spread)}}}" if spread else "") + _tex(marks(cell))


def _tex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))


# -- the page that has the table --------------------------------------------------------------------------------------


def write_into(page: Path, table: str) -> None:
    """Replace what stands between the marks.

    Raises:
        DataError: the page is not there or lacks the marks.
    """
    before, after = _around(page)
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def read_from(page: Path) -> str:
    """What stands between the marks.

    Raises:
        DataError: the page is not there or lacks the marks.
    """
    before, after = _around(page)
    text = page.read_text("utf-8")
    return text[len(before) + len(BEGIN) : len(text) - len(after) - len(END)].strip("\n")


def _around(page: Path) -> tuple[str, str]:
    if not page.is_file():
        raise DataError(f"{page}: no such page; it needs the marks {BEGIN} and {END} where the table shall stand")
    text = page.read_text("utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise DataError(f"{page}: needs the marks {BEGIN} and {END} once each; put them where the table shall stand")
    return text.split(BEGIN)[0], text.split(END)[1]
