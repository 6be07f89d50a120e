"""How fast the encoder is on real texts of mixed length, in units of sentence-transformers' own loop.

The unit is `SentenceTransformer.encode` at its defaults (float32, batches of 32); against it the encoder as it is by
default and, where its extra is installed, with OpenVINO. Then a second run over the same texts as a new process sees
it, a store that knows the vectors and nothing in memory, in units of the first.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from personaplug.bench.speed.bench import Bench, Ratio, timed
from personaplug.core.types import Behavior, History
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.models import resolve
from personaplug.pipeline.build import build_encoder, build_store
from personaplug.stores import store_section

SIZE = 128  # texts of a round


def encoding(bench: Bench) -> list[Ratio]:
    """Texts a second, and a second run."""
    from sentence_transformers import SentenceTransformer

    config = bench.encoder.config
    unit: Any = SentenceTransformer(resolve(config.model).location, device=str(config.device))
    arms: dict[str, Any] = {"default": bench.encoder}
    if importlib.util.find_spec("openvino"):
        arms["openvino"] = build_encoder(
            {"name": "sentence", "model": config.model, "backend": "openvino"}, bench.backbone
        )
    rng = np.random.default_rng(0)

    def texts(n: int) -> list[str]:
        """Fresh ones of 1 to 8 messages."""
        starts = np.arange(SIZE) * 8 + n * SIZE * 8
        return ["\n".join(bench.messages[s : s + int(rng.choice([1, 2, 4, 8]))]) for s in starts]

    given = [texts(n) for n in range(bench.rounds + 1)]
    runs: dict[str, Callable[[int], Any]] = {"unit": lambda n: unit.encode(given[n])}
    runs |= {name: _encodes(encoder, given) for name, encoder in arms.items()}
    medians = timed(runs, bench.rounds)
    ratios = [
        Ratio.of(
            f"encoding-{name}",
            medians["unit"] / medians[name],
            "reported" if name == "default" and len(arms) > 1 else ">= 2.5",
            f"texts a second of the encoder ({name}), in units of SentenceTransformer.encode's",
            {"unit": medians["unit"], "ours": medians[name]},
        )
        for name in arms
    ]
    return [*ratios, again(bench.encoder, given[0])]


def _encodes(encoder: Any, given: list[list[str]]) -> Callable[[int], Any]:
    return lambda n: encoder.encode(given[n], "history")


def again(encoder: Any, texts: list[str]) -> Ratio:
    """A first run over a user's texts in units of a second one."""
    history = History("ada", tuple(Behavior("ada", str(n), "", text) for n, text in enumerate(texts)))
    with tempfile.TemporaryDirectory(prefix="personaplug-") as folder:
        store = build_store(store_section(Path(folder) / "users.db"))
        store.add(history)
        seconds: list[float] = []
        for _ in range(4):
            start = time.perf_counter()
            VectorCache(encoder, store).precompute([history], "{output}")
            seconds.append(time.perf_counter() - start)
        store.close()
    second = statistics.median(seconds[1:])
    words = "encoding a user's texts the first time, in units of a second run that finds them stored"
    return Ratio.of("encoding-again", seconds[0] / second, ">= 100", words, {"first": seconds[0], "second": second})
