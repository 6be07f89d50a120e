"""What an answer set is like, in numbers and on a page: its rewards, its writers, how users of each alpha differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from personaplug.bench import results
from personaplug.bench.answer_sets.charts import correlations_chart, disagreement_chart, majority_chart
from personaplug.bench.answer_sets.make import BuiltSet
from personaplug.bench.answer_sets.recipe import Recipe
from personaplug.bench.report.render import check_installed, fill_page, markup
from personaplug.core.config import to_mapping
from personaplug.core.files import write_json
from personaplug.pipeline.fingerprint import portable
from personaplug.rewards.panel import Scale, effective_number
from personaplug.tasks.simulate.answer_set import AnswerSet
from personaplug.tasks.simulate.diversity import Diversity, best_answers, by_alpha, wins_by_model
from personaplug.tasks.simulate.users import Users, draw_users


@dataclass(frozen=True, slots=True)
class WriterFacts:
    """What one writer's answers are like.

    Attributes:
        name: the writer's.
        words: mean length.
        empty: share of empty answers.
        value: mean over users and prompts of what its answers are worth.
        best: share of (user, prompt) pairs whose best answer it wrote.
    """

    name: str
    words: float
    empty: float
    value: float
    best: float


@dataclass(frozen=True, slots=True)
class SetFacts:
    """The statistics of a set; no text of it.

    Attributes:
        name: the recipe's file name.
        recipe: as plain data, with its seeds.
        train: prompts.
        test: prompts.
        answers: to each prompt.
        equal_answers: share of answers that stand there twice or more for their prompt.
        scales: mean and deviation of each reward.
        constant: rewards that give all answers the same score.
        effective_rewards: how many independent rewards they are worth.
        correlations: of the rewards, in their order.
        writers: who wrote the answers.
        best_gain: mean over users of how much their best answer is worth more than a drawn one.
        diversity: of users, by alpha, on the test prompts.
        seconds: step -> wall time of the run that made it.
        versions: of the libraries.
        commit: of the source, or "".
        date: UTC, to the second.
    """

    name: str
    recipe: Mapping[str, Any]
    train: int
    test: int
    answers: int
    equal_answers: float
    scales: tuple[Scale, ...]
    constant: tuple[str, ...]
    effective_rewards: float
    correlations: tuple[tuple[float, ...], ...]
    writers: tuple[WriterFacts, ...]
    best_gain: float
    diversity: tuple[Diversity, ...]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    commit: str
    date: str


def facts(name: str, recipe: Recipe, built: BuiltSet, seconds: Mapping[str, float]) -> SetFacts:
    """Measure a set with the recipe's users."""
    wanted = recipe.users
    users = draw_users(wanted.count, built.panel.names, wanted.alpha, wanted.seed)
    scores = built.train.raw.reshape(-1, len(built.panel.names))
    z = built.panel.standardise(scores)
    values = users.weights.mean(axis=0) @ built.panel.standardise(built.test.raw).reshape(-1, z.shape[1]).T  # [p * a]
    writers = _writers(built, users, values.reshape(built.test.raw.shape[:2]))
    best = sum(_best_values(users, built))
    return SetFacts(
        name=name,
        recipe=portable(to_mapping(recipe)),
        train=len(built.train),
        test=len(built.test),
        answers=built.train.raw.shape[1],
        equal_answers=_equal(built.train),
        scales=built.panel.scales,
        constant=built.panel.constant,
        effective_rewards=effective_number(z),
        correlations=_correlations(z),
        writers=writers,
        best_gain=best / len(built.test) - float(values.mean()),
        diversity=by_alpha(built.panel, built.test.raw, wanted.alphas, wanted.count, wanted.seed),
        seconds=dict(seconds),
        versions=results.versions(),
        commit=results.commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def write_facts(path: Path, facts: SetFacts) -> None:
    """Write the statistics as JSON."""
    write_json(path, results.rounded(to_mapping(facts)))


def render_facts(facts: SetFacts) -> str:
    """The report page.

    Raises:
        MissingExtraError: the libraries of the extra `report` are not installed.
    """
    check_installed()
    names = [s.name for s in facts.scales]
    charts = {
        "disagreement": disagreement_chart(facts.diversity),
        "majority": majority_chart(facts.diversity),
        "correlations": correlations_chart(names, facts.correlations),
    }
    return fill_page("answer_set.html.j2", facts=facts, charts={k: markup(svg) for k, svg in charts.items()})


def _writers(built: BuiltSet, users: Users, values: Any) -> tuple[WriterFacts, ...]:
    wins = wins_by_model(best_answers(users, built.panel, built.test.raw), built.test.models)
    texts = [*built.train.answers, *built.test.answers]
    return tuple(
        WriterFacts(
            name=name,
            words=float(np.mean([len(own[j].split()) for own in texts])),
            empty=float(np.mean([not own[j].strip() for own in texts])),
            value=float(values[:, j].mean()),
            best=wins.get(name, 0.0),
        )
        for j, name in enumerate(built.test.models[0])
    )


def _best_values(users: Users, built: BuiltSet) -> list[float]:
    """For each test prompt, the mean over users of their best answer's worth."""
    return [float(users.values(built.panel, raw).max(axis=1).mean()) for raw in built.test.raw]


def _equal(answers: AnswerSet) -> float:
    return float(np.mean([own.count(text) > 1 for own in answers.answers for text in own]))


def _correlations(z: Any) -> tuple[tuple[float, ...], ...]:
    """Pearson's, 0 beside a constant reward."""
    spread = z.std(axis=0)
    unit = np.where(spread > 0, (z - z.mean(axis=0)) / np.where(spread > 0, spread, 1.0), 0.0)
    return tuple(tuple(float(v) for v in row) for row in unit.T @ unit / len(unit))
