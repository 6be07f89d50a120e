"""Files of behaviours as people have them, made by chance: what was meant, and the bytes that came of it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from personaplug.core.names import is_name

Row = dict[str, Any]

WORDS = (
    "yes", "no", "grand!!", "well, maybe", "so; so", 'she said "hi"', '"quoted"', "a\tb", "a|b", "two\nlines", "ö 🎺",
    "naïve", "", " ", "'", "\\", "=1+1", "#", "{", "[1]", "null", "0", "1717000000", "x" * 3000, "a\ufeffb", "a\r\nb",
)  # fmt: skip
USERS = (
    "ada", "Ada", " ada", "José", "Jose\u0301", "o'neil/../x?y#z%41", "a b", "ada\u200b", ".", "..", "a\n",
    "acme\x1fbob", "x" * 257, "", "\ud800", "-", "0",
)  # fmt: skip
PLAIN_USERS = ("ada", "bob")
SOME = datetime(2016, 5, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Made:
    """A file's name and bytes, what it means, and whether it may only be refused."""

    name: str
    data: bytes
    rows: list[Row]
    hopeless: bool = False


def make(rng: random.Random, kinds: tuple[str, ...] = ("jsonl", "array", "csv", "naive", "parquet")) -> Made:
    """A file by chance: most are well made, some in a way that no reader can take."""
    kind = rng.choice(kinds)
    users = USERS if rng.random() < 0.15 else PLAIN_USERS
    # Quotes around a whole text that nobody quoted are read as quotes of the table.
    words = [word for word in WORDS if kind != "naive" or not word.startswith('"')]
    rows = [_row(rng, i, users, words) for i in range(rng.choice((1, 2, 3, 8)))]
    stars = rng.random() < 0.1
    hopeless = any(not is_name(row["user"]) for row in rows) or (stars and any("rating" in row for row in rows))
    written = [_written(rng, row, stars) for row in rows]
    if kind == "parquet" and "\ud800" not in {row["user"] for row in rows}:
        return Made("b.parquet", _parquet(written), rows, hopeless)
    text = _WRITERS[kind if kind != "parquet" else "jsonl"](rng, written)
    if rng.random() < 0.1:  # cat a b
        text = text + rng.choice(("", "\n")) + rng.choice(("", "\ufeff")) + text
    data, suffix, packed = _packed(rng, _encoded(rng, text))
    name = f"b.{'csv' if kind in {'csv', 'naive'} and rng.random() < 0.8 else 'jsonl'}{suffix}"
    return Made(name, data, rows, hopeless or packed)


def _row(rng: random.Random, i: int, users: tuple[str, ...], words: list[str]) -> Row:
    row: Row = {"user": rng.choice(users), "id": f"{i}", "input": rng.choice(words), "output": rng.choice(words) or "x"}
    if rng.random() < 0.7:
        row["at"] = SOME + 86_400 * rng.randrange(2000) + rng.choice((0, 0, 3661))
    if rng.random() < 0.3:
        row["rating"] = rng.choice((0.0, 0.25, 0.5, 0.75, 1.0))
    if rng.random() < 0.3:
        row["fields"] = {"title": rng.choice(words).strip() or "t"}
    return row


def _written(rng: random.Random, row: Row, stars: bool) -> Row:
    out = dict(row)
    if "at" in row:
        moment = datetime.fromtimestamp(row["at"], UTC)
        ways: list[Any] = [int(row["at"] * unit) for unit in (1, 1e3, 1e6, 1e9)] + [moment.isoformat(), row["at"]]
        ways += [f"{moment:%Y-%m-%d %H:%M:%S}", int(f"{moment:%Y%m%d%H%M%S}")]
        if row["at"] % 86_400 == 0:
            ways += [int(f"{moment:%Y%m%d}"), f"{moment:%Y-%m-%d}"]
        out["at"] = rng.choice(ways)
    if stars and "rating" in row:
        out["rating"] = 2 + round(3 * row["rating"])
    return out


