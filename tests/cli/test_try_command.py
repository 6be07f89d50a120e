"""`try`: two people, one question, their answers; then whoever is typing."""

from __future__ import annotations

from pathlib import Path

import pytest

SHOWN = Path(__file__).parents[1] / "fixtures" / "try.txt"
README = Path(__file__).parents[2] / "README.md"


def test_it_shows_what_two_people_write_and_the_answer_as_each_and_of_the_bare_model(run, shipped):
    result = run("try", "--question", "what do you like?")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.endswith("writes:")] == ["mia writes:", "tom writes:"]
    assert sum("says" in line for line in lines) == 6
    asked = lines.index("what do you like?")
    assert [line.split("  ")[1].strip() for line in lines[asked + 1 : asked + 4]] == [
        "as mia",
        "as tom",
        "the bare model",
    ]


def test_it_leaves_nothing_behind_and_asks_nobody_where_there_is_no_terminal(run, shipped, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = run("try", typed="my own message\n")
    assert "Now you" not in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_in_a_terminal_it_answers_as_the_one_who_pastes_messages(run, shipped, monkeypatch):
    from personaplug.cli import try_

    monkeypatch.setattr(try_, "_typing", lambda: True)
    result = run("try", typed="one thing\nanother thing\n\nand now?\n\n")
    assert result.stdout.count("as you") == 2
    assert "and now?" in result.stdout


def test_an_empty_question_is_one_line(run):
    result = run("try", "--question", " ")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "the question is empty" in result.stderr


@pytest.mark.model
def test_the_shipped_people_get_the_answers_that_the_readme_shows(run):
    result = run("try")
    assert result.stdout == SHOWN.read_text(encoding="utf-8")
    shown = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("  as u")]
    assert set(shown) <= set(result.stdout.splitlines())
