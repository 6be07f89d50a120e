"""Likes long answers, or those of about a certain length."""

from __future__ import annotations

import math
from dataclasses import dataclass

from typing_extensions import override

from personaplug.core.errors import ConfigError
from personaplug.rewards.base import PlainReward


@dataclass(frozen=True, slots=True)
class LengthConfig:
    """Which length is liked.

    Attributes:
        target: words; 0: the longer the better.
    """

    target: int = 0

    def __post_init__(self) -> None:
        if self.target < 0:
            raise ConfigError(f"reward 'length': target = {self.target}; expected a number of words, or 0")


class Length(PlainReward):
    """log(1 + words), or minus its distance to that of the target."""

    Config = LengthConfig
    summary = "how long it is, or how near to a certain length"
    source = "–"

    def __init__(self, config: LengthConfig) -> None:
        self.config = config
        self.key = f"length:{config.target}"

    @override
    def one(self, prompt: str, answer: str) -> float:
        del prompt
        size, target = math.log1p(len(answer.split())), math.log1p(self.config.target)
        return -abs(size - target) if self.config.target else size
