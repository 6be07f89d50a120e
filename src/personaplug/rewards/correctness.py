"""Likes English without mistakes."""

from __future__ import annotations

from typing_extensions import override

from personaplug.core.config import NoConfig
from personaplug.rewards.base import PlainReward

_PRIOR = 10  # words that a text is thought to have beside its own, so that one slip in three words is no catastrophe


class Correctness(PlainReward):
    """Minus what the grammar checker Harper finds, per word; 0 is flawless."""

    Config = NoConfig
    summary = "how few mistakes of spelling, grammar and punctuation there are (Harper)"
    source = "Harper, an English grammar checker; harper-py, Apache-2.0"
    key = "correctness:harper:1"

    def __init__(self, config: NoConfig) -> None:
        import harper

        self.config = config
        self._linter = harper.Linter()

    @override
    def one(self, prompt: str, answer: str) -> float:
        del prompt
        return -len(self._linter.lint(answer)) / (len(answer.split()) + _PRIOR)
