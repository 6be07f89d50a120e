"""Prompts with several answers each and their raw reward scores, in PersonalLLM's published columns.

A row has `prompt`, for each of its answers `response_1`, `response_2`, ... and maybe `response_1_model`, and for each
reward `response_1_NAME`; other columns (`prompt_id`, `subset`) are left alone.

Shapes: p: prompts, a: answers to a prompt, w: rewards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personaplug.core.errors import DataError, did_you_mean
from personaplug.core.names import has_half_surrogate

_RESPONSE = re.compile(r"response_(\d+)")
SET_FILE, PANEL_FILE = "set.json", "panel.json"
"""What `personaplug simulate` leaves beside the rows: the recipe, and the rewards' scales."""

_SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True, slots=True, eq=False)
class AnswerSet:
    """Prompts with their answers.

    Attributes:
        prompts: p texts.
        answers: a texts for each.
        models: who wrote each answer; "" where nobody says.
        rewards: names of the raw scores' columns, sorted as they are read.
        raw: [p, a, w].
    """

    prompts: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    models: tuple[tuple[str, ...], ...]
    rewards: tuple[str, ...]
    raw: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int]) -> AnswerSet:
        """Some of the prompts."""
        return AnswerSet(
            tuple(self.prompts[i] for i in rows),
            tuple(self.answers[i] for i in rows),
            tuple(self.models[i] for i in rows),
            self.rewards,
            self.raw[list(rows)],
        )

    def rows(self) -> Iterable[dict[str, Any]]:
        """The published columns."""
        for i, prompt in enumerate(self.prompts):
            row: dict[str, Any] = {"prompt": prompt}
            for j, answer in enumerate(self.answers[i]):
                row[f"response_{j + 1}"] = answer
                row[f"response_{j + 1}_model"] = self.models[i][j]
                row |= {f"response_{j + 1}_{w}": float(self.raw[i, j, k]) for k, w in enumerate(self.rewards)}
            yield row

    def write(self, path: Path) -> None:
        """Write as JSON lines, in one step."""
        part = path.with_suffix(".part")
        lines = (json.dumps(row, ensure_ascii=False) for row in self.rows())
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        part.replace(path)


def find_rows(folder: Path, split: str) -> list[Path]:
    """The files of a split in a folder: `train.jsonl`, `test-00000-of-00001.parquet`, also in its folder `data`.

    Raises:
        DataError: there is none.
    """
    names = re.compile(rf"{split}(-\d+-of-\d+)?")
    for place in (folder, folder / "data"):
        files = sorted(p for p in place.glob(f"{split}*") if p.suffix in _SUFFIXES and names.fullmatch(p.stem))
        if files:
            return files
    raise DataError(f"{folder}: no {split}.jsonl, {split}.json or {split}.parquet in it; see docs/personalllm.md")


def read_answers(paths: Sequence[Path], rewards: Sequence[str] = ()) -> AnswerSet:
    """Read files of the published columns.

    Args:
        paths: JSON lines, a JSON list, or parquet (needs the extra `parquet`).
        rewards: which rewards, in this order; by default all that the first row has, sorted.

    Raises:
        DataError: a file is malformed, or a row lacks a column; names the file and the row.
    """
    prompts: list[str] = []
    answers: list[tuple[str, ...]] = []
    models: list[tuple[str, ...]] = []
    raw: list[list[list[float]]] = []
    numbers: list[int] = []
    for path in paths:
        for n, row in enumerate(_rows(path), 1):
            where = f"{path}, row {n}"
            if not numbers:
                numbers, rewards = _columns(row, rewards, where)
            prompts.append(_text(row, "prompt", where))
            answers.append(tuple(_text(row, f"response_{i}", where) for i in numbers))
            models.append(tuple(str(row.get(f"response_{i}_model") or "") for i in numbers))
            raw.append([[_number(row, f"response_{i}_{w}", where) for w in rewards] for i in numbers])
    if not prompts:
        raise DataError(f"{paths[0]}: no rows in it")
    return AnswerSet(tuple(prompts), tuple(answers), tuple(models), tuple(rewards), np.array(raw))


def _columns(row: Mapping[str, Any], rewards: Sequence[str], where: str) -> tuple[list[int], Sequence[str]]:
    numbers = sorted(int(m[1]) for name in row if (m := _RESPONSE.fullmatch(name)))
    if not numbers:
        raise DataError(f"{where}: no column response_1; the columns are {', '.join(sorted(row))}")
    start = f"response_{numbers[0]}_"
    # A reward is what has a number; the model's name is text.
    known = sorted(n.removeprefix(start) for n, v in row.items() if n.startswith(start) and isinstance(v, (int, float)))
    for name in rewards:
        if name not in known:
            raise DataError(f"{where}: no scores of the reward {name!r}; {did_you_mean(name, known)}")
    if not known:
        raise DataError(f"{where}: no column {start}REWARD; the answers have no scores")
    return numbers, rewards or known


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            for batch in pyarrow.parquet.read_table(path).to_batches(max_chunksize=1024):
                yield from batch.to_pylist()
        except (OSError, ValueError, pyarrow.ArrowException) as error:  # damaged texts too
            raise DataError(f"{path}: no parquet file: {str(error).splitlines()[0]}") from None
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix == ".json" else [json.loads(s) for s in text.split("\n") if s.strip()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not {path.suffix[1:]} in UTF-8: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: expected rows of columns")
    yield from rows


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    if not isinstance(row.get(name), str):
        raise DataError(f"{where}: column {name} is {row.get(name)!r}, expected a text")
    if has_half_surrogate(row[name]):
        raise DataError(f"{where}: column {name} holds half of a surrogate pair; write the character itself")
    return str(row[name])


def _number(row: Mapping[str, Any], name: str, where: str) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise DataError(f"{where}: column {name} is {value!r}, expected a number")
    return float(value)
