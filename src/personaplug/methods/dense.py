"""The behaviours whose vectors are nearest to the request's, as text.

Shapes: n: behaviours, e: the encoder's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.types import History, Profile, Request, State
from personaplug.encoders.base import unit
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.retrieval import Retrieval
from personaplug.methods.retrieval.ranking import RankingConfig, best, dot, ranked_text
from personaplug.tasks.base import TaskInfo


class Dense(Retrieval):
    """Highest cosine first; cosines that are equal to five digits are a tie, and there the newer goes first."""

    Config = RankingConfig
    summary = "the k behaviours nearest to the request in the encoder's space, in the prompt"
    source = "LaMP, arXiv 2304.11406, section 3 (there with Contriever)"

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self.template = ranked_text(config, task)
        self.needed_vectors()  # refused when built, not when a request comes

    @property
    @override
    def key(self) -> str:
        return f"{self.name}:{self.needed_vectors().encoder.key}:{self.template}"

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return (self.template,)

    @classmethod
    @override
    def needs_encoder(cls, config: Any) -> bool:
        del config
        return True

    @override
    def prepare(self, history: History) -> State:
        """The history's vectors [n, e], unit length."""
        return {"vectors": unit(self.needed_vectors().embed(history, self.template)).astype(np.float16)}

    @override
    def rank(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[int]]:
        queries = unit(self.needed_vectors().query([r.query for r in requests]))
        return [self._best(query, profile) for query, profile in zip(queries, profiles, strict=True)]

    def _best(self, query: NDArray[np.float32], profile: Profile) -> list[int]:
        state = self.prepare(profile.history) if profile.state is None else profile.state
        # How a sum is rounded depends on the row it stands in: without this, equal texts would not tie.
        return best(dot(state["vectors"].astype(np.float16, copy=False), query).round(5), self.config.k)
