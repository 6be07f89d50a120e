"""Likes short words in short sentences."""

from __future__ import annotations

import re

from typing_extensions import override

from personaplug.core.config import NoConfig
from personaplug.rewards.base import PlainReward

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_LOWEST, _HIGHEST = -5.0, 25.0  # school years: beyond them is a text without spaces or sentences


class Readability(PlainReward):
    """Minus the Automated Readability Index: 4.71 characters a word + 0.5 words a sentence - 21.43.

    The index says for which school year a text is; it needs no dictionary of syllables, unlike Flesch's. Limited to
    [-5, 25]; an empty answer counts as the easiest.
    """

    Config = NoConfig
    summary = "how easy it is to read: minus the Automated Readability Index"
    source = "Senter and Smith 1967, Automated Readability Index"
    key = "readability:ari:1"

    def __init__(self, config: NoConfig) -> None:
        self.config = config

    @override
    def one(self, prompt: str, answer: str) -> float:
        del prompt
        words = answer.split()
        if not words:
            return -_LOWEST
        sentences = sum(1 for s in _SENTENCE_END.split(answer) if s.strip())
        characters = sum(sum(c.isalnum() for c in w) for w in words)
        index = 4.71 * characters / len(words) + 0.5 * len(words) / sentences - 21.43
        return -min(max(index, _LOWEST), _HIGHEST)
