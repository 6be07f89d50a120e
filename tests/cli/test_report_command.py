"""`personaplug report`: what it writes, and that it writes nothing where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personaplug.bench.measure import Row
from personaplug.bench.results import Result, save
from personaplug.tasks.base import TaskInfo

MARKS = "# page\n<!-- results -->\nold\n<!-- /results -->\nend\n"


def row(method: str, nll: float, control: str = "") -> Row:
    """8 requests of 4 users."""
    values = tuple(nll + i / 100 for i in range(8))
    return Row(
        method, method, control, tuple("abcdefgh"), tuple("aabbccdd"), (9,) * 8, values, (5,) * 8, (), (), {},
        {"nll": sum(values) / 8}, 1.0, 40.0, 0,
    )  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of one experiment on two tasks, with a claim beside them."""
    rows = (row("none", 4.0), row("task_prompt", 3.5), row("plug", 3.0), row("plug", 3.25, "shuffled users"))
    for task in ("chat", "mail"):
        kept = Result("plug", 0, TaskInfo(task, "text"), {}, rows, failures={"lora": "needs a GPU"})
        save(tmp_path / "results" / task / "plug-seed0.json", kept)
    (tmp_path / "results" / "claims.json").write_text("[]")
    return tmp_path / "results"


def error_line(result) -> str:
    """The one line that a wrong input gives."""
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_it_prints_the_table_and_leaves_a_page(run, results, tmp_path):
    done = run("report", results)
    for said in ("chat", "mail", "plug", "3.035 *† (+0.250‡)", "failed: mail, lora: needs a GPU"):
        assert said in done.stdout
    assert "newest" not in done.stdout
    assert done.stderr == "report: report.html\n"
    assert "Which way of personalizing" in (tmp_path / "report.html").read_text()


def test_tables_are_written_where_they_are_wanted_and_then_no_page_is(run, results, tmp_path):
    (tmp_path / "README.md").write_text(MARKS)
    done = run("report", results, "--markdown", "t.md", "--latex", "t.tex", "--into", "README.md")
    assert done.exit_code == 0
    table = (tmp_path / "t.md").read_text().strip()
    assert "| plug | **3.035** \\*†<br>+0.250" in table
    assert (tmp_path / "README.md").read_text() == MARKS.replace("old", table)
    assert (tmp_path / "t.tex").read_text().count(r"\begin{table}") == 1
    assert files(tmp_path) == {"results", "README.md", "t.md", "t.tex"}


def test_the_baseline_and_the_reference_can_be_others(run, results, tmp_path):
    assert (
        run("report", results, "--markdown", "t.md", "--baseline", "task_prompt", "--reference", "none").exit_code == 0
    )
    assert "\\* better than task\\_prompt, † better than none" in (tmp_path / "t.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--baseline", "nonee"), "'nonee' to compare with; did you mean 'none'?"),
        (("--reference", "taskprompt"), "did you mean 'task_prompt'?"),
        (("--into", "bare.md"), "bare.md: needs the marks"),
        (("--into", "missing.md"), "missing.md: no such page"),
        (("missing.json",), "missing.json: no such result"),
        (("empty",), "empty: no results"),
        (("broken",), "broken.json: no result of personaplug eval"),
        (("twice.json",), "twice.json: seed 0 of chat/plug stands in"),
        (("other.json",), "other.json: of other examples than"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(run, results, tmp_path, options, said):
    (tmp_path / "bare.md").write_text("no marks")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.json").write_text('{"name": ')
    good = json.loads((results / "chat" / "plug-seed0.json").read_text())
    (tmp_path / "twice.json").write_text(json.dumps(good))
    examples = {**good["examples"], "ids": list("12345678")}
    (tmp_path / "other.json").write_text(json.dumps({**good, "seed": 1, "examples": examples}))
    before = files(tmp_path)
    assert said in error_line(run("report", results, "--out", "r.html", "--markdown", "t.md", *options))
    assert files(tmp_path) == before
    assert (tmp_path / "bare.md").read_text() == "no marks"
