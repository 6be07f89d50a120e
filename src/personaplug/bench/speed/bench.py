"""What the measurements of speed share: models, stored users, real messages, timing in turns.

What is compared runs in turn in one process, and what is reported are ratios of medians: machines differ and are noisy.
"""

from __future__ import annotations

import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

from personaplug import data
from personaplug.core.types import Behavior, Request
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.pipeline.build import build_backbone, build_encoder, build_method, build_store
from personaplug.pipeline.personalizer import Personalizer
from personaplug.stores import store_section

_TEXTS = 500  # distinct ones of a user: more would only take longer to encode
MODEL, ENCODER = "smollm2-135m", "minilm"


@dataclass(frozen=True, slots=True)
class Ratio:
    """One measured ratio: its id, value, goal (for example "<= 2"), what it is in words, medians in milliseconds."""

    id: str
    value: float
    goal: str
    words: str
    median_ms: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def of(name: str, value: float, goal: str, words: str, medians: Mapping[str, float]) -> Ratio:
        """From medians in seconds."""
        return Ratio(name, round(value, 4), goal, words, {k: round(1e3 * v, 3) for k, v in medians.items()})


class Bench:
    """Models, stored users and real messages.

    Args:
        rounds: how often each thing is timed.
        model: of the backbone.
        encoder: a sentence encoder's model.
        device: of both.
    """

    def __init__(self, rounds: int, model: str = MODEL, encoder: str = ENCODER, device: str = "cpu") -> None:
        self.rounds = rounds
        self.section = {"name": "causal", "model": model, "device": device}
        # No prompt is cached: what one method has read must not help the next.
        backbone: Any = build_backbone({**self.section, "prompt_cache": 0})
        # Answers of full length: every method decodes as many tokens.
        backbone._ends = set()
        self.backbone: Any = backbone
        self.encoder: Any = build_encoder({"name": "sentence", "model": encoder, "device": device}, self.backbone)
        self._folder = tempfile.TemporaryDirectory(prefix="personaplug-")
        with (data.path("chitchat") / "behaviors.jsonl").open(encoding="utf-8") as lines:
            self.messages = list(dict.fromkeys(json.loads(line)["output"] for line in islice(lines, 60_000)))

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def personalizer(self, section: Mapping[str, Any], behaviors: int) -> Personalizer:
        """A method with one user, `ada`, of that many behaviours (of 500 texts), stored and prepared."""
        store = build_store(store_section(Path(tempfile.mkdtemp(dir=self._folder.name)) / "users.db"))
        method = build_method(section, self.backbone, VectorCache(self.encoder, store), None)
        personalizer = Personalizer(method, store)
        said = list(islice(cycle(self.messages[:_TEXTS]), behaviors + 1))
        pairs = pairwise(said)
        personalizer.observe(*(Behavior("ada", str(i), a, b, at=float(i)) for i, (a, b) in enumerate(pairs)))
        personalizer.refresh()
        return personalizer

    def question(self, n: int) -> Request:
        """The n-th of requests that nobody asked before."""
        return Request.of("ada", " ".join(self.messages[-4 * n - 4 :][:4]))


def timed(works: Mapping[str, Callable[[int], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, in turn; the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    gc.disable()
    for n in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work(n)
            if n:
                times[name].append(time.perf_counter() - start)
    gc.enable()
    return {name: statistics.median(each) for name, each in times.items()}
