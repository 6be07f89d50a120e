"""Every method on the shelf runs on each of LaMP's seven tasks, from the published files to the official metrics."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

import mini_lamp
import tiny
from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.bench.measure import MeasureConfig, measure, metrics_of
from personaplug.bench.submission import predict
from personaplug.core import registry
from personaplug.core.types import Example, Sampling
from personaplug.pipeline.build import RunConfig, build_components, build_task
from personaplug.pipeline.fingerprint import pseudonym
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig

METHODS = [m for m in registry.names("method") if not registry.find("method", m).needs_preferences]  # LaMP has no pairs
CONFIGS: dict[str, dict[str, Any]] = {"pplug": {"query_encoder": "frozen"}}
TRAINING = TrainingConfig(steps=2, batch_size=2, log_every=1, save_every=2)
ONE = "LaMP_4"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> CausalBackbone:
    folder = tiny.save_causal(tmp_path_factory.mktemp("models") / "tiny-lamp", mini_lamp.words())
    return CausalBackbone(CausalConfig(str(folder), "float32", "cpu"))


def run(name: str, folder: Path, backbone: CausalBackbone, checkpoints: Path) -> None:
    """Build, fit and measure a method as the bench does, and let it predict."""
    made = RunConfig.parse(
        task={"name": "lamp", "path": str(folder)},
        encoder={"name": "hashing", "width": 16},
        method={"name": name, **CONFIGS.get(name, {})},
        training=TRAINING,
    )
    task = build_task(made.task)
    info = dataclasses.replace(task.info, sampling=Sampling(max_tokens=3))
    made = made.without_unused_encoder()
    method = build_components(made, info, None, backbone).method
    method.fit(task.examples("train"), task.examples("dev"), made.training, checkpoints)
    examples = task.examples("test")
    row = measure(method, info, examples, MeasureConfig(generate=2))
    assert set(row.scores) - {"option_nll"} == {"nll", *metrics_of(info)}
    assert all(math.isfinite(score) for score in row.scores.values())
    assert row.users == tuple(pseudonym(e.history.user) for e in examples)
    if not method.oracle:
        check_predictions(info, examples, row.answered, row.predictions, predict(method, info, examples, batch_size=2))


def check_predictions(
    info: TaskInfo, examples: list[Example], answered: tuple[int, ...], measured: tuple[str, ...], given: list[str]
) -> None:
    """One for each request; those that were measured too are the same."""
    assert len(given) == len(examples)
    assert [given[i] for i in answered] == list(measured)
    assert not info.options or set(given) <= set(info.options)


@pytest.mark.parametrize("dated", [True, False], ids=["time-based", "user-based"])
@pytest.mark.parametrize("task", mini_lamp.TASKS)
def test_each_task_in_each_published_split_is_measured(tmp_path, backbone, task, dated):
    run("recent", mini_lamp.write(tmp_path / task, task, dated), backbone, tmp_path / "fit")


@pytest.mark.parametrize("name", [m for m in METHODS if m != "recent"])
def test_each_method_is_measured_on_a_task(tmp_path, backbone, name):
    run(name, mini_lamp.write(tmp_path / ONE, ONE), backbone, tmp_path / "fit")


@pytest.mark.slow
@pytest.mark.parametrize("task", [t for t in mini_lamp.TASKS if t != ONE])
@pytest.mark.parametrize("name", [m for m in METHODS if m != "recent"])
def test_each_method_is_measured_on_each_task(tmp_path, backbone, name, task):
    run(name, mini_lamp.write(tmp_path / task, task, dated=False), backbone, tmp_path / "fit")
