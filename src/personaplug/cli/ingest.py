"""`personaplug ingest`: behaviours from files into a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import (
    DEFAULT_STORE,
    WORK,
    StoreOption,
    open_store,
    out,
    pluralize,
    progress_bar,
    safe,
    store_file,
)
from personaplug.data.jsonl import MAX_LINE_BYTES

if TYPE_CHECKING:
    from personaplug.data.ingest import Checked
    from personaplug.stores.base import Store

PLACE = (WORK, 1)
EPILOG = "Example: personaplug ingest mail/ --store users.db --encode mail.toml"


def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Folders with behaviors.jsonl, or files: JSON lines, a JSON array, CSV, Parquet; also compressed by "
            "gzip, bzip2 or xz, a pipe, or - for standard input.",
            show_default=False,
            allow_dash=True,
        ),
    ],
    store: StoreOption = DEFAULT_STORE,
    encode: Annotated[
        str,
        typer.Option(
            metavar="RUN.toml|ARTIFACT|MODEL",
            help="Also make the vectors that this run, trained plug, or default plug of a model looks at.",
            show_default=False,
        ),
    ] = "",
    max_line_bytes: Annotated[
        int, typer.Option(min=1, metavar="N", help="A longer line is an error.")
    ] = MAX_LINE_BYTES,
    rating_scale: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="The ratings' worst and best, for example 1:5 for stars.")
    ] = "0:1",
    encoding: Annotated[
        str, typer.Option(metavar="NAME", help="Of files that are neither UTF-8 nor UTF-16, for example cp1252.")
    ] = "",
    user: Annotated[str, typer.Option(metavar="NAME", help="Whose behaviours these are, where no line says so.")] = "",
    tenant: Annotated[
        str, typer.Option(metavar="NAME", help="Of a server with keys: the tenant whose users these are.")
    ] = "",
) -> None:
    """Add users' behaviours to a store.

    A behaviour is one JSON object a line, or a row of a table: "user" and "output", and as wanted "id", "input", "at"
    (UTC seconds, milliseconds, a date, or ISO-8601), "rating" (0 to 1) and "fields" (strings by name; in a table, all
    other columns).

    All lines are checked before any is added. Doing it again adds only what is new, also after a kill. What was encoded
    here is not encoded again by train, answer or serve on the same store.
    """
    from personaplug.data.ingest import check
    from personaplug.data.jsonl import Reading

    reading = Reading(max_line_bytes, encoding, rating_scale, user, tenant)
    file = store_file(store)
    # A store that is there is opened first: its faults should show before minutes of checking.
    opened = open_store(store) if file is None or file.exists() else None
    with progress_bar("checking") as advance:
        checked = [check(path, advance, reading) for path in paths]
    opened = opened or open_store(store, create=True)
    users = frozenset[str]().union(*(c.users for c in checked))
    try:
        new = _add(checked, opened)
        total = sum(c.behaviors for c in checked)
        _say(f"{pluralize(len(users), 'user')}, {pluralize(total, 'behaviour')} read, {new:,} new in {store}")
        if encode:
            _encode(encode, opened, users)
    finally:
        opened.close()


def _say(text: str) -> None:
    out().print(text, markup=False, soft_wrap=True)


def _encode(target: str, store: Store, users: frozenset[str]) -> None:
    from personaplug.cli.progress import Steps
    from personaplug.pipeline.run import encode_users, encoding_components

    steps = Steps()
    with steps.progress(f"loading {safe(target)}"):
        components = encoding_components(target, store)
    made = encode_users(components, store, users, steps.progress)
    key = components.vectors.encoder.key if components.vectors else ""
    _say(f"{pluralize(made, 'text')} encoded with {key}")


def _add(checked: list[Checked], store: Store) -> int:
    from personaplug.data.ingest import add

    with progress_bar("adding", sum(c.behaviors for c in checked)) as advance:
        return sum(add(c, store, advance) for c in checked)
