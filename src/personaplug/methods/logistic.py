"""A logistic regression over counts, votes and vectors: what is learnt of users without any language model."""

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
from personaplug.core.types import Example, Profile, Request
from personaplug.encoders.base import unit
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.closed import ClosedMethod, tensors_of
from personaplug.methods.closed.counts import LEAST, Everybody, Floats, everybody, right_labels, smoothed
from personaplug.methods.closed.votes import ANSWER, TEXT, Ballot, ballots
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult

if TYPE_CHECKING:
    import torch

_STRENGTHS = (3e-4, 1e-3, 1e-2, 0.1, 1.0)  # scikit-learn's C: the smaller, the nearer to everybody's share
_TEMPERATURES = (0.05, 0.2)
_SMOOTHINGS = (1.0, 8.0)


@dataclass(frozen=True, slots=True)
class LogisticConfig:
    """What is regressed on, and how strongly it is held back.

    Attributes:
        c: inverse of the penalty on the squared weights; 0: chosen on the development requests.
        vectors: whether the request's own vector is looked at too; by default both are tried on the development
            requests.
    """

    c: float = 0.0
    vectors: bool | None = None

    def __post_init__(self) -> None:
        if self.c < 0:
            raise ConfigError(f"logistic: c = {self.c}; expected 0 (chosen on dev) or more")


@dataclass(frozen=True, slots=True, eq=False)
class _Weights:
    """A fitted regression: scores [o] = (features [f] - mean) / scale · coef [f, o] + intercept [o]."""

    mean: Floats
    scale: Floats
    coef: Floats
    intercept: Floats

    def scores(self, features: Floats) -> Floats:
        return np.asarray(((features - self.mean) / self.scale)[..., : len(self.coef)] @ self.coef + self.intercept)


