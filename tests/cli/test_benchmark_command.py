"""`benchmark` measures in ratios, keeps what it measured part by part, and two commits are compared fairly."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

COMPARE = Path(__file__).parents[2] / "benchmarks" / "compare.py"


@pytest.fixture
def compared():
    spec = importlib.util.spec_from_file_location("compare", COMPARE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compared


def turns(*pairs, goal="<= 2"):
    return [{"old": {"step": (old, goal)}, "new": {"step": (new, goal)}} for old, new in pairs]


@pytest.mark.parametrize("words", [("nothing",), ("pooling", "--results", "absent")])
def test_a_wrong_part_or_folder_is_refused_before_anything_is_loaded(run, words):
    result = run("benchmark", *words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert words[-1] in result.stderr


@pytest.mark.model
def test_what_is_measured_is_shown_with_its_goal_and_kept_part_by_part(run):
    Path("results").mkdir()
    Path("results/speed.json").write_text('{"batch": {"rows": []}}')
    result = run("benchmark", "observing", "--rounds", 1, "--results", "results")
    assert result.exit_code == 0
    assert "observe" in result.stdout
    found = json.loads(Path("results/speed.json").read_text("utf-8"))
    assert list(found) == ["batch", "observing"]
    [row] = found["observing"]["rows"]
    assert (row["id"], row["goal"]) == ("observe", "<= 1.2")
    assert row["value"] > 0
    [claim] = json.loads(Path("results/claims.json").read_text("utf-8"))
    assert (claim["id"], claim["value"]) == ("observe", pytest.approx(row["value"], abs=1e-3))


def test_slower_is_what_every_turn_finds_slower(compared):
    assert compared(turns((1.0, 1.3), (1.0, 1.2)))[0].startswith("slower")
    assert compared(turns((1.0, 1.3), (1.0, 1.0)))[0].startswith("same")
    assert compared(turns((1.0, 0.8), (1.0, 0.7)))[0].startswith("faster")


def test_where_more_is_better_less_is_slower(compared):
    assert compared(turns((4.0, 3.0), (4.0, 3.1), goal=">= 2.5"))[0].startswith("slower")
    assert compared(turns((4.0, 5.0), (4.0, 4.9), goal=">= 2.5"))[0].startswith("faster")


def test_what_only_one_commit_measures_is_left_out(compared):
    assert compared([{"old": {"gone": (1.0, "<= 2")}, "new": {}}]) == []
