"""The LaMP benchmark's published files: seven tasks, one record each, and predictions as its evaluator reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from personaplug.config import fill
from personaplug.errors import ConfigError, DataError, UnknownNameError, did_you_mean
from personaplug.jsonl_reader import load_json, parse_time
from personaplug.tasks.base import Kind, Task, TaskInfo
from personaplug.types import Behavior, Example, History, Message, Request, Sampling, Split

_SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Spec:
    """One of the tasks.

    Attributes:
        title: what is asked for.
        kind: of answer.
        input: the profile field that becomes a behaviour's input, or "".
        output: the profile field that becomes its output.
        before: the words of a question right before its query, the part that is not template.
        after: the words right after the query, or "" where it reaches to the end.
        history_text: what encoders see of a behaviour; as in Persona-Plug, arXiv 2409.11901.
        options: the closed set of answers, in the official evaluator's order.
        max_tokens: of an answer.
        published_as: the task's name inside the files, where it is another.
    """

    title: str
    kind: Kind
    input: str
    output: str
    before: str
    after: str = ""
    history_text: str = "{input} {output}"
    options: tuple[str, ...] = ()
    max_tokens: int = 128
    published_as: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The official ones."""
        return {"choice": ("accuracy", "macro_f1"), "rating": ("mae", "rmse")}.get(self.kind, ("rouge1", "rougeL"))


_TAGS = (
    "sci-fi", "based on a book", "comedy", "action", "twist ending", "dystopia", "dark comedy", "classic",
    "psychology", "fantasy", "romance", "thought-provoking", "social commentary", "violence", "true story",
)  # fmt: skip
_CATEGORIES = (
    "food & drink", "sports", "education", "parents", "religion", "travel", "business", "crime",
    "science & technology", "culture & arts", "entertainment", "politics", "women", "style & beauty", "healthy living",
)  # fmt: skip

SPECS: dict[str, Spec] = {
    "LaMP_1": Spec(
        "citation identification",
        "choice",
        input="abstract",
        output="title",
        before='paper with the title "',
        after='", which reference is related?',
        history_text="{output} {input}",
        options=("[1]", "[2]"),
        max_tokens=8,
    ),
    "LaMP_2": Spec(
        "movie tagging",
        "choice",
        input="description",
        output="tag",
        before="description: ",
        history_text="{input}",
        options=_TAGS,
        max_tokens=16,
    ),
    "LaMP_2N": Spec(
        "news categorization (the first form of LaMP_2)",
        "choice",
        input="text",
        output="category",
        before="article: ",
        history_text="{input}",
        options=_CATEGORIES,
        max_tokens=16,
        published_as="LaMP_2",
    ),
    "LaMP_3": Spec(
        "product rating",
        "rating",
        input="text",
        output="score",
        before="review: ",
        history_text="{input}",
        options=("1", "2", "3", "4", "5"),
        max_tokens=10,
    ),
    "LaMP_4": Spec("news headline", "text", input="text", output="title", before="article: "),
    "LaMP_5": Spec(
        "scholarly title", "text", input="abstract", output="title", before="paper: ", history_text="{output} {input}"
    ),
    "LaMP_6": Spec("e-mail subject", "text", input="text", output="title", before="email: "),
    "LaMP_7": Spec(
        "tweet paraphrase", "text", input="", output="text", before="before or after it: ", history_text="{output}"
    ),
}


@dataclass(frozen=True, slots=True)
class LampConfig:
    """What to read.

    Attributes:
        path: the folder with `{split}_questions.json` and `{split}_outputs.json`.
        task: LaMP_1 to LaMP_7 (or LaMP_2N for the news categories); by default what the outputs say.
        max_history: only the newest so many items of a profile are kept.
    """

    path: Path
    task: str = ""
    max_history: int = 512


