"""Opens what people have: files, pipes and compressed files as text, with other kinds of file refused by name."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import shutil
import sys
import weakref
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from personaplug.core.errors import DataError

STDIN = Path("-")

_IN_MEMORY = 64_000_000  # bytes of a pipe that are held in memory; what is more goes to a temporary file
_PEEK = 8192
_COMPRESSED: tuple[tuple[bytes, Callable[[Any], AbstractContextManager[object]]], ...] = (
    (b"\x1f\x8b", lambda stream: gzip.GzipFile(fileobj=stream)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)
# How other kinds of file begin, what they are, and the way out.
_OTHER_KINDS = (
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file; save the sheet as CSV UTF-8"),
    (b"SQLite format 3\0", "a SQLite database; write its rows as JSON lines or CSV first"),
    (b"%PDF-", "a PDF; write its texts as JSON lines or CSV first"),
    (b"ARROW1", "an Arrow file; in pandas: read_feather(FILE).to_json(OUT, orient='records', lines=True)"),
    (b"Obj\x01", "an Avro file; write its records as JSON lines first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; use: zstdcat FILE | personaplug ingest -"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it and name the file inside"),
    (b"Rar!", "a RAR archive; unpack it and name the file inside"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BAD_BYTE = re.compile("[\udc80-\udcff]")  # how `surrogateescape` marks bytes that are not UTF-8
_NOT_A_LINE = "the line is longer than {:,} bytes; cut the text or raise max_line_bytes"


class Source:
    """A file that can be read from its start again and again; a pipe is copied when it is first read.

    Args:
        path: a file, a pipe, or `-` for standard input.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = "standard input" if path == STDIN else str(path)
        self._copy: IO[bytes] | None = None

    @contextmanager
    def open(self) -> Iterator[BufferedReader]:
        """The file's bytes, decompressed.

        Raises:
            DataError: it cannot be read, or is a kind of file that holds no lines; names the kind and the way out.
        """
        with ExitStack() as stack:
            try:
                raw = self._raw(stack)
                stream = stack.enter_context(_buffered(raw))
                opener = _decompressor(stream.peek(_PEEK)[:8])
                if opener is not None:
                    stream = stack.enter_context(_buffered(stack.enter_context(opener(stream))))
                self._refuse_other_kinds(stream)
                yield stream
            except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
                raise DataError(f"{self.name}: the compressed file is damaged or cut off: {error}") from None
            except OSError as error:
                raise DataError(f"{self.name}: cannot be read: {error.strerror or error}") from None

    def _raw(self, stack: ExitStack) -> object:
        if self.path != STDIN and self.path.is_file():
            return stack.enter_context(self.path.open("rb", buffering=0))
        if self._copy is None:
            copy = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # it lives as long as the source
            if self.path == STDIN:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                with self.path.open("rb") as pipe:
                    shutil.copyfileobj(pipe, copy)
            self._copy = copy
            weakref.finalize(self, copy.close)
        self._copy.seek(0)
        return _Unclosed(self._copy)

    def _refuse_other_kinds(self, stream: BufferedReader) -> None:
        start = stream.peek(_PEEK)
        kind = next((kind for magic, kind in _OTHER_KINDS if start.startswith(magic)), "")
        if start.startswith(b"PK\x03\x04"):
            kind = _kind_of_zip(stream)
        elif start[257:262] == b"ustar":
            kind = "a tar archive; unpack it and name the file inside"
        elif _decompressor(start[:8]) is not None:
            kind = "compressed twice; decompress it once"
        if kind:
            raise DataError(f"{self.name}: this is {kind}")


def _buffered(raw: object) -> BufferedReader:
    return BufferedReader(cast("io.RawIOBase", raw), 1 << 16)


class _Unclosed(io.RawIOBase):
    """A file that stays open when its reader closes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _decompressor(start: bytes) -> Callable[[Any], AbstractContextManager[object]] | None:
    return next((opener for magic, opener in _COMPRESSED if start.startswith(magic)), None)


def _kind_of_zip(stream: BufferedReader) -> str:
    if not stream.seekable():
        return "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV UTF-8"
    try:
        names = zipfile.ZipFile(stream).namelist()
    except zipfile.BadZipFile:
        return "a zip archive that is damaged; unpack it and name the file inside"
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook; save the sheet as CSV UTF-8"
    return "a zip archive; unpack it and name the file inside"


def encoding_of(start: bytes) -> str:
    """The encoding of a text by its first bytes: its byte order mark, or UTF-16's zero bytes; else UTF-8.

    >>> encoding_of(b"a"), encoding_of("a,b".encode("utf-16-le")), encoding_of("a,b".encode("utf-16"))
    ('utf-8', 'utf-16-le', 'utf-16')
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if odd > 0.4 * len(start[1::2]) and even == 0:
        return "utf-16-le"
    if even > 0.4 * len(start[0::2]) and odd == 0:
        return "utf-16-be"
    return "utf-8"


def lines(stream: BufferedReader, name: str, encoding: str, longest: int) -> Generator[str]:
    """The lines of a text with their ends as they stand (LF, CR LF or CR), without byte order marks at their starts.

    Args:
        stream: the bytes.
        name: how errors begin.
        encoding: "" to tell it by the first bytes; a byte order mark is believed first.
        longest: a line of more bytes is an error.

    Raises:
        DataError: a line is too long, holds NUL, or is not in the encoding; names the line.
    """
    start = stream.peek(_PEEK)[:_PEEK]
    marked = next((marked for mark, marked in _MARKS if start.startswith(mark)), "")
    encoding = marked or encoding or encoding_of(start)
    errors = "surrogateescape" if codecs.lookup(encoding).name.startswith("utf-8") else "strict"
    text = io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="")
    number = 0
    try:
        while line := text.readline(longest + 3):  # + 3: its end, and a sign that there is more
            number += 1
            where = f"{name}:{number}"
            content = line.rstrip("\r\n")
            if len(content) > longest or (
                not content.isascii() and len(content.encode(errors="surrogateescape")) > longest
            ):
                raise DataError(f"{where}: {_NOT_A_LINE.format(longest)}")
            if bad := _BAD_BYTE.search(content):
                place = len(content[: bad.start()].encode(errors="surrogateescape")) + 1
                raise DataError(
                    f"{where}: byte {place} of the line, 0x{ord(bad[0]) - 0xDC00:02x}, is not UTF-8; save the file as "
                    "UTF-8, or name its encoding, for example --encoding cp1252"
                )
            if "\0" in content:
                raise DataError(f"{where}: the line holds NUL (\\0); this is no text file, or a damaged one")
            yield line.lstrip("\ufeff")
    except UnicodeError as error:
        raise DataError(
            f"{name}:{number + 1}: the line is not in the encoding {encoding}: {error}; save the file as UTF-8"
        ) from None
    finally:
        text.detach()
