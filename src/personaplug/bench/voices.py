"""Measure what people see in free text: do answers sound like their users, and what does a persona cost elsewhere?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from personaplug.core import registry
from personaplug.core.errors import ConfigError, DataError
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Example, History, Message, Profile, Request, Sampling
from personaplug.encoders.base import Encoder
from personaplug.methods.base import Method
from personaplug.metrics import habits, off_topic
from personaplug.metrics.bootstrap import Interval, bootstrap, paired_bootstrap
from personaplug.metrics.voices import author_retrieval, broken, distinct
from personaplug.pipeline.fingerprint import pseudonym
from personaplug.tasks.base import TaskInfo

LOWER = "begins in lower case"
_ALWAYS, _NEVER = 0.9, 0.1  # shares of a person's texts
_BATCH = 64


@dataclass(frozen=True, slots=True)
class VoicesConfig:
    """Who answers what.

    Attributes:
        people: how many users, evenly spread over those of the split with enough texts.
        questions: how many requests of the split each of them answers, the same for all.
        texts: a user needs so many texts of their own.
        among: author retrieval and distinct answers are of so many people.
        strengths: of the persona, each a row.
        no_repeat_ngram: of the decoding.
        max_tokens: of an answer; 0: as the task says.
        off_topic: as how many of these people the checkable questions are asked; 0: not at all.
        encoder: what recognizes authors, by its name on the shelf; one that training did not see.
    """

    people: int = 40
    questions: int = 6
    texts: int = 20
    among: int = 10
    strengths: tuple[float, ...] = (1.0,)
    no_repeat_ngram: int = 4
    max_tokens: int = 0
    off_topic: int = 2
    encoder: str = "style"

    def __post_init__(self) -> None:
        if min(self.people, self.among) < 2 or min(self.questions, self.texts) < 1 or self.among > self.people:
            raise ConfigError(
                f"voices: people = {self.people}, among = {self.among}, questions = {self.questions}, texts = "
                f"{self.texts}; expected at least 2 people, no fewer than among, and 1 question and text"
            )


@dataclass(frozen=True, slots=True)
class VoicesRow:
    """What was measured of one method at one strength; each score with its interval, whole users resampled.

    Attributes:
        method: its label.
        strength: of the persona.
        users: pseudonyms of the people.
        values: measure -> a number a user; of `distinct`, a question and group of people; of `off_topic`, a question.
        scores: measure -> its mean and interval.
        correlation: of how often a user's answers and their own texts begin in lower case; None where it is constant.
        answers: user -> answers; () unless texts may be shown.
    """

    method: str
    strength: float
    users: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    scores: Mapping[str, Interval]
    correlation: float | None = None
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


MEASURES: Mapping[str, str] = {
    "author": "author retrieval: chance that the answers are most like their user's own texts, of ten people",
    "author of own texts": "the same of as many later texts of the users' own: what can be reached",
    "habits": "agreement of the answers with their users' three strongest habits",
    "habits of strangers": "the same of the answers given as other people",
    "habits gain": "the difference of the two",
    "lower case, who always does": "answers that begin in lower case, of users who (almost) always do",
    "lower case, who never does": "the same of users who (almost) never do",
    "distinct": "different answers to one question of ten people, broken ones not counted",
    "broken": "share of answers that are empty or go round in circles",
    "off-topic right": "share of checkable questions that the bare model answers rightly which stay right",
}
"""Name -> what it is."""


@dataclass(frozen=True, slots=True)
class _Person:
    user: str
    history: History
    texts: tuple[str, ...]
    later: tuple[str, ...]


def measure_voices(
    method: Method,
    label: str,
    info: TaskInfo,
    examples: Sequence[Example],
    how: VoicesConfig = VoicesConfig(),
    progress: Callable[[int], None] | None = None,
    *,
    show: bool = False,
) -> list[VoicesRow]:
    """A row for each strength.

    Args:
        method: fitted.
        label: what it is called.
        info: of a task of free text.
        examples: of one split, each user's oldest first.
        how: who answers what.
        progress: called with the number of answers since the last call.
        show: keep the answers' texts.

    Raises:
        DataError: the task is none of free text, or too few users have enough texts.
        MismatchError: the backbone cannot decode at such a strength.
    """
    if info.kind != "text":
        raise DataError(
            f"task {info.name!r} is of kind {info.kind!r}: voices are heard in free text; use personaplug eval"
        )
    people = _people(examples, how)
    asked = [e.request for e in evenly_spaced(examples, how.questions)]
    encoder: Encoder = registry.build("encoder", how.encoder)
    profiles = _prepared(method, [p.history for p in people])
    strengths = how.strengths if method.personal else (1.0,)
    rows = []
    bare: list[str] = []
    for strength in strengths:
        sampling = _sampling(info, how, strength)
        pairs = [(p, r) for p in people for r in asked]
        requests = [dataclasses.replace(r, user=p.user) for p, r in pairs]
        texts = _answers(method, requests, [profiles[p.user] for p, _ in pairs], sampling, progress)
        answers = {p.user: tuple(texts[i * len(asked) : (i + 1) * len(asked)]) for i, p in enumerate(people)}
        values = _voices(people, answers, encoder, how)
        right: list[float] = []
        if how.off_topic:
            bare = bare or _bare(method, info, how, progress)
            for person in people[: how.off_topic]:
                questions = off_topic.questions()
                own = [_off_topic_request(person.user, q.question) for q in questions]
                said = _answers(method, own, [profiles[person.user]] * len(own), sampling, progress)
                right += off_topic.retained(questions, bare, said)
        values["off-topic right"] = right
        rows.append(_row(label, strength, people, values, answers, show=show))
    return rows


def gains(rows: Sequence[VoicesRow]) -> list[dict[str, Interval]]:
    """How much more each row has of each measure than the first, over the same people (paired bootstrap)."""
    first = rows[0]
    compared = []
    for row in rows:
        alike = [m for m in row.values if len(row.values[m]) == len(first.values.get(m, ())) > 1]
        compared.append({m: paired_bootstrap(row.values[m], first.values[m]) for m in alike})
    return compared


def _people(examples: Sequence[Example], how: VoicesConfig) -> list[_Person]:
    people: dict[str, _Person] = {}
    first: dict[str, History] = {}
    later: dict[str, list[str]] = {}
    for example in examples:
        user = example.history.user
        first.setdefault(user, example.history)
        later.setdefault(user, []).append(example.target)
    for user, history in first.items():
        texts = tuple(b.output for b in history if b.output.strip())
        if len(texts) >= how.texts:
            people[user] = _Person(user, history, texts, tuple(later[user][: how.questions]))
    if len(people) < how.people:
        raise DataError(
            f"voices: {len(people)} users of the split have {how.texts} texts or more before their first request, "
            f"{how.people} are wanted; ask for fewer people or texts"
        )
    return evenly_spaced(list(people.values()), how.people)


def _sampling(info: TaskInfo, how: VoicesConfig, strength: float) -> Sampling:
    return dataclasses.replace(
        info.sampling,
        temperature=0.0,
        strength=strength,
        no_repeat_ngram=how.no_repeat_ngram,
        max_tokens=how.max_tokens or info.sampling.max_tokens,
    )


def _prepared(method: Method, histories: Sequence[History]) -> dict[str, Profile]:
    states = method.prepare_many(histories)
    return {h.user: Profile(h, state) for h, state in zip(histories, states, strict=True)}


def _answers(
    method: Method,
    requests: Sequence[Request],
    profiles: Sequence[Profile],
    sampling: Sampling,
    progress: Callable[[int], None] | None,
) -> list[str]:
    answers: list[str] = []
    for at in range(0, len(requests), _BATCH):
        own, theirs = requests[at : at + _BATCH], profiles[at : at + _BATCH]
        prompts = method.with_unconditional(own, method.personalize_many(own, theirs), sampling)
        answers += [c.text.strip() for c in method.answer_many(own, theirs, prompts, sampling)]
        if progress:
            progress(len(own))
    return answers


def _off_topic_request(user: str | None, question: str) -> Request:
    return Request(user, (Message("user", question),))


def _bare(method: Method, info: TaskInfo, how: VoicesConfig, progress: Callable[[int], None] | None) -> list[str]:
    """The frozen model's own answers to the checkable questions."""
    plain: Method = registry.build("method", "none", backbone=method.backbone, task=info)
    own = [_off_topic_request(None, q.question) for q in off_topic.questions()]
    return _answers(plain, own, [Profile(History(""))] * len(own), _sampling(info, how, 1.0), progress)


