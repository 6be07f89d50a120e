"""Reads tables, CSV with any usual separator and Parquet, as records with the line or row that each stands in."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from itertools import chain
from typing import Any

from personaplug.core.errors import DataError
from personaplug.core.names import quoted
from personaplug.core.registry import missing_extra

KEYS = ("user", "id", "at", "input", "output", "rating", "fields")

_COLUMNS = frozenset(KEYS) - {"fields"}
_SEPARATORS = (",", ";", "\t", "|")
_NONE = "\x1f"  # separates nothing: the lines of a table with one column are its cells
_TABLE_NAME = re.compile(r"\.(csv|tsv|tab|psv)(\.(gz|bz2|xz))?$", re.IGNORECASE)
_HINT = re.compile(r"sep=(.)", re.IGNORECASE)  # Excel's word for the separator, before the header
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_WAY_OUT = "put a text that holds the separator, a quote or a line break in double quotes"


def is_table(name: str, first_line: str) -> bool:
    """Whether a file is a table: by its name, or by a first line that names an output among other columns."""
    if re.search(r"\.(csv|tsv|tab|psv)(\.(gz|bz2|xz))?$", name, re.IGNORECASE) or _HINT.fullmatch(
        first_line.rstrip("\r\n")
    ):
        return True
    return not first_line.lstrip().startswith(("{", "[")) and "output" in _header(first_line)[1]


def read_table(lines: Iterable[str], name: str, longest: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV table (RFC 4180, quoted line breaks too) as records, each after its place, FILE:LINE.

    The header tells the separator: comma, semicolon, tab or bar. Names of columns count in any case; columns of
    other names become fields. Empty rows are left out, and so is a header that stands there again (files joined).

    Args:
        lines: with their ends.
        name: how errors begin.
        longest: a longer cell is an error.

    Raises:
        DataError: no column `output`, a name twice, a row with more or fewer cells than names, quotes that do not
            close; names the line and the way out.
    """
    numbered = iter(lines)
    offset, head, separator = _first_line(numbered)
    separator, columns = _header(head, separator)
    _check_header(columns, f"{name}:{offset}")
    width = len(next(csv.reader([head], delimiter=separator)))
    spaced = len(columns) > 1 and head.count(separator) == head.count(f"{separator} ")
    csv.field_size_limit(max(csv.field_size_limit(), longest))
    numbered = _unjoined(numbered, head, name, offset)
    rows = csv.reader(numbered, delimiter=separator, strict=True, skipinitialspace=spaced)
    while True:
        where = f"{name}:{offset + rows.line_num + 1}"
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{where}: {_fault(error, separator)}") from None
        if cells is None:
            return
        again = len(columns) > 1 and _header_cells(cells) == columns
        if any(cell.strip() for cell in cells) and not again:
            _check_width(cells, len(columns), width, f"{where}: the row", separator)
            yield where, _record(columns, cells, where)


def _first_line(lines: Iterator[str]) -> tuple[int, str, str]:
    """The header's line number and text, and the separator that a line before it names, or ""."""
    separator = ""
    for number, line in enumerate(lines, 1):
        hint = _HINT.fullmatch(line.strip("\r\n"))
        if hint and not separator:
            separator = hint[1]
        elif line.strip():
            return number, line.rstrip("\r\n"), separator
    return 1, "", separator


def _header(line: str, separator: str = "") -> tuple[str, list[str]]:
    """The separator and the names of a header: those among which is `output`, the most of them."""
    best: tuple[str, list[str]] = (_NONE, _header_cells([line.strip().strip('"')]))
    for candidate in [separator] if separator else _SEPARATORS:
        try:
            cells = next(csv.reader([line], delimiter=candidate, skipinitialspace=True), [])
        except csv.Error:
            continue
        names = _header_cells(cells)
        if len(names) > 1 and ("output" in names, len(names)) > ("output" in best[1], len(best[1])):
            best = candidate, names
    return best


def _header_cells(cells: Sequence[str]) -> list[str]:
    names = [cell.strip().strip("\ufeff") for cell in cells]
    names = [name.lower() if name.lower() in _COLUMNS else name for name in names]
    while names and not names[-1]:
        names.pop()
    return names