class Lamp(Task):
    """Reads a split when first asked for. The messages are the published questions, word for word.

    Profiles were cut before their question by those who published them. With dates (the time-based split) they are
    put in order, oldest first; without a `user_id` (the user-based split) each question is a user.
    """

    Config: ClassVar[type[Any]] = LampConfig
    summary: ClassVar[str] = "LaMP's published files: citation, tag, rating, headline, title, subject, tweet"
    source: ClassVar[str] = "https://arxiv.org/abs/2304.11406"

    def __init__(self, config: LampConfig) -> None:
        self._folder = Path(config.path)
        if config.max_history < 1:
            raise ConfigError(f"task 'lamp': max_history = {config.max_history}; expected 1 or more")
        self.config = config
        self._golds: dict[Split, dict[str, str]] = {}
        self.task = self._read_golds()
        self._spec = SPECS[self.task]
        self.info = TaskInfo(
            name=self.task,
            kind=self._spec.kind,
            options=self._spec.options,
            metrics=self._spec.metrics,
            history_text=self._spec.history_text,
            sampling=Sampling(max_tokens=self._spec.max_tokens),
        )
        self._items: dict[tuple[str, str], Behavior] = {}  # each profile item once, however many questions repeat it
        self._examples: dict[Split, list[Example]] = {}

    def behaviors(self) -> Iterator[Behavior]:
        """Every profile item of every split that is there, once a user; a user's items stand together."""
        found = [split for split in _SPLITS if self._path(split, "questions").is_file()]
        if not found:
            raise DataError(f"{self._folder}: no train_questions.json, dev_questions.json or test_questions.json")
        for split in found:
            self.examples(split)
        by_user: dict[str, list[Behavior]] = {}
        for behavior in self._items.values():
            by_user.setdefault(behavior.user, []).append(behavior)
        for items in by_user.values():
            yield from sorted(items, key=_age)

    def examples(self, split: Split) -> list[Example]:
        """The split's questions in the file's order; a target is "" where the test's outputs are withheld.

        Raises:
            DataError: a file is missing or malformed; names the file, the question and what is wrong.
        """
        if split not in self._examples:
            self._examples[split] = list(self._read(split))
        return self._examples[split]

    def _path(self, split: Split, what: Literal["questions", "outputs"]) -> Path:
        return self._folder / f"{split}_{what}.json"

    def _read_golds(self) -> str:
        """Read all outputs that are there; returns the task's name, which they must agree on."""
        task = self.config.task
        if task and task not in SPECS:
            raise UnknownNameError(f"LaMP has no task {task!r}; {did_you_mean(task, SPECS)}")
        for split in _SPLITS:
            path = self._path(split, "outputs")
            if not path.is_file():
                continue
            raw = load_json(path)
            name = raw.get("task") if isinstance(raw, dict) else None
            if name not in SPECS:
                raise DataError(f"{path}: task is {name!r}; {did_you_mean(str(name), SPECS)}")
            task = task or name
            if name not in (task, SPECS[task].published_as):
                raise DataError(f"{path}: holds {name}, not {task}; name another folder or task")
            self._golds[split] = {
                _text(gold, "id", path, f"gold {i}"): _text(gold, "output", path, f"gold {i}")
                for i, gold in enumerate(_list(raw.get("golds"), path, "golds"))
            }
        if not task:
            raise DataError(
                f"{self._folder}: no train_outputs.json or dev_outputs.json to tell the task by; set task, "
                "for example LaMP_3"
            )
        return task

    def _read(self, split: Split) -> Iterator[Example]:
        path = self._path(split, "questions")
        if split not in self._golds and split != "test":
            raise DataError(f"{self._path(split, 'outputs')}: no such file; only the test split may lack its outputs")
        raw = load_json(path)
        if isinstance(raw, dict):  # LaMP_6's test questions are written as golds are
            raw = raw.get("golds")
        seen: set[str] = set()
        for i, question in enumerate(_list(raw, path, "the questions")):
            key = _text(question, "id", path, f"question {i}")
            if key in seen:
                raise DataError(f"{path}: question id {key!r} stands there twice; remove one")
            seen.add(key)
            yield self._example(question, key, split, path)
        for key in self._golds.get(split, {}):
            if key not in seen:
                raise DataError(
                    f"{path}: no question {key!r}, which the outputs have; the two files do not fit together"
                )

    def _example(self, question: Mapping[str, Any], key: str, split: Split, path: Path) -> Example:
        where = f"question {key!r}"
        text = _text(question, "input", path, where)
        user = _text(question, "user_id", path, where) if "user_id" in question else key
        golds = self._golds.get(split)
        if golds is not None and key not in golds:
            raise DataError(f"{self._path(split, 'outputs')}: no output for {where}; the two files do not fit together")
        return Example(
            id=key,
            request=Request(user, (Message("user", text),), self._query(text, path, where)),
            history=History(user, tuple(self._profile(question, user, path, where)[-self.config.max_history :])),
            target=golds[key] if golds is not None else "",
            options=self._spec.options,
        )

    def _query(self, text: str, path: Path, where: str) -> str:
        start = text.find(self._spec.before)
        if start < 0:
            raise DataError(f"{path}: the input of {where} lacks {self._spec.before!r}; is this really {self.task}?")
        start += len(self._spec.before)
        end = text.find(self._spec.after, start) if self._spec.after else len(text)
        if end < 0:
            raise DataError(f"{path}: the input of {where} lacks {self._spec.after!r}; is this really {self.task}?")
        return text[start:end].strip()

    def _profile(self, question: Mapping[str, Any], user: str, path: Path, where: str) -> list[Behavior]:
        items: dict[str, Behavior] = {}
        for i, item in enumerate(_list(question.get("profile"), path, f"profile of {where}")):
            behavior = self._behavior(item, user, path, f"{where}, profile item {i}")
            if behavior.id in items:
                raise DataError(f"{path}: {where} has profile id {behavior.id!r} twice; remove one")
            known = self._items.setdefault((user, behavior.id), behavior)
            if known != behavior:
                raise DataError(
                    f"{path}: {where} has profile id {behavior.id!r} with another content than another question of "
                    f"user {user!r}; give each item of a user its own id"
                )
            items[behavior.id] = known
        return sorted(items.values(), key=_age)

    def _behavior(self, item: Any, user: str, path: Path, where: str) -> Behavior:
        spec, key = self._spec, _text(item, "id", path, where)
        text = _text(item, spec.input, path, where) if spec.input else ""
        output = _text(item, spec.output, path, where)
        if not fill(spec.history_text, {"input": text, "output": output}, self.task).strip():
            raise DataError(f"{path}: {where} ({key!r}) has no text; remove the item")
        return Behavior(
            user=user,
            id=key,
            input=text,
            output=output,
            at=_seconds(item["date"], path, where) if item.get("date") is not None else None,
            rating=_rating(output) if spec.kind == "rating" else None,
            fields={k: str(v) for k, v in item.items() if k not in {"id", "date", spec.input, spec.output}},
        )