def _voices(
    people: Sequence[_Person], answers: Mapping[str, Sequence[str]], encoder: Encoder, how: VoicesConfig
) -> dict[str, list[float]]:
    texts = {p.user: p.texts for p in people}
    authors = {user: encoder.encode(own, "history") for user, own in texts.items()}
    retrieved = author_retrieval({u: encoder.encode(a, "history") for u, a in answers.items()}, authors, how.among)
    reached = author_retrieval({p.user: encoder.encode(p.later, "history") for p in people}, authors, how.among)
    agreements = habits.agreements(answers, texts)
    own = {u: [a for a in agreements if a.user == u] for u in answers}
    lower = {u: habits.profile(t).get(LOWER, 0.5) for u, t in texts.items()}
    shown = {u: habits.profile(a).get(LOWER) for u, a in answers.items()}
    groups = [list(answers)[i : i + how.among] for i in range(0, len(answers) - how.among + 1, how.among)]
    return {
        "author": list(retrieved.values()),
        "author of own texts": list(reached.values()),
        "habits": [fmean(a.own for a in rows) for rows in own.values() if rows],
        "habits of strangers": [fmean(a.others for a in rows) for rows in own.values() if rows],
        "habits gain": [fmean(a.own - a.others for a in rows) for rows in own.values() if rows],
        "lower case, who always does": [s for u, s in shown.items() if s is not None and lower[u] >= _ALWAYS],
        "lower case, who never does": [s for u, s in shown.items() if s is not None and lower[u] <= _NEVER],
        "distinct": [float(distinct([answers[u][q] for u in group])) for q in range(how.questions) for group in groups],
        "broken": [fmean(float(broken(a)) for a in said) for said in answers.values()],
    }


def _row(
    label: str,
    strength: float,
    people: Sequence[_Person],
    values: Mapping[str, Sequence[float]],
    answers: Mapping[str, tuple[str, ...]],
    *,
    show: bool,
) -> VoicesRow:
    known = {name: tuple(row) for name, row in values.items() if row}
    texts = {p.user: p.texts for p in people}
    return VoicesRow(
        label,
        strength,
        tuple(pseudonym(p.user) for p in people),
        known,
        {name: bootstrap(row) if len(row) > 1 else Interval(row[0], row[0], row[0]) for name, row in known.items()},
        habits.habit_correlation(answers, texts, LOWER),
        {pseudonym(u): a for u, a in answers.items()} if show else {},
    )
