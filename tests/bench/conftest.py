"""Fakes: a method whose persona is the user's last word, made-up rows and results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typing_extensions import override

from personaplug.backbones.echo import EchoBackbone
from personaplug.bench.measure import Row
from personaplug.bench.report.summary import summarize
from personaplug.bench.results import Result
from personaplug.core import registry
from personaplug.core.config import NoConfig
from personaplug.core.types import Attribution, Example, History, Message, Profile, Prompt, Request, State
from personaplug.methods.base import Method
from personaplug.pipeline.build import RunConfig
from personaplug.pipeline.run import Curve
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult


@dataclasses.dataclass(frozen=True)
class ParrotConfig:
    words: int = 1


class Parrot(Method):
    """Says the user's newest answers before the request, once it was fitted."""

    Config = ParrotConfig
    summary = "a fake"
    source = "tests"
    trained = True
    fits = 0
    prepared = 0

    def __init__(self, *args: Any, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self.weights = torch.zeros(1)

    @property
    @override
    def name(self) -> str:
        return "parrot"

    @property
    @override
    def key(self) -> str:
        return f"parrot:{self.weights.item()}"

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        type(self).fits += 1
        self.weights = torch.full((1,), 1.0 + training.seed)
        return TrainingResult(3, 1.5, ((1, 2.0), (2, 1.5), (3, 1.0)))

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {"weights": self.weights}

    @override
    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.weights = tensors["weights"]

    @override
    def prepare(self, history: History) -> State | None:
        type(self).prepared += 1
        return {"count": np.array([len(history)])}

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        assert profile.state is not None
        said = " ".join(b.output for b in profile.history.last(self.config.words))
        head = (Message("system", said),) if said else ()
        return Prompt((*head, *request.messages))

    @override
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        n = len(profile.history)
        return [Attribution(b, 2 * (i + 1) / (n * (n + 1))) for i, b in enumerate(profile.history)][::-1]


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> type[Parrot]:
    """The fake on the shelf of methods."""
    find = registry.find
    monkeypatch.setattr(
        registry, "find", lambda kind, name: Parrot if (kind, name) == ("method", "parrot") else find(kind, name)
    )
    monkeypatch.setattr(Parrot, "fits", 0)
    monkeypatch.setattr(Parrot, "prepared", 0)
    return Parrot


@pytest.fixture
def run() -> RunConfig:
    """Parrot on made-up users, with no model."""
    return RunConfig.parse(
        task={"name": "synthetic", "users": 24},
        backbone={"name": "echo"},
        encoder={"name": "hashing"},
        method={"name": "parrot"},
        training=TrainingConfig(steps=3),
    )


@pytest.fixture
def echo_parrot() -> Parrot:
    return Parrot(ParrotConfig(), backbone=EchoBackbone(NoConfig()))


def row(method: str, control: str = "", nll: Sequence[float] = (), seed: int = 0) -> Row:
    """12 requests of 4 users; the nll are drawn unless given."""
    rng = np.random.default_rng(seed)
    values = tuple(map(float, nll)) or tuple((3 + rng.random(12)).tolist())
    return Row(
        method=method,
        key=method,
        control=control,
        ids=tuple(f"r{i}" for i in range(12)),
        users=tuple(f"u{i // 3}" for i in range(12)),
        histories=tuple(range(8, 32, 2)),
        nll=values,
        tokens=(5,) * 12,
        answered=(1, 4, 7, 10),
        predictions=("hi", "yes <b>bold</b>", "", "ok"),
        values={"rouge1": (0.1, 0.2, 0.0, 0.5)},
        scores={"nll": sum(values) / 12, "rouge1": 0.2},
        seconds=1.25,
        prompt_tokens=40.5,
        prefix_tokens=5,
    )


def result(seed: int = 0, name: str = "demo") -> Result:
    """A plug that is 0.5 nats better than its task prompt and 0.25 better than shuffled."""
    task = row("task_prompt", seed=seed)
    noise = np.random.default_rng(9 + seed).normal(0, 0.01, 12)
    mine = [n - 0.5 + e for n, e in zip(task.nll, noise, strict=True)]
    rows = (
        row("none", nll=[n + 1 for n in task.nll]),
        task,
        row("plug", nll=mine),
        row("plug", "shuffled users", nll=[n + 0.25 for n in mine]),
    )
    return Result(
        name=name,
        seed=seed,
        task=TaskInfo("chat", "text", "Reply."),
        config={"method": {"name": "plug", "persona_tokens": 4}, "training": {"lr": 0.001}},
        rows=rows,
        curves={"plug": Curve(20, 9.5, ((10, 4.0), (20, 3.5))), "task_prompt": Curve(20, 9.0, ((10, 4.1), (20, 3.9)))},
        seconds={"training plug": 9.5},
        device="cpu",
        versions={"python": "3.11"},
        commit="0123456789abcdef",
        date="2025-01-01T00:00:00+00:00",
    )


@pytest.fixture
def make_row() -> Any:
    return row


@pytest.fixture
def make_result() -> Any:
    return result


@pytest.fixture
def summary() -> Any:
    return summarize([result(0), result(1)])