def write_predictions(path: Path, task: str, predictions: Mapping[str, str]) -> None:
    """Write question id -> answer in the shape of the published outputs, which the official evaluator reads.

    Raises:
        UnknownNameError: no such task.
    """
    if task not in SPECS:
        raise UnknownNameError(f"LaMP has no task {task!r}; {did_you_mean(task, SPECS)}")
    golds = [{"id": key, "output": output} for key, output in predictions.items()]
    body = {"task": SPECS[task].published_as or task, "golds": golds}
    path.write_text(json.dumps(body, ensure_ascii=False), encoding="utf-8")


def _list(value: Any, path: Path, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{path}: {what} must be a JSON list, found {type(value).__name__}")
    return value


def _text(record: Any, key: str, path: Path, where: str) -> str:
    """A string of a record; whole numbers count too, since ids and scores are published as either."""
    if not isinstance(record, dict):
        raise DataError(f"{path}: {where} must be a JSON object, found {type(record).__name__}")
    value = record.get(key)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or (key == "id" and value == ""):
        raise DataError(f"{path}: {where} needs a string {key!r}, found {value!r}")
    return str(value)


def _rating(score: str) -> float | None:
    return (float(score) - 1.0) / 4.0 if score in SPECS["LaMP_3"].options else None


def _age(behavior: Behavior) -> float:
    return float("-inf") if behavior.at is None else behavior.at


def _seconds(date: Any, path: Path, where: str) -> float:
    """UTC seconds of a date: a year, a year and month, a day, or a time."""
    text = str(date)
    short = re.fullmatch(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?", text)
    try:
        if short:
            return parse_time(f"{short[1]}-{int(short[2] or 1):02d}-{int(short[3] or 1):02d}")
        return parse_time(text)
    except ValueError:
        raise DataError(f"{path}: {where} has date {date!r}; expected for example 2012-12-03") from None
