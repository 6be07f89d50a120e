"""Votes of a user's own behaviours on a request's options, the more alike the heavier.

Shapes: n: behaviours, o: options, e: the encoder's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personaplug.core.types import Behavior, History, Profile, Request
from personaplug.data.feedback import answers_of
from personaplug.encoders.base import unit
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.closed.counts import Floats, label_matrix

TEXT = "{input}"
"""What an encoder sees of a behaviour where the task has options: what the user was asked."""
ANSWER = "{output}"
"""Where each request brings its own texts: the text that was preferred, or was not."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a user's behaviours can say of a request.

    Attributes:
        likeness: cosine of each behaviour and what is judged [n, v]: the request (v = 1), or each option (v = o).
        given: which options each behaviour names [n, o]; of pairs of texts, +1 for a preferred text and -1 for another.
    """

    likeness: Floats
    given: Floats

    def voters(self, temperature: float) -> float:
        """How many behaviours vote, in effect: (sum of weights)² / sum of squared weights (Kish 1965)."""
        weights = self.weights(temperature)
        return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0

    def weights(self, temperature: float) -> Floats:
        """Of each behaviour's vote on a request [n]: exp(likeness / temperature), the largest 1; 0 of no vote."""
        if not len(self.given):
            return np.zeros(0)
        weights = np.exp((self.likeness[:, 0] - self.likeness[:, 0].max()) / temperature)
        return np.asarray(weights * (self.given.sum(axis=1) > 0))

    def votes(self, temperature: float) -> Floats:
        """Share of the votes that each option has [o], in [0, 1]; zeros where nobody votes.

        A behaviour's vote weighs exp(likeness / temperature). Of pairs of texts: how much nearer, in nats, each option
        lies to preferred texts than to the others.
        """
        if not len(self.given):
            return np.zeros(self.given.shape[1])
        if self.likeness.shape[1] == 1:
            own = self.weights(temperature)
            return np.asarray(own @ self.given / max(float(own.sum()), 1e-12))
        weights = np.exp((self.likeness - self.likeness.max(axis=0)) / temperature)  # [n, v]
        liked, others = (np.log((weights * (self.given == side)).sum(axis=0) + 1e-12) for side in (1.0, -1.0))
        return np.asarray(liked - others) if (self.given == 1.0).any() and (self.given == -1.0).any() else liked * 0.0


def ballots(
    requests: Sequence[Request],
    profiles: Sequence[Profile],
    options: Sequence[Sequence[str]],
    fixed: Sequence[str],
    vectors: VectorCache,
) -> list[Ballot]:
    """A ballot for each request; `fixed` are the task's options, () where each request brings its own texts."""
    if not fixed:
        return [_of_texts(p.history, own, vectors) for p, own in zip(profiles, options, strict=True)]
    queries = unit(vectors.query([r.query for r in requests])).astype(np.float64)
    cast = []
    for query, profile in zip(queries, profiles, strict=True):
        asked = _unit(profile.history, TEXT, vectors)
        cast.append(Ballot(asked @ query[:, None], label_matrix(profile.history, fixed)))
    return cast


def _of_texts(history: History, options: Sequence[str], vectors: VectorCache) -> Ballot:
    texts = unit(vectors.query(list(options), "history")).astype(np.float64)  # [o, e]
    sides = [_outputs(history, answers_of(history, side), vectors) for side in ("liked", "disliked")]
    signs = np.concatenate([np.full(len(sides[0]), 1.0), np.full(len(sides[1]), -1.0)])
    likeness = np.concatenate(sides) @ texts.T
    return Ballot(likeness, np.repeat(signs[:, None], len(options), axis=1))


def _outputs(history: History, behaviors: Sequence[Behavior], vectors: VectorCache) -> Floats:
    return _unit(History(history.user, tuple(behaviors)), ANSWER, vectors)


def _unit(history: History, template: str, vectors: VectorCache) -> Floats:
    """Vectors [n, e] of unit length."""
    return unit(vectors.embed(history, template)).astype(np.float64)
