from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personaplug.bench.compare import Gain
from personaplug.bench.report.board import Board, Cell, Column, Table, board
from personaplug.bench.report.summary import Line
from personaplug.bench.report.table import latex, markdown, read_from, write_into
from personaplug.core.errors import DataError
from personaplug.metrics.bootstrap import Interval


@pytest.fixture
def made(make_result) -> Board:
    results = [make_result(0), make_result(1)]
    failed = {"lora": "needs a | GPU"}
    return board([[dataclasses.replace(r, failures=failed) for r in results], [make_result(0, name="other")]])


def test_markdown_shows_scores_marks_gains_failures_and_holes(made):
    lines = markdown(made).splitlines()
    plug = next(line for line in lines if line.startswith("| plug"))
    line, gain = made.columns[0].cells["plug"].line, made.columns[0].cells["plug"].gains["shuffled"].interval
    mean, deviation = line.scores["nll"]
    assert f"| **{mean:.3f}** ± {deviation:.3f} \\*†<br>" in plug
    assert f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]‡ |" in plug
    assert next(line for line in lines if line.startswith("| lora")).endswith("| failed | – |")
    assert "nats a token ↓" in lines[0]
    assert any("needs a \\| GPU" in line for line in lines)


def test_what_is_worse_than_the_baseline_is_marked(make_result):
    result = make_result(0)
    worse = dataclasses.replace(result.row("none"), method="bad", nll=tuple(n + 1 for n in result.row("none").nll))
    made = board([[dataclasses.replace(result, rows=(*result.rows, worse))]])
    assert re.search(r"\| bad \| \S+ ▾ \|", markdown(made))


def a_board(method: str, title: str, result) -> Board:
    """A board of one method, made by hand: nothing is computed."""
    row = dataclasses.replace(result.rows[0], method=method)
    line = Line(row, 1, {"nll": (1.0, 0.0)}, {})
    gain = Gain("nll", method, method, Interval(-0.1, -0.2, 0.1), 4, 12)
    cell = Cell(method, line, gains={"shuffled": gain}, failure=title)
    column = Column(title, (result,), "nll", {method: cell}, (line,), method)
    return Board((Table("time", (column,), (method,)),), {"baseline": method, "reference": title, "shuffled": "s"})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the result is never changed
@given(method=st.text(min_size=1), title=st.text(min_size=1))
def test_no_name_breaks_the_table(make_result, method, title):
    made = a_board(method, title, make_result(0))
    rows = [line for line in markdown(made).splitlines() if line.startswith("| ")]
    assert len(rows) == 2
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3 for row in rows)
    rows = re.findall(r"^.* \\\\(?:\[2pt\])?$", latex(made), re.MULTILINE)
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 for row in rows)
    assert not re.search(r"(?<!\\)[%#_]", "".join(rows))


def test_the_table_goes_between_the_marks_and_nothing_else_changes(made, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    write_into(page, markdown(made))
    assert read_from(page) == markdown(made)
    assert page.read_text().startswith("before\n<!-- results -->\n")
    assert page.read_text().endswith("<!-- /results -->\nafter\n")
    with pytest.raises(DataError, match="no such page"):
        read_from(tmp_path / "none.md")
