"""A task that knows what answers are worth: every method's row says so, beside its controls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personaplug.bench.board import board
from personaplug.bench.experiment import Experiment, read_run
from personaplug.bench.run import Measuring, lower_is_better
from personaplug.bench.summary import summarize
from personaplug.bench.table import markdown
from personaplug.metrics import JUDGED


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
    how = Measuring(generate=9, newest=(1,), curves=("icl",))
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
