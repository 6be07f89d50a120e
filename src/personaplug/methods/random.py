"""Behaviours drawn at random, as text: what any retrieval must beat."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from personaplug.core.types import Profile, Request
from personaplug.methods.retrieval import Retrieval, RetrievalConfig


@dataclass(frozen=True, slots=True)
class RandomConfig(RetrievalConfig):
    """How much, and which draw.

    Attributes:
        seed: with the same seed, the same user and request get the same behaviours.
    """

    seed: int = 0


class Random(Retrieval):
    """Drawn without replacement (LaMP draws with it), by seed, user and request."""

    Config = RandomConfig
    summary = "k behaviours drawn at random in the prompt"
    source = "LaMP, arXiv 2304.11406, section 3"

    @override
    def rank(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[int]]:
        rankings = []
        for request, profile in zip(requests, profiles, strict=True):
            n = len(profile.history)
            draw = random.Random(f"{self.config.seed}/{request.user}/{request.query}")
            rankings.append(draw.sample(range(n), min(self.config.k, n)))
        return rankings
