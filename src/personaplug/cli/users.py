"""`personaplug users`: who is in a store, what they did, taking it out and erasing it."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from personaplug.cli.console import DEFAULT_STORE, WORK, StoreOption, format_time, open_store, out, pluralize, safe
from personaplug.core.errors import DataError
from personaplug.data.jsonl import write_lines

PLACE = (WORK, 13)
app = typer.Typer(no_args_is_help=True, help="Show, export and forget the users of a store.")

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="A user's name.", show_default=False)]


@app.command("list", epilog="Example: personaplug users list --store users.db")
def list_users(store: StoreOption = DEFAULT_STORE) -> None:
    """Everybody in the store, with how much is known of them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    with closing(open_store(store)) as opened:
        users = opened.users()
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("user", overflow="fold")
    table.add_column("behaviours", justify="right")
    table.add_column("first")
    table.add_column("last")
    for user in users:
        table.add_row(Text(safe(user.user)), f"{user.behaviors:,}", format_time(user.first), format_time(user.last))
    screen = out()
    if users:
        screen.print(table)
    screen.print(f"{pluralize(len(users), 'user')}, {pluralize(sum(u.behaviors for u in users), 'behaviour')}")


@app.command(epilog="Example: personaplug users show ada --newest 20 --store users.db")
def show(
    user: UserArgument,
    store: StoreOption = DEFAULT_STORE,
    newest: Annotated[int, typer.Option(min=0, metavar="N", help="How many behaviours to show.")] = 10,
) -> None:
    """A user's newest behaviours."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    with closing(open_store(store)) as opened:
        history = opened.history(user)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("at", "input", "output", "rating"):
        table.add_column(name)
    for b in reversed(history.last(newest).behaviors):
        rating = "" if b.rating is None else f"{b.rating:g}"
        table.add_row(format_time(b.at), Text(safe(b.input, 70)), Text(safe(b.output, 70)), rating)
    screen = out()
    screen.print(f"{safe(user)}: {pluralize(len(history), 'behaviour')}, version {history.version}", markup=False)
    if table.row_count:
        screen.print(table)


@app.command(epilog="Example: personaplug users export ada --out ada.jsonl --store users.db")
def export(
    user: UserArgument,
    store: StoreOption = DEFAULT_STORE,
    to: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to; by default the screen or the pipe.")
    ] = None,
) -> None:
    """A user's behaviours as `personaplug ingest` reads them: adding them again changes nothing.

    A tenant's users have their own names in it; to add them again, name the tenant: ingest --tenant NAME.
    """
    with closing(open_store(store)) as opened:
        history = opened.history(user)
    lines = write_lines(history)
    if to is None:
        sys.stdout.buffer.writelines(lines)  # bytes: UTF-8 whatever the terminal's encoding
        sys.stdout.buffer.flush()
        return
    try:
        with to.open("wb") as file:
            file.writelines(lines)
    except OSError as error:
        raise DataError(f"{to}: cannot be written: {error.strerror}; name another file with --out") from None


@app.command(epilog="Example: personaplug users forget ada --store users.db")
def forget(
    user: UserArgument,
    store: StoreOption = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a user: afterwards no byte of their text, vectors or prepared states is left in the store's files."""
    with closing(open_store(store)) as opened:
        count = len(opened.history(user))
        if not yes:
            question = f"Erase user {user!r} with {pluralize(count, 'behaviour')} from {store}, for ever?"
            typer.confirm(question, abort=True, err=True)
        receipt = opened.forget(user)
    out().print(
        f"forgot {receipt.user!r} at {format_time(receipt.at)} UTC: {pluralize(receipt.behaviors, 'behaviour')}, "
        f"{pluralize(receipt.vectors, 'vector')}, {pluralize(receipt.states, 'prepared state')} erased",
        markup=False,
        soft_wrap=True,
    )
