"""Likes answers that stay with what was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from typing_extensions import override

from personaplug.core.registry import Section
from personaplug.encoders.base import Encoder, unit
from personaplug.rewards.base import Reward, Scores


@dataclass(frozen=True, slots=True)
class RelevanceConfig:
    """What reads.

    Attributes:
        encoder: section of an encoder.
    """

    encoder: Mapping[str, Any] = field(default_factory=lambda: {"name": "sentence"})


class Relevance(Reward):
    """Cosine of prompt and answer in an encoder's space; 0 where one of them is empty."""

    Config = RelevanceConfig
    summary = "how near the answer is to the question, in an encoder's space"
    source = "Reimers and Gurevych 2019, Sentence-BERT, arXiv 1908.10084"

    def __init__(self, config: RelevanceConfig) -> None:
        self.config = config
        self._encoder: Encoder = Section.parse("encoder", config.encoder).build()
        self.key = f"relevance:{self._encoder.key}"

    @override
    def score(
        self, prompts: Sequence[str], answers: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> Scores:
        distinct = list(dict.fromkeys(prompts))  # a prompt has several answers
        row = {p: i for i, p in enumerate(distinct)}
        asked = unit(self._encoder.encode(distinct, "query"))[[row[p] for p in prompts]]
        said = unit(self._encoder.encode(list(answers), "history", progress))
        spoken = [bool(p.strip() and a.strip()) for p, a in zip(prompts, answers, strict=True)]
        return np.where(spoken, (asked * said).sum(-1), 0.0).astype(np.float64)
