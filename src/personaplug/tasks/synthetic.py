"""Made-up users whose hidden taste alone decides the answer: a tiny offline task that only a personal method solves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, Example, History, Sampling, Split
from personaplug.tasks.base import Task, TaskInfo

_TOPICS = (
    "drink", "food", "sport", "music", "film", "book", "colour", "season", "pet", "city",
    "game", "flower", "fruit", "tree", "day", "hobby", "dance", "room", "coat", "song",
)  # fmt: skip
_ANSWERS = (
    "amber", "birch", "coral", "delta", "ember", "fjord", "glade", "hazel", "indigo", "jade",
    "kelp", "lotus", "maple", "nectar", "opal", "pearl", "quartz", "raven", "slate", "topaz",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SyntheticConfig:
    """How many users and how hard.

    Attributes:
        kind: `static`: a user has one favourite, whatever the topic, so that a plain mean of the history tells it;
            `topic`: one favourite a topic, so that the request must pick the right part of the history.
        users: of all splits together; users in dev and test are in no other split.
        behaviors: of each user, before any request; at least `topics`, so that each topic has been seen.
        requests: of each user.
        topics: 1 to 20.
        options: 2 to 20.
        test: share of the users, in (0, 1).
        dev: likewise.
        seed: equal seeds give equal tasks.
    """

    kind: Literal["static", "topic"] = "static"
    users: int = 240
    behaviors: int = 8
    requests: int = 2
    topics: int = 6
    options: int = 4
    test: float = 0.25
    dev: float = 0.1
    seed: int = 0


class Synthetic(Task):
    """A behaviour is a topic and the user's favourite; a request asks for a topic that the history has shown."""

    Config: ClassVar[type[Any]] = SyntheticConfig
    summary: ClassVar[str] = "made-up users with hidden tastes; offline, seconds: tells whether a method is personal"
    source: ClassVar[str] = "personaplug"

    def __init__(self, config: SyntheticConfig) -> None:
        _check(config)
        self.config = config
        self.info = TaskInfo(
            name=f"synthetic-{config.kind}",
            kind="choice",
            options=_ANSWERS[: config.options],
            metrics=("accuracy",),
            sampling=Sampling(max_tokens=4),
        )
        self._examples: dict[Split, list[Example]] = {"train": [], "dev": [], "test": []}
        self._histories: list[History] = []
        self._make(np.random.default_rng(config.seed))

    def vocabulary(self) -> list[str]:
        """Every word that a behaviour, a request or a target can hold."""
        return sorted(_TOPICS[: self.config.topics] + _ANSWERS[: self.config.options])

    def behaviors(self) -> Iterator[Behavior]:
        """The histories of all users."""
        for history in self._histories:
            yield from history

    def examples(self, split: Split) -> list[Example]:
        """The split's requests."""
        return self._examples[split]

    def _make(self, rng: np.random.Generator) -> None:
        c = self.config
        # Each split's users in turn have each option, so that no answer is the better guess anywhere.
        n_test, n_dev = round(c.users * c.test), round(c.users * c.dev)
        for split, n in (("train", c.users - n_test - n_dev), ("dev", n_dev), ("test", n_test)):
            for i in range(n):
                if c.kind == "static":
                    tastes = np.full(c.topics, i % c.options)  # [topics] -> option
                else:
                    tastes = rng.integers(0, c.options, c.topics)
                self._add(split, f"{split}-{i}", tastes.tolist(), rng)  # type: ignore[arg-type]

    def _add(self, split: Split, user: str, tastes: list[int], rng: np.random.Generator) -> None:
        c = self.config
        shown = rng.permutation(np.arange(c.behaviors) % c.topics).tolist()
        history = History(
            user,
            tuple(
                Behavior(user, f"{user}-{at}", _TOPICS[topic], _ANSWERS[tastes[topic]], at=float(at))
                for at, topic in enumerate(shown)
            ),
        )
        self._histories.append(history)
        for k, topic in enumerate(rng.permutation(c.topics)[: c.requests].tolist()):
            self._examples[split].append(
                Example(
                    id=f"{user}/{k}",
                    request=self.info.request(user, _TOPICS[topic], at=float(c.behaviors)),
                    history=history,
                    target=_ANSWERS[tastes[topic]],
                    options=self.info.options,
                )
            )


def _check(config: SyntheticConfig) -> None:
    bounds = {
        "topics": (1, len(_TOPICS)),
        "options": (2, len(_ANSWERS)),
        "behaviors": (config.topics, 10_000),
        "requests": (1, config.topics),
        "users": (3, 1_000_000),
    }
    for key, (low, high) in bounds.items():
        value = getattr(config, key)
        if not low <= value <= high:
            raise ConfigError(f"task 'synthetic': {key} = {value}; expected {low} to {high}")
    if min(config.test, config.dev) <= 0.0 or config.test + config.dev >= 1.0:
        raise ConfigError(
            f"task 'synthetic': test = {config.test} and dev = {config.dev}; expected shares that leave some for train"
        )
