"""Brings ratings of another scale, stars from 1 to 5 or per cent, to [0, 1]."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from personaplug.core.errors import ConfigError, DataError
from personaplug.core.names import quoted

_SCALE = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*:\s*(-?\d+(?:\.\d+)?)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class RatingScale:
    """The worst and the best rating of a scale.

    >>> RatingScale.parse("1:5").unit(4)
    0.75
    """

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def parse(cls, text: str) -> RatingScale:
        """A scale written LOW:HIGH; "" is 0:1.

        Raises:
            ConfigError: not two numbers, the smaller one first.
        """
        match = _SCALE.fullmatch(text or "0:1")
        if match is None or not float(match[1]) < float(match[2]):
            raise ConfigError(f"rating scale {quoted(text)}: expected LOW:HIGH, for example 1:5 for one to five stars")
        return cls(float(match[1]), float(match[2]))

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]"

    def unit(self, rating: object) -> float:
        """A rating of the scale in [0, 1].

        Raises:
            RatingError: not a number of the scale; says how to name the scale.
        """
        fault = f"rating is {quoted(rating)}, expected a number in {self}"
        if isinstance(rating, bool) or not isinstance(rating, (int, float)) or math.isnan(rating):
            raise DataError(fault)
        if not self.low <= rating <= self.high:
            raise RatingError(f"{fault}; are all ratings of another scale? name it: --rating-scale 1:5")
        return (rating - self.low) / (self.high - self.low)


class RatingError(DataError):
    """A rating beyond the scale: the file's other ratings are likely of that other scale too."""
