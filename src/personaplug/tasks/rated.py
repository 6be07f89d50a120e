"""Texts that real people rated: which of several would this user like?"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast
from urllib.parse import quote

from typing_extensions import override

from personaplug.core.errors import ConfigError, DataError, did_you_mean
from personaplug.core.types import Behavior, Example, History, Message, Request, Sampling, Split
from personaplug.data.feedback import pair_behavior
from personaplug.tasks.base import JudgedTask, TaskInfo, Wording
from personaplug.tasks.jsonl import PROFILES, Jsonl, JsonlConfig, Timeline
from personaplug.tasks.splits import drawn_users, held_out, limited


@dataclass(frozen=True, slots=True)
class RatedConfig:
    """Whose ratings of what, and how they become pairs and requests.

    Attributes:
        path: as in the task `jsonl`: one behaviour a line, its input a text that the user rated.
        name: the task's name; by default the folder's or file's.
        liked: outputs that say that the user liked the text, for example ["yes"]; by default `rating` says how much.
        disliked: outputs that say the contrary; with `liked`, by default all others.
        question: what the user is said to be asked, the same each time.
        options: texts to choose among, of which the user rated one above all others.
        max_words: a text's first so many are what is shown and scored.
        by_text: some texts are held out: dev and test ask of these alone, and nobody's history has one.
        split: `time`: each user's newest texts are the test; `user`: users in test are seen in no other split.
        test: share of test, in [0, 1): of a user's texts, or of the users.
        dev: likewise, just before the test.
        min_history: a request with fewer pairs before its oldest text is none.
        max_history: at most so many pairs, the newest.
        requests_per_user: at most so many train requests a user, evenly over time; 0 is no limit.
        eval_requests_per_user: at most so many dev and test requests a user (of each), the newest; 0 is no limit.
        max_users: at most so many users, drawn by `seed`; 0 is no limit.
        max_behaviors: only each user's newest so many texts are used at all; 0 is no limit.
        seed: of every draw.
    """

    path: Path
    name: str = ""
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    question: str = "Which of these would this user like?"
    options: int = 4
    max_words: int = 24
    by_text: bool = False
    split: Literal["time", "user"] = "time"
    test: float = 0.2
    dev: float = 0.1
    min_history: int = 1
    max_history: int = 64
    requests_per_user: int = 0
    eval_requests_per_user: int = 0
    max_users: int = 0
    max_behaviors: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.options < 2 or min(self.max_words, self.max_history) < 1 or self.min_history < 0:
            raise ConfigError(
                f"task 'rated': options = {self.options}, max_words = {self.max_words}, max_history = "
                f"{self.max_history}, min_history = {self.min_history}; expected at least 2, 1, 1 and 0"
            )
        if min(self.requests_per_user, self.eval_requests_per_user) < 0:
            raise ConfigError("task 'rated': requests_per_user and eval_requests_per_user are 0 (no limit) or more")
        if self.disliked and not self.liked:
            raise ConfigError("task 'rated': disliked is set and liked is not; say which outputs are liked, too")


@dataclass(frozen=True, slots=True)
class _Rating:
    """What a user said of a text: `level` is what pairs and right answers go by, `worth` what an answer is worth."""

    id: str
    text: str
    level: float
    worth: float
    at: float
    split: Split


@dataclass(frozen=True, slots=True)
class _Person:
    """A user's ratings, oldest first, and the pairs among them."""

    user: str
    ratings: tuple[_Rating, ...]
    pairs: tuple[Behavior, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Texts that a user may be asked to choose among; the first is the one that they rated highest."""

    person: _Person
    ratings: tuple[_Rating, ...]

    @property
    def at(self) -> float:
        """When the user met the first of them: nothing later is known of the user."""
        return min(r.at for r in self.ratings)


class Rated(JudgedTask):
    """Histories are pairs of texts, the better and the worse rated one; a request's options are later texts.

    The prompt says nothing of the options: each is scored as an answer. A request's query, which encoders and rankers
    look at, is the options' texts. A user's first word on a text counts; a text stands in one pair at most, and no pair
    has a text that is not older than the request's.
    """

    Config: ClassVar[type[Any]] = RatedConfig
    summary: ClassVar[str] = "real people: which of several texts they rated highest, from pairs of texts before"
    source: ClassVar[str] = "personaplug, docs/personalllm.md"

    def __init__(self, config: RatedConfig) -> None:
        self.config = config
        self._jsonl = Jsonl(
            JsonlConfig(
                config.path, config.name, split=config.split, test=config.test, dev=config.dev,
                max_users=config.max_users, max_behaviors=config.max_behaviors, seed=config.seed,
            )
        )  # fmt: skip
        self.info = TaskInfo(
            name=self._jsonl.info.name,
            kind="choice",
            metrics=("accuracy",),
            history_text="{output}",
            sampling=Sampling(max_tokens=4 * config.max_words),
            wording=Wording(profile=PROFILES["choice"]),
            split=config.split,
        )
        self._read: tuple[list[_Person], frozenset[str]] | None = None
        self._examples: dict[Split, list[Example]] | None = None
        self._worths: dict[str, Mapping[str, float]] = {}  # example -> option -> how the user rated it

    @override
    def behaviors(self) -> Iterator[Behavior]:
        for person in self._people()[0]:
            yield from person.pairs

    @override
    def examples(self, split: Split) -> list[Example]:
        """The split's requests, user by user, oldest first.

        Raises:
            DataError: a line is malformed, nothing is rated, or nobody rated enough texts for a request.
        """
        if self._examples is None:
            people, held = self._people()
            limits = self.config.requests_per_user, self.config.eval_requests_per_user
            asked = [a for person in people for a in self._asked(person, held)]
            if not asked:
                raise DataError(
                    f"{self.config.path}: nobody rated one of {self.config.options} texts above the others after "
                    f"{self.config.min_history} pairs; lower options or min_history"
                )
            examples: dict[Split, list[Example]] = {"train": [], "dev": [], "test": []}
            for one in limited(asked, lambda a: (a.person.user, a.ratings[0].split), *limits):
                examples[one.ratings[0].split].append(self._example(one))
            self._examples = examples
        return self._examples[split]

    @override
    def judge(self, examples: Sequence[Example], answers: Sequence[str]) -> Mapping[str, tuple[float, ...]]:
        """`user_rating`, and `chance_to_best`, where that stands between a drawn option and the user's best one.

        Args:
            examples: of this task.
            answers: one of its options each.

        Raises:
            DataError: an answer is none of its request's options.
        """
        ratings, shares = [], []
        for example, answer in zip(examples, answers, strict=True):
            worths = self._worths[example.id]
            if answer not in worths:
                raise DataError(f"request {example.id!r}: the answer {answer[:60]!r} is none of its options")
            chance, best = sum(worths.values()) / len(worths), max(worths.values())
            ratings.append(worths[answer])
            shares.append((worths[answer] - chance) / (best - chance) if best > chance else 1.0)
        return {"user_rating": tuple(ratings), "chance_to_best": tuple(shares)}

    # -- reading ------------------------------------------------------------------------------------------------------

    def _people(self) -> tuple[list[_Person], frozenset[str]]:
        """Who rated something, and the texts that are held out."""
        if self._read is None:
            timelines = self._jsonl.timelines()
            self._check_outputs(b.output.strip() for t in timelines for b in t.behaviors)
            by_user = {t.user: ratings for t in timelines if (ratings := tuple(self._ratings(t)))}
            if not by_user:
                raise DataError(
                    f"{self.config.path}: no behaviour has an input and a rating; say which outputs are liked "
                    '(for example liked = ["yes"])'
                )
            users = drawn_users(by_user, self.config.max_users, self.config.seed)
            by_user = {user: ratings for user, ratings in by_user.items() if user in users}
            texts = ((r.text, r.split) for ratings in by_user.values() for r in ratings)
            held = held_out(texts, self.config.seed) if self.config.by_text else frozenset()
            people = [
                _Person(user, ratings, tuple(self._pairs(user, [r for r in ratings if r.text not in held])))
                for user, ratings in by_user.items()
            ]
            self._read = people, held
        return self._read

    def _check_outputs(self, outputs: Iterable[str]) -> None:
        known = set(outputs)
        for name in (*self.config.liked, *self.config.disliked):
            if name not in known:
                some = sorted(known)[:20]
                raise ConfigError(
                    f"{self.config.path}: no output is {name!r} (liked, disliked); {did_you_mean(name, some)}"
                )

    def _ratings(self, timeline: Timeline) -> Iterator[_Rating]:
        """The user's first word on each text."""
        seen: set[str] = set()
        for behavior, split in zip(timeline.behaviors, timeline.splits, strict=True):
            text = " ".join(behavior.input.split()[: self.config.max_words])
            level = self._level(behavior)
            if text and level is not None and text not in seen:
                seen.add(text)
                worth = level if behavior.rating is None else behavior.rating
                yield _Rating(behavior.id, text, level, worth, cast("float", behavior.at), split)

    def _level(self, behavior: Behavior) -> float | None:
        config, output = self.config, behavior.output.strip()
        if not config.liked:
            return behavior.rating
        if output in config.liked:
            return 1.0
        return 0.0 if not config.disliked or output in config.disliked else None

    def _pairs(self, user: str, ratings: Iterable[_Rating]) -> Iterator[Behavior]:
        """Each text beside the oldest single one of another rating, dated as the later of the two."""
        single: list[_Rating] = []  # all of the same rating: of two that differ, the later meets the earlier here
        for rating in ratings:
            if not single or single[0].level == rating.level:
                single.append(rating)
                continue
            other = single.pop(0)
            best, worst = (rating, other) if rating.level > other.level else (other, rating)
            said = self.config.question, best.text, worst.text
            # By content: a store that holds the ratings themselves, or pairs cut to other lengths, takes these too.
            id_ = hashlib.blake2b("\0".join([*said, str(rating.at)]).encode(), digest_size=10).hexdigest()
            yield pair_behavior(user, f"pair-{id_}", *said, rating.at)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _asked(self, person: _Person, held: frozenset[str]) -> Iterator[_Asked]:
        """The user's requests in all splits, each text in one of them at most."""
        ats = [cast("float", b.at) for b in person.pairs]
        for split in ("train", "dev", "test"):
            fit = [
                r
                for r in person.ratings
                if r.split == split and (not self.config.by_text or (r.text in held) == (split != "train"))
            ]
            groups = (_Asked(person, group) for group in _groups(fit, self.config.options))
            enough = (a for a in groups if bisect_left(ats, a.at) >= self.config.min_history)
            yield from sorted(enough, key=lambda a: a.at)

    def _example(self, asked: _Asked) -> Example:
        person, config, best = asked.person, self.config, asked.ratings[0]
        end = bisect_left([cast("float", b.at) for b in person.pairs], asked.at)
        id_ = f"{quote(person.user, safe=' @:+')}/{best.id}"
        worths = {r.text: r.worth for r in asked.ratings}
        options = sorted(worths)
        random.Random(f"{config.seed} {id_}").shuffle(options)
        self._worths[id_] = worths
        return Example(
            id=id_,
            request=Request(person.user, (Message("user", config.question),), "\n".join(options), asked.at),
            history=History(person.user, person.pairs[max(0, end - config.max_history) : end]),
            target=best.text,
            options=tuple(options),
            disliked=asked.ratings[-1].text,
        )


def _groups(ratings: Iterable[_Rating], size: int) -> Iterator[tuple[_Rating, ...]]:
    """Disjoint groups of texts, of which the first is rated above all others.

    The newest that fit make a group: the nearer in time its texts are, the more is known of the user before them.
    """
    waiting: list[_Rating] = []  # the newest first
    for rating in ratings:
        waiting.insert(0, rating)
        newest: dict[float, _Rating] = {}  # of each level: what is below one is below all of them
        for r in waiting:
            newest.setdefault(r.level, r)
        for best in newest.values():
            lower = [r for r in waiting if r.level < best.level][: size - 1]
            if len(lower) == size - 1:
                yield (best, *lower)
                waiting = [r for r in waiting if r is not best and r not in lower]
                break
