"""Everything that `personaplug benchmark` measures, by name."""

from __future__ import annotations

from collections.abc import Callable

from personaplug.bench.speed import answering
from personaplug.bench.speed.bench import Bench, Ratio
from personaplug.bench.speed.encoding import encoding
from personaplug.bench.speed.observing import observing
from personaplug.bench.speed.training import training

PARTS: dict[str, Callable[[Bench], list[Ratio]]] = {
    **answering.PARTS,
    "observing": observing,
    "encoding": encoding,
    "training": training,
}
