"""What a measurement leaves behind: one JSON file a seed, with everything needed to read or repeat it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from personaplug.bench.measure import Row
from personaplug.core.config import from_mapping, to_mapping
from personaplug.core.errors import DataError
from personaplug.core.files import write_json
from personaplug.pipeline.fingerprint import portable
from personaplug.pipeline.run import Curve
from personaplug.tasks.base import TaskInfo

_LIBRARIES = ("personaplug", "torch", "transformers", "sentence-transformers", "numpy")
VOICES_RESULT = ".voices.json"  # what `personaplug voices` leaves ends so
SET_RESULT = ".set.json"  # what the statistics of an answer set end with, which are no measurement of a method
_SHARED = ("ids", "users", "histories")  # the same in every row of a file: written once


@dataclass(frozen=True, slots=True)
class Shown:
    """A measured example whose texts stand in the result, so that a report can show it.

    Attributes:
        index: of the example among the rows' `ids`.
        request: what was asked.
        target: what the user really wrote or chose.
    """

    index: int
    request: str
    target: str


@dataclass(frozen=True, slots=True)
class Result:
    """One seed of one experiment.

    Attributes:
        name: the experiment's.
        seed: of the training and of the controls' draws.
        task: what was asked.
        config: the run's configuration as plain data.
        rows: what was measured.
        curves: method -> its training.
        seconds: step -> wall time.
        device: where it ran.
        versions: of the libraries.
        commit: of the source, or "".
        date: UTC, to the second.
        main: the row that the experiment is about; by default the last one without a control.
        shown: examples with their texts; none where the data may not be passed on.
        failures: title of a row -> why it could not be measured.
    """

    name: str
    seed: int
    task: TaskInfo
    config: Mapping[str, Any]
    rows: tuple[Row, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    date: str = ""
    main: str = ""
    shown: tuple[Shown, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)

    def row(self, method: str, control: str = "") -> Row | None:
        """The row of a method under a control, or None if it was not measured."""
        return next((r for r in self.rows if (r.method, r.control) == (method, control)), None)


# -- files ------------------------------------------------------------------------------------------------------------


def save(path: Path, result: Result, digits: int = 5) -> None:
    """Write a result in one step, per-example values rounded."""
    write_json(path, plain(result, digits))


def plain(result: Result, digits: int = 5) -> dict[str, Any]:
    """A result as it is written."""
    mapping = to_mapping(result)
    rows = mapping["rows"]
    mapping["rows"] = [{k: v for k, v in row.items() if k not in _SHARED} for row in rows]
    mapping["examples"] = {k: rows[0][k] for k in _SHARED} if rows else {}
    short: dict[str, Any] = rounded(mapping, digits)
    return short


def load(path: Path) -> Result:
    """Read a result back.

    Raises:
        DataError: there is no result, or it cannot be read.
    """
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))
        shared = mapping.pop("examples")
        mapping["rows"] = [{**row, **shared} for row in mapping["rows"]]
    except FileNotFoundError:
        raise DataError(f"{path}: no such result; measure with: personaplug eval") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no result of personaplug eval ({type(error).__name__}: {error})") from None
    return from_mapping(Result, mapping, where=str(path))


def rounded(value: Any, digits: int = 5) -> Any:
    """Plain data with its numbers rounded; configurations stay as they are."""
    if isinstance(value, dict):
        return {k: v if k == "config" else rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    return round(value, digits) if isinstance(value, float) else value


# -- where it was measured --------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Python and the libraries that matter, those that are installed."""
    return {"python": platform.python_version()} | _installed()


@cache
def _installed() -> dict[str, str]:
    installed = {}
    for name in _LIBRARIES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


@cache
def commit() -> str:
    """The commit of the source that runs, or "" outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return ""
    here = Path(__file__).parent
    done = subprocess.run([git, "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else ""


def device_name(device: object) -> str:
    """A device in words."""
    return f"{device} ({platform.machine()}, {os.cpu_count()} cores)"


def portable_command() -> str:
    """The command line of this process, without this machine's paths."""
    words = []
    for word in [Path(sys.argv[0]).name, *sys.argv[1:]]:
        key, equals, value = word.rpartition("=")
        words.append(f"{key}{equals}{portable(value)}")
    return shlex.join(words)
