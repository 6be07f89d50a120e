"""The model's probabilities mixed with the user's own words: a rival that any personal method must beat on free text.

    P(token | before) = (1 - w) · model + w · user
    user = half their unigrams, half their bigrams where they wrote the token before, too

Shapes: s: tokens of an answer.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.backbones.local.base import InProcessBackbone
from personaplug.core.errors import ConfigError
from personaplug.core.sequences import evenly_spaced, token_batches
from personaplug.core.types import Example, History, Profile, Prompt, Request, Scored, State
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method
from personaplug.methods.closed import tensors_of
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult

if TYPE_CHECKING:
    import torch

_WEIGHTS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_FITTED_ON = 512  # development requests at most
_BEGINNING = -1  # in the place of the token before a text's first

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """How much the user's own words count.

    Attributes:
        weight: of the user's words, in [0, 1); below 0: the one that is best on the development requests.
    """

    weight: float = -1.0

    def __post_init__(self) -> None:
        if self.weight >= 1.0:
            raise ConfigError(f"cache: weight = {self.weight}; expected less than 1, or below 0 for chosen on dev")


class Cache(Method):
    """What the user wrote before makes the same words likelier; what is generated is the frozen model's own.

    Like a cache language model, with a user's whole history as the cache. It is measured by how likely the users' real
    answers are.
    """

    Config = CacheConfig
    needs_logits = True
    summary = "the model's token probabilities mixed with the user's own unigrams and bigrams; a rival by likelihood"
    source = "cache language models, Kuhn and De Mori 1990"
    trained = True
    tunes_on_dev = True
    config: CacheConfig

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self._weight = config.weight if config.weight >= 0 else 0.1

    @property
    @override
    def key(self) -> str:
        return f"{self.name}:{self.backbone.key}"

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Choose the weight that makes the development requests' answers likeliest."""
        del training, folder
        start = time.perf_counter()
        held = evenly_spaced(list(dev or train), _FITTED_ON)
        if held and self.config.weight < 0:
            profiles = [Profile(e.history) for e in held]
            prompts = [Prompt(e.request.messages) for e in held]
            parts = self._parts(profiles, prompts, [e.target for e in held])
            self._weight = min(_WEIGHTS, key=lambda w: sum(-_mixed(*p, w).mean() for p in parts))
        return TrainingResult(0, time.perf_counter() - start, ())

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return tensors_of({"weight": np.array([self._weight])})

    @override
    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._weight = float(tensors["weight"][0])

    @override
    def prepare(self, history: History) -> State | None:
        """The tokens of all that the user wrote, a mark before each text [n]."""
        texts = [b.output for b in history if b.output.strip()]
        ids = self._local().continuation_ids(texts) if texts else []
        return {"tokens": np.array([t for row in ids for t in (_BEGINNING, *row)], np.int32)}

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        del profile
        return Prompt(request.messages)

    @override
    def score_answers(
        self,
        requests: Sequence[Request],
        profiles: Sequence[Profile],
        prompts: Sequence[Prompt],
        answers: Sequence[str],
    ) -> list[Scored]:
        parts = self._parts(profiles, prompts, answers)
        return [Scored(float(_mixed(*p, self._weight).sum()), len(p[0])) for p in parts]

    def _parts(
        self, profiles: Sequence[Profile], prompts: Sequence[Prompt], answers: Sequence[str]
    ) -> list[tuple[Floats, Floats]]:
        """Of each answer's tokens, the log-probabilities by the model and the probabilities by the user's words [s]."""
        import torch

        backbone = self._local()
        ids = backbone.continuation_ids(answers)
        logs: list[Floats] = [np.zeros(0)] * len(ids)
        lengths = [backbone.left_length(p) + 8 * len(i) for p, i in zip(prompts, ids, strict=True)]
        for batch in token_batches(lengths, backbone.batch_tokens):
            with torch.no_grad():
                logprobs, _ = backbone.token_logprobs([prompts[i] for i in batch], [answers[i] for i in batch])
            for i, row in zip(batch, logprobs.cpu().double().numpy(), strict=True):
                logs[i] = row[: len(ids[i])]  # without the end-of-turn token
        users = {id(p): _Words(self._tokens(p)) for p in profiles}
        return [(log, users[id(p)].chances(own)) for log, p, own in zip(logs, profiles, ids, strict=True)]

    def _tokens(self, profile: Profile) -> list[int]:
        state = profile.state if profile.state is not None else self.prepare(profile.history)
        tokens: list[int] = [] if state is None else state["tokens"].tolist()
        return tokens

    def _local(self) -> InProcessBackbone:
        if not isinstance(self.backbone, InProcessBackbone):
            raise ConfigError(
                f"method 'cache' mixes token probabilities, which backbone {self.backbone.key!r} does not give; use a "
                "backbone in this process (causal, seq2seq)"
            )
        return self.backbone


class _Words:
    """A user's unigrams and bigrams."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._one = Counter(t for t in tokens if t != _BEGINNING)
        self._two = Counter(itertools.pairwise(tokens))
        self._before = Counter(a for a, b in itertools.pairwise(tokens) if b != _BEGINNING)
        self._total = sum(self._one.values())

    def chances(self, tokens: Sequence[int]) -> Floats:
        """Probability of each token after the one before it [s]; zeros of a user without texts."""
        chances = []
        for before, token in zip((_BEGINNING, *tokens), tokens, strict=False):
            one = self._one[token] / self._total if self._total else 0.0
            seen = self._before[before]
            chances.append(0.5 * one + 0.5 * self._two[before, token] / seen if seen else one)
        return np.array(chances)


def _mixed(model: Floats, user: Floats, weight: float) -> Floats:
    """Log-probabilities of the mixture [s]; the model's own where the user has no texts."""
    if not user.any() or weight <= 0:
        return model
    mixed: Floats = np.logaddexp(model + math.log1p(-weight), np.log(np.maximum(user, 1e-300)) + math.log(weight))
    return mixed
