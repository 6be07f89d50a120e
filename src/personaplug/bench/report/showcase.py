"""What a report shows of single users: what their personas looked at, and one request answered as two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from personaplug.bench.report.summary import main_row
from personaplug.bench.results import Result
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Example, Profile, Prompt, Request
from personaplug.encoders.cache.embeddings import behavior_text

if TYPE_CHECKING:
    from personaplug.methods.base import Method
    from personaplug.pipeline.personalizer import Personalizer

_CANDIDATES = 40  # users with the longest histories among whom the two are chosen
_SHORT = 80  # characters of a request that reads well in a report


@dataclass(frozen=True, slots=True)
class Share:
    """A behaviour's text and its share of the persona, in [0, 1]."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class UserExample:
    """One held-out request: what the persona looked at, what the user really wrote, what the models say.

    Attributes:
        user: whose.
        request: what was asked.
        target: the user's real answer.
        answers: row title -> answer.
        shares: the heaviest behaviours, or the newest where all weigh the same.
        behaviors: how many the persona was made of.
        uniform: whether all weigh the same.
    """

    user: str
    request: str
    target: str
    answers: tuple[tuple[str, str], ...]
    shares: tuple[Share, ...]
    behaviors: int
    uniform: bool


@dataclass(frozen=True, slots=True)
class Person:
    """A user of a comparison: their name, number of behaviours and newest outputs."""

    user: str
    behaviors: int
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same requests answered as two users, and by the frozen model alone.

    Attributes:
        people: the two.
        requests: what was asked.
        answers: for each request, one answer a person.
        plain: for each request, the frozen model's own answer.
    """

    people: tuple[Person, Person]
    requests: tuple[str, ...]
    answers: tuple[tuple[str, str], ...]
    plain: tuple[str, ...]


def user_examples(
    method: Method, examples: Sequence[Example], result: Result, count: int = 4, shown: int = 8
) -> list[UserExample]:
    """Held-out requests of the `count` users with the longest histories, one each, among those that were answered.

    Args:
        method: the fitted method.
        examples: those that the result was measured on, in its order.
        result: where the answers are taken from.
        count: of users.
        shown: behaviours of each.
    """
    main = main_row(result.rows, result.main)
    at = {n: i for i, n in enumerate(main.answered)}
    newest = {examples[n].history.user: n for n in main.answered}
    chosen = sorted(newest.values(), key=lambda n: -len(examples[n].history))[:count]
    rows = [r for r in (result.row("none"), result.row("task_prompt"), main) if r and r.answered == main.answered]
    chosen_examples = []
    for n in chosen:
        example = examples[n]
        own = example.options if not result.task.options else ()  # a result has their numbers
        said = [(row.title, row.predictions[at[n]]) for row in rows]
        answers = tuple((title, own[int(answer)] if own else answer) for title, answer in said)
        shares, total, uniform = _shares(method, example, shown)
        chosen_examples.append(
            UserExample(example.history.user, example.request.query, example.target, answers, shares, total, uniform)
        )
    return chosen_examples


def used_texts(method: Method, example: Example, most: int = 4, width: int = 240) -> tuple[str, ...]:
    """The behaviours that count most in the example's prompt, as text, each cut to a width."""
    weights = method.explain(example.request, Profile(example.history))[:most]
    texts = [f"{w.behavior.input} → {w.behavior.output}" if w.behavior.input else w.behavior.output for w in weights]
    return tuple(t if len(t) <= width else f"{t[: width - 1]}…" for t in texts)


def _shares(method: Method, example: Example, shown: int) -> tuple[tuple[Share, ...], int, bool]:
    weights = method.explain(example.request, Profile(example.history))
    if not weights:
        return (), 0, False
    values = [w.weight for w in weights]
    uniform = max(values) - min(values) < 1e-6
    if uniform:  # then heaviest first says nothing: show the newest
        order = {b.id: i for i, b in enumerate(example.history)}
        weights = sorted(weights, key=lambda w: -order[w.behavior.id])
    template = " ".join(method.history_templates) or (method.task.history_text if method.task else "{input} {output}")
    shares = tuple(Share(behavior_text(w.behavior, template), w.weight) for w in weights[:shown])
    return shares, len(weights), uniform


def compare_users(
    personalizer: Personalizer, examples: Sequence[Example], count: int = 3, samples: int = 5
) -> Comparison | None:
    """The same requests as the two users whose personas differ most; None if there are fewer than two users.

    Args:
        personalizer: of the fitted method; its store has the users.
        examples: held-out requests: where users and requests are taken from.
        count: of requests.
        samples: newest outputs shown of each person.
    """
    asked = {e.history.user for e in examples}
    known = sorted((u for u in personalizer.store.users() if u.user in asked), key=lambda u: (-u.behaviors, u.user))
    if len(known) < 2:
        return None
    requests = short_requests(examples, count)
    users = [u.user for u in known[:_CANDIDATES]]
    pair = farthest(personalizer, users, requests[0])
    as_users = [[personalizer.task.request(u, text) for u in pair] for text in requests]
    completions = personalizer.answer_many([r for both in as_users for r in both])
    texts = [c.text.strip() for c in completions]
    plain = personalizer.backbone.generate([Prompt(r.messages) for r, _ in as_users], personalizer.task.sampling)
    return Comparison(
        people=(_person(personalizer, pair[0], samples), _person(personalizer, pair[1], samples)),
        requests=tuple(requests),
        answers=tuple((texts[2 * i], texts[2 * i + 1]) for i in range(len(requests))),
        plain=tuple(c.text.strip() for c in plain),
    )


def farthest(personalizer: Personalizer, users: Sequence[str], text: str) -> tuple[str, str]:
    """The two users whose soft tokens for the same request differ most; the first two where there are none."""
    requests: list[Request] = [personalizer.task.request(u, text) for u in users]
    prefixes = [p.prefix for p in personalizer.prompts(requests)]
    if any(p is None for p in prefixes):
        return users[0], users[1]
    personas = np.stack([np.asarray(p, dtype=np.float64).ravel() for p in prefixes])  # [users, tokens * d]
    squares = (personas**2).sum(1)
    distances = squares[:, None] + squares[None] - 2 * personas @ personas.T
    a, b = divmod(int(distances.argmax()), len(users))
    return (users[0], users[1]) if a == b else (users[a], users[b])


def short_requests(examples: Sequence[Example], count: int) -> list[str]:
    """Distinct short requests, questions first, evenly spread over the examples."""
    texts = dict.fromkeys(" ".join(e.request.query.split()) for e in examples)
    short = [t for t in texts if 12 <= len(t) <= _SHORT]
    questions = [t for t in short if t.endswith("?")]
    pool = next(p for p in (questions, short, list(texts)) if len(p) >= min(count, len(texts)))
    return evenly_spaced(pool, count)


def _person(personalizer: Personalizer, user: str, samples: int) -> Person:
    history = personalizer.store.history(user)
    return Person(user, len(history), tuple(b.output for b in history.last(samples) if b.output))
