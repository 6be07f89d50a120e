"""What every encoder does: texts in, vectors out. e: the encoder's width."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

TextRole = Literal["query", "history"]
Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Rows [..., e] of unit length; zeros stay."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return (vectors / lengths).astype(np.float32, copy=False)


class Encoder(ABC):
    """Encodes texts. Built as `Encoder(config, **parts)`; `Config` is a frozen dataclass of plain values."""

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]  # one line for `personaplug list encoders`
    source: ClassVar[str]  # where the idea or the weights come from

    key: str
    """Identity of the vectors (model, revision, pooling): vectors of another key never mix with these."""
    width: int
    """e."""

    @abstractmethod
    def encode(
        self, texts: Sequence[str], role: TextRole = "history", progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors [n, e], float32, in the order of `texts`.

        A text's vector depends on the text and the role alone, not on the batch it sits in (up to rounding).

        Args:
            texts: n texts; an empty text gets a finite vector.
            role: some models prefix queries.
            progress: called with the number of texts done since the last call.
        """


class TrainableEncoder(Encoder):
    """An encoder of which a copy can be trained for queries; history vectors stay the frozen original's."""

    @abstractmethod
    def copy_for_training(self) -> nn.Module:
        """A trainable copy: called with b texts it returns their query vectors [b, e], with gradients."""
