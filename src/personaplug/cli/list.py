"""`personaplug list`: what stands on the shelves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import LOOK, out
from personaplug.core import registry
from personaplug.core.errors import MissingExtraError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

PLACE = (LOOK, 3)
EPILOG = "Example: personaplug list methods"


def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="SHELF",
            help="methods, tasks, encoders, backbones, stores or rewards; by default all.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """What there is to choose from: names for TOML files and --set, what each needs, and where it comes from."""
    plurals = {folder: kind for kind, (folder, _) in registry.SHELVES.items()}
    if what is not None and what not in plurals:
        raise UnknownNameError(f"no shelf is named {what!r}; {did_you_mean(what, plurals)}")
    screen = out()
    for plural in plurals if what is None else [what]:
        screen.print(_table(plural, plurals[plural]))


def _table(plural: str, kind: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=plural, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True, style="bold")
    for column in ("what it is", "needs", "source"):
        table.add_column(column, overflow="fold")
    for name in registry.names(kind):
        table.add_row(name, *(Text(cell) for cell in _cells(kind, name)))
    return table


def _cells(kind: str, name: str) -> tuple[str, str, str]:
    """Summary, needs and source; for a thing whose library is missing, how to install it."""
    try:
        cls = registry.find(kind, name)
    except MissingExtraError as error:
        return "not installed", str(error), ""
    needs = ""
    if kind == "method":
        needs = f"{cls.needs}, training" if cls.trained else str(cls.needs)
    elif kind == "backbone":
        needs = f"accepts {cls.accepts}"
    return cls.summary, needs, cls.source
