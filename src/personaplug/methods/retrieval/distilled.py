"""What retrieval that learns from the frozen model's own judgement shares: alternatives, their scores, a student.

    request ─► alternatives ─► prompts ─► frozen model ─► log p(what the user really wrote) ─ softmax ─► p [c] ─┐
       └─────► vectors of the alternatives [c, f] ─► student ─ softmax ─► q [c] ──────────────────► KL(p || q) ─┘

Shapes: b: batch, c: alternatives (padded), e: the encoder's width, f: width of an alternative's vector.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from personaplug.backbones.base import Backbone, TrainableBackbone
from personaplug.core.errors import ConfigError, MismatchError
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Behavior, Example, History, Request
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.retrieval import Retrieval
from personaplug.methods.retrieval.ranking import RankingConfig, ranked_text
from personaplug.methods.retrieval.score_cache import ScoreCache
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult
from personaplug.training.trainer import SampledExample, Training


@dataclass(frozen=True, slots=True)
class DistilledConfig(RankingConfig):
    """How much goes into a prompt, and what the frozen model is asked.

    Attributes:
        temperature: divides the frozen model's scores (nats a token) before their softmax.
        requests: training requests to score at most, evenly spread; 0 is all. Scoring is what a fit takes its time for.

    Raises:
        ConfigError: a number is out of its range.
    """

    temperature: float = 0.1
    requests: int = 0

    def __post_init__(self) -> None:
        # Not super(): with slots, a dataclass is another class than the one that its methods were written in.
        RankingConfig.__post_init__(self)
        if self.temperature <= 0 or self.requests < 0:
            raise ConfigError(
                f"retrieval: temperature = {self.temperature}, requests = {self.requests}; "
                "expected temperature > 0 and requests >= 0"
            )


class Alternatives(NamedTuple):
    """What could be done for a request: the items of each alternative, and its vector, [c, f]."""

    items: list[list[Behavior]]
    vectors: Tensor


class Lesson(NamedTuple):
    """One training request.

    Attributes:
        text: its query.
        query: that one's unit vector [e].
        vectors: of its alternatives, [c, f].
        target: p [c], which adds up to 1.
    """

    text: str
    query: Tensor
    vectors: Tensor
    target: Tensor


class Student(nn.Module):
    """The trained part."""

    def look(self, vectors: Tensor) -> None:
        """See all training alternatives' vectors [N, f] once, before training."""
        del vectors

    def forward(self, texts: Sequence[str], query: Tensor, vectors: Tensor) -> Tensor:
        """Logits [b, c] of the alternatives from queries as text and unit vectors [b, e], and vectors [b, c, f]."""
        raise NotImplementedError


