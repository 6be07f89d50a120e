"""Reads and writes a user's own data: behaviours one a line (`behaviors.jsonl`), what to ask of them (`task.json`)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from personaplug.core.config import from_mapping
from personaplug.core.errors import DataError, did_you_mean
from personaplug.core.types import Behavior

MAX_LINE_BYTES = 10_000_000

_KEYS = ("user", "id", "at", "input", "output", "rating", "fields")
# What a task.json may say about its data; it is for people and not read.
_NOTES = {"users", "behaviors", "median_per_user", "source", "license"}


@dataclass(frozen=True, slots=True)
class TaskFile:
    """What a `task.json` sets; fields as in the `jsonl` task's configuration, empty where the file is silent."""

    name: str = ""
    kind: str = ""
    instruction: str = ""
    options: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    history_text: str = ""
    group: str = ""
    by_text: bool = False
    wording: Mapping[str, Any] = field(default_factory=dict)


def find_data(path: Path) -> tuple[Path, Path | None]:
    """The behaviours' file and the task.json (None if there is none) of a data folder or a single .jsonl file.

    Raises:
        DataError: no such path, or a folder without behaviors.jsonl.
    """
    if path.is_dir():
        behaviors, task = path / "behaviors.jsonl", path / "task.json"
        if not behaviors.is_file():
            raise DataError(f"{path}: the folder has no behaviors.jsonl; name the .jsonl file itself")
        return behaviors, task if task.is_file() else None
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    return path, None


def read_task_json(path: Path) -> TaskFile:
    """What a task.json sets.

    Raises:
        DataError: not a JSON object, or not UTF-8; names the file and the line.
        ConfigError: an unknown key or a wrong type.
    """
    raw = load_json(path)
    if not isinstance(raw, dict):
        raise DataError(f"{path}: expected a JSON object, found {_shown(raw)}")
    return from_mapping(TaskFile, {k: v for k, v in raw.items() if k not in _NOTES}, where=str(path))


