"""How to train, and what a training did: plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from personaplug.core.config import renamed


@renamed(keep="max_checkpoints")
@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How to train; the defaults suit a plug in front of a small model and a few thousand requests.

    Attributes:
        steps: optimizer steps; 0 means `epochs` passes over the training requests.
        epochs: passes, where `steps` is 0.
        batch_size: requests in a step on one device.
        accumulate: batches whose gradients are added up before a step.
        lr: peak learning rate of AdamW.
        lr_schedule: how it falls after the warm-up.
        warmup: share of the steps over which the learning rate rises from 0.
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to this norm.
        seed: decides initial weights, batches, and dropped behaviours.
        bucket: requests of like length share batches (chosen within pools of this many batches); 0 is off.
        log_every: steps between logged losses.
        eval_every: steps between evaluations on the development requests; the best weights are taken at the end;
            0 is never.
        save_every: steps between checkpoints.
        max_checkpoints: so many of the newest checkpoints stay on disk (before 0.2: `keep`).
        report_to: `none`, `tensorboard`, or any integration of transformers.
    """

    steps: int = 0
    epochs: float = 2.0
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.05
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    seed: int = 0
    bucket: int = 64
    log_every: int = 10
    eval_every: int = 0
    save_every: int = 25
    max_checkpoints: int = 2
    report_to: str = "none"

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "log_every", "save_every", "max_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.steps < 0 or (self.steps == 0 and self.epochs <= 0) or self.lr <= 0:
            raise ValueError("steps, epochs and lr must be positive")


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training did.

    Attributes:
        steps: optimizer steps.
        seconds: wall time, that of earlier runs which were killed included.
        curve: (step, mean loss since the one before).
        dev_curve: (step, loss on the development requests).
        resumed_at: the step that this run began at.
        best_step: the step whose weights were taken; 0: the last one's, nothing was evaluated.
    """

    steps: int
    seconds: float
    curve: tuple[tuple[int, float], ...]
    dev_curve: tuple[tuple[int, float], ...] = ()
    resumed_at: int = 0
    best_step: int = 0
