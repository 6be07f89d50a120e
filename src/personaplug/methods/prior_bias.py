"""The frozen model's scores of the options with the user's own counts of them as a bias."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.errors import ConfigError
from personaplug.core.types import Example, Profile, Prompt, Request
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method
from personaplug.methods.closed import tensors_of
from personaplug.methods.prior import Prior, PriorConfig
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult

if TYPE_CHECKING:
    import torch

_SCALES = tuple(np.linspace(0.0, 2.0, 41).tolist())


class PriorBias(Method):
    """Score of an option = what the frozen model gives it + scale · log of the user's smoothed count of it.

    The scale is learned on the development requests; at 0 the model is as it was. For tasks of one right answer out of
    a closed set; elsewhere the model stays as it is.
    """

    Config = PriorConfig
    summary = "the frozen model's scores of the options + a learned scale x the log of the user's own counts"
    source = "product of experts; as a control, docs/design.md section 5"
    trained = True
    tunes_on_dev = True
    reranks = True

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        if task is not None and task.options and task.kind == "multilabel":
            raise ConfigError("method 'prior_bias' is for one right answer; of several labels use 'prior'")
        backbone.check_scores("method 'prior_bias'")
        self._prior = Prior(config, backbone=backbone, task=task)
        self._scale = 1.0

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Fit the counts, then the scale at which both together give the right options the least nats."""
        start = time.perf_counter()
        self._prior.fit(train, dev, training, folder)
        if held := self._prior.closed(dev or train) if self._prior.options else []:
            self._scale = self._best_scale(held)
        return TrainingResult(0, time.perf_counter() - start, ())

    def _best_scale(self, examples: Sequence[Example]) -> float:
        requests, profiles = [e.request for e in examples], [Profile(e.history) for e in examples]
        options = [self._prior.options] * len(examples)
        scored = super().score_options(requests, profiles, [Prompt(r.messages) for r in requests], options)
        own = np.array([[s.logprob for s in row] for row in scored])  # [b, o]
        logs = np.log(np.stack(self._prior.chances(requests, profiles, options)))

        def nats(scale: float) -> float:
            both = own + scale * logs
            both -= np.logaddexp.reduce(both, axis=1, keepdims=True)
            return self._prior.mean_nats(examples, list(np.exp(both).clip(1e-12)))

        return min(_SCALES, key=nats)

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {**self._prior.tensors(), **tensors_of({"scale": np.array([self._scale])})}

    @override
    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._prior.load_tensors(tensors)
        self._scale = float(tensors["scale"][0])

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        options = self._prior.options
        if not options:
            return Prompt(request.messages)
        [chances] = self._prior.chances([request], [profile], [options])
        return Prompt(request.messages, bias=dict(zip(options, (self._scale * np.log(chances)).tolist(), strict=True)))
