"""`personaplug keys`: who may use a server, as whom."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import DEFAULT_STORE, WORK, StoreOption, err, format_time, open_store, out, pluralize, safe

if TYPE_CHECKING:
    from personaplug.stores.database.keys import KeyRow

PLACE = (WORK, 12)
app = typer.Typer(no_args_is_help=True, help="Make, show and revoke the keys of a server.")


@app.command(epilog="Example: personaplug keys create --user ada --scope read --store users.db")
def create(  # noqa: PLR0913 (a command's options, each of which people look for by its own name)
    store: StoreOption = DEFAULT_STORE,
    *,
    user: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The user that it speaks for; may be repeated. Without: all of the tenant."),
    ] = None,
    tenant: Annotated[
        str, typer.Option(metavar="NAME", help="Whose users; tenants never see each other. Without: the store's own.")
    ] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="What it may do: read (answers, histories), write (histories), admin (erase users, measurements). "
            "May be repeated; without: read and write.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Requests a second, 0 for no limit; by default the server's.")
    ] = None,
    user_rate: Annotated[
        float | None, typer.Option(metavar="N", help="The same for one user; by default the server's.")
    ] = None,
    max_body: Annotated[
        int | None, typer.Option(metavar="BYTES", help="Of a request at most; by default what the server takes.")
    ] = None,
    max_behaviors: Annotated[
        int | None, typer.Option(metavar="N", help="Stored of a user at most; by default any number.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="A word for you to know it by.")] = "",
) -> None:
    """Make a key. It is shown once: only its hash is stored."""
    from personaplug.serve.security.api_keys import Limits, make_key
    from personaplug.stores.database.keys import KeyTable

    open_store(store, create=True).close()
    limits = Limits(rate, user_rate, max_body, max_behaviors)
    with closing(KeyTable(store)) as table:
        row, key = make_key(
            table, name=name, tenant=tenant, users=user or (), scopes=scope or ("read", "write"), limits=limits
        )
    whose = pluralize(len(row.users), "user") if row.users else "all users"
    err().print(
        f"key {row.id}: {', '.join(row.scopes)} for {whose} of {tenant or 'the store'}; it is not shown again:",
        markup=False,
        soft_wrap=True,
    )
    out().print(key, markup=False, soft_wrap=True)


@app.command("list", epilog="Example: personaplug keys list --store users.db")
def list_keys(store: StoreOption = DEFAULT_STORE) -> None:
    """Every key ever made, without its secret."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from personaplug.stores.database.keys import KeyTable

    open_store(store).close()
    with closing(KeyTable(store)) as keys:
        rows = keys.all()
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("key", "name", "tenant", "users", "scopes", "limits", "made", "revoked"):
        table.add_column(column, overflow="fold")
    for row in rows:
        users = "all" if row.users is None else ", ".join(row.users)
        cells = (row.id, row.name, row.tenant, users, ", ".join(row.scopes), _limits(row), format_time(row.created))
        table.add_row(*(Text(safe(cell)) for cell in cells), "" if row.revoked is None else format_time(row.revoked))
    screen = out()
    if rows:
        screen.print(table)
    screen.print(f"{pluralize(sum(row.revoked is None for row in rows), 'key')} of {len(rows)} good")


def _limits(row: KeyRow) -> str:
    limits = {"/s": row.rate, "/s a user": row.user_rate, " bytes": row.body_bytes, " behaviours": row.behaviors}
    return ", ".join(f"{limit:,}{word}" for word, limit in limits.items() if limit is not None)


@app.command(epilog="Example: personaplug keys revoke k3xq0a8b1c2d --store users.db")
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id: `personaplug keys list`.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Close a key for ever; a running server notices within seconds."""
    from personaplug.serve.security.api_keys import revoke_key
    from personaplug.stores.database.keys import KeyTable

    open_store(store).close()
    with closing(KeyTable(store)) as table:
        revoke_key(table, key)
    out().print(f"revoked {key}", markup=False)
