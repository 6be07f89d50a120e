"""Several rankers' best behaviours, joined by reciprocal rank fusion, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.types import History, Profile, Request, State
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import joined_states, part_of_state
from personaplug.methods.retrieval import Retrieval, RetrievalConfig, plain_ranker
from personaplug.methods.retrieval.ranking import best, reciprocal_ranks
from personaplug.tasks.base import TaskInfo


@dataclass(frozen=True, slots=True)
class FusionConfig(RetrievalConfig):
    """What is fused, and how.

    Attributes:
        rankers: names of retrieval methods; each is built with its defaults.
        constant: added to each rank; the larger, the less the very first places count.
        depth: places of each ranking that count (at least k).
    """

    rankers: tuple[str, ...] = ("bm25", "dense", "recent")
    constant: float = 60.0
    depth: int = 100


class Fusion(Retrieval):
    """Highest sum of 1 / (constant + rank) first; of equal ones the newer first."""

    Config = FusionConfig
    summary = "the k best behaviours of several rankers together, in the prompt"
    source = "Cormack, Clarke and Büttcher 2009, Reciprocal Rank Fusion; LaMP's use: arXiv 2404.05970"

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        if not config.rankers or config.constant < 0 or config.depth < 1:
            raise ConfigError(
                f"method {self.name!r}: rankers = {config.rankers}, constant = {config.constant}, "
                f"depth = {config.depth}; expected at least one ranker, a constant >= 0 and a depth >= 1"
            )
        self.depth = max(config.depth, config.k)
        deep = {"k": self.depth}  # `rank` may return just the best k
        self.rankers: dict[str, Retrieval] = {}
        for name in config.rankers:
            plain_ranker(name, self.name)
            self.rankers[name] = registry.build("method", name, deep, backbone=backbone, vectors=vectors, task=task)

    @property
    @override
    def key(self) -> str:
        return f"{self.name}({', '.join(r.key for r in self.rankers.values())})"

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(t for r in self.rankers.values() for t in r.history_templates))

    @classmethod
    @override
    def needs_encoder(cls, config: FusionConfig) -> bool:
        return any(r.needs_encoder(r.Config()) for r in (plain_ranker(name, "rrf") for name in config.rankers))

    @override
    def prepare(self, history: History) -> State | None:
        """The rankers' states together; the names of a ranker's arrays begin with its own name."""
        parts = {name: ranker.prepare(history) for name, ranker in self.rankers.items()}
        return joined_states(parts)

    @override
    def rank(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[int]]:
        ranked = []
        for name, ranker in self.rankers.items():
            own = [Profile(p.history, part_of_state(p.state, name)) for p in profiles]
            ranked.append([ranking[: self.depth] for ranking in ranker.rank(requests, own)])
        constant, k = self.config.constant, self.config.k
        return [
            best(reciprocal_ranks(rankings, len(p.history), constant), k)
            for p, *rankings in zip(profiles, *ranked, strict=True)
        ]
