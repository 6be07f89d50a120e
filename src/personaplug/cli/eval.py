"""`personaplug eval`: a method beside its controls on held-out requests, over several seeds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import WORK, err
from personaplug.cli.console import out as screen
from personaplug.cli.train import SetOption, read_experiment, write_run

if TYPE_CHECKING:
    from personaplug.bench.experiment import Experiment
    from personaplug.bench.report.showcase import Comparison, UserExample
    from personaplug.bench.report.summary import Summary

SeedsOption = Annotated[int, typer.Option(min=1, help="Train and measure with this many seeds.")]
LimitOption = Annotated[
    int | None, typer.Option(min=0, help="At most so many requests; 0 is all.", show_default="bench.limit, or all")
]
GenerateOption = Annotated[
    int | None,
    typer.Option(min=0, help="How many of them are also answered (text tasks).", show_default="bench.generate, or 64"),
]
ResultsOption = Annotated[Path, typer.Option(metavar="FOLDER", help="Where results and claims are written.")]
_ENOUGH = 3  # seeds that a claim of quality takes
PLACE = (WORK, 3)
EPILOG = "Example: personaplug eval experiments/chitchat/plug.toml --seeds 3 --report report.html"


def eval_(
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="TARGET...", help="Configuration files or folders that train made.", show_default=False),
    ],
    sets: SetOption = [],  # noqa: B006 - typer's own default for a list
    seeds: SeedsOption = 1,
    limit: LimitOption = None,
    generate: GenerateOption = None,
    results: ResultsOption = Path("results"),
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a report.", show_default=False)
    ] = None,
) -> None:
    """Measure a method beside its controls: no method, a task prompt, shuffled users, no history.

    What is not trained yet is trained first. Leaves RESULTS/TASK/NAME-seedK.json and the claims in RESULTS/claims.json;
    killed and run again, it goes on. Many methods at once: personaplug bench; pages of results: personaplug report.
    """
    from personaplug.bench.report.render import check_installed
    from personaplug.core.errors import ConfigError

    if report:
        check_installed()
    for target in targets:
        if target.suffix == ".json":
            raise ConfigError(
                f"{target}: a result, and not a configuration; look at it with: personaplug report {target}"
            )
    for target in targets:
        _evaluate(target, [*sets, *measuring_sets(limit, generate)], seeds, results, report)


def _evaluate(target: Path, sets: list[str], seeds: int, results: Path, report: Path | None) -> None:
    from personaplug.bench.report.render import write_report
    from personaplug.cli.progress import Steps

    experiment = read_experiment(target, sets, None, Steps())
    experiment.run = dataclasses.replace(experiment.run, methods={})
    check_and_write(experiment)
    first = experiment.run.training.seed
    pooled = measure_seeds(experiment, range(first, first + seeds), results)
    show_summary(pooled)
    if report:
        examples, comparison = show_users(experiment, pooled)
        write_report(report, pooled, examples, comparison)
        err().print(f"report: {report}", markup=False, soft_wrap=True)


def check_and_write(experiment: Experiment, chosen: Sequence[str] = ()) -> None:
    """Write the run into its folder, but not before everything in it can be read: data, methods, what to measure."""
    from personaplug.bench.plan import plan_methods

    plan_methods(experiment.run, chosen, prefix=True)
    experiment.examples(experiment.measuring.split)
    write_run(experiment)


def measuring_sets(limit: int | None, generate: int | None) -> list[str]:
    """The options as `--set`s of the [bench] section: what is not given stays as the configuration has it."""
    given = {"limit": limit, "generate": generate}
    return [f"bench.{name}={value}" for name, value in given.items() if value is not None]


def measure_seeds(
    experiment: Experiment, seeds: range, folder: Path, chosen: Sequence[str] = (), *, stop_at_failure: bool = True
) -> Summary:
    """Measure every seed, keep its result, and record the claims about all of them if there are enough for any."""
    from personaplug.bench.report.summary import record_claims, summarize

    how = experiment.measuring
    measured = [
        experiment.evaluate(
            seed, how, result_file(folder, experiment.info.name, experiment.name, seed), chosen, stop_at_failure
        )
        for seed in seeds
    ]
    pooled = summarize(measured)
    if pooled.gains and len(measured) >= _ENOUGH:
        record_claims(folder, pooled)
    return pooled


def result_file(folder: Path, task: str, name: str, seed: int) -> Path:
    """RESULTS/TASK/NAME-seedK.json; names that are no file names are made so."""
    task, name = (re.sub(r"[^\w.-]+", "-", text) for text in (task, name))
    return folder / task / f"{name}-seed{seed}.json"


def show_users(experiment: Experiment, pooled: Summary) -> tuple[list[UserExample], Comparison | None]:
    """What the first seed's persona looked at, and the same requests as two users."""
    from personaplug.bench.report.showcase import compare_users, user_examples
    from personaplug.pipeline.personalizer import Personalizer

    first = pooled.results[0]
    with experiment.progress("answering as two users", 0):
        method = experiment.fit(experiment.run.with_seed(first.seed)).components.method
        how = experiment.measuring
        examples = experiment.examples(how.split, how.limit)
        personalizer = Personalizer(method, experiment.store, experiment.info)
        return user_examples(method, examples, first), compare_users(personalizer, examples)


def show_summary(pooled: Summary) -> None:
    """Print the table of scores and the measured method's gains."""
    from personaplug.cli.progress import print_summary

    print_summary(pooled)
    if not pooled.gains:
        screen().print("only one row was measured; nothing to compare", markup=False)