def load_json(path: Path) -> Any:
    """A whole JSON file.

    Raises:
        DataError: no such file, not UTF-8, or not JSON; names the file and the line.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of too many digits
        raise DataError(f"{path}: not readable JSON: {error}") from None


def read_behaviors(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Behavior]:
    """The behaviours of a file, one a line, read as they are needed; blank lines and repeated ids are left out.

    Keys of a line: `user` and `output` (strings), and as wanted `id`, `input` (strings), `at` (UTC seconds or an
    ISO-8601 string, UTC where it names no zone), `rating` (in [0, 1]) and `fields` (strings by name). A line without
    an id gets one made from its content, so that reading the same file again gives the same ids. What is kept
    in memory is an id and a digest a behaviour, to find ids used twice.

    Args:
        path: the .jsonl file.
        max_line_bytes: a longer line is an error.

    Raises:
        DataError: names the file, the line, the value and the way out.
    """
    contents: dict[tuple[str, str], bytes] = {}
    reader = LineReader()
    for number, line in _lines(path, max_line_bytes):
        where = f"{path}:{number}"
        behavior, content = reader.read(line, where)
        key = behavior.user, behavior.id
        if key not in contents:
            contents[key] = content
            yield behavior
        elif contents[key] != content:
            raise DataError(
                f"{where}: user {behavior.user!r} has id {behavior.id!r} on an earlier line with other content; "
                "give each behaviour its own id, or leave ids out"
            )
    if not contents:
        raise DataError(f"{path}: no behaviours in the file; write one JSON object a line")


class LineReader:
    """Reads lines one after the other: those without an id get one made from their content.

    Args:
        user: whose they all are: a line need not say so then, and may not say otherwise.
    """

    def __init__(self, user: str | None = None) -> None:
        self.user = user
        self._repeats: Counter[bytes] = Counter()

    def read(self, line: str, where: str) -> tuple[Behavior, bytes]:
        """A line's behaviour and a digest of its content.

        Args:
            line: one JSON object.
            where: how errors begin.

        Raises:
            DataError: names the value and the way out.
        """
        record = _record(line, where, self.user)
        content = _content(record)
        if not record.get("id"):
            record["id"] = f"{content.hex()}-{self._repeats[content]}"
            self._repeats[content] += 1
        return _behavior(record, where), content


def write_lines(behaviors: Iterable[Behavior]) -> Iterator[bytes]:
    """Behaviours as `read_behaviors` reads them, a line each."""
    for b in behaviors:
        record = {
            "user": b.user,
            "id": b.id,
            "at": b.at,
            "input": b.input,
            "output": b.output,
            "rating": b.rating,
            "fields": dict(b.fields) or None,
        }
        kept = {key: value for key, value in record.items() if value is not None}
        yield json.dumps(kept, ensure_ascii=False).encode() + b"\n"


def _lines(path: Path, max_line_bytes: int) -> Iterator[tuple[int, str]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        number = 0
        while raw := file.readline(max_line_bytes + 2):  # + 2: the line's end does not count
            number += 1
            if len(raw.removesuffix(b"\n").removesuffix(b"\r")) > max_line_bytes:
                raise DataError(
                    f"{path}:{number}: the line is longer than {max_line_bytes:,} bytes; "
                    "cut the text or raise max_line_bytes"
                )
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: byte {error.start + 1} of the line, 0x{raw[error.start]:02x}, is not UTF-8; "
                    "save the file as UTF-8"
                ) from None
            if line:
                yield number, line


def _record(line: str, where: str, user: str | None = None) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        near = _shown(line[max(0, error.pos - 20) : error.pos + 20])
        raise DataError(f"{where}: not JSON at column {error.colno}, near {near}: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{where}: not readable JSON: {error}") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object, found {_shown(record)}")
    for key in record:
        if key not in _KEYS:
            raise DataError(f"{where}: unknown key {key!r}; {did_you_mean(key, _KEYS)}; other things go into 'fields'")
    if user is not None and record.setdefault("user", user) != user:
        raise DataError(f"{where}: user is {_shown(record['user'])}, but this history is {user!r}'s; leave it out")
    for key in ("user", "output"):
        if key not in record:
            raise DataError(f"{where}: key {key!r} is missing; each line needs a user and an output")
    for key in ("user", "id", "input", "output"):
        if key in record and not (isinstance(record[key], str) or (key == "id" and record[key] is None)):
            raise DataError(f"{where}: {key} is {_shown(record[key])}, expected a string in double quotes")
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the text has half of a surrogate pair; write the character itself") from None
    return record


def _behavior(record: Mapping[str, Any], where: str) -> Behavior:
    rating = record.get("rating")
    if rating is not None and not _is_number(rating):
        raise DataError(f"{where}: rating is {_shown(rating)}, expected a number in [0, 1]")
    fields = {} if record.get("fields") is None else record["fields"]
    if not isinstance(fields, dict):
        raise DataError(f"{where}: fields is {_shown(fields)}, expected an object of strings")
    for name, value in fields.items():
        if not isinstance(value, str):
            raise DataError(f"{where}: field {name!r} is {_shown(value)}, expected a string in double quotes")
    try:
        return Behavior(
            user=record["user"],
            id=record["id"],
            input=record.get("input", ""),
            output=record["output"],
            at=_seconds(record.get("at"), where),
            rating=rating,
            fields=fields,
        )
    except DataError as error:
        message = str(error)
        raise DataError(message if message.startswith(where) else f"{where}: {message}") from None


def _seconds(at: Any, where: str) -> float | None:
    if at is None:
        return None
    try:
        if isinstance(at, str):
            return parse_time(at)
        if _is_number(at):
            return float(at)
    except (ValueError, OverflowError):
        pass
    raise DataError(f"{where}: at is {_shown(at)}, expected UTC seconds or a time such as 2024-05-31T12:00:00Z")


def parse_time(text: str) -> float:
    """UTC seconds of an ISO-8601 date or time; UTC where it names no zone.

    >>> parse_time("1970-01-02")
    86400.0

    Raises:
        ValueError: not ISO-8601.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _content(record: Mapping[str, Any]) -> bytes:
    parts = {k: v for k, v in record.items() if k != "id" and v is not None}
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=10).digest()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
