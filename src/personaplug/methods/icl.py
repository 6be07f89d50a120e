"""The user's own likes and dislikes on the prompts nearest to the request, as examples in the prompt.

Shapes: n: behaviours, e: the encoder's width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from personaplug.core.types import Attribution, Behavior, History, Profile, Request, State
from personaplug.encoders.base import unit
from personaplug.methods.preference import Shots, ShotsConfig, nearest, usable
from personaplug.methods.retrieval.ranking import dot


class Icl(Shots):
    """Nearest by the cosine with the request; feedback that does not say what is to be shown is passed over."""

    Config = ShotsConfig
    summary = "answers that the user liked or disliked on the nearest prompts, in the prompt"
    source = "PersonalLLM, arXiv 2409.20296, section 4.1 (personalized in-context learning)"

    @property
    @override
    def key(self) -> str:
        return f"{self.name}:{self.config.match}:{self.needed_vectors().encoder.key}"

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return (self.config.match,)

    @override
    def prepare(self, history: History) -> State:
        """Vectors of what is compared of the history [n, e], unit length."""
        return {"vectors": unit(self.needed_vectors().embed(history, self.config.match)).astype(np.float16)}

    @override
    def select(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[Behavior]]:
        queries = unit(self.needed_vectors().query([r.query for r in requests]))
        selected = []
        for query, profile in zip(queries, profiles, strict=True):
            state = self.prepare(profile.history) if profile.state is None else profile.state
            behaviors = profile.history.behaviors
            allowed = [usable(b, self.config.show) for b in behaviors]
            scores = dot(state["vectors"].astype(np.float16, copy=False), query)
            selected.append([behaviors[i] for i in nearest(scores, allowed, self.config.k)])
        return selected

    @override
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        [items] = self.select([request], [profile])
        return [Attribution(b, 1.0 / len(items)) for b in items]
