"""A few reward directions that all users share, a user's weights on them, and the best of several answers by these.

    worth of answer y to prompt x = w_u · V f(x, y),   V [r, e]: learned from all users,   w_u [r]: from a user's pairs

f is the frozen encoder's vector of an answer, standardised. Shapes: n: pairs, c: candidates, r: rank, e: features.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.errors import ConfigError, DataError
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import (
    Attribution,
    Behavior,
    Completion,
    Example,
    History,
    Profile,
    Prompt,
    Request,
    Sampling,
    Scored,
    State,
)
from personaplug.data.feedback import answers_of, preference
from personaplug.encoders.cache.embeddings import VectorCache, behavior_text
from personaplug.methods.base import OnTopOfText, text_needs_encoder
from personaplug.methods.preference.bradley_terry import Belief, next_pair, updated
from personaplug.methods.preference.directions import learn
from personaplug.methods.preference.people import longest
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig, TrainingResult

if TYPE_CHECKING:
    import torch


Floats = NDArray[np.float64]

_CROSSED = 64  # pairs made of a user's thumbs at most


@dataclass(frozen=True, slots=True)
class LowRankConfig:
    """How many directions, how they are learned, and among how many answers is chosen.

    Attributes:
        rank: directions.
        user_decay: weight decay of the training users' weights.
        basis_decay: weight decay of the directions, per pair: with more users they are decayed as much.
        steps: of L-BFGS at most.
        candidates: answers that one is chosen of; 1: the model's own answer, as it is.
        answer_text: template of what the encoder sees of an answer: its `output`, or with the prompt, its `input`.
        temperature: candidates after the first are sampled at this, or at the task's own if that is higher.
        text: section of a method that writes the prompt, for example {name = "icl"}; {}: the request as it is.
    """

    rank: int = 12
    user_decay: float = 1.0
    basis_decay: float = 0.01
    steps: int = 300
    candidates: int = 8
    answer_text: str = "{output}"
    temperature: float = 1.0
    text: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.rank, self.steps, self.candidates) < 1 or min(self.user_decay, self.basis_decay) <= 0:
            raise ConfigError(
                f"lowrank: rank = {self.rank}, steps = {self.steps}, candidates = {self.candidates}, decays "
                f"{self.user_decay} and {self.basis_decay}; expected 1 or more, and decays above 0"
            )
        if self.temperature <= 0:
            raise ConfigError(f"lowrank: temperature = {self.temperature}; without one all candidates are equal")


class LowRank(OnTopOfText):
    """Re-ranks: the prompt is the request's own or a text method's, and of several answers the user gets the best.

    Where a request has options, it chooses among them, by the same chances that it was fitted by (Bradley-Terry's, for
    several options Luce's).

    Fitting a user is convex and takes about a millisecond. A user without pairs has the mean user's weights, and
    without training there are no directions: the first candidate, the model's own answer, is taken. Contradictory pairs
    cancel out. A streamed answer comes in one piece, since it must be whole to be judged.
    """

    Config = LowRankConfig
    summary = "the best of several answers by a few shared reward directions and the user's weights on them"
    source = "LoRe, arXiv 2504.14439; PReF, arXiv 2503.06358"
    trained = True
    needs_preferences = True
    reranks = True
    config: LowRankConfig

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        width = self.needed_vectors().width
        self._basis: Floats = np.zeros((0, width))  # [r, e], of unstandardised features
        self._prior = Belief(np.zeros(0), np.zeros((0, 0)))

    @classmethod
    @override
    def needs_encoder(cls, config: Any) -> bool:
        text_needs_encoder(config.text)  # says what is wrong in it
        return True

    @property
    @override
    def key(self) -> str:
        seen = f"{self.config.answer_text}:{self.needed_vectors().encoder.key}"
        return f"{self.name}:{self.weights_digest()}:{seen}{self.text_key}"

    @property
    @override
    def history_templates(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.config.answer_text, *(self.text.history_templates if self.text else ()))))

    # -- once ---------------------------------------------------------------------------------------------------------

    @override
    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult:
        """Learn the directions from the longest history of each training user.

        Raises:
            DataError: none of them prefers anything to anything.
        """
        del dev, training, folder
        start = time.perf_counter()
        histories = longest(e.history for e in train)
        vectors = self.needed_vectors()
        for side in ("liked", "disliked"):
            vectors.precompute(answers_of((b for h in histories for b in h), side), self.config.answer_text)
        differences = [pairs for h in histories if len(pairs := self._differences(h))]
        if not differences:
            raise DataError("lowrank: no training user prefers an answer to another; give the task feedback in pairs")
        owners = np.repeat(np.arange(len(differences)), [len(p) for p in differences])
        pairs = np.concatenate(differences)
        scale = np.sqrt((pairs**2).mean(axis=0))
        scale = np.where(scale > 1e-6 * scale.max(), scale, np.inf)  # a feature that never differs says nothing
        decays = (self.config.user_decay, self.config.basis_decay * len(pairs))
        learned = learn(pairs / scale, owners, self.config.rank, decays, self.config.steps)
        self._basis, self._prior = learned.basis / scale, learned.prior
        return TrainingResult(learned.steps, time.perf_counter() - start, ())

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        import torch

        arrays = {"basis": self._basis, "mean": self._prior.mean, "covariance": self._prior.covariance}
        return {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}

    @override
    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        arrays = {k: v.cpu().double().numpy() for k, v in tensors.items()}
        self._basis, self._prior = arrays["basis"], Belief(arrays["mean"], arrays["covariance"])

    # -- a user -------------------------------------------------------------------------------------------------------

    @override
    def prepare(self, history: History) -> State | None:
        return self.prepare_many([history])[0]

    @override
    def prepare_many(self, histories: Sequence[History]) -> list[State | None]:
        """What is believed of each user's weights: mean [r] and covariance [r, r]."""
        beliefs = [updated(self._prior, self._differences(h) @ self._basis.T) for h in histories]
        own: list[State] = [{"mean": b.mean, "covariance": b.covariance} for b in beliefs]
        return self.with_text_states(own, histories)

    @property
    def prior(self) -> Belief:
        """What is believed of a user of whom nothing is known."""
        return self._prior

    def belief(self, profile: Profile) -> Belief:
        """What is believed of the user's weights."""
        state = profile.state or self.prepare(profile.history) or {}
        return Belief(state["mean"].astype(np.float64), state["covariance"].astype(np.float64))

    def worth(self, profile: Profile, prompt: str, answers: Sequence[str]) -> Floats:
        """What each of c answers to a prompt is worth to the user [c], up to a constant of the prompt."""
        return np.asarray(self.along(prompt, answers) @ self.belief(profile).mean)

    def ask(self, profile: Profile, prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> tuple[int, int, int]:
        """Which two answers to which prompt to show the user next: what they say of these teaches most of all of them.

        Args:
            profile: of the user.
            prompts: what could be asked about.
            answers: several to each.

        Returns:
            Index of the prompt and of its two answers.

        Raises:
            ValueError: no prompt has two answers.
        """
        places = [(p, i, j) for p, own in enumerate(answers) for i in range(len(own)) for j in range(i)]
        along = [self.along(prompt, own) for prompt, own in zip(prompts, answers, strict=True)]
        differences = [along[p][i] - along[p][j] for p, i, j in places]
        return places[next_pair(self.belief(profile), np.array(differences))]

    def along(self, prompt: str, answers: Sequence[str]) -> Floats:
        """Answers to a prompt along the directions [c, r]."""
        texts = [behavior_text(Behavior("nobody", "1", prompt or " ", a), self.config.answer_text) for a in answers]
        return np.asarray(self.needed_vectors().query(texts, "history").astype(np.float64) @ self._basis.T)

    def _differences(self, history: History) -> Floats:
        """Preferred answer less the other, for each pair [n, e]; thumbs up and down make pairs with each other."""
        pairs = _pairs(history)
        if not pairs:
            return np.zeros((0, self._basis.shape[1]))
        sides = (History(history.user, tuple(side)) for side in zip(*pairs, strict=True))
        liked, disliked = (
            self.needed_vectors().embed(side, self.config.answer_text).astype(np.float64) for side in sides
        )
        return np.asarray(liked - disliked)

    # -- a request ----------------------------------------------------------------------------------------------------

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return self.personalize_many([request], [profile])[0]

    @override
    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        return [Prompt(r.messages) for r in self.text_requests(requests, profiles)]

    @override
    def answer_many(
        self, requests: Sequence[Request], profiles: Sequence[Profile], prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[Completion]:
        others = self._draws(sampling) if len(self._basis) else ()
        drawn = self.backbone.draw(prompts, [sampling, *others])
        answers = []
        for request, profile, candidates in zip(requests, profiles, zip(*drawn, strict=True), strict=True):
            worth = self.worth(profile, request.query, [c.text.strip() for c in candidates])
            answers.append(candidates[int(worth.round(9).argmax())])
        return answers

    @override
    def score_options(
        self,
        requests: Sequence[Request],
        profiles: Sequence[Profile],
        prompts: Sequence[Prompt],
        options: Sequence[Sequence[str]],
    ) -> list[list[Scored]]:
        """The log of each option's chance to be the one that the user prefers: no language model is asked.

        Untrained, there are no directions, and the model's own likelihoods stand.
        """
        if not len(self._basis):
            return super().score_options(requests, profiles, prompts, options)
        scored = []
        for request, profile, own in zip(requests, profiles, options, strict=True):
            worth = self.worth(profile, request.query, own)
            chances = worth - np.logaddexp.reduce(worth)
            scored.append([Scored(float(c), 1) for c in chances.round(9)])
        return scored

    def _draws(self, sampling: Sampling) -> Iterator[Sampling]:
        """How the candidates after the first are sampled."""
        temperature = max(sampling.temperature, self.config.temperature)
        for n in range(1, self.config.candidates):
            yield dataclasses.replace(sampling, temperature=temperature, seed=(sampling.seed or 0) + n)

    @override
    def stream(self, request: Request, profile: Profile, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        [answer] = self.answer_many([request], [profile], [prompt], sampling)
        yield answer.text

    @override
    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        """The behaviours that the text method wrote; the weights are of all of them."""
        inner = Profile(profile.history)
        return self.text.explain(request, inner) if self.text else []


def _pairs(history: History) -> list[tuple[Behavior, Behavior]]:
    """(liked, disliked) answers as behaviours' outputs."""
    compared = [b for b in history if preference(b).pair]
    direct = list(zip(answers_of(compared, "liked"), answers_of(compared, "disliked"), strict=True))
    single = [b for b in history if not preference(b).pair and b.rating is not None]
    ups, downs = answers_of(single, "liked"), answers_of(single, "disliked")
    return direct + evenly_spaced([(up, down) for up in ups for down in downs], _CROSSED)
