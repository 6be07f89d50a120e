"""The LaMP benchmark's published files: seven tasks, one record each, with their questions and outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from personaplug.core.config import fill
from personaplug.core.errors import ConfigError, DataError, UnknownNameError, did_you_mean
from personaplug.core.names import has_half_surrogate, quoted
from personaplug.core.times import utc_seconds
from personaplug.core.types import Behavior, Example, History, Message, Request, Sampling, Split
from personaplug.data.jsonl import load_json
from personaplug.tasks.base import Task, TaskInfo, as_option
from personaplug.tasks.lamp_specs import SPECS

_SPLITS: tuple[Split, ...] = ("train", "dev", "test")

# The first item of any profile. A quote inside a text is escaped, so these are keys whatever the texts say.
_FIRST_ITEM = re.compile(r'"profile"\s*:\s*\[\s*(?=\{)')
_PEEK = 1 << 16  # characters; doubled until an item fits


@dataclass(frozen=True, slots=True)
class LampConfig:
    """What to read.

    Attributes:
        path: the folder with `{split}_questions.json` and `{split}_outputs.json`, or as they are published: below it in
            folders `train`, `dev` and `test`, and above these one for each task.
        task: LaMP_1 to LaMP_7 (or LaMP_2N for the news categories); by default what the outputs say.
        max_history: at most so many items of a profile, the newest.
        max_tokens: of an answer; by default the task's own.
    """

    path: Path
    task: str = ""
    max_history: int = 512
    max_tokens: int = 0


class Lamp(Task):
    """Reads a split when first asked for. The messages are the published questions, word for word.

    Profiles were cut before their question by those who published them. With dates (the time-based split) they are
    put in order, oldest first; without a `user_id` (the user-based split) each question is a user.
    """

    Config: ClassVar[type[Any]] = LampConfig
    summary: ClassVar[str] = "LaMP's published files: citation, tag, rating, headline, title, subject, tweet"
    source: ClassVar[str] = "https://arxiv.org/abs/2304.11406"

    def __init__(self, config: LampConfig) -> None:
        self._folder = Path(config.path).expanduser()
        if not self._folder.is_dir():
            what = "is a file; unpack it" if self._folder.exists() else "no such folder; put LaMP's files there"
            raise DataError(f"{self._folder}: {what}, or name the folder of LaMP's files: --set task.path=FOLDER")
        self._folder = _task_folder(self._folder, config.task)
        if config.max_history < 1:
            raise ConfigError(f"task 'lamp': max_history = {config.max_history}; expected 1 or more")
        if config.max_tokens < 0:
            raise ConfigError(
                f"task 'lamp': max_tokens = {config.max_tokens}; expected 1 or more, or 0 for the task's own"
            )
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
            sampling=Sampling(max_tokens=config.max_tokens or self._spec.max_tokens),
            wording=self._spec.wording,
            split=self._split(),
        )
        self._items: dict[tuple[str, str], Behavior] = {}  # each profile item once, however many questions repeat it
        self._examples: dict[Split, list[Example]] = {}

    def behaviors(self) -> Iterator[Behavior]:
        """Every profile item of every split that is there, once a user; a user's items stand together."""
        present = [split for split in _SPLITS if self._path(split, "questions").is_file()]
        if not present:
            raise DataError(f"{self._folder}: no train_questions.json, dev_questions.json or test_questions.json")
        for split in present:
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
        name = f"{split}_{what}.json"
        published = self._folder / split / name
        return published if published.is_file() else self._folder / name

    def _read_golds(self) -> str:
        """Read all outputs that are there; returns the task's name, which they must agree on."""
        task = self.config.task
        if task and task not in SPECS:
            raise UnknownNameError(f"LaMP has no task {task!r}; {did_you_mean(task, SPECS)}")
        for split in _SPLITS:
            path = self._path(split, "outputs")
            if not path.is_file():
                continue
            name, self._golds[split] = read_outputs(path)
            if name not in SPECS:
                raise DataError(f"{path}: task is {name!r}; {did_you_mean(name, SPECS)}")
            task = task or name
            if name not in (task, SPECS[task].published_as):
                raise DataError(f"{path}: holds {name}, not {task}; name another folder or task")
        if not task:
            raise DataError(
                f"{self._folder}: no train_outputs.json or dev_outputs.json to tell the task by; set task, "
                "for example LaMP_3"
            )
        return task

    def _split(self) -> Literal["time", "user"]:
        """`time` where profile items have dates: only the time-based split, of the same users throughout, has them.

        One item tells, so a file of hundreds of megabytes is not read for it. `examples` refuses what is malformed.
        """
        path = next((p for s in _SPLITS if (p := self._path(s, "questions")).is_file()), None)
        return "time" if path and _first_item(path).get("date") is not None else "user"

    def _read(self, split: Split) -> Iterator[Example]:
        path = self._path(split, "questions")
        if split not in self._golds and split != "test":
            raise DataError(f"{self._path(split, 'outputs')}: no such file; only the test split may lack its outputs")
        raw = load_json(path)
        if isinstance(raw, dict):  # LaMP_6's test questions are written as golds are
            raw = raw.get("golds")
        seen: set[str] = set()
        for i, question in enumerate(_list(raw, path, "the questions")):
            key = _whole_text(question, "id", path, f"question {i}")
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
        text = _whole_text(question, "input", path, where)
        user = _whole_text(question, "user_id", path, where) if "user_id" in question else key
        golds = self._golds.get(split)
        if golds is not None and key not in golds:
            raise DataError(f"{self._path(split, 'outputs')}: no output for {where}; the two files do not fit together")
        return Example(
            id=key,
            request=Request(user, (Message("user", text),), self._query(text, path, where)),
            history=History(user, tuple(self._profile(question, user, path, where)[-self.config.max_history :])),
            target=self._target(golds[key], where, split) if golds is not None else "",
            options=self._spec.options,
        )

    def _target(self, gold: str, where: str, split: Split) -> str:
        """A gold as the option that it is; blanks and case do not count, as in LaMP's own evaluation blanks do not."""
        if not self._spec.options:
            return _whole(gold, f"{self._path(split, 'outputs')}: the output of {where}")
        option = as_option(gold, self._spec.options)
        if option is None:
            raise DataError(
                f"{self._path(split, 'outputs')}: the output of {where} is {quoted(gold)}, none of the options "
                f"{', '.join(self._spec.options)}"
            )
        return option

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
        spec, key = self._spec, _whole_text(item, "id", path, where)
        text = _whole_text(item, spec.input, path, where) if spec.input else ""
        output = _whole_text(item, spec.output, path, where)
        output = as_option(output, spec.options) or output
        if not fill(spec.history_text, {"input": text, "output": output}, self.task).strip():
            raise DataError(f"{path}: {where} ({key!r}) has no text; remove the item")
        try:
            return Behavior(
                user=user,
                id=key,
                input=text,
                output=output,
                at=_seconds(item["date"], path, where) if item.get("date") is not None else None,
                rating=_rating(output) if spec.kind == "rating" else None,
                fields={k: str(v) for k, v in item.items() if k not in {"id", "date", spec.input, spec.output}},
            )
        except DataError as error:
            message = str(error)
            raise DataError(message if message.startswith(str(path)) else f"{path}: {where}: {message}") from None