def _check_header(columns: Sequence[str], where: str) -> None:
    if "output" not in columns:
        shown = quoted(", ".join(columns)) if columns else "nothing"
        raise DataError(f"{where}: the table has no column 'output'; its first line names {shown}")
    name, times = Counter(name for name in columns if name).most_common(1)[0]
    if times > 1:
        raise DataError(f"{where}: the table has the column {quoted(name)} {times} times; rename or remove one")


def _unjoined(lines: Iterable[str], head: str, name: str, offset: int) -> Iterator[str]:
    """The lines; a file that goes on with another one's header in the middle of a line is refused."""
    for number, line in enumerate(lines, offset + 1):
        if f"\ufeff{head}" in line:
            raise DataError(
                f"{name}:{number}: another file begins in the middle of the line; put a line end between joined files"
            )
        yield line


def _fault(error: csv.Error, separator: str) -> str:
    said = str(error)
    if "unexpected end" in said:
        return f"the quotes that open in this row never close; {_WAY_OUT}, and double the quotes inside it"
    if "field larger" in said:
        return "a cell is too long, or the quotes that open it never close; cut the text or raise max_line_bytes"
    if "expected after" in said:
        return "text goes on after closing quotes; double the quotes inside a text"
    return f"not a row of a table separated by {separator!r}: {said}"


def _check_width(cells: Sequence[str], names: int, width: int, row: str, separator: str) -> None:
    """A row has a cell for each name; where the header ends in separators, the rows may too."""
    if len(cells) not in {names, width} or any(cell.strip() for cell in cells[names:]):
        raise DataError(
            f"{row} has {len(cells)} cells, but the header names {names} (separator {separator!r}); {_WAY_OUT}"
        )


def _record(columns: Sequence[str], cells: Sequence[str], where: str) -> dict[str, Any]:
    record: dict[str, Any] = {"input": "", "output": ""}
    fields: dict[str, str] = {}
    for place, (column, cell) in enumerate(zip(columns, cells, strict=False)):
        if column in {"input", "output"}:
            record[column] = cell
        elif not cell.strip():
            continue
        elif column in _COLUMNS:
            record[column] = float(cell) if column == "rating" and _NUMBER.fullmatch(cell.strip()) else cell
        elif column:
            fields[column] = cell
        elif place or not cell.strip().isdigit():  # a first column of numbers without a name only counts the rows
            raise DataError(
                f"{where}: column {place + 1} has no name but the text {quoted(cell)}; name it in the header"
            )
    if fields:
        record["fields"] = fields
    return record


def read_parquet(stream: BufferedReader, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a Parquet file as records, each after its place; columns of other names become fields.

    Raises:
        DataError: it is damaged, or a column is no table's cell.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException, BufferReader
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise missing_extra(f"{name}: reading Parquet", error) from error
    try:
        file = ParquetFile(BufferReader(stream.read()))
        columns = _header_cells(file.schema_arrow.names)
        _check_header(columns, name)
        batches = chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(batch_size=1024))
        for number, row in enumerate(batches, 1):
            where = f"{name}: row {number}"
            yield where, _cells(dict(zip(columns, row.values(), strict=True)), where)
    except (ArrowException, OSError, ValueError, OverflowError) as error:  # damaged texts and times
        raise DataError(f"{name}: the Parquet file cannot be read: {' '.join(str(error).split())[:200]}") from None


def _cells(row: dict[str, Any], where: str) -> dict[str, Any]:
    record: dict[str, Any] = {}
    fields: dict[str, str] = {}
    for column, cell in row.items():
        missing = cell is None or (isinstance(cell, float) and math.isnan(cell))  # as pandas has it
        if missing or column.startswith("__index_level_"):
            continue
        if column in {"at", "rating"}:
            record[column] = cell
        elif column in _COLUMNS:
            record[column] = str(cell) if column in {"user", "id"} and isinstance(cell, int) else cell
        elif isinstance(cell, (list, dict, bytes)):
            raise DataError(f"{where}: column {quoted(column)} is {quoted(cell)}, expected a text or a number")
        else:
            fields[column] = str(cell)
    if fields:
        record["fields"] = fields
    return {"output": "", **record}
