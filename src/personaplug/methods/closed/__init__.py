"""What methods share that answer a closed set of options from labels and vectors, without a language model.

Shapes: b: requests, o: options.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from personaplug.core.types import Completion, Example, Profile, Prompt, Request, Sampling, Scored
from personaplug.methods.base import Method
from personaplug.methods.closed.counts import Floats, nats, right_labels

if TYPE_CHECKING:
    import torch


class ClosedMethod(Method):
    """A rival: it knows labels, counts and vectors, and nothing of language.

    Where the task has options it answers with the likeliest of them (of a multilabel task, with the labels that are
    likelier than not); where each request brings its own texts, it says which of these is likeliest. Free text is the
    frozen model's own.
    """

    trained = True
    tunes_on_dev = True
    reranks = True

    @abstractmethod
    def chances(
        self, requests: Sequence[Request], profiles: Sequence[Profile], options: Sequence[Sequence[str]]
    ) -> list[Floats]:
        """The chance [o] of each request's options: of one right answer they add up to 1, of labels each is its own."""

    @property
    def options(self) -> tuple[str, ...]:
        """The task's closed set; () where there is none, or where each request brings its own texts."""
        return self.task.options if self.task else ()

    @property
    def multilabel(self) -> bool:
        """Whether an answer names several options."""
        return self.task is not None and self.task.kind == "multilabel"

    def closed(self, examples: Sequence[Example]) -> list[Example]:
        """The examples that have options: of free text nothing is learnt."""
        return [e for e in examples if e.options or self.options]

    def mean_nats(self, examples: Sequence[Example], chances: Sequence[Floats]) -> float:
        """Mean nats of the examples' right answers: what hyperparameters are chosen by."""
        each = [
            nats(p, right_labels(e.target, e.options or self.options), multilabel=self.multilabel)
            for e, p in zip(examples, chances, strict=True)
        ]
        return float(np.mean(each))

    # -- a request ----------------------------------------------------------------------------------------------------

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        del profile
        return Prompt(request.messages)

    @override
    def score_options(
        self,
        requests: Sequence[Request],
        profiles: Sequence[Profile],
        prompts: Sequence[Prompt],
        options: Sequence[Sequence[str]],
    ) -> list[list[Scored]]:
        all_chances = self.chances(requests, profiles, options)
        return [[Scored(float(x), 1) for x in np.log(p).round(9)] for p in all_chances]

    @override
    def score_answers(
        self,
        requests: Sequence[Request],
        profiles: Sequence[Profile],
        prompts: Sequence[Prompt],
        answers: Sequence[str],
    ) -> list[Scored]:
        """The chance of an answer that the options spell; its tokens are the backbone's: nats a token compare."""
        if not self.options:
            return super().score_answers(requests, profiles, prompts, answers)
        all_chances = self.chances(requests, profiles, [self.options] * len(requests))
        scored = []
        for answer, p in zip(answers, all_chances, strict=True):
            named = right_labels(answer, self.options)
            scored.append(Scored(-nats(p, named, multilabel=self.multilabel), max(self.backbone.count(answer), 1)))
        return scored

    @override
    def answer_many(
        self, requests: Sequence[Request], profiles: Sequence[Profile], prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[Completion]:
        if not self.options:
            return super().answer_many(requests, profiles, prompts, sampling)
        all_chances = self.chances(requests, profiles, [self.options] * len(requests))
        return [self._answer(prompt, p) for prompt, p in zip(prompts, all_chances, strict=True)]

    @override
    def stream(self, request: Request, profile: Profile, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        if not self.options:
            yield from super().stream(request, profile, prompt, sampling)
            return
        [answer] = self.answer_many([request], [profile], [prompt], sampling)
        yield answer.text

    def _answer(self, prompt: Prompt, chances: Floats) -> Completion:
        named = [int(i) for i in np.flatnonzero(chances > 0.5)] if self.multilabel else []
        text = ", ".join(self.options[i] for i in named or [int(chances.argmax())])
        read = sum(self.backbone.count(m.content) for m in prompt.messages)
        return Completion(text, tuple(range(self.backbone.count(text))), read, "stop")


def tensors_of(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Arrays as tensors of an artifact."""
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
