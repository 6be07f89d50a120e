"""An encoder without weights: signed feature hashing of words and character 3-grams; for tests and speed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from personaplug.core.errors import ConfigError
from personaplug.encoders.base import Encoder, TextRole, Vectors, unit


@dataclass(frozen=True, slots=True)
class HashingConfig:
    """How wide the vectors are.

    Attributes:
        width: e, at least 2; fewer floats mean more collisions.
    """

    width: int = 256


class HashingEncoder(Encoder):
    """Each word and character 3-gram adds +1 or -1 to the float it hashes to; unit length.

    The same in every process and on every machine. Both roles get the same vector. The empty text gets zeros: nothing
    is in it.

    Raises:
        ConfigError: a width below 2.
    """

    Config = HashingConfig
    summary = "no weights: hashed words and character 3-grams; for tests and speed"
    source = "Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning"

    def __init__(self, config: HashingConfig) -> None:
        if config.width < 2:
            raise ConfigError(f"encoder 'hashing': width is {config.width}, expected at least 2")
        self.config = config
        self.width = config.width
        self.key = f"hashing:{config.width}"

    def encode(
        self, texts: Sequence[str], role: TextRole = "history", progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors [n, e] of unit length (zeros for a text without words)."""
        del role
        out = np.zeros((len(texts), self.width), np.float32)
        for i, text in enumerate(texts):
            codes = np.fromiter((_code(f) for f in _features(text)), np.int64)
            # The lowest bit is the sign, the others choose the float.
            np.add.at(out[i], (codes >> 1) % self.width, np.where(codes & 1, 1.0, -1.0))
        if progress is not None:
            progress(len(texts))
        return unit(out)


def _features(text: str) -> Iterator[str]:
    for word in text.split():
        yield word
        padded = f" {word} "
        yield from (padded[i : i + 3] for i in range(len(padded) - 2))


@lru_cache(maxsize=2**16)
def _code(feature: str) -> int:
    # A lone surrogate (broken input that got through) has no strict UTF-8 form.
    return zlib.crc32(feature.encode("utf-8", "surrogatepass"))
