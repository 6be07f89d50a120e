"""Reads and writes a user's own data: behaviours one a line (`behaviors.jsonl`), what to ask of them (`task.json`)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from personaplug.core.config import from_mapping
from personaplug.core.errors import ConfigError, DataError, did_you_mean
from personaplug.core.names import TENANT_SEPARATOR, has_half_surrogate, name_fault, quoted
from personaplug.core.types import Behavior
from personaplug.data.opening import STDIN, Source
from personaplug.data.ratings import RatingScale
from personaplug.data.records import parse_json, read_records
from personaplug.data.tables import KEYS

MAX_LINE_BYTES = 10_000_000

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
    rating_scale: str = ""
    encoding: str = ""
    wording: Mapping[str, Any] = field(default_factory=dict)


def find_data(path: Path) -> tuple[Path, Path | None]:
    """The behaviours' file and the task.json (None if there is none) of a data folder, a single file, a pipe or `-`.

    Raises:
        DataError: no such path, or a folder without behaviors.jsonl (or behaviors.csv and its like).
    """
    if path == STDIN:
        return path, None
    if path.is_dir():
        behaviors = [path / "behaviors.jsonl"]
        if not behaviors[0].is_file():
            behaviors = sorted(file for file in path.glob("behaviors.*") if file.is_file())
        if len(behaviors) != 1:
            raise DataError(f"{path}: {_why_no_data(path, behaviors)}")
        task = path / "task.json"
        return behaviors[0], task if task.is_file() else None
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    return path, None


def _why_no_data(path: Path, behaviors: list[Path]) -> str:
    if behaviors:
        return f"the folder has {' and '.join(file.name for file in behaviors)}; name the one to read"
    if next(path.glob("**/*_questions.json*"), None):
        return 'the folder has files of LaMP; name it as a task: [task] name = "lamp"'
    return "the folder has no behaviors.jsonl; name the .jsonl or .csv file itself"


def read_task_json(path: Path) -> TaskFile:
    """What a task.json sets.

    Raises:
        DataError: not a JSON object, or not UTF-8; names the file and the line.
        ConfigError: an unknown key or a wrong type.
    """
    raw = load_json(path)
    if not isinstance(raw, dict):
        raise DataError(f"{path}: expected a JSON object, got {quoted(raw)}")
    if has_half_surrogate(json.dumps(raw, ensure_ascii=False)):
        raise DataError(f"{path}: a text has half of a surrogate pair; write the character itself")
    return from_mapping(TaskFile, {k: v for k, v in raw.items() if k not in _NOTES}, where=str(path))


def load_json(path: Path) -> Any:
    """A whole JSON file.

    Raises:
        DataError: no such file, not UTF-8, or not JSON; names the file and the line.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        with Source(path).open() as stream:
            return json.loads(stream.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of too many digits
        raise DataError(f"{path}: not readable JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a file of behaviours.

    Attributes:
        max_line_bytes: a longer line is an error.
        encoding: of its text, where it is neither UTF-8 nor says itself what it is, for example cp1252.
        rating_scale: its ratings' worst and best, LOW:HIGH, for example 1:5; by default 0:1.
        user: whose behaviours they all are: a line need not say so then, and may not say otherwise.
        tenant: of a server with keys, whose users they are; a store has them under the tenant's name and theirs.

    Raises:
        ConfigError: no such encoding, no scale, or no name.
    """

    max_line_bytes: int = MAX_LINE_BYTES
    encoding: str = ""
    rating_scale: str = ""
    user: str = ""
    tenant: str = ""

    def __post_init__(self) -> None:
        RatingScale.parse(self.rating_scale)
        try:
            "".encode(self.encoding or "utf-8")
        except (LookupError, ValueError):
            raise ConfigError(f"encoding {quoted(self.encoding)}: no such encoding; for example cp1252") from None
        for what, name in (("user", self.user), ("tenant", self.tenant)):
            if name and (fault := name_fault(name)):
                raise ConfigError(f"{what} {quoted(name)}: the name {fault}")


def read_behaviors(source: Path | Source, reading: Reading | None = None) -> Iterator[Behavior]:
    """The behaviours of a file, read as they are needed; blank lines and repeated ids are left out.

    A file is JSON lines, a JSON array, a CSV table or Parquet; see `records`. Keys of a line, or columns of a table:
    `user` and `output` (strings), and as wanted `id`, `input` (strings), `at` (a time, see `core.times`), `rating` (in
    [0, 1], or the scale that `reading` names) and `fields` (strings by name; in a table, all other columns). A line
    without an id gets one made from its content, so that reading the same file again gives the same ids. Memory holds
    an id and a digest a behaviour, to detect ids used twice.

    Args:
        source: the file.
        reading: how to read it.

    Raises:
        DataError: names the file, the line, the value and the way out.
    """
    reading = reading or Reading()
    source = source if isinstance(source, Source) else Source(source)
    contents: dict[tuple[str, str], bytes] = {}
    reader = LineReader(reading.user or None, RatingScale.parse(reading.rating_scale))
    for where, record in read_records(source, reading.encoding, reading.max_line_bytes):
        behavior, content = reader.take(record, where)
        if reading.tenant:
            behavior = replace(behavior, user=f"{reading.tenant}{TENANT_SEPARATOR}{behavior.user}")
        key = behavior.user, behavior.id
        if key not in contents:
            contents[key] = content
            yield behavior
        elif contents[key] != content:
            raise DataError(
                f"{where}: user {quoted(behavior.user)} has id {quoted(behavior.id)} on an earlier line with other "
                "content; give each behaviour its own id, or leave ids out"
            )
    if not contents:
        raise DataError(f"{source.name}: no behaviours in the file; write one JSON object a line, or a CSV table")


class LineReader:
    """Makes behaviours of records, one after the other: those without an id get one made from their content.

    Args:
        user: whose they all are: a record need not say so then, and may not say otherwise.
        scale: of their ratings.
    """

    def __init__(self, user: str | None = None, scale: RatingScale | None = None) -> None:
        self.user = user
        self.scale = scale or RatingScale()
        self._repeats: Counter[bytes] = Counter()

    def read(self, line: str, where: str) -> tuple[Behavior, bytes]:
        """As `take`, of a line of JSON."""
        return self.take(parse_json(line, where), where)

    def take(self, record: Any, where: str) -> tuple[Behavior, bytes]:
        """A record's behaviour and a digest of its content.

        Args:
            record: an object as JSON has it.
            where: how errors begin.

        Raises:
            DataError: names the value and the way out; a RatingError where a rating is beyond the scale.
        """
        record = _checked(record, where, self.user)
        content = _content(record)
        if not record.get("id"):
            record["id"] = f"{content.hex()}-{self._repeats[content]}"
            self._repeats[content] += 1
        try:
            if record.get("rating") is not None:
                record["rating"] = self.scale.unit(record["rating"])
            values = {key: value for key, value in record.items() if value is not None}
            return Behavior(**{"input": "", **values}), content
        except DataError as error:
            raise type(error)(f"{where}: {error}") from None


def write_lines(behaviors: Iterable[Behavior]) -> Iterator[bytes]:
    """Behaviours as `read_behaviors` reads them, a line each; a tenant's users by their own names."""
    for b in behaviors:
        record = {
            "user": b.user.rpartition(TENANT_SEPARATOR)[2],
            "id": b.id,
            "at": b.at,
            "input": b.input,
            "output": b.output,
            "rating": b.rating,
            "fields": dict(b.fields) or None,
        }
        given = {key: value for key, value in record.items() if value is not None}
        yield json.dumps(given, ensure_ascii=False).encode() + b"\n"


def _checked(record: Any, where: str, user: str | None) -> dict[str, Any]:
    """A record whose keys are known and whose texts are texts; what Behavior checks, it is left to."""
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object, got {quoted(record)}")
    for key in record:
        if key not in KEYS:
            raise DataError(f"{where}: unknown key {quoted(key)}; {_hint(key, record)}")
    record = dict(record)
    if user is not None and record.setdefault("user", user) != user:
        raise DataError(f"{where}: user is {quoted(record['user'])}, but this history is {user!r}'s; leave it out")
    for key in ("user", "output"):
        if key not in record:
            raise DataError(f"{where}: key {key!r} is missing; each line needs a user and an output")
    for key in ("user", "id", "input", "output"):
        if key in record and not (isinstance(record[key], str) or (key == "id" and record[key] is None)):
            raise DataError(f"{where}: {key} is {quoted(record[key])}, expected a string in double quotes")
    # In a store a tenant may stand before a name; a file may not put its behaviours there.
    if fault := name_fault(record["user"]):
        raise DataError(f"{where}: user {quoted(record['user'])}: the name {fault}; rename them")
    fields = record.get("fields")
    if fields is not None and not isinstance(fields, dict):
        raise DataError(f"{where}: fields is {quoted(fields)}, expected an object of strings")
    for name, value in (fields or {}).items():
        if not isinstance(value, str):
            raise DataError(f"{where}: field {quoted(name)} is {quoted(value)}, expected a string in double quotes")
    return record


def _hint(key: str, record: Mapping[str, Any]) -> str:
    if "profile" in record or "golds" in record:
        return 'this is a file of LaMP; name its folder as a task: [task] name = "lamp"'
    return f"{did_you_mean(key, KEYS)}; other things go into 'fields'"


def _content(record: Mapping[str, Any]) -> bytes:
    parts = {k: v for k, v in record.items() if k != "id" and v is not None}
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=10).digest()
