"""A persona and a rival that counts, both heard: scores of a closed set by a soft method and by one without a model.

Shapes: b: requests, o: options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.types import (
    Attribution,
    Conditioning,
    Example,
    History,
    Profile,
    Prompt,
    Request,
    State,
)
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method, joined_states, part_of_state
from personaplug.methods.closed import ClosedMethod, tensors_of
from personaplug.methods.closed.counts import Floats
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """Which two are heard.

    Attributes:
        soft: section of a method whose prompts the frozen model scores options behind.
        closed: section of a method that answers a closed set without a language model.
    """

    soft: Mapping[str, Any] = field(default_factory=lambda: {"name": "plug"})
    closed: Mapping[str, Any] = field(default_factory=lambda: {"name": "logistic"})


class Fusion(ClosedMethod):
    """Score of an option = a · the model's log-probability behind the persona + b · the log of the rival's chance.

    The two weights are fitted on the development requests, which neither part was trained on: where the persona adds
    nothing to counting, its weight goes to 0, and the other way round. Free text is the soft method's own.
    """

    Config = FusionConfig
    summary = "a persona's scores of the options and a rival's, weighted by what is best on dev (late fusion)"
    source = "product of experts (Hinton 2002, doi 10.1162/089976602760128018), weights by logistic regression"
    needs = Conditioning.TEXT | Conditioning.PREFIX
    config: FusionConfig

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        if self.multilabel:
            raise ConfigError("method 'fusion' is for one right answer; of several labels use 'logistic'")
        self.soft: Method = self._part(config.soft)
        rival = self._part(config.closed)
        if not isinstance(rival, ClosedMethod):
            raise ConfigError(f"method 'fusion': closed = {rival.name!r} needs a language model; use logistic or prior")
        self.rival = rival
        self._weights = np.ones(2)  # a, b

    def _part(self, section: Mapping[str, Any]) -> Method:
        parts = {"backbone": self.backbone, "vectors": self.vectors, "task": self.task}
        made: Method = registry.Section.parse("method", section).build(**parts)
        return made

    @classmethod
    @override
    def needs_encoder(cls, config: Any) -> bool:
        del config
        return True

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.soft.history_templates, *self.rival.history_templates)))

    @property
    @override
    def key(self) -> str:
        return f"{self.name}:{self.soft.key}+{self.rival.key}"

    # -- once ---------------------------------------------------------------------------------------------------------

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult | None:
        """Fit both parts, then their weights on the development requests.

        Raises:
            ConfigError: there are no development requests.
        """
        held = self.closed(dev)
        if self.closed(train) and not held:
            raise ConfigError(
                "method 'fusion' fits its weights on development requests, and the task has none; set dev"
            )
        result = self.soft.fit(train, dev, training, folder)
        self.rival.fit(train, dev, training, folder)
        if held:
            self._weights = self._best_weights(held)
        return result

    def _best_weights(self, examples: Sequence[Example]) -> Floats:
        from scipy.optimize import minimize

        requests, profiles = [e.request for e in examples], [Profile(e.history) for e in examples]
        options = [e.options or self.options for e in examples]
        both = self._logs(requests, profiles, options)

        def nats(weights: Floats) -> float:
            return self.mean_nats(examples, [_chances(weights, logs) for logs in both])

        starts = [np.array([1.0, 1.0]), np.array([0.1, 1.0]), np.array([0.0, 1.0])]
        fits = [minimize(nats, start, method="Nelder-Mead", bounds=[(0.0, 4.0)] * 2) for start in starts]
        return np.asarray(min(fits, key=lambda fit: fit.fun).x)

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        parts = {"soft": self.soft.tensors(), "closed": self.rival.tensors()}
        named = {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
        return {**named, **tensors_of({"weights": self._weights})}

    @override
    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for part, method in (("soft.", self.soft), ("closed.", self.rival)):
            method.load_tensors({k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)})
        self._weights = tensors["weights"].double().numpy()

    # -- per user, and per request ------------------------------------------------------------------------------------

    @override
    def prepare(self, history: History) -> State | None:
        return joined_states({"soft": self.soft.prepare(history), "closed": self.rival.prepare(history)})

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return self.personalize_many([request], [profile])[0]

    @override
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        return self.soft.personalize_many(requests, _own(profiles, "soft"))

    @override
    def chances(
        self, requests: Sequence[Request], profiles: Sequence[Profile], options: Sequence[Sequence[str]]
    ) -> list[Floats]:
        return [_chances(self._weights, logs) for logs in self._logs(requests, profiles, options)]

    def _logs(
        self, requests: Sequence[Request], profiles: Sequence[Profile], options: Sequence[Sequence[str]]
    ) -> list[Floats]:
        """Of each request, what the two say of its options [2, o]: normalised log-probabilities."""
        own = _own(profiles, "soft")
        prompts = self.soft.personalize_many(requests, own)
        scored = self.soft.score_options(requests, own, prompts, options)
        counted = self.rival.chances(requests, _own(profiles, "closed"), options)
        pairs = zip(scored, counted, strict=True)
        return [np.stack([_normalised([s.logprob for s in row]), np.log(p)]) for row, p in pairs]

    @override
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        return self.soft.explain(request, _own([profile], "soft")[0])


def _own(profiles: Sequence[Profile], part: str) -> list[Profile]:
    return [Profile(p.history, part_of_state(p.state, part)) for p in profiles]


def _normalised(scores: Sequence[float] | Floats) -> Floats:
    row = np.asarray(scores, dtype=np.float64)
    return np.asarray(row - np.logaddexp.reduce(row))


def _chances(weights: Floats, logs: Floats) -> Floats:
    """[2], [2, o] -> [o], that add up to 1."""
    return np.exp(_normalised(weights @ logs)).clip(_LEAST)


_LEAST = 1e-12  # so that no logarithm is infinite