class Logistic(ClosedMethod):
    """Multinomial logistic regression; of labels, one regression each; of a request's own texts, one over pairs.

    Features of a request: logs of the user's smoothed label counts, logs of their votes at two temperatures, how many
    behaviours there are, and the request's vector. Where each request brings its own texts, of each text: how
    often everybody preferred it, the user's votes on it, and its vector.
    """

    Config = LogisticConfig
    summary = "logistic regression over the user's label counts, votes and the request's vector; no language model"
    source = "scikit-learn LogisticRegression; as a control, docs/design.md section 5"
    config: LogisticConfig

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self.needed_vectors()
        self._everybody = Everybody()
        self._weights: _Weights | None = None

    @classmethod
    @override
    def needs_encoder(cls, config: Any) -> bool:
        del config
        return True

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return (TEXT,) if self.options else (ANSWER,)

    # -- once ---------------------------------------------------------------------------------------------------------

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Fit on the training requests; penalty and features are those that are best on the development requests."""
        del training, folder
        start = time.perf_counter()
        self._everybody = everybody(train, self.options)
        if closed := self.closed(train):
            self._weights = self._best(closed, self.closed(dev))
        return TrainingResult(0, time.perf_counter() - start, ())

    def _best(self, train: Sequence[Example], dev: Sequence[Example]) -> _Weights:
        """Of all penalties and features, the weights that give the development requests' answers the least nats."""
        features = self._features_of(train)
        held = dev or train
        seen = self._features_of(held) if dev else features
        wholes = [self.config.vectors] if self.config.vectors is not None else [False, True]
        strengths = [self.config.c] if self.config.c else _STRENGTHS

        def fitted(whole: bool, c: float) -> tuple[float, _Weights]:
            weights = self._fitted(train, features, c, None if whole else -self.needed_vectors().width)
            return self.mean_nats(held, [self._chances(weights, f) for f in seen]), weights

        return min((fitted(*pair) for pair in itertools.product(wholes, strengths)), key=lambda scored: scored[0])[1]

    def _features_of(self, examples: Sequence[Example]) -> list[Floats]:
        profiles = [Profile(e.history) for e in examples]
        return self._features([e.request for e in examples], profiles, [e.options or self.options for e in examples])

    def _fitted(self, train: Sequence[Example], features: Sequence[Floats], c: float, width: int | None) -> _Weights:
        """Fit on the first `width` features alone; the others' weights are 0 and not stored."""
        rows = np.concatenate([np.atleast_2d(f) for f in features])
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(scale > 1e-8, scale, 1.0)
        if not self.options:
            mean = np.zeros_like(mean)  # differences of options have no mean
        cut = [((f - mean) / scale)[..., :width] for f in features]
        coef, intercept = self._pairs(train, cut, c) if not self.options else self._classes(train, np.stack(cut), c)
        return _Weights(mean, scale, coef, intercept)

    def _classes(self, train: Sequence[Example], x: Floats, c: float) -> tuple[Floats, Floats]:
        """Weights [f, o] and intercepts [o] of the task's options; what nobody answered is left at its least chance."""
        right = [right_labels(e.target, self.options) for e in train]
        coef = np.zeros((x.shape[1], len(self.options)))
        intercept = np.full(len(self.options), np.log(LEAST))
        if self.multilabel:
            for i in range(len(self.options)):
                y = np.array([i in r for r in right])
                if y.any() and not y.all():
                    w, b = _regression(x, y, c)
                    coef[:, i], intercept[i] = w[0], b[0]
                elif y.all():
                    intercept[i] = -np.log(LEAST)
            return coef, intercept
        y = np.array([r[0] if r else 0 for r in right])
        classes = np.unique(y)
        if len(classes) == 1:
            intercept[classes[0]] = 0.0
            return coef, intercept
        w, b = _regression(x, y, c)
        if len(classes) == 2:
            w, b = np.stack([w[0] * 0, w[0]]), np.array([0.0, b[0]])
        coef[:, classes], intercept[classes] = w.T, b
        return coef, intercept

    @staticmethod
    def _pairs(train: Sequence[Example], features: Sequence[Floats], c: float) -> tuple[Floats, Floats]:
        """Weights [f, 1] of what makes the right text preferred to the others (Bradley-Terry)."""
        differences = []
        for example, rows in zip(train, features, strict=True):
            at = list(example.options).index(example.target)
            differences.append(np.delete(rows[at] - rows, at, axis=0))
        x = np.concatenate(differences)
        both = np.concatenate([x, -x])  # each difference both ways: no side is preferred for itself
        w, _ = _regression(both, np.repeat([True, False], len(x)), c)
        return w.T, np.zeros(1)

    # -- artifacts -------------------------------------------------------------------------------------------------

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        weights = self._weights
        parts = {} if weights is None else {k: getattr(weights, k) for k in ("mean", "scale", "coef", "intercept")}
        return tensors_of({**self._everybody.arrays(), **parts})

    @override
    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        self._everybody = Everybody.of_arrays(arrays)
        if "coef" in arrays:
            self._weights = _Weights(*(arrays[k] for k in ("mean", "scale", "coef", "intercept")))

    # -- a request ----------------------------------------------------------------------------------------------------

    @override
    def chances(
        self, requests: Sequence[Request], profiles: Sequence[Profile], options: Sequence[Sequence[str]]
    ) -> list[Floats]:
        if self._weights is None:
            shares = [self._everybody.of(own, self.options) for own in options]
            return [np.full(len(s), 1.0 / len(s)) for s in shares]
        features = self._features(requests, profiles, options)
        return [self._chances(self._weights, f) for f in features]

    def _chances(self, weights: _Weights, features: Floats) -> Floats:
        scores = weights.scores(features)
        if not self.options:
            scores = scores[:, 0]
        if self.multilabel:
            return np.clip(1.0 / (1.0 + np.exp(-scores)), LEAST, 1.0 - LEAST)
        return np.asarray(np.exp(scores - np.logaddexp.reduce(scores)).clip(LEAST))

    def _features(
        self, requests: Sequence[Request], profiles: Sequence[Profile], options: Sequence[Sequence[str]]
    ) -> list[Floats]:
        """Of each request [f]; where it brings its own texts, of each of these [o, f]. Vectors stand last."""
        vectors = self.needed_vectors()
        cast = ballots(requests, profiles, options, self.options, vectors)
        if not self.options:
            return [self._of_texts(ballot, own) for ballot, own in zip(cast, options, strict=True)]
        queries = unit(vectors.query([r.query for r in requests])).astype(np.float64)
        return [self._of_request(ballot, query) for ballot, query in zip(cast, queries, strict=True)]

    def _of_request(self, ballot: Ballot, query: Floats) -> Floats:
        share = self._everybody.of(self.options, self.options)
        parts = [np.log(smoothed(ballot.given, share, s)) for s in _SMOOTHINGS]
        for temperature in _TEMPERATURES:
            own = ballot.voters(temperature)
            parts.append(np.log(np.clip((own * ballot.votes(temperature) + share) / (own + 1.0), LEAST, 1.0)))
        return np.concatenate([*parts, [np.log1p(len(ballot.given))], query])

    def _of_texts(self, ballot: Ballot, options: Sequence[str]) -> Floats:
        share = np.log(self._everybody.of(options, self.options))
        votes = [ballot.votes(temperature) for temperature in _TEMPERATURES]
        texts = unit(self.needed_vectors().query(list(options), "history")).astype(np.float64)
        return np.concatenate([np.stack([share, *votes], axis=1), texts], axis=1)


def _regression(x: Floats, y: Any, c: float) -> tuple[Floats, Floats]:
    """Weights [classes or 1, f] and intercepts of scikit-learn's logistic regression."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=1000).fit(x, y)
    return np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
