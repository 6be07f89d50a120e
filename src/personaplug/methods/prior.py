"""How often the user gave each answer before: a rival that any personal method must beat on closed sets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, Example, Profile, Request
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.closed import ClosedMethod, tensors_of
from personaplug.methods.closed.counts import Everybody, Floats, everybody, label_matrix, smoothed
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult

if TYPE_CHECKING:
    import torch

_SMOOTHINGS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@dataclass(frozen=True, slots=True)
class PriorConfig:
    """How much everybody's answers count.

    Attributes:
        smoothing: as how many behaviours everybody's share counts; 0: chosen on the development requests.
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.smoothing < 0:
            raise ConfigError(f"prior: smoothing = {self.smoothing}; expected 0 (chosen on dev) or more")


class Prior(ClosedMethod):
    """The user's own label counts, smoothed: (count + s · everybody's share) / (behaviours + s).

    Where each request brings its own texts, of which a user met none before, everybody's share of a text is how often
    it was preferred.
    """

    Config = PriorConfig
    summary = "how often the user gave each answer before, smoothed; no language model"
    source = "additive smoothing; as a control, docs/design.md section 5"
    config: PriorConfig

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self._everybody = Everybody()
        self._smoothing = config.smoothing or 4.0

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Count everybody's answers; choose the smoothing on the development requests."""
        del training, folder
        start = time.perf_counter()
        self._everybody = everybody(train, self.options)
        held = self.closed(dev or train)
        if not self.config.smoothing and held:
            self._smoothing = min(_SMOOTHINGS, key=lambda s: self.mean_nats(held, self._counted(held, s)))
        return TrainingResult(0, time.perf_counter() - start, ())

    def _counted(self, examples: Sequence[Example], smoothing: float) -> list[Floats]:
        return [self._chances(e.history.behaviors, e.options or self.options, smoothing) for e in examples]

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return tensors_of({**self._everybody.arrays(), "chosen": np.array([self._smoothing])})

    @override
    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        self._everybody = Everybody.of_arrays(arrays)
        [self._smoothing] = arrays["chosen"].tolist()

    # -- a request ----------------------------------------------------------------------------------------------------

    @override
    def chances(
        self, requests: Sequence[Request], profiles: Sequence[Profile], options: Sequence[Sequence[str]]
    ) -> list[Floats]:
        return [
            self._chances(p.history.behaviors, own, self._smoothing) for p, own in zip(profiles, options, strict=True)
        ]

    def _chances(self, behaviors: Sequence[Behavior], options: Sequence[str], smoothing: float) -> Floats:
        share = self._everybody.of(options, self.options)
        shares = smoothed(label_matrix(behaviors, options), share, smoothing)
        return shares if self.multilabel else shares / shares.sum()
