"""How many modules of the package one meets while a training example becomes a step of the optimizer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import personaplug
from personaplug.core.types import Behavior, Example, History, Request
from personaplug.pipeline.build import RunConfig, build_components
from personaplug.tasks.base import TaskInfo
from personaplug.training.trainer import Training

ROOT = f"{Path(personaplug.__file__).parent}/"
MOST = 16


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The modules whose code ran during `Training.run`: from the schedule to the last step."""
    modules: set[str] = set()
    run = Training.run

    def note(frame, event, arg):
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            modules.add(frame.f_code.co_filename.removeprefix(ROOT))

    def traced(self):
        sys.setprofile(note)
        try:
            return run(self)
        finally:
            sys.setprofile(None)

    monkeypatch.setattr(Training, "run", traced)
    return modules


def test_a_training_example_meets_at_most_sixteen_modules_on_its_way_to_a_step(tiny_causal, tmp_path, visited):
    run = RunConfig.parse(
        backbone={"name": "causal", "model": str(tiny_causal), "dtype": "float32", "device": "cpu"},
        encoder={"name": "hashing"},
        training={"steps": 2, "batch_size": 2},
    )
    method = build_components(run, TaskInfo("chat", "text"), None).method
    history = History("ada", tuple(Behavior("ada", str(i), "asked", f"said {i}") for i in range(4)))
    examples = [Example(str(i), Request.of("ada", "what now"), history, "red") for i in range(4)]
    assert method.fit(examples, [], run.training, tmp_path).steps == 2
    assert {"training/trainer.py", "plug/model.py", "plug/pooling.py", "backbones/causal.py"} <= visited
    assert len(visited) <= MOST, sorted(visited)