def _jsonl(rng: random.Random, rows: list[Row]) -> str:
    end = rng.choice(("\n", "\n", "\r\n", "\r", "\n\n"))
    lines = [json.dumps(row, ensure_ascii=rng.random() < 0.3) for row in rows]
    return end.join(lines) + rng.choice(("", end))


def _array(rng: random.Random, rows: list[Row]) -> str:
    return json.dumps(rows, indent=rng.choice((None, 2)), ensure_ascii=False) + rng.choice(("", "\n"))


def _table(rng: random.Random, rows: list[Row]) -> list[list[str]]:
    columns = ["user", "id", "at", "input", "output", "rating", "title"]
    rng.shuffle(columns)
    flat = [{**row, **row.get("fields", {})} for row in rows]
    return [columns, *([str(row.get(c, "")) for c in columns] for row in flat)]


def _csv(rng: random.Random, rows: list[Row]) -> str:
    table = _table(rng, rows)
    if rng.random() < 0.2:
        table[0] = [name.title() if name != "title" else name for name in table[0]]
    if rng.random() < 0.2:
        table = [[*cells, ""] for cells in table]
    if rng.random() < 0.1:
        table = [[str(i - 1) if i else "", *cells] for i, cells in enumerate(table)]
    separator, out = rng.choice(",,;\t|"), io.StringIO()
    end = rng.choice(("\n", "\r\n"))
    csv.writer(
        out, delimiter=separator, quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)), lineterminator=end
    ).writerows(table)
    return (f"sep={separator}{end}" if rng.random() < 0.1 else "") + out.getvalue()


def _naive(rng: random.Random, rows: list[Row]) -> str:
    """A table by joining alone: texts with separators, quotes and line breaks are not quoted."""
    separator = rng.choice(",;\t|")
    return "\n".join(separator.join(cells) for cells in _table(rng, rows))


_WRITERS: dict[str, Callable[[random.Random, list[Row]], str]] = {
    "jsonl": _jsonl, "array": _array, "csv": _csv, "naive": _naive
}  # fmt: skip


def _parquet(rows: list[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ("user", "id", "input", "output", "rating", "title")
    flat = [{k: {**row, **row.get("fields", {})}.get(k) for k in columns} for row in rows]
    times = pa.array([None if row.get("at") is None else str(row["at"]) for row in rows], pa.string())
    table = pa.Table.from_pylist(flat).append_column("at", times)
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _encoded(rng: random.Random, text: str) -> bytes:
    if "\ud800" in text:
        return text.encode("utf-8", "surrogatepass")
    encoding = rng.choice(("utf-8",) * 4 + ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"))
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode()


def _packed(rng: random.Random, data: bytes) -> tuple[bytes, str, bool]:
    """The bytes as people pack them, the end of the name, and whether no reader takes them."""
    how = rng.choice(("",) * 8 + ("gz", "bz2", "xz", "gz.gz", "zip", "tar", "cut"))
    if how == "gz":
        return gzip.compress(data), ".gz", False
    if how == "bz2":
        return bz2.compress(data), ".bz2", False
    if how == "xz":
        return lzma.compress(data), ".xz", False
    if how == "gz.gz":
        return gzip.compress(gzip.compress(data)), ".gz", True
    out = io.BytesIO()
    if how == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("b", data)
        return out.getvalue(), ".zip", True
    if how == "tar":
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("b"), io.BytesIO())
        return out.getvalue(), ".tar", True
    if how == "cut":
        packed = gzip.compress(data)
        return packed[: len(packed) - 9], ".gz", True
    return data, "", False


_PARTS = (b'"', b",", b"\n", b"\r", b"\0", b"\xff\xfe", b"{", b"[", b"]", b"\xef\xbb\xbf", b"\\ud800")


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The bytes with some changed, cut off, put in or left out."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        start, end = sorted(rng.randrange(len(out) + 1) for _ in range(2))
        how = rng.choice(("change", "cut", "insert", "leave out"))
        if how == "change" and start < len(out):
            out[start] = rng.randrange(256)
        elif how == "cut":
            del out[end:]
        elif how == "insert":
            out[start:start] = rng.choice(_PARTS)
        else:
            del out[start:end]
    return bytes(out)