def read_outputs(path: Path) -> tuple[str, dict[str, str]]:
    """The task's name and id -> output of a file in the shape of the published outputs; predictions have it too.

    Raises:
        DataError: no such file, another shape, or an id that stands there twice; names the file and the place.
    """
    raw = load_json(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("task"), str):
        raise DataError(f'{path}: expected {{"task": NAME, "golds": [{{"id": ..., "output": ...}}]}}, as LaMP has it')
    outputs: dict[str, str] = {}
    for i, gold in enumerate(_list(raw.get("golds"), path, "golds")):
        key = _text(gold, "id", path, f"gold {i}")
        if key in outputs:
            raise DataError(f"{path}: id {key!r} stands there twice; remove one")
        outputs[key] = _text(gold, "output", path, f"gold {i} ({key!r})")
    return raw["task"], outputs


def _task_folder(folder: Path, task: str) -> Path:
    """The folder of one task's files: the given one, or the only one below it that holds a task."""
    if _holds_questions(folder):
        return folder
    below = sorted(f for f in folder.glob("**/LaMP_*") if f.is_dir() and _holds_questions(f))
    wanted = [f for f in below if not task or f.name == task]
    if len(wanted) > 1:
        names = " and ".join(str(f.relative_to(folder)) for f in wanted)
        raise DataError(f"{folder}: the folder holds {names}; name one of them: --set task.path=FOLDER")
    return wanted[0] if wanted else folder


def _holds_questions(folder: Path) -> bool:
    return any((folder / part / f"{split}_questions.json").is_file() for split in _SPLITS for part in ("", split))


def _first_item(path: Path) -> dict[str, Any]:
    """The first item of the first profile that is not empty; {} if there is none."""
    text, size = "", _PEEK
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        while more := file.read(size):
            text, size = text + more, size * 2
            if match := _FIRST_ITEM.search(text):
                try:
                    item: dict[str, Any] = json.JSONDecoder().raw_decode(text, match.end())[0]
                except ValueError:  # cut in the middle, or malformed
                    continue
                return item
    return {}


def _list(value: Any, path: Path, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{path}: {what} must be a JSON list, got {type(value).__name__}")
    return value


def _text(record: Any, key: str, path: Path, where: str) -> str:
    """A string of a record; whole numbers count too, since ids and scores are published as either."""
    if not isinstance(record, dict):
        raise DataError(f"{path}: {where} must be a JSON object, got {type(record).__name__}")
    value = record.get(key)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or (key == "id" and value == ""):
        raise DataError(f"{path}: {where} needs a string {key!r}, got {quoted(value)}")
    return str(value)


def _whole_text(record: Any, key: str, path: Path, where: str) -> str:
    """As `_text`, of what a model is to read."""
    return _whole(_text(record, key, path, where), f"{path}: {where}: {key!r}")


def _whole(text: str, what: str) -> str:
    if has_half_surrogate(text):
        raise DataError(f"{what} holds half of a surrogate pair; write the character itself")
    return text


def _rating(score: str) -> float | None:
    return (float(score) - 1.0) / 4.0 if score in SPECS["LaMP_3"].options else None


def _age(behavior: Behavior) -> float:
    return float("-inf") if behavior.at is None else behavior.at


def _seconds(date: Any, path: Path, where: str) -> float:
    """UTC seconds of a date: a year, a year and month, a day, or a time."""
    text = str(date)
    short = re.fullmatch(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?", text)
    try:
        return utc_seconds(f"{short[1]}-{int(short[2] or 1):02d}-{int(short[3] or 1):02d}" if short else text)
    except ValueError:
        raise DataError(f"{path}: {where} has date {quoted(date)}; expected for example 2012-12-03") from None
