"""A task that knows what answers are worth: every method's row says so, beside its controls."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from personaplug.bench.experiment import Experiment
from personaplug.bench.measure import MeasureConfig, lower_is_better
from personaplug.bench.report.board import board
from personaplug.bench.report.summary import summarize
from personaplug.bench.report.table import markdown
from personaplug.metrics.scores import JUDGED
from personaplug.pipeline.build import read_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prompts with three answers; one reward likes long ones, the other short ones."""
    for split, count in (("train", 14), ("test", 5)):
        rows = [
            {
                "prompt": f"what do you say to {split} {i} ?",
                **{f"response_{j}": " ".join(["words"] * 3**j) + f" {i}" for j in (1, 2, 3)},
                **{f"response_{j}_model": f"m{j}" for j in (1, 2, 3)},
                **{f"response_{j}_long": float(j) for j in (1, 2, 3)},
                **{f"response_{j}_short": float(-j) for j in (1, 2, 3)},
            }
            for i in range(count)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scales = [{"name": "long", "mean": 2, "deviation": 1}, {"name": "short", "mean": -2, "deviation": 1}]
    (tmp_path / "panel.json").write_text(json.dumps(scales))
    rewards = {"long": {"name": "length"}, "short": {"name": "length", "target": 1}}
    (tmp_path / "set.json").write_text(json.dumps({"users": {"count": 30, "alpha": 0.02}, "rewards": rewards}))
    return tmp_path


def test_methods_are_judged_by_what_their_answers_are_worth(folder, tmp_path):
    run = {
        "task": {"name": "personalllm", "path": str(folder), "history": 4, "max_tokens": 30},
        "backbone": {"name": "echo"},
        "encoder": {"name": "hashing", "width": 32},
        "methods": {"none": {}, "icl": {"k": 1}, "neighbours": {"k": 1}, "lowrank": {"rank": 2, "candidates": 2}},
        "method": {"name": "lowrank"},
    }
    experiment = Experiment(read_run(run, "run"), tmp_path / "out", "tiny", by_content=True)
    how = MeasureConfig(generate=9, newest=(1,), curves=("icl",))
    result = experiment.evaluate(0, how, tmp_path / "result.json")
    experiment.close()
    assert not result.failures
    for method in ("none", "icl", "neighbours", "lowrank"):
        row = result.row(method)
        assert row is not None
        assert {"user_reward", "win_reference", "win_best"} < set(row.scores)
        assert len(row.values["user_reward"]) == len(row.answered) == 9
        assert (method == "none") == (result.row(method, "shuffled users") is None)
    shuffled = result.row("icl", "shuffled users")
    assert shuffled is not None
    assert "user_reward" in shuffled.values
    few = result.row("icl", "newest 1")
    assert few is not None
    assert few.answered == shuffled.answered
    assert summarize([result]).metric == "user_reward"
    assert not any(lower_is_better(m) for m in JUDGED)
    assert "user_reward" in markdown(board([(result,)], metric="user_reward"))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Half of the users like sad films, the others like happy ones."""
    lines = [
        {
            "user": f"u{u}", "id": str(i), "at": i, "output": "yes" if (i + i // 2 + u) % 2 else "no",
            "input": f"a {'happy' if (i + i // 2) % 2 else 'sad'} film with number {i}",
        }
        for u in range(12)
        for i in range(60)
    ]  # fmt: skip
    (tmp_path / "behaviors.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def test_methods_choose_among_texts_that_people_rated_and_no_text_stays_in_the_result(films, tmp_path):
    run = {
        "task": {"name": "rated", "path": str(films), "liked": ["yes"], "split": "user", "test": 0.4, "by_text": True},
        "backbone": {"name": "echo"},
        "encoder": {"name": "hashing", "width": 64},
        "methods": {"icl": {"match": "{output}"}, "neighbours": {"match": "{output}"}, "lowrank": {"rank": 1}},
        "method": {"name": "lowrank"},
    }
    experiment = Experiment(read_run(run, "run"), tmp_path / "out", "films", by_content=True)
    path = tmp_path / "result.json"
    result = experiment.evaluate(0, MeasureConfig(newest=(1,)), path)
    targets = {e.target for e in experiment.examples("test")}
    experiment.close()
    assert not result.failures
    rows = {(r.method, r.control): r for r in result.rows}
    none, lowrank = rows["none", ""], rows["lowrank", ""]
    assert lowrank.scores["accuracy"] > 0.9 > rows["lowrank", "shuffled users"].scores["accuracy"]
    assert (
        lowrank.scores["accuracy"] == lowrank.scores["user_rating"] == sum(lowrank.values["accuracy"]) / len(none.ids)
    )
    assert lowrank.scores["nll"] < rows["lowrank", "no history"].scores["nll"]
    assert rows["lowrank", "newest 1"].scores["nll"] < rows["lowrank", "no history"].scores["nll"]
    assert none.scores["nll"] == pytest.approx(math.log(4), abs=0.1)  # of the choice, whoever makes it
    assert {p for r in result.rows for p in r.predictions} <= {"0", "1", "2", "3"}
    written = path.read_text()
    assert not any(target in written for target in targets)
    assert summarize([result]).metric == "accuracy"
    assert "user_rating" in markdown(board([(result,)], metric="user_rating"))
