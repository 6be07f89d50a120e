"""What the commands share: the screen, the store they are given, and how things are put on a line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from unicodedata import category

import typer

from personaplug.core.errors import DataError
from personaplug.core.progress import ProgressLines
from personaplug.stores import store_section

if TYPE_CHECKING:
    from rich.console import Console

    from personaplug.stores.base import Store

STORE_VARIABLE = "PERSONAPLUG_STORE"
StoreOption = Annotated[
    str,
    typer.Option(
        "--store", envvar=STORE_VARIABLE, metavar="FILE", help="A SQLite file, or postgresql://HOST/DATABASE."
    ),
]
DEFAULT_STORE = "personaplug.db"

PANELS = START, WORK, LOOK = "Start", "Histories, training, answers", "What there is"
"""Panels of the help; a command names its one in `PLACE`."""

_UNSAFE = {
    "Cc",
    "Cs",
}  # control characters, which drive a terminal, and halves of surrogate pairs, which nothing encodes
_PIPE_WIDTH = 200  # columns of a table that goes to a pipe, where nobody has a window


def out() -> Console:
    """Standard output; made anew, since tests and pipes replace it."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_PIPE_WIDTH if piped else None, highlight=False)


def err() -> Console:
    """Standard error: for progress and remarks, so that what goes to a pipe is the result alone."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def store_file(url: str) -> Path | None:
    """The file of a SQLite store, or None for a server."""
    if "://" not in url:
        return Path(url).expanduser()
    return Path(url.removeprefix("sqlite:///")).expanduser() if url.startswith("sqlite:///") else None


def open_store(url: str, *, create: bool = False) -> Store:
    """A store by path or address.

    Args:
        url: a path, or an address with `://`.
        create: make it if it is not there.

    Raises:
        DataError: not there, or not a store.
    """
    file = store_file(url)
    if file is not None and not create and not file.exists():
        raise DataError(
            f"store {file}: no such file; name another with --store, or make it with: "
            f"personaplug ingest PATH --store {file}"
        )
    store: Store = store_section(url).build()
    return store


@contextmanager
def progress_bar(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with items a second, or a line now and then where it is no terminal; yields what advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")

    screen = err()
    if not screen.is_terminal:
        lines = ProgressLines(lambda line: screen.print(line, markup=False, soft_wrap=True), f"{what}:", total or 0)
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            done += n
            lines.reached(done)

        yield advance
        return
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)


def safe(text: str, width: int = 0) -> str:
    r"""Someone's text, safe for a terminal: escape sequences are spelled out; in one line of `width`, unless that is 0.

    >>> print(safe("a\x1b[2Jb"), safe("one\ntwo three", 8))
    a\x1b[2Jb one two…
    """
    if width:
        text = " ".join(text.split())
        text = text if len(text) <= width else f"{text[: width - 1].rstrip()}…"
    return "".join(c if c in "\n\t" or category(c) not in _UNSAFE else ascii(c)[1:-1] for c in text)


def format_time(at: float | None) -> str:
    """UTC seconds as a date and time, or the bare number where no calendar has it.

    >>> format_time(0.0), format_time(None)
    ('1970-01-01 00:00', '–')
    """
    if at is None:
        return "–"
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        return f"{at:g}"


def pluralize(n: int, what: str, plural: str = "") -> str:
    """A number with its noun.

    >>> pluralize(1, "user"), pluralize(1200, "behaviour")
    ('1 user', '1,200 behaviours')
    """
    return f"{n:,} {what if n == 1 else plural or what + 's'}"
