"""A miniature of every LaMP task, in the published form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from personaplug.tasks.lamp import SPECS

# Task -> (question with a place for its own words, profile item with one for its own, answers). Wordings as published.
PUBLISHED = {
    "LaMP_1": (
        'For an author who has written the paper with the title "{}", which reference is related? Just answer with [1] '
        'or [2] without explanation. [1]: "first" [2]: "second"',
        {"title": "{}", "abstract": "we show {}"},
        ("[1]", "[2]"),
    ),
    "LaMP_2": (
        "Which tag does this movie relate to among the following tags? description: {}",
        {"description": "{}", "tag": "comedy"},
        ("comedy", "dark comedy", "sci-fi"),
    ),
    "LaMP_2N": (
        "Which category does this article relate to? article: {}",
        {"text": "{}", "category": "politics"},
        ("sports", "politics"),
    ),
    "LaMP_3": (
        "What is the score of the following review on a scale of 1 to 5? review: {}",
        {"text": "{}", "score": "2"},
        ("1", "5", "4"),
    ),
    "LaMP_4": ("Generate a headline for the following article: {}", {"text": "{}", "title": "{}"}, ("red", "a b c")),
    "LaMP_5": (
        "Generate a title for the following abstract of a paper: {}",
        {"title": "{}", "abstract": "we try {}"},
        ("red blue", "d e"),
    ),
    "LaMP_6": ("Generate a subject for the following email: {}", {"text": "{}", "title": "{}"}, ("yes", "no")),
    "LaMP_7": (
        "Paraphrase the following tweet without any explanation before or after it: {}",
        {"text": "{}"},
        ("g f e", "red red"),
    ),
}
SAID = ("red red red", "blue g", "a b c d", "no no yes", "f green e")
ANSWERS = [option for spec in SPECS.values() for option in spec.options]
WORDS = " ".join([tiny.TEXT, *ANSWERS, *(question for question, _, _ in PUBLISHED.values())]).split(" ")


@pytest.fixture
def said() -> tuple[str, ...]:
    """What users said: the n-th said the n-th and the next one; the question of each is about the one after."""
    return SAID


def write_lamp(folder: Path, name: str, users: int = 5) -> None:
    """A miniature of a task, as published: each user with a question, and with two things that they said before."""
    question, item, answers = PUBLISHED[name]
    questions, golds = [], []
    for n in range(users):
        profile = [
            {"id": f"{n}{i}", "date": f"20{10 + i}", **{k: v.format(SAID[(n + i) % 5]) for k, v in item.items()}}
            for i in range(2 if n else 0)  # the first user has no history
        ]
        text = question.format(SAID[(n + 2) % 5])
        questions.append({"id": f"{name}-{n}", "user_id": n, "input": text, "profile": profile})
        golds.append({"id": f"{name}-{n}", "output": answers[n % len(answers)]})
    folder.mkdir(parents=True)
    (folder / "dev_questions.json").write_text(json.dumps(questions))
    published = SPECS[name].published_as or name
    (folder / "dev_outputs.json").write_text(json.dumps({"task": published, "golds": golds}))


@pytest.fixture(scope="module")
def lamp(tmp_path_factory) -> Path:
    """A folder with a miniature of every task."""
    folder = tmp_path_factory.mktemp("lamp")
    for name in PUBLISHED:
        write_lamp(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> str:
    """A random model that knows the miniature's words."""
    return str(tiny.save_causal(tmp_path_factory.mktemp("models") / "lamp", words=WORDS))
