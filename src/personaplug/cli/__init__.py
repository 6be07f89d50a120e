"""The `personaplug` command: a file per subcommand; importing it never imports torch."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from personaplug.cli import (
    answer,
    bench,
    benchmark,
    data,
    demo,
    doctor,
    ingest,
    keys,
    models,
    predict,
    score,
    serve,
    simulate,
    train,
    users,
)
from personaplug.cli import eval as evaluation
from personaplug.cli import list as shelves
from personaplug.cli import report as reporting
from personaplug.core.errors import PersonaplugError
from personaplug.core.version import __version__

_START, _WORK, _LOOK = "Start", "Histories, training, answers", "What there is"


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


app = typer.Typer(
    name="personaplug",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a fault of ours is told as Python tells it
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: personaplug demo. What is missing here: personaplug doctor.",
)


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """One learned persona per user, in front of any frozen language model."""


app.command("demo", rich_help_panel=_START, epilog=demo.EPILOG)(demo.demo)
app.command("doctor", rich_help_panel=_START, epilog=doctor.EPILOG)(doctor.doctor)
app.command("ingest", rich_help_panel=_WORK, epilog=ingest.EPILOG)(ingest.ingest)
app.command("train", rich_help_panel=_WORK, epilog=train.EPILOG)(train.train)
app.command("eval", rich_help_panel=_WORK, epilog=evaluation.EPILOG)(evaluation.evaluate)
app.command("bench", rich_help_panel=_WORK, epilog=bench.EPILOG)(bench.bench)
app.command("report", rich_help_panel=_WORK, epilog=reporting.EPILOG)(reporting.report)
app.command("benchmark", rich_help_panel=_WORK, epilog=benchmark.EPILOG)(benchmark.benchmark)
app.command("predict", rich_help_panel=_WORK, epilog=predict.EPILOG)(predict.predict)
app.command("score", rich_help_panel=_WORK, epilog=score.EPILOG)(score.score)
app.command("simulate", rich_help_panel=_WORK, epilog=simulate.EPILOG)(simulate.simulate)
app.command("answer", rich_help_panel=_WORK, epilog=answer.EPILOG)(answer.answer)
app.command("serve", rich_help_panel=_WORK, epilog=serve.EPILOG)(serve.serve)
app.add_typer(keys.app, name="keys", rich_help_panel=_WORK)
app.add_typer(users.app, name="users", rich_help_panel=_WORK)
app.add_typer(models.app, name="models", rich_help_panel=_LOOK)
app.add_typer(data.app, name="data", rich_help_panel=_LOOK)
app.command("list", rich_help_panel=_LOOK, epilog=shelves.EPILOG)(shelves.shelves)


def main() -> None:
    """The entry point of the `personaplug` command."""
    app(prog_name="personaplug")
