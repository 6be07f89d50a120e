"""The `personaplug` command: a file per subcommand; importing it never imports torch."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from personaplug.cli.console import PANELS
from personaplug.core.errors import PersonaplugError
from personaplug.core.version import __version__


class Commands(TyperGroup):
    """Turns what a user can cause into one line on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand."""
        try:
            return super().invoke(ctx)
        except PersonaplugError as error:
            raise _failed(error) from None
        except ModuleNotFoundError as error:
            from personaplug.core.registry import missing_extra

            if (error.name or "personaplug").split(".")[0] == "personaplug":
                raise  # our own fault, and not a library that is missing
            raise _failed(missing_extra(f"personaplug {ctx.invoked_subcommand or ''}".rstrip(), error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _failed(error: PersonaplugError) -> typer.Exit:
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)
    return typer.Exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"personaplug {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The command with a subcommand for each file here that has a `PLACE`: its panel in the help and its rank there.

    A file's subcommand is its function of the same name (either with `_` behind, where Python has that name already)
    with its `EPILOG`, or where it has several, its `app`.
    """
    app = typer.Typer(
        name="personaplug",
        cls=Commands,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,  # a fault of ours is shown as Python shows it
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Begin with: personaplug try. What is missing here: personaplug doctor.",
        callback=_root,
    )
    modules = [import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    commands = [m for m in modules if "PLACE" in vars(m)]
    for module in sorted(commands, key=lambda m: (PANELS.index(m.PLACE[0]), m.PLACE[1])):
        name, panel = module.__name__.rsplit(".", 1)[1].removesuffix("_"), module.PLACE[0]
        if "app" in vars(module):
            app.add_typer(module.app, name=name, rich_help_panel=panel)
        else:
            function = vars(module).get(name) or vars(module)[f"{name}_"]
            app.command(name, rich_help_panel=panel, epilog=module.EPILOG)(function)
    return app


def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """One learned persona per user, in front of any frozen language model."""


app = build_app()


def main() -> None:
    """The entry point of the `personaplug` command."""
    app(prog_name="personaplug")
