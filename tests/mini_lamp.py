"""LaMP's seven tasks in miniature, in exactly the published file format and in both published splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TASKS = tuple(f"LaMP_{n}" for n in range(1, 8))
COLOURS = ("red", "blue", "green")
TAGS = ("comedy", "action", "true story")  # of LaMP_2, which names fifteen
STARS = ("1", "4", "5")
SPLITS = ("train", "dev", "test")

# Task -> (question around its query, fields of a profile item). {x}: what it is about; {u}: what its user always says.
_FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "LaMP_1": (
        'For an author who has written the paper with the title "{x} paper", which reference is related? Just answer '
        'with [1] or [2] without explanation. [1]: "{x} work" [2]: "{u} work"',
        {"title": "{x} paper", "abstract": "we show {x}"},
    ),
    "LaMP_2": (
        "Which tag does this movie relate to among the following tags? Just answer with the tag name without further "
        "explanation. tags: [sci-fi, comedy, action, true story] description: a movie of {x}",
        {"description": "a movie of {x}", "tag": "{u}"},
    ),
    "LaMP_3": (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without "
        "further explanation. review: it is {x}",
        {"text": "it is {x}", "score": "{u}"},
    ),
    "LaMP_4": (
        "Generate a headline for the following article: today it was {x}",
        {"text": "today it was {x}", "title": "{u} {x}"},
    ),
    "LaMP_5": (
        "Generate a title for the following abstract of a paper: we show {x}",
        {"title": "{u} {x}", "abstract": "we show {x}"},
    ),
    "LaMP_6": (
        "Generate a subject for the following email: dear {x}",
        {"text": "dear {x}", "title": "{u} {x}"},
    ),
    "LaMP_7": (
        "Paraphrase the following tweet without any explanation before or after it: so {x}",
        {"text": "{u} {x}"},
    ),
}
_SAID = {"LaMP_1": ("[1]", "[2]", "[1]"), "LaMP_2": TAGS, "LaMP_3": STARS}


def write(folder: Path, task: str, dated: bool = True, users: int = 3, withheld: bool = False) -> Path:
    """All files of a task.

    Args:
        folder: is made.
        task: LaMP_1 to LaMP_7.
        dated: the time-based split (the same users throughout, `user_id` and dates), else the user-based one.
        users: in each split, with a question each.
        withheld: leave out the test's outputs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for n, split in enumerate(SPLITS):
        numbers = [u if dated else n * users + u for u in range(users)]
        questions = [_question(task, u, n, dated) for u in numbers]
        (folder / f"{split}_questions.json").write_text(json.dumps(questions, ensure_ascii=False), "utf-8")
        golds = [{"id": q["id"], "output": _gold(task, u, n)} for q, u in zip(questions, numbers, strict=True)]
        if split != "test" or not withheld:
            (folder / f"{split}_outputs.json").write_text(json.dumps({"task": task, "golds": golds}), "utf-8")
    return folder


def words() -> list[str]:
    """Every word of every file, for a tokenizer."""
    texts = [json.dumps(_question(t, u, 2, True), ensure_ascii=False) for t in TASKS for u in range(3)]
    return sorted({word.strip('",') for text in texts for word in text.replace('"', " ").split()})


def _question(task: str, user: int, split: int, dated: bool) -> dict[str, Any]:
    asked, fields = _FORMS[task]
    profile = []
    for i in range(2 + split if dated else 3):  # the time-based split's profiles grow
        about = COLOURS[(user + i) % 3]
        item: dict[str, Any] = {"id": f"{user}{i}0", **{k: _fill(v, about, task, user) for k, v in fields.items()}}
        profile.append({**item, "date": f"201{i}-0{1 + user % 9}-11"} if dated else item)
    about = COLOURS[(user + split) % 3]
    question = {"id": f"{user}{split}1", "input": _fill(asked, about, task, user), "profile": profile[::-1]}
    return {**question, "user_id": str(1000 + user)} if dated else question


def _gold(task: str, user: int, split: int) -> str:
    said = _said(task, user)
    return said if task in _SAID else f"{said} {COLOURS[(user + split) % 3]}"


def _said(task: str, user: int) -> str:
    return _SAID.get(task, ("yes", "no", "more"))[user % 3]


def _fill(template: str, about: str, task: str, user: int) -> str:
    return template.replace("{x}", about).replace("{u}", _said(task, user))
