"""Reads a file of any kind that people have as records, each with its place: JSON lines, JSON arrays, CSV, Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any

from personaplug.core.errors import DataError
from personaplug.core.names import quoted
from personaplug.data.opening import Source, lines
from personaplug.data.tables import is_table, read_parquet, read_table

_JSON = json.JSONDecoder()


def read_records(source: Source, encoding: str, longest: int) -> Iterator[tuple[str, Any]]:
    """A file's records in its order, each after its place: FILE:LINE, or the row of a Parquet file.

    What a file is, its content says: gzip, bzip2 or xz around it, its byte order mark, and how it begins.

    Args:
        source: the file or pipe.
        encoding: of its text; "" to tell it by the first bytes.
        longest: a line, an item or a cell of more bytes is an error.

    Raises:
        DataError: names the file, the line and the way out.
    """
    with source.open() as stream:
        if stream.peek(4)[:4] == b"PAR1":
            yield from read_parquet(stream, source.name)
            return
        with closing(lines(stream, source.name, encoding, longest)) as text_lines:
            yield from _from_text(text_lines, source.name, longest)


def _from_text(text_lines: Iterator[str], name: str, longest: int) -> Iterator[tuple[str, Any]]:
    blank: list[str] = []
    for line in text_lines:
        if line.strip():
            break
        blank.append(line)
    else:
        return
    given = chain(blank, [line], text_lines)
    if is_table(name, line):
        yield from read_table(given, name, longest)
    elif line.lstrip().startswith("["):
        yield from _from_arrays(given, name, longest)
    else:
        for number, each in enumerate(given, 1):
            if text := each.strip().strip("\ufeff"):
                yield f"{name}:{number}", parse_json(text, f"{name}:{number}")


def parse_json(text: str, where: str) -> Any:
    """One line's JSON.

    Raises:
        DataError: it is none; names the column and what stands there.
    """
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON at column {error.colno}, {_near(text, error)}{_way_out(text)}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of too many digits
        raise DataError(f"{where}: not readable JSON: {error}") from None


def _near(text: str, error: json.JSONDecodeError) -> str:
    return f"near {quoted(text[max(0, error.pos - 20) : error.pos + 20])}: {error.msg}"


def _way_out(text: str) -> str:
    if text in {"{", "}", "},"}:
        return "; an object over several lines? bring each to one line: jq -c . FILE"
    if "\ufeff" in text:
        return "; files joined by cat? put a line end between them"
    return "" if text.startswith("{") else "; expected JSON lines, a JSON array, or a table with a column 'output'"


def _from_arrays(given: Iterable[str], name: str, longest: int) -> Iterator[tuple[str, Any]]:
    """The items of one array or several, one after the other."""
    text = "".join(given)
    place, line, inside, first = 0, 1, False, True
    while True:
        end = _skip(text, place)
        line += _breaks(text, place, end)
        place, where = end, f"{name}:{line}"
        if place == len(text):
            if inside:
                raise DataError(f"{where}: the JSON array never ends; is the file cut off?")
            return
        if not inside:
            if text[place] != "[":
                raise DataError(f"{where}: text follows the JSON array, near {quoted(text[place : place + 20])}")
            place, inside, first = place + 1, True, True
        elif text[place] == "]":
            place, inside = place + 1, False
        elif not first and text[place] == ",":
            place, first = place + 1, True
        elif not first:
            raise DataError(f"{where}: expected a comma between items, near {quoted(text[place : place + 20])}")
        else:
            value, end = _item(text, place, line, name)
            if end - place > longest:
                raise DataError(f"{where}: the item is longer than {longest:,} characters; cut the text")
            yield where, value
            line += _breaks(text, place, end)
            place, first = end, False


def _item(text: str, place: int, line: int, name: str) -> tuple[Any, int]:
    try:
        return _JSON.raw_decode(text, place)
    except json.JSONDecodeError as error:
        at = line + _breaks(text, place, error.pos)
        raise DataError(f"{name}:{at}: the JSON array is not JSON, {_near(text, error)}") from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{name}:{line}: not readable JSON: {error}") from None


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n\ufeff":
        place += 1
    return place


def _breaks(text: str, start: int, end: int) -> int:
    """Line ends (LF, CR LF or CR) in a part of a text."""
    part = text[start:end]
    return part.count("\n") + part.count("\r") - part.count("\r\n")
