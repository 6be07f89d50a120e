"""Answers that sound like their users are measured so, and answers that are the same for all are not."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from typing_extensions import override

from personaplug.backbones.echo import EchoBackbone
from personaplug.bench.voices import MEASURES, VoicesConfig, gains, measure_voices
from personaplug.core import registry
from personaplug.core.config import NoConfig
from personaplug.core.errors import ConfigError, DataError, MismatchError
from personaplug.core.types import Behavior, Completion, Example, History, Profile, Prompt, Request, Sampling
from personaplug.methods.base import Method
from personaplug.tasks.base import TaskInfo

CHAT = TaskInfo("chat", "text", sampling=Sampling(max_tokens=40))
HOW = VoicesConfig(people=12, questions=4, texts=8, among=10, no_repeat_ngram=0, off_topic=1)
WORDS = tuple("abcdefghijklmnopqrstuvw")


class Mimic(Method):
    """Answers with a text that the user wrote before; what nobody asked in a chat, with a word that fits nothing."""

    Config = NoConfig
    summary = "a fake"
    source = "tests"

    @override
    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return Prompt(request.messages)

    @override
    def answer_many(
        self, requests: Sequence[Request], profiles: Sequence[Profile], prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[Completion]:
        said = [
            p.history.behaviors[len(r.query) % len(p.history)].output for r, p in zip(requests, profiles, strict=True)
        ]
        return [Completion(text, (1,), 1, "stop") for text in said]


def written(user: int, rng: random.Random) -> str:
    text = " ".join(rng.sample(WORDS, rng.randint(3, 8)))
    text = text if user % 2 else text.capitalize()
    ends = [".", "!!", "", " :)", "...", "?"]
    return text + ends[user // 2 % len(ends)]


def chats(users: int = 14) -> list[Example]:
    rng = random.Random(3)
    found = []
    for u in range(users):
        user = f"u{u:02}"
        past = tuple(Behavior(user, str(i), "hey" * (1 + i % 3), written(u, rng), at=float(i)) for i in range(12))
        for q in range(4):
            asks = CHAT.request(user, f"what about day {q}" + "?" * q)
            found.append(Example(f"{user}-{q}", asks, History(user, past), written(u, rng)))
    return found


@pytest.fixture
def mimic() -> Mimic:
    return Mimic(NoConfig(), backbone=EchoBackbone())


def test_texts_of_the_users_own_are_told_apart_and_keep_their_habits(mimic):
    [row] = measure_voices(mimic, "mimic", CHAT, chats(), HOW, show=True)
    assert set(row.scores) <= set(MEASURES)
    assert row.scores["author"].mean > 0.8
    assert row.scores["author of own texts"].mean > 0.8
    assert row.scores["habits gain"].low > 0
    assert row.scores["lower case, who always does"].mean == 1.0
    assert row.scores["lower case, who never does"].mean == 0.0
    assert row.scores["distinct"].mean > 8
    assert row.correlation == pytest.approx(1.0)
    assert len(row.users) == len(row.answers) == 12
    assert not set(row.users) & {e.request.user for e in chats()}  # pseudonyms


def test_one_answer_for_everybody_is_chance_and_not_distinct():
    same = registry.build("method", "none", backbone=registry.build("backbone", "echo"))
    [row] = measure_voices(same, "none", CHAT, chats(), HOW)
    assert row.scores["author"].mean == pytest.approx(0.1, abs=0.08)
    assert row.scores["distinct"].mean == 1.0
    assert row.scores["habits gain"].mean == pytest.approx(0.0)
    assert row.correlation is None
    assert not row.answers


def test_gains_are_paired_over_the_same_people(mimic):
    same = registry.build("method", "none", backbone=registry.build("backbone", "echo"))
    rows = [*measure_voices(same, "none", CHAT, chats(), HOW), *measure_voices(mimic, "mimic", CHAT, chats(), HOW)]
    none, own = gains(rows)
    assert none["author"].mean == 0.0
    assert own["author"].low > 0
    assert own["distinct"].mean == pytest.approx(rows[1].scores["distinct"].mean - 1.0)


def test_what_a_persona_costs_elsewhere_is_counted_over_what_the_bare_model_knows(mimic, monkeypatch):
    from personaplug.bench import voices

    monkeypatch.setattr(voices, "_bare", lambda *_: [q.accepted[0] for q in voices.off_topic.questions()])
    [row] = measure_voices(mimic, "mimic", CHAT, chats(), HOW)
    assert len(row.values["off-topic right"]) > 100
    assert row.scores["off-topic right"].mean < 0.1


def test_a_task_without_free_text_or_with_too_few_people_is_refused(mimic):
    closed = TaskInfo("like", "choice", options=("yes", "no"))
    with pytest.raises(DataError, match="free text"):
        measure_voices(mimic, "mimic", closed, chats(), HOW)
    with pytest.raises(DataError, match="5 users of the split have 8 texts or more"):
        measure_voices(mimic, "mimic", CHAT, chats(5), HOW)
    with pytest.raises(ConfigError, match="among = 10"):
        VoicesConfig(people=5)


def test_a_strength_that_the_model_cannot_have_is_refused_by_name(mimic):
    how = VoicesConfig(people=12, questions=2, texts=8, no_repeat_ngram=0, strengths=(2.0,))
    with pytest.raises(MismatchError, match=r"strength = 2\.0"):
        measure_voices(mimic, "mimic", CHAT, chats(), how)
