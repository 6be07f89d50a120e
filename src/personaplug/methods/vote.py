"""The labels of the user's own nearest behaviours: a rival that any personal method must beat on closed sets."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.errors import ConfigError
from personaplug.core.types import Attribution, Example, Profile, Request
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.closed import ClosedMethod, tensors_of
from personaplug.methods.closed.counts import LEAST, Everybody, Floats, everybody
from personaplug.methods.closed.votes import ANSWER, TEXT, Ballot, ballots
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult

if TYPE_CHECKING:
    import torch

_TEMPERATURES = (0.02, 0.05, 0.1, 0.3)
_SMOOTHINGS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_SCALES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)  # of pairs of texts


@dataclass(frozen=True, slots=True)
class VoteConfig:
    """How the votes are counted.

    Attributes:
        temperature: a behaviour's vote weighs exp(cosine / temperature); 0: chosen on the development requests.
        smoothing: as how many voters everybody's share counts; where each request brings its own texts, the scale of
            the votes' nats. 0: chosen on the development requests.
    """

    temperature: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.smoothing < 0:
            raise ConfigError(
                f"vote: temperature = {self.temperature}, smoothing = {self.smoothing}; expected 0 (chosen on dev) or "
                "more"
            )


class Vote(ClosedMethod):
    """The labels that the user gave where they were asked alike (Nadaraya-Watson with a kernel of the cosine)."""

    Config = VoteConfig
    summary = "the labels of the user's own behaviours, the nearest in the encoder's space heaviest; no language model"
    source = "Nadaraya 1964, Watson 1964; as a control, docs/design.md section 5"
    config: VoteConfig

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self.needed_vectors()
        self._everybody = Everybody()
        self._temperature = config.temperature or 0.1
        self._smoothing = config.smoothing or 1.0

    @classmethod
    @override
    def needs_encoder(cls, config: Any) -> bool:
        del config
        return True

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return (TEXT,) if self.options else (ANSWER,)

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Count everybody's answers; choose temperature and smoothing on the development requests."""
        del training, folder
        start = time.perf_counter()
        self._everybody = everybody(train, self.options)
        if held := self.closed(dev or train):
            self._choose(held)
        return TrainingResult(0, time.perf_counter() - start, ())

    def _choose(self, examples: Sequence[Example]) -> None:
        options = [e.options or self.options for e in examples]
        profiles = [Profile(e.history) for e in examples]
        cast = ballots([e.request for e in examples], profiles, options, self.options, self.needed_vectors())
        temperatures = [self.config.temperature] if self.config.temperature else _TEMPERATURES
        free = _SMOOTHINGS if self.options else _SCALES
        smoothings = [self.config.smoothing] if self.config.smoothing else free

        def nats(pair: tuple[float, float]) -> float:
            return self.mean_nats(examples, [self._of(b, o, *pair) for b, o in zip(cast, options, strict=True)])

        self._temperature, self._smoothing = min(itertools.product(temperatures, smoothings), key=nats)

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return tensors_of({**self._everybody.arrays(), "chosen": np.array([self._temperature, self._smoothing])})

    @override
    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        self._everybody = Everybody.of_arrays(arrays)
        self._temperature, self._smoothing = arrays["chosen"].tolist()

    # -- a request ----------------------------------------------------------------------------------------------------

    @override
    def chances(
        self, requests: Sequence[Request], profiles: Sequence[Profile], options: Sequence[Sequence[str]]
    ) -> list[Floats]:
        cast = ballots(requests, profiles, options, self.options, self.needed_vectors())
        return [self._of(b, o, self._temperature, self._smoothing) for b, o in zip(cast, options, strict=True)]

    def _of(self, ballot: Ballot, options: Sequence[str], temperature: float, smoothing: float) -> Floats:
        share, votes = self._everybody.of(options, self.options), ballot.votes(temperature)
        if not self.options:
            scores = np.log(share) + smoothing * votes
            return np.asarray(np.exp(scores - np.logaddexp.reduce(scores)).clip(LEAST))
        own = ballot.voters(temperature)
        chances = np.clip((own * votes + smoothing * share) / (own + smoothing), LEAST, 1.0 - LEAST)
        return chances if self.multilabel else chances / chances.sum()

    @override
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        """The behaviours that named an option, by their share of the votes."""
        if not self.options or not len(profile.history):
            return []
        [ballot] = ballots([request], [profile], [self.options], self.options, self.needed_vectors())
        weights = ballot.weights(self._temperature)
        total = max(float(weights.sum()), 1e-12)
        order = np.argsort(-weights, kind="stable")
        return [Attribution(profile.history.behaviors[i], float(weights[i]) / total) for i in order if weights[i] > 0]