class Distilled(Retrieval):
    """Retrieval with a student of the frozen model: after `fit` it does what makes the user's answer likely."""

    trained = True
    config: Any

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self.cache = self.needed_vectors()
        self.template = ranked_text(config, task)
        self.device = backbone.device if isinstance(backbone, TrainableBackbone) else torch.device("cpu")
        self._build(seed=0)

    @abstractmethod
    def new_student(self) -> Student:
        """An untrained student."""

    @abstractmethod
    def alternatives(self, requests: Sequence[Request], histories: Sequence[History]) -> list[Alternatives]:
        """What the student is to choose from while training."""

    def _build(self, seed: int) -> None:
        """Fresh weights from a seed, without disturbing anybody else's random numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.student = self.new_student().to(self.device).eval()
        self._key = ""

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return (self.template,)

    @classmethod
    @override
    def needs_encoder(cls, config: Any) -> bool:
        return True

    @property
    @override
    def key(self) -> str:
        """Name, weights and encoder."""
        if not self._key:
            self._key = f"{self.name}:{self.weights_digest()}:{self.cache.encoder.key}:{self.template}"
        return self._key

    # -- once, over many users ------------------------------------------------------------------------------------

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Score the alternatives of each request (stored beside `folder`, for other seeds too), then train the student.

        Raises:
            ConfigError: no training request has two alternatives that differ.
        """
        self._build(training.seed)
        most = self.config.requests
        lessons = self._lessons(evenly_spaced(train, most) if most else train, folder)
        held_out = self._lessons(evenly_spaced(dev, most) if most else dev, folder)
        if lessons:
            self.student.look(torch.cat([lesson.vectors for lesson in lessons]).to(self.device))
        distilling = _Distilling(self.student, [*lessons, *held_out])
        result = Training(
            module=distilling,
            collate=distilling.collate,
            lengths=[(len(lesson.text), 0) for lesson in lessons],
            config=training,
            folder=folder,
            dev=len(held_out),
        ).run()
        self.student.to(self.device).eval()
        self._key = ""
        return result

    def _lessons(self, examples: Sequence[Example], folder: Path) -> list[Lesson]:
        """Those of the examples that teach something: with two different prompts to choose from."""
        requests = [e.request for e in examples]
        self.cache.query([r.query for r in requests])  # all at once, since one by one takes longer
        alternatives = self.alternatives(requests, [e.history for e in examples])
        prompts = [[self.write(r, items) for items in a.items] for r, a in zip(requests, alternatives, strict=True)]
        useful = [i for i, row in enumerate(prompts) if len({p.messages for p in row}) > 1]
        with _bar(sum(len(prompts[i]) for i in useful)) as advance:
            scored = ScoreCache(self.backbone, folder.parent).score(
                [p for i in useful for p in prompts[i]],
                [examples[i].target for i in useful for _ in prompts[i]],
                advance,
            )
        rows = torch.tensor([s.logprob / s.tokens for s in scored]).split([len(prompts[i]) for i in useful])
        return [
            Lesson(
                requests[i].query,
                self.unit_query(requests[i]),
                alternatives[i].vectors,
                torch.softmax(row / self.config.temperature, -1),
            )
            for i, row in zip(useful, rows, strict=True)
        ]

    @override
    def tensors(self) -> dict[str, Tensor]:
        return dict(self.student.state_dict())

    @override
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take trained tensors.

        Raises:
            MismatchError: they are of another shape.
        """
        try:
            self.student.load_state_dict(dict(tensors))
        except RuntimeError as error:
            cause = str(error).splitlines()[-1].strip()
            raise MismatchError(f"method {self.name!r}: the saved weights do not fit: {cause}") from None
        self._key = ""

    # -- per request, fast ----------------------------------------------------------------------------------------

    def unit_query(self, request: Request) -> Tensor:
        """The request's vector [e], of length 1.

        One request at a time, here and in all that follows: a rounding that depends on the batch could change an order.
        """
        return F.normalize(torch.as_tensor(self.cache.query([request.query])), dim=-1)[0]

    def unit_vectors(self, behaviors: Sequence[Behavior]) -> Tensor:
        """The behaviours' vectors [n, e], each of length 1."""
        return F.normalize(torch.as_tensor(self.cache.embed(History("", tuple(behaviors)), self.template)), dim=-1)


class _Distilling(nn.Module):
    """The student with its lessons; its parameters are exactly those to train and save."""

    def __init__(self, student: Student, lessons: Sequence[Lesson]) -> None:
        super().__init__()
        self.student = student
        self.lessons = lessons

    def collate(self, samples: list[SampledExample]) -> dict[str, Any]:
        """A batch: texts, queries [b, e], vectors [b, c, f], target [b, c] and mask [b, c] (True: an alternative)."""
        picked = [self.lessons[d.index] for d in samples]
        return {
            "texts": [lesson.text for lesson in picked],
            "query": torch.stack([lesson.query for lesson in picked]),
            "vectors": pad_sequence([lesson.vectors for lesson in picked], batch_first=True),
            "target": pad_sequence([lesson.target for lesson in picked], batch_first=True),
            "mask": pad_sequence([torch.ones(len(lesson.target)).bool() for lesson in picked], batch_first=True),
        }

    def forward(self, texts: list[str], query: Tensor, vectors: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """KL(p || q) of each request [b], in nats."""
        logits = self.student(texts, query, vectors)
        # A finite floor, not -inf: 0 times infinity is not a number.
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        return F.kl_div(torch.log_softmax(logits, -1), target, reduction="none").sum(-1)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; yields what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = ("scoring alternatives", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not total) as bar:
        task = bar.add_task("", total=total)
        yield lambda n: bar.advance(task, n)
