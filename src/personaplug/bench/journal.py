"""Results of long work in an append-only file, a line each: after a kill, what is there is not made again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from personaplug.core.errors import DataError

Value = str | float


class Journal:
    """Values by key. The first line says what made them.

    Args:
        path: of the file; made with the first values.
        maker: identity of what makes the values.

    Raises:
        DataError: something else made what is in the file, or it is damaged elsewhere than in its last line.
    """

    def __init__(self, path: Path, maker: str) -> None:
        self.path = path
        self.maker = maker
        self.values: dict[str, Value] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]  # a kill may have torn the last line
        if len(whole) < len(raw):
            os.truncate(self.path, len(whole))
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
        except ValueError:
            raise DataError(f"{self.path}: damaged; delete it, and it is made again") from None
        if lines and lines[0] != {"maker": self.maker}:
            raise DataError(f"{self.path}: made by {lines[0].get('maker')!r}, not by {self.maker!r}; delete it")
        self.values = {line["key"]: line["value"] for line in lines[1:]}

    def add(self, values: Mapping[str, Value]) -> None:
        """Keep values; they are on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists() or not self.path.stat().st_size
        rows: list[Mapping[str, Value]] = [{"maker": self.maker}] if new else []
        rows += [{"key": k, "value": v} for k, v in values.items()]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{json.dumps(row)}\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        self.values |= values
