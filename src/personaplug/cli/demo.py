"""`personaplug demo`: the whole path on packaged real data, from nothing to a report, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import START, err
from personaplug.cli.console import out as screen
from personaplug.cli.train import SetOption

if TYPE_CHECKING:
    from personaplug.bench.experiment import Experiment
    from personaplug.cli.progress import Steps
    from personaplug.pipeline.build import RunConfig

PLACE = (START, 1)
EPILOG = "Example: personaplug demo --out demo"


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Everything is left here.")] = Path("demo"),
    sets: SetOption = [],  # noqa: B006 - typer's own default for a list
) -> None:
    """Watch a frozen model become personal: what `try` shows, then the same trained here from nothing, and measured.

    Real people's chats (MIT licence) and a small model, both from packages; up to 20 minutes on two processor cores.
    Killed anywhere and run again, it goes on.
    """
    from personaplug.bench.experiment import Experiment
    from personaplug.bench.report.render import check_installed, write_report
    from personaplug.cli.eval import measure_seeds, show_users
    from personaplug.cli.progress import Steps, print_people, print_summary

    check_installed()
    steps = Steps()
    # 1) two people, answered by the plug that comes with the package
    run = _read(out, sets)
    model = str(run.backbone.given.get("model", ""))
    _show_shipped(model, steps)
    # 2) the same from nothing: data, training
    _ingest(run, out, steps)
    experiment = Experiment(run, out, "demo", steps.progress)
    _show_trained(experiment, model)
    # 3) the controls: is it the person, or would any soft tokens do?
    screen().print("\nControls: soft tokens without a person (task_prompt), and the wrong person's (shuffled users)")
    seed = run.training.seed
    pooled = measure_seeds(experiment, range(seed, seed + 1), out / "measured")
    examples, comparison = show_users(experiment, pooled)
    with steps.progress("writing the report", 0):
        write_report(out / "report.html", pooled, examples, comparison)
    steps.print()
    print_summary(pooled)
    print_people(comparison, examples)
    _next(out, examples[0].user if examples else comparison.people[0].user if comparison else "")


def _read(out: Path, sets: list[str]) -> RunConfig:
    import tomllib
    from importlib.resources import files

    from personaplug.core.config import apply_sets
    from personaplug.pipeline.build import read_run
    from personaplug.stores import store_section

    plain = tomllib.loads(files("personaplug.bench").joinpath("demo.toml").read_text("utf-8"))
    plain["store"] = store_section(out / "users.db").to_mapping()
    return read_run(apply_sets(plain, sets), "demo")


def _show_shipped(model: str, steps: Steps) -> None:
    """What `personaplug try` shows, where a plug is shipped for the model."""
    from personaplug.cli import pair
    from personaplug.cli.try_ import QUESTION
    from personaplug.pipeline.shipped import shipped_plug

    if shipped_plug(model) is None:
        return
    pair.pull_model(model)
    people = pair.two_people(model)
    pair.introduce(people)
    with steps.progress("answering as both from their newest texts", 0), pair.passing_store() as store:
        me = pair.shipped_personalizer(store, model)
        me.observe(*(b for own in people.values() for b in own))
        pair.answer_as(me, list(people), QUESTION)
    screen().print("\nNow the same from nothing, with a plug that is made here:", style="bold")


def _show_trained(experiment: Experiment, model: str) -> None:
    """Train the plug; the two people again, answered by it."""
    from personaplug.cli import pair
    from personaplug.cli.try_ import QUESTION
    from personaplug.pipeline.shipped import shipped_plug

    fitted = experiment.fit()
    if shipped_plug(model) is None:
        return
    people = pair.two_people(model)
    pair.introduce(people)
    with pair.with_people(fitted.components.method, experiment.info, people) as me:
        pair.answer_as(me, list(people), QUESTION)


def _ingest(run: RunConfig, out: Path, steps: Steps) -> None:
    """The data here, and the behaviours in the store."""
    from personaplug import data
    from personaplug.data.ingest import ingest
    from personaplug.pipeline.build import build_store

    def say(text: str) -> None:
        err().print(text, markup=False)

    path = str(run.task.given["path"]) if run.task else ""
    with steps.progress("fetching the data", 0):
        folder = data.pull(path, say) if path in data.DATA_SETS else Path(path)
    out.mkdir(parents=True, exist_ok=True)
    store = build_store(run.store)
    with steps.progress("ingesting", 0):
        done = ingest(folder, store)
    say(f"{done.behaviors:,} behaviours of {done.users:,} users, {done.new:,} new")
    store.close()


def _next(out: Path, user: str) -> None:
    """Commands that go on from here; the last one can be pasted."""
    from shlex import quote

    plug, store = quote(str(out / "plug")), quote(str(out / "users.db"))
    report = quote(str(out / "report.html"))
    lines = (
        f"\nreport: {out / 'report.html'}",
        f"in a browser: {_command()} serve {plug} --store {store} --report {report}",
        f'{_command()} answer {plug} --store {store} --user {quote(user)} --vs none "any plans for tonight?"',
    )
    for line in lines:
        screen().print(line, markup=False, soft_wrap=True)


def _command() -> str:
    """How this command was called: `.venv/bin/personaplug` where it is not on the path."""
    import shutil
    import sys
    from shlex import quote

    called = Path(sys.argv[0])
    return "personaplug" if called.name != "personaplug" or shutil.which("personaplug") else quote(str(called))
