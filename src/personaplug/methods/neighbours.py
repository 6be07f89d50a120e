"""Likes and dislikes of the user and of those most like them, on the prompts nearest to the request.

Shapes: u: users, n: behaviours, e: the encoder's width.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.errors import ConfigError, DataError
from personaplug.core.types import Attribution, Behavior, Example, History, Profile, Request, State
from personaplug.encoders.base import unit
from personaplug.encoders.cache.embeddings import VectorCache, behavior_text
from personaplug.methods.preference import ANSWER_TEXT, Shots, ShotsConfig, nearest, usable
from personaplug.methods.preference.people import (
    People,
    UserVector,
    digest_of_name,
    gather,
    longest,
    nobody,
    user_vector,
)
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class NeighboursConfig(ShotsConfig):
    """Whose feedback is shown.

    Attributes:
        users: how many of the users most like this one lend their items.
        vector: what a user is compared by: mean liked answer minus mean disliked one (the paper's best), or one alone.
        own: whether the user's own items compete with the others'.
    """

    users: int = 20
    vector: UserVector = "difference"
    own: bool = True

    def __post_init__(self) -> None:
        ShotsConfig.__post_init__(self)
        if self.users < 1:
            raise ConfigError(f"neighbours: users = {self.users}; expected 1 or more")


class Neighbours(Shots):
    """Learning across users without training: `fit` makes a table of the training users' feedback.

    A user without feedback is like nobody: the items of all users compete. A prompt is shown once, as the user or the
    most similar neighbour judged it. The artifact holds the training users' prompts and answers as they are: whoever is
    to be forgotten there needs it made anew.
    """

    Config = NeighboursConfig
    summary = "answers that the user and the users most like them liked, on the nearest prompts, in the prompt"
    source = "PersonalLLM, arXiv 2409.20296, section 4.2 (learning across users)"
    trained = True
    config: NeighboursConfig

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self._people: People = nobody(self.needed_vectors().width)

    @property
    @override
    def key(self) -> str:
        return f"{self.name}:{self.config.vector}:{self.config.match}:{self.needed_vectors().encoder.key}"

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return (self.config.match, ANSWER_TEXT)

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Gather the longest history of each training user.

        Raises:
            DataError: none of them has a history.
        """
        del dev, training, folder
        start = time.perf_counter()
        histories = longest(e.history for e in train)
        if not histories:
            raise DataError("neighbours: no training user has feedback; give the task a history of 1 or more")
        self._people = gather(histories, self.needed_vectors(), self.config.vector, self.config.match)
        return TrainingResult(0, time.perf_counter() - start, ())

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return self._people.tensors()

    @override
    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._people = People.of_tensors(tensors)

    @override
    def prepare(self, history: History) -> State:
        """The user's vector [e] and those of what is compared [n, e], unit length."""
        vectors = self.needed_vectors()
        return {
            "user": user_vector(history, vectors, self.config.vector),
            "vectors": unit(vectors.embed(history, self.config.match)).astype(np.float16),
        }

    @override
    def select(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[Behavior]]:
        queries = unit(self.needed_vectors().query([r.query for r in requests]))
        return [self._pooled(*item) for item in zip(requests, profiles, queries, strict=True)]

    def _pooled(self, request: Request, profile: Profile, query: NDArray[np.float32]) -> list[Behavior]:
        state = self.prepare(profile.history) if profile.state is None else profile.state
        closeness = self._closeness(request, profile, state)  # [u], -inf: no neighbour
        own = [(float(s), np.inf, b) for s, b in self._own(profile, state, query)]
        lent = np.flatnonzero(closeness[self._people.owners] > -np.inf)
        scores = self._people.items[lent] @ query
        # Enough of the nearest that the same prompt, judged by every neighbour, cannot crowd out the others.
        chosen = [lent[i] for i in nearest(scores, [True] * len(lent), self.config.k * (self.config.users + 1))]
        by_item = dict(zip(lent.tolist(), scores.tolist(), strict=True))
        other = [(by_item[int(i)], float(closeness[self._people.owners[i]]), self._people.item(int(i))) for i in chosen]
        return self._best([*own, *other])

    def _best(self, items: Sequence[tuple[float, float, Behavior]]) -> list[Behavior]:
        """The nearest k of (nearness, closeness of its owner, item), each prompt (or what is compared of it) once."""
        shown: dict[str, Behavior] = {}
        for _, _, item in sorted(items, key=lambda entry: (-round(entry[0], 5), -entry[1])):
            if usable(item, self.config.show):
                shown.setdefault(behavior_text(item, self.config.match), item)
        return list(shown.values())[: self.config.k]

    def _own(
        self, profile: Profile, state: State, query: NDArray[np.float32]
    ) -> list[tuple[np.floating[Any], Behavior]]:
        if not self.config.own or not profile.history.behaviors:
            return []
        scores = state["vectors"].astype(np.float32) @ query
        return list(zip(scores, profile.history.behaviors, strict=True))

    def _closeness(self, request: Request, profile: Profile, state: State) -> NDArray[np.float64]:
        """Cosine of each neighbour's vector with the user's [u]; -inf for everybody else, the user above all."""
        people = self._people
        cosines = (people.vectors @ state["user"].astype(np.float32)).astype(np.float64)
        themselves = [digest_of_name(name) for name in {request.user, profile.history.user} if name]
        cosines[np.isin(people.names, themselves)] = -np.inf
        if state["user"].any() and len(cosines) > self.config.users:
            keep = nearest(cosines, (cosines > -np.inf).tolist(), self.config.users)
            chosen = np.zeros(len(cosines), bool)
            chosen[keep] = True
            cosines[~chosen] = -np.inf
        return cosines

    @override
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        """The user's own behaviours that were shown; the neighbours' are not theirs."""
        own = {b.id for b in profile.history}
        [items] = self.select([request], [profile])
        mine = [b for b in items if b.user == profile.history.user and b.id in own]
        return [Attribution(b, 1.0 / len(mine)) for b in mine]
