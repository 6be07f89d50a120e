"""What every method does, on three clocks: fit once, prepare per user, personalize per request."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from personaplug.core.errors import ConfigError
from personaplug.core.registry import Section
from personaplug.core.types import (
    Attribution,
    Completion,
    Conditioning,
    Example,
    History,
    Profile,
    Prompt,
    Request,
    Sampling,
    Scored,
    State,
)

if TYPE_CHECKING:
    import torch

    from personaplug.backbones.base import Backbone
    from personaplug.encoders.cache.embeddings import VectorCache
    from personaplug.tasks.base import TaskInfo
    from personaplug.training.config import TrainingConfig, TrainingResult


class Method(ABC):
    """A way of personalizing. Built as `Method(config, backbone=..., vectors=...)`; the pair is checked when built.

    Args:
        config: the method's `Config`.
        backbone: the frozen model that its prompts are for.
        vectors: where vectors of behaviours come from; methods that need none ignore it.
        task: how requests and behaviours are put into words.
    """

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Conditioning] = Conditioning.TEXT
    trained: ClassVar[bool] = False  # whether `fit` learns something that `save` must keep
    personal: ClassVar[bool] = True  # whether prompts depend on who asks
    oracle: ClassVar[bool] = False  # whether it looks at the right answer: an upper bound that only the bench runs
    needs_preferences: ClassVar[bool] = False  # whether `fit` needs users who preferred an answer to another
    needs_logits: ClassVar[bool] = False  # whether it works on token probabilities, which remote models hide
    reranks: ClassVar[bool] = False  # whether it chooses among several answers, and not the backbone
    tunes_on_dev: ClassVar[bool] = False  # whether `fit` chooses something on the development requests
    slow_prepare: ClassVar[bool] = False  # whether `prepare` runs the language model: the bench stores such states

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        self.config = config
        self.backbone = backbone
        self.vectors = vectors
        self.task = task
        backbone.check(self.needs, f"method {self.name!r}")

    @property
    def name(self) -> str:
        """The name on the shelf."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @property
    def key(self) -> str:
        """Identity of what `prepare` makes: states of another key are never used."""
        return self.name

    @property
    def history_templates(self) -> tuple[str, ...]:
        """The templates of what its encoder sees of a behaviour; none if it looks at no vectors."""
        return ()

    @classmethod
    def needs_encoder(cls, config: Any) -> bool:
        """Whether a method of this configuration looks at vectors, and so needs an encoder."""
        del config
        return False

    @classmethod
    def control(cls, config: Any) -> Mapping[str, Any]:
        """The section of the method that learns the same without a user: the `task prompt` row of a table."""
        del config
        return {"name": "task_prompt"}

    def fit(
        self, train: Sequence[Example], dev: Sequence[Example], training: TrainingConfig, folder: Path
    ) -> TrainingResult | None:
        """Learn from many users, once; resumes from `folder` if an earlier fit was killed there."""
        del train, dev, training, folder
        return None

    def tensors(self) -> dict[str, torch.Tensor]:
        """What an artifact keeps of a trained method, by name."""
        return {}

    def weights_digest(self) -> str:
        """16 hex digits of what it learnt: states that other weights prepared are never used."""
        return digest_of(self.tensors())

    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the tensors of an artifact."""
        del tensors

    def prepare(self, history: History) -> State | None:
        """What to store of a user, or None."""
        del history
        return None

    def prepare_many(self, histories: Sequence[History]) -> list[State | None]:
        """`prepare` for several users; gives what each gives alone."""
        return [self.prepare(h) for h in histories]

    def extend(self, profile: Profile, added: History) -> State | None:
        """The state of a profile's history with newer behaviours after it, where that is cheaper than preparing anew.

        Args:
            profile: the history of before and its state.
            added: the same user's newer behaviours, at least one.

        Returns:
            What `prepare` would give; None, as by default, where it has to be asked.
        """
        del profile, added
        return None

    @abstractmethod
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        """What the backbone shall see for this request of this user; fast."""

    def personalize_many(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Prompt]:
        """`personalize` for a batch; gives what each gives alone."""
        return [self.personalize(r, p) for r, p in zip(requests, profiles, strict=True)]

    def with_unconditional(
        self, requests: Sequence[Request], prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[Prompt]:
        """The prompts with what the same requests give for nobody, where the persona's strength is not 1.

        Args:
            requests: what is asked.
            prompts: those that it made of these requests.
            sampling: how they will be decoded.

        Raises:
            MismatchError: the backbone cannot decode so.
        """
        self.backbone.check_sampling(sampling)
        if sampling.strength == 1.0 or not self.personal:
            return list(prompts)
        nobody = [dataclasses.replace(r, user=None) for r in requests]
        plain = self.personalize_many(nobody, [Profile(History(""))] * len(nobody))
        return [dataclasses.replace(p, unconditional=n) for p, n in zip(prompts, plain, strict=True)]

    def personalize_examples(self, examples: Sequence[Example], profiles: Sequence[Profile]) -> list[Prompt]:
        """What the bench calls: `personalize_many` of the examples' requests; only an oracle looks at their targets."""
        return self.personalize_many([e.request for e in examples], profiles)

    def answer_many(
        self, requests: Sequence[Request], profiles: Sequence[Profile], prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[Completion]:
        """Answers to the prompts that it made of these requests: the backbone's, unless it chooses among several.

        Where a prompt names answers by its bias, the likeliest of these is the answer.
        """
        free = [i for i, p in enumerate(prompts) if not p.bias]
        answers = dict(zip(free, self.backbone.generate([prompts[i] for i in free], sampling), strict=True))
        named = [i for i in range(len(prompts)) if i not in answers]
        asked = [requests[i] for i in named], [profiles[i] for i in named], [prompts[i] for i in named]
        scored = self.score_options(*asked, [tuple(prompts[i].bias) for i in named]) if named else []
        for i, own in zip(named, scored, strict=True):
            best = max(zip(prompts[i].bias, own, strict=True), key=lambda pair: pair[1].logprob)[0]
            answers[i] = self.backbone.counted(prompts[i], sampling, best)
        return [answers[i] for i in range(len(prompts))]

    def score_answers(
        self,
        requests: Sequence[Request],
        profiles: Sequence[Profile],
        prompts: Sequence[Prompt],
        answers: Sequence[str],
    ) -> list[Scored]:
        """How likely one answer to each request is: the backbone's word and the prompt's bias, unless it knows better.

        Args:
            requests: what is asked.
            profiles: of who asks.
            prompts: those that it made of these requests.
            answers: one a request.
        """
        del requests, profiles
        scored = self.backbone.score(prompts, answers)
        biases = [p.bias.get(a, 0.0) for p, a in zip(prompts, answers, strict=True)]
        return [Scored(s.logprob + bias, s.tokens) if bias else s for s, bias in zip(scored, biases, strict=True)]

    def score_options(
        self,
        requests: Sequence[Request],
        profiles: Sequence[Profile],
        prompts: Sequence[Prompt],
        options: Sequence[Sequence[str]],
    ) -> list[list[Scored]]:
        """How likely each request's options are, each request with its own: `score_answers` of each, unless it chooses.

        Args:
            requests: what is asked.
            profiles: of who asks.
            prompts: those that it made of these requests.
            options: what is chosen from.
        """
        # The options of a request share one Prompt object: the backbone runs it once.
        at = [i for i, own in enumerate(options) for _ in own]
        asked = [requests[i] for i in at], [profiles[i] for i in at], [prompts[i] for i in at]
        scored = iter(self.score_answers(*asked, [option for own in options for option in own]))
        return [[next(scored) for _ in own] for own in options]

    def stream(self, request: Request, profile: Profile, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        """Pieces of the same answer, as they come."""
        if prompt.bias:
            return iter([self.answer_many([request], [profile], [prompt], sampling)[0].text])
        return self.backbone.stream(prompt, sampling)

    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        """Which behaviours carried the persona for this request, heaviest first; empty if none did."""
        del request, profile
        return []

    def needed_vectors(self) -> VectorCache:
        """The vectors that it was built with.

        Raises:
            ConfigError: it was built without any.
        """
        if self.vectors is None:
            raise ConfigError(f"method {self.name!r} needs an encoder; name one under [encoder]")
        return self.vectors


class OnTopOfText(Method):
    """A method on top of a text method: that one writes the messages, this one adds to them.

    `config.text` is the section of the text method, for example `text = {name = "bm25", k = 1}`; empty is none.
    """

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self.text = build_text(config.text, self.name, backbone=backbone, vectors=vectors, task=task)

    def text_requests(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[Request]:
        """The requests with the text method's messages."""
        if self.text is None:
            return list(requests)
        inner = [Profile(p.history, part_of_state(p.state, _TEXT)) for p in profiles]
        prompts = self.text.personalize_many(requests, inner)
        return [dataclasses.replace(r, messages=p.messages) for r, p in zip(requests, prompts, strict=True)]

    def with_text_states(self, own: Sequence[State | None], histories: Sequence[History]) -> list[State | None]:
        """Its own states joined with the text method's, whose arrays' names begin with `text.`."""
        if self.text is None:
            return list(own)
        inner = self.text.prepare_many(histories)
        joined = [{**(a or {}), **(joined_states({_TEXT: b}) or {})} for a, b in zip(own, inner, strict=True)]
        return [state or None for state in joined]

    @property
    def text_key(self) -> str:
        """The text method's part of the key."""
        return f"+{self.text.key}" if self.text else ""


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """16 hex digits of named tensors."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def build_text(section: Mapping[str, Any], what: str, **parts: Any) -> Method | None:
    """The text method of a section, or None of an empty one.

    Raises:
        ConfigError: the section has no name, or names a method that is not made of text alone.
    """
    if not section:
        return None
    name = section.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"method {what!r}: text has no name; for example text = {{name = 'bm25', k = 1}}")
    method: Method = Section.parse("method", section).build(**parts)
    if method.needs != Conditioning.TEXT or method.oracle or method.trained:
        raise ConfigError(f"method {what!r}: text = {name!r}; expected one that only writes text: bm25, recent, ...")
    return method


def text_needs_encoder(section: Mapping[str, Any]) -> bool:
    """Whether the text method of a section looks at vectors."""
    if not section:
        return False
    text = Section.parse("method", section)
    return bool(text.cls.needs_encoder(text.config))


def joined_states(parts: Mapping[str, State | None]) -> State | None:
    """Several methods' states as one: the names of a part's arrays begin with its name and a dot."""
    return {f"{name}.{k}": v for name, state in parts.items() for k, v in (state or {}).items()} or None


def part_of_state(state: State | None, name: str) -> State | None:
    """One method's state out of several joined ones."""
    prefix = f"{name}."
    return {k.removeprefix(prefix): v for k, v in (state or {}).items() if k.startswith(prefix)} or None


_TEXT = "text"
