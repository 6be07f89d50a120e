"""The ledger of what was measured: written by the measuring command, never by hand."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from personaplug.bench.results import commit, portable_command
from personaplug.core.errors import DataError
from personaplug.core.files import write_json
from personaplug.metrics.bootstrap import Interval

LEDGER = "claims.json"


@dataclass(frozen=True, slots=True)
class Claim:
    """One measured number with its goal; a claim that falls short stays in, with `holds` False.

    Attributes:
        id: unique in the ledger; recording it again replaces it.
        claim: what is claimed, in words.
        value: what was measured.
        goal: for example "> 0".
        holds: whether it was reached.
        interval: the ends of the 95% interval, or None.
        runs: the single measurements, where there is no interval.
        command: what measured it.
        commit: of the source, or "".
        date: UTC day.
    """

    id: str
    claim: str
    value: float
    goal: str
    holds: bool
    interval: tuple[float, float] | None = None
    runs: tuple[float, ...] | None = None
    command: str = ""
    commit: str = ""
    date: str = ""

    @staticmethod
    def now(
        id: str,  # noqa: A002
        claim: str,
        measured: Interval | Sequence[float],
        goal: str,
        holds: bool | None = None,
    ) -> Claim:
        """A claim measured by this process, now: from an interval, or from single runs.

        Where `holds` is not given, the value is compared with the goal, `reported` or for example "<= 2".
        """
        rounded: dict[str, Any]
        if isinstance(measured, Interval):
            rounded = {"value": measured.mean, "interval": (round(measured.low, 6), round(measured.high, 6))}
        else:
            rounded = {"value": sum(measured) / len(measured), "runs": tuple(round(r, 6) for r in measured)}
        rounded["value"] = round(rounded["value"], 6)
        if holds is None:
            holds = reached(rounded["value"], goal)
        day = datetime.now(UTC).date().isoformat()
        return Claim(
            id=id, claim=claim, goal=goal, holds=holds, command=portable_command(), commit=commit(), date=day, **rounded
        )


def reached(value: float, goal: str) -> bool:
    """Whether a value reaches a goal.

    >>> reached(1.9, "<= 2"), reached(2.0, "> 2"), reached(7.0, "reported")
    (True, False, True)
    """
    if goal == "reported":
        return True
    sign, bound = goal.split()
    compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[sign]
    return bool(compare(value, float(bound)))


def ledger(folder: Path) -> Path:
    """The one ledger that a command which leaves its results in `folder` writes to.

    It is the nearest `claims.json` or `results/claims.json` at or above the folder, up to the working directory, so
    that all commands of a checkout share one; where there is none yet, `claims.json` in the folder.
    """
    places = [folder.absolute(), *folder.absolute().parents]
    here = Path.cwd()
    within = places[: places.index(here) + 1] if here in places else places[:1]
    files = [file for place in within for file in (place / LEDGER, place / "results" / LEDGER)]
    return next((file for file in files if file.exists()), folder / LEDGER)


def record(folder: Path, *claims: Claim) -> None:
    """Add claims to the folder's ledger, replacing those of the same id; sorted by id, written in one step.

    Raises:
        DataError: what is there is no ledger.
    """
    path = ledger(folder)
    entries = {e["id"]: e for e in load(path)}
    for claim in claims:
        entries[claim.id] = {name: value for name in Claim.__slots__ if (value := getattr(claim, name)) is not None}
    write_json(path, [entries[id_] for id_ in sorted(entries)])


def load(path: Path) -> list[dict[str, Any]]:
    """The ledger's entries; none if there is no file.

    Raises:
        DataError: what is there is no ledger.
    """
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}); move it away, the measuring commands write a new one") from None
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "id" in e for e in entries):
        raise DataError(f"{path}: no ledger of claims (a list of objects with an id); move it away")
    return entries
