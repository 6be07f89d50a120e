"""Train a plug in front of a frozen backbone with transformers' Trainer; a killed run resumes where it stopped.

The order of batches and every random draw are a function of (seed, position), never of what ran before, so a
resumed run follows the same loss curve as an uninterrupted one.

Shapes: b: batch, n: behaviours (padded), e: encoder width.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from personaplug.core.errors import ConfigError
from personaplug.core.progress import ProgressLines
from personaplug.training.config import TrainingConfig, TrainingResult

if TYPE_CHECKING:
    from rich.progress import Progress


@dataclass(frozen=True, slots=True)
class SampledExample:
    """One use of a training request: which request, and the seed of its random draws."""

    index: int
    seed: int


Length = tuple[int, int]
"""Token columns of a request: those that keep activations, and those that run without gradients."""

BEST = "best.pt"  # the weights of the least development loss so far
_GROUP = 2  # batches among which the second length is sorted


def schedule(lengths: Sequence[Length], config: TrainingConfig) -> list[SampledExample]:
    """The whole training as one list of sampled examples, `batch_size` of which make a batch.

    Each epoch is a fresh shuffle; within pools of `bucket` batches, requests of like length stand together, so that
    little padding is computed: by the columns with activations, then in groups of a few batches by the others. The
    batches of a pool come in random order.
    """
    per_step = config.batch_size * config.accumulate
    total = (config.steps or math.ceil(config.epochs * len(lengths) / per_step)) * per_step
    samples: list[SampledExample] = []
    epoch = 0
    while len(samples) < total:
        rng = random.Random(f"{config.seed}/{epoch}")
        order = list(range(len(lengths)))
        rng.shuffle(order)
        batches = list(_batches(order, lengths, config))
        rng.shuffle(batches)
        samples += [SampledExample(i, hash((config.seed, epoch, i)) & 0x7FFFFFFF) for batch in batches for i in batch]
        epoch += 1
    return samples[:total]


def _batches(order: list[int], lengths: Sequence[Length], config: TrainingConfig) -> Iterator[list[int]]:
    size = config.batch_size
    for pool in _chunks(order, size * max(config.bucket, 1)):
        if config.bucket:
            pool.sort(key=lambda i: lengths[i][0])
        for group in _chunks(pool, size * _GROUP):
            if config.bucket:
                group.sort(key=lambda i: lengths[i][1])
            yield from _chunks(group, size)


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


class _Schedule(Dataset[SampledExample]):
    def __init__(self, samples: list[SampledExample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: int) -> SampledExample:
        return self.samples[at]


@dataclass(slots=True)
class Training:
    """Everything one training needs.

    Attributes:
        module: holds exactly the parameters to train and save; called as `module(**collate(samples))` it returns the
            loss of each request [b].
        collate: a batch of sampled examples -> keyword arguments of `module`.
        lengths: token columns of each training request.
        config: how to train.
        folder: where checkpoints go.
        dev: number of development requests; they are sampled examples with indices after the training requests.
        quiet: show no progress.
        on_log: called with each logged step and loss.
    """

    module: nn.Module
    collate: Callable[[list[SampledExample]], dict[str, Any]]
    lengths: Sequence[Length]
    config: TrainingConfig
    folder: Path
    dev: int = 0
    quiet: bool = False
    on_log: Callable[[int, float], None] | None = field(default=None)

    def run(self) -> TrainingResult:
        """Train, resuming from the newest complete checkpoint in `folder`.

        The module ends with the weights of the least development loss, or the final ones where none was measured.

        Raises:
            ConfigError: no training requests, or `folder` holds the checkpoints of another configuration.
        """
        if not self.lengths:
            raise ConfigError("there are no training requests: the histories are too short for the task's split")
        self._claim_folder()
        checkpoint = newest_checkpoint(self.folder)
        before = json.loads((checkpoint / "seconds.json").read_text()) if checkpoint else 0.0
        start = time.perf_counter()
        with _bar(self.quiet) as bar:
            trainer = _trainer(self, before, bar)
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = time.perf_counter() - start
        log = trainer.state.log_history
        return TrainingResult(
            best_step=self._take_best(log),
            steps=trainer.state.global_step,
            seconds=seconds + before,
            curve=tuple((r["step"], r["loss"]) for r in log if "loss" in r),
            dev_curve=tuple((r["step"], r["eval_loss"]) for r in log if "eval_loss" in r),
            resumed_at=int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0,
        )

    def _take_best(self, log: list[dict[str, Any]]) -> int:
        """Take the weights of the least development loss; returns their step, 0 if none was measured."""
        losses = [(r["eval_loss"], r["step"]) for r in log if "eval_loss" in r]
        if not losses:
            return 0
        self.module.load_state_dict(torch.load(self.folder / BEST, weights_only=True))
        return int(min(losses)[1])

    def _claim_folder(self) -> None:
        """Checkpoints of another configuration must not be continued by mistake."""
        mine = dataclasses.asdict(self.config) | {"requests": len(self.lengths)}
        path = self.folder / "training.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and newest_checkpoint(self.folder) and json.loads(path.read_text()) != mine:
            raise ConfigError(
                f"{self.folder}: holds checkpoints of a training with another configuration; "
                "choose another folder or delete this one"
            )
        path.write_text(json.dumps(mine, indent=1))


def _bar(quiet: bool) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )


def _say(bar: Progress) -> Callable[[str], None]:
    return lambda line: bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; one cut short by a kill is passed over."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]), reverse=True)
    return next((p for p in checkpoints if (p / "complete").exists()), None)


def _trainer(training: Training, before: float, bar: Progress) -> Any:
    import transformers
    from transformers import PrinterCallback, Trainer, TrainerCallback

    config = training.config
    samples = schedule(training.lengths, config)
    started = time.perf_counter()

    class PlugTrainer(Trainer):
        """Saves the module's own tensors only, and says when a checkpoint is complete."""

        def compute_loss(
            self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
        ) -> Tensor | tuple[Tensor, Tensor]:
            losses: Tensor = model(**inputs)
            return (losses.mean(), losses.detach()) if return_outputs else losses.mean()

        def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
            with torch.no_grad():
                return model(**self._prepare_inputs(inputs)).mean(), None, None

        def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            (folder / "seconds.json").write_text(json.dumps(before + time.perf_counter() - started))
            (folder / "complete").touch()

    class Report(TrainerCallback):
        """The bar, or where nobody sees one a line now and then."""

        loss = ""

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            del args, control
            if logs and "loss" in logs:
                self.loss = f"loss {logs['loss']:.3f}"
                bar.update(task, loss=self.loss)
                if training.on_log:
                    training.on_log(state.global_step, logs["loss"])

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
            del args, control
            earlier = [r["eval_loss"] for r in state.log_history if "eval_loss" in r and r["step"] < state.global_step]
            if metrics["eval_loss"] < min(earlier, default=math.inf):
                fresh = training.folder / f"{BEST}.new"
                torch.save(training.module.state_dict(), fresh)
                fresh.replace(training.folder / BEST)  # whole, or the one before: a kill leaves no half a file

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            bar.update(task, completed=state.global_step)
            if lines is not None:
                lines.reached(state.global_step, self.loss)

    steps = len(samples) // (config.batch_size * config.accumulate)
    task = bar.add_task("training", total=steps, loss="")
    lines = None if training.quiet or bar.console.is_terminal else ProgressLines(_say(bar), "training: step", steps)
    transformers.utils.logging.set_verbosity_error()
    arguments = _arguments(training, steps)
    dev = [SampledExample(len(training.lengths) + i, 0) for i in range(training.dev)]
    trainer = PlugTrainer(
        model=training.module,
        args=arguments,
        data_collator=training.collate,
        train_dataset=_Schedule(samples),
        eval_dataset=_Schedule(dev) if dev else None,
        callbacks=[Report()],
    )
    trainer.remove_callback(PrinterCallback)  # the bar shows the loss
    return trainer


def _arguments(training: Training, steps: int) -> Any:
    from transformers import TrainingArguments

    config = training.config
    arguments = TrainingArguments(
        output_dir=str(training.folder),
        max_steps=steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.lr,
        lr_scheduler_type=config.lr_schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_steps=config.log_every,
        logging_first_step=True,
        save_steps=config.save_every,
        save_total_limit=config.max_checkpoints,
        eval_strategy="steps" if training.dev and config.eval_every else "no",
        eval_steps=config.eval_every or None,
        report_to=config.report_to,
        disable_tqdm=True,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # the backbone is on one device; more are for `accelerate launch`
    return arguments
