"""Training: the plan of batches, checkpoints, and resuming as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.errors import ConfigError
from personaplug.training.config import TrainingConfig
from personaplug.training.trainer import SampledExample, Training, newest_checkpoint, schedule


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 99)), min_size=1, max_size=60),
    st.integers(1, 8),
    st.integers(0, 4),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_each_epoch_uses_every_request_once(lengths, batch, bucket, epochs, seed) -> None:
    config = TrainingConfig(epochs=epochs, batch_size=batch, bucket=bucket, seed=seed)
    draws = schedule(lengths, config)
    assert len(draws) % batch == 0
    for epoch in range(epochs):
        used = [d.index for d in draws[epoch * len(lengths) : (epoch + 1) * len(lengths)]]
        assert sorted(used) == list(range(len(lengths)))
    assert draws == schedule(lengths, config)


def test_draws_differ_between_epochs_and_seeds() -> None:
    first = schedule([(1, 0)] * 20, TrainingConfig(epochs=2, seed=0))
    assert [d.index for d in first[:20]] != [d.index for d in first[20:40]]
    assert {d.seed for d in first[:20]}.isdisjoint(d.seed for d in first[20:40])
    assert schedule([(1, 0)] * 20, TrainingConfig(seed=1)) != schedule([(1, 0)] * 20, TrainingConfig(seed=0))


def test_buckets_save_padding() -> None:
    lengths = [((i * 37) % 200 + 1, (i * 61) % 90) for i in range(640)]

    def padded(bucket: int) -> int:
        draws = schedule(lengths, TrainingConfig(epochs=1, batch_size=16, bucket=bucket))
        batches = [draws[i : i + 16] for i in range(0, len(draws), 16)]
        return sum(len(b) * sum(max(lengths[d.index][at] for d in b) for at in (0, 1)) for b in batches)

    assert padded(32) < 0.75 * padded(0)


class Line(torch.nn.Module):
    """Fits w·x = 3x, with noise from each draw's own seed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.layer(x) - 3 * x).square().squeeze(-1)


def collate(samples: list[SampledExample]) -> dict[str, torch.Tensor]:
    noise = [torch.randn(1, generator=torch.Generator().manual_seed(d.seed)).item() for d in samples]
    return {"x": torch.tensor([[d.index / 10 + n] for d, n in zip(samples, noise, strict=True)])}


def training(folder: Path, **config) -> Training:
    settings = {"steps": 30, "batch_size": 4, "lr": 0.05, "log_every": 1, "save_every": 5, **config}
    return Training(Line(), collate, [(1, 0)] * 20, TrainingConfig(**settings), folder, quiet=True)


def test_training_lowers_the_loss_and_reports_its_curve(tmp_path: Path) -> None:
    seen: list[int] = []
    run = training(tmp_path)
    run.on_log = lambda step, loss: seen.append(step)
    result = run.run()
    assert result.steps == 30
    losses = [loss for _, loss in result.curve]
    assert sum(losses[-5:]) < sum(losses[:5]) / 2
    assert seen == [s for s, _ in result.curve]


def test_a_resumed_run_follows_the_uninterrupted_ones_curve(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole").run()
    cut = training(tmp_path / "cut")

    class StopError(RuntimeError): ...

    def stop(step: int, loss: float) -> None:
        if step == 13:
            raise StopError

    cut.on_log = stop
    with pytest.raises(StopError):
        cut.run()
    resumed = training(tmp_path / "cut").run()
    assert resumed.resumed_at == 10
    assert resumed.curve == whole.curve


def test_a_training_ends_with_the_weights_of_the_least_development_loss(tmp_path: Path) -> None:
    def run(folder: Path, steps: int) -> tuple[Training, object]:
        # A rate at which the loss falls and then rises again.
        settings = {
            "steps": steps,
            "batch_size": 4,
            "lr": 0.4,
            "lr_schedule": "constant",
            "log_every": 1,
            "eval_every": 1,
        }
        made = Training(Line(), collate, [(1, 0)] * 20, TrainingConfig(**settings), folder, quiet=True, dev=4)
        return made, made.run()

    trained, result = run(tmp_path / "a", 30)
    losses = dict(result.dev_curve)
    assert result.best_step == min(losses, key=losses.__getitem__) < 30
    with torch.no_grad():
        left = trained.module(**collate([SampledExample(20 + i, 0) for i in range(4)])).mean().item()
    assert left == pytest.approx(losses[result.best_step], rel=1e-4)


def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    training(tmp_path).run()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-30"
    (newest / "complete").unlink()
    assert newest_checkpoint(tmp_path).name == "checkpoint-25"
    assert training(tmp_path).run().resumed_at == 25


def test_checkpoints_of_another_configuration_are_not_continued(tmp_path: Path) -> None:
    training(tmp_path).run()
    with pytest.raises(ConfigError, match="another configuration"):
        training(tmp_path, lr=0.01).run()


def test_a_finished_training_runs_no_further_step(tmp_path: Path) -> None:
    first = training(tmp_path).run()
    again = training(tmp_path)
    result = again.run()
    assert result.steps == first.steps
    assert result.resumed_at == 30


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    large = training(tmp_path / "a", batch_size=8, bucket=0, steps=5)
    small = training(tmp_path / "b", batch_size=4, accumulate=2, bucket=0, steps=5)
    large.run()
    small.run()
    for a, b in zip(large.module.parameters(), small.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"lr": 0}, {"steps": -1}, {"save_every": 0}])
def test_a_configuration_that_makes_no_sense_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"expected|positive"):
        TrainingConfig(**wrong)


SCRIPT = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_trainer import training
    run = training(Path({folder!r}))
    run.on_log = lambda step, loss: time.sleep({pause})
    result = run.run()
    Path({out!r}).write_text(repr((result.resumed_at, result.curve)))
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_at_most_the_steps_since_the_checkpoint(tmp_path: Path) -> None:
    folder, out = tmp_path / "run", tmp_path / "out"
    names = {"tests": str(Path(__file__).parent), "folder": str(folder), "out": str(out)}
    script = textwrap.dedent(SCRIPT)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", script.format(pause=0.2, **names)], env=env)
    deadline = time.monotonic() + 120
    while newest_checkpoint(folder) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    subprocess.run([sys.executable, "-c", script.format(pause=0, **names)], env=env, check=True)
    resumed_at, curve = eval(out.read_text())
    assert resumed_at >= 5
    assert curve == training(tmp_path / "whole").run().curve
    assert json.loads((newest_checkpoint(folder) / "trainer_state.json").read_text())["global_step"] == 30


def test_losses_can_be_followed_in_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    training(tmp_path / "run", report_to="tensorboard", steps=5).run()
    assert list(tmp_path.rglob("events.out.tfevents.*"))
