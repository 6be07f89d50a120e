"""`personaplug demo`: the whole path on packaged real data, from nothing to a report, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import START, err
from personaplug.cli.console import out as screen
from personaplug.cli.train import SetOption

if TYPE_CHECKING:
    from personaplug.cli.progress import Steps
    from personaplug.pipeline.build import RunConfig

PLACE = (START, 1)
EPILOG = "Example: personaplug demo --out demo"

_QUICK = (
    "task.max_users=24", "task.requests_per_user=4", "task.max_history=16", "method.max_history=16",
    "bench.generate=8", "training.steps=6", "training.batch_size=8", "training.log_every=2",
)  # fmt: skip


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Everything is left here.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A minute's worth: shows the path, not the gain.")] = False,
    sets: SetOption = [],  # noqa: B006 - typer's own default for a list
) -> None:
    """Watch a frozen model become personal: pull, ingest, encode, train, measure, answer as two people.

    Real people's chats (MIT licence) and a small model, both from packages; about 20 minutes on two processor cores.
    Killed anywhere and run again, it goes on.
    """
    from personaplug.bench.experiment import Experiment
    from personaplug.bench.report.render import check_installed, write_report
    from personaplug.cli.eval import measure_seeds, show_users
    from personaplug.cli.progress import Steps, print_people, print_summary

    check_installed()
    steps = Steps()
    run = _prepare(out, [*(_QUICK if quick else ()), *sets], steps)
    folder = out / "quick" if quick else out
    experiment = Experiment(run, folder, "demo", steps.progress)
    seed = run.training.seed
    pooled = measure_seeds(experiment, range(seed, seed + 1), folder / "measured")
    examples, comparison = show_users(experiment, pooled)
    with steps.progress("writing the report", 0):
        write_report(folder / "report.html", pooled, examples, comparison)
    steps.print()
    print_summary(pooled)
    print_people(comparison, examples)
    screen().print(f"\nreport: {folder / 'report.html'}", markup=False, soft_wrap=True)
    err().print(
        f"talk to it: personaplug answer {folder / 'plug'} --store {out / 'users.db'}", markup=False, soft_wrap=True
    )
    err().print(
        f"in a browser: personaplug serve {folder / 'plug'} --store {out / 'users.db'} "
        f"--report {folder / 'report.html'}",
        markup=False,
        soft_wrap=True,
    )


def _prepare(out: Path, sets: list[str], steps: Steps) -> RunConfig:
    """Model and data here, behaviours in the store, and the run that they are for."""
    import tomllib
    from importlib.resources import files

    from personaplug import data, models
    from personaplug.core.config import apply_sets
    from personaplug.data.ingest import ingest
    from personaplug.pipeline.build import build_store, read_run
    from personaplug.stores import store_section

    def say(text: str) -> None:
        err().print(text, markup=False)

    plain = tomllib.loads(files("personaplug.bench").joinpath("demo.toml").read_text("utf-8"))
    plain["store"] = store_section(out / "users.db").to_mapping()
    plain = apply_sets(plain, sets)
    with steps.progress("fetching the model", 0):
        if plain["backbone"].get("model") in models.BUNDLES:
            models.pull(plain["backbone"]["model"], say)
    path = plain["task"]["path"]
    with steps.progress("fetching the data", 0):
        folder = data.pull(path, say) if path in data.DATA_SETS else Path(path)
    out.mkdir(parents=True, exist_ok=True)
    store = build_store(plain["store"])
    with steps.progress("ingesting", 0):
        done = ingest(folder, store)
    say(f"{done.behaviors:,} behaviours of {done.users:,} users, {done.new:,} new")
    store.close()
    return read_run(plain, "demo")
