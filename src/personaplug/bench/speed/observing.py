"""What a new behaviour costs until it takes effect, in units of encoding and appending it alone.

A user of 100 behaviours (real texts) says one thing more: `observe`, then what the next request needs of it first
(`profile`: the new texts encoded, the state extended, both stored). Alone: the same texts through the encoder, and the
same behaviour added to another store of the same content. Each round in a random order.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from personaplug.bench.speed.bench import Bench, Ratio
from personaplug.core.types import Behavior
from personaplug.encoders.cache.embeddings import VectorCache, behavior_text
from personaplug.pipeline.build import build_method, build_store
from personaplug.pipeline.personalizer import Personalizer
from personaplug.stores import store_section

PAST = 100  # behaviours of the user before the first round
WARM = 3  # rounds that start what is started once


def observing(bench: Bench) -> list[Ratio]:
    """The median of the rounds' ratios."""
    with tempfile.TemporaryDirectory(prefix="personaplug-") as folder:
        store, other = (build_store(store_section(Path(folder) / f"{name}.db")) for name in ("whole", "alone"))
        method: Any = build_method({"name": "plug"}, bench.backbone, VectorCache(bench.encoder, store), None)
        me = Personalizer(method, store)
        given = behaviors(bench.messages, PAST + 20 * bench.rounds + WARM)
        me.observe(*given[:PAST])
        other.add(given[:PAST])
        me.profile("ada")
        times: dict[str, list[float]] = {"observe": [], "profile": [], "encode": [], "append": []}
        rng = np.random.default_rng(0)
        for n, one in enumerate(given[PAST:]):
            texts = [behavior_text(one, template) for template in method.templates]
            steps: list[list[tuple[str, Callable[[], Any]]]] = [
                [("observe", partial(me.observe, one)), ("profile", partial(me.profile, "ada"))],
                [("encode", partial(bench.encoder.encode, texts, "history")), ("append", partial(other.add, [one]))],
            ]
            for arm in rng.permutation(2):
                for name, step in steps[arm]:
                    start = time.perf_counter()
                    step()
                    if n >= WARM:
                        times[name].append(time.perf_counter() - start)
        me.close()
        other.close()
    parts = np.array([times[name] for name in times])  # [4, rounds]
    ratio = float(np.median(parts[:2].sum(0) / parts[2:].sum(0)))
    words = (
        "a new behaviour added and in effect for the next request, in units of encoding it and of appending it alone"
    )
    return [Ratio.of("observe", ratio, "<= 1.2", words, {k: statistics.median(v) for k, v in times.items()})]


def behaviors(messages: list[str], count: int) -> list[Behavior]:
    """So many behaviours of one user, no text twice."""
    pairs = zip(messages[: 2 * count : 2], messages[1 : 2 * count : 2], strict=True)
    return [Behavior("ada", str(n), a, b, at=float(n)) for n, (a, b) in enumerate(pairs)]
