"""`personaplug eval`: a method beside its controls on held-out requests, over several seeds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import err
from personaplug.cli.console import out as screen
from personaplug.cli.train import SetOption, open_experiment

if TYPE_CHECKING:
    from personaplug.bench.experiment import Experiment, Measuring
    from personaplug.bench.results import Result
    from personaplug.bench.showcase import Duel, Look
    from personaplug.bench.summary import Summary

EPILOG = "Example: personaplug eval experiments/chitchat/plug.toml --seeds 3 --report report.html"


def evaluate(
    targets: Annotated[
        list[Path],
        typer.Argument(
            metavar="TARGET...",
            help="Configuration files or folders that train made; or result files, which are only pooled.",
            show_default=False,
        ),
    ],
    sets: SetOption = [],  # noqa: B006 - typer's own default for a list
    seeds: Annotated[int, typer.Option(min=1, help="Train and measure with this many seeds.")] = 1,
    limit: Annotated[int, typer.Option(min=0, help="At most so many test requests; 0 is all.")] = 0,
    generate: Annotated[int, typer.Option(min=0, help="How many of them are also answered (text tasks).")] = 32,
    results: Annotated[Path, typer.Option(metavar="FOLDER", help="Where results and claims are kept.")] = Path(
        "results"
    ),
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a report.", show_default=False)
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(metavar="PAGE.md", help="Of result files: put their table into this page.", show_default=False),
    ] = None,
) -> None:
    """Measure a method beside its controls: no method, a task prompt, shuffled users, no history.

    What is not trained yet is trained first. Leaves RESULTS/TASK/NAME-seedK.json and the claims in RESULTS/claims.json;
    killed and run again, it goes on.
    """
    from personaplug.bench.experiment import Measuring
    from personaplug.bench.report import check_installed, write_report
    from personaplug.bench.results import load
    from personaplug.bench.summary import summarize
    from personaplug.bench.table import markdown, write_into

    if report:
        check_installed()
    if all(path.suffix == ".json" for path in targets):
        pooled = summarize([load(path) for path in targets])
        _show(pooled)
        if report:
            write_report(report, pooled)
        if table:
            write_into(table, markdown([pooled]))
        return
    for target in targets:
        _evaluate(target, sets, seeds, Measuring(limit, generate), results, report)


def _evaluate(
    target: Path, sets: list[str], seeds: int, measuring: Measuring, results: Path, report: Path | None
) -> None:
    from personaplug.bench.report import write_report
    from personaplug.cli.steps import Steps

    experiment = open_experiment(target, sets, None, "", Steps())
    first = experiment.run.training.seed
    pooled = measure_seeds(experiment, range(first, first + seeds), measuring, results)
    _show(pooled)
    if report:
        looks, duel = show_users(experiment, pooled)
        write_report(report, pooled, looks, duel)
        err().print(f"report: {report}", markup=False, soft_wrap=True)


def measure_seeds(experiment: Experiment, seeds: range, measuring: Measuring, folder: Path) -> Summary:
    """Measure every seed, keep its result, and record the claims about all of them."""
    from personaplug.bench.results import save
    from personaplug.bench.summary import record_claims, summarize

    found: list[Result] = []
    for seed in seeds:
        found.append(experiment.evaluate(seed, measuring))
        save(result_file(folder, found[-1]), found[-1])
    pooled = summarize(found)
    if pooled.gains:
        record_claims(folder / "claims.json", pooled)
    return pooled


def result_file(folder: Path, result: Result) -> Path:
    """RESULTS/TASK/NAME-seedK.json; names that are no file names are made so."""
    task, name = (re.sub(r"[^\w.-]+", "-", text) for text in (result.task.name, result.name))
    return folder / task / f"{name}-seed{result.seed}.json"


def show_users(experiment: Experiment, pooled: Summary) -> tuple[list[Look], Duel | None]:
    """What the first seed's persona looked at, and the same requests as two users."""
    from personaplug.bench.showcase import duel, looks
    from personaplug.personalizer import Personalizer

    first = pooled.results[0]
    with experiment.watch("answering as two users", 0):
        method = experiment.fit(experiment.seeded(first.seed)).assembly.method
        examples = [e for e in experiment.task.examples("test") if e.id in set(first.rows[0].ids)]
        personalizer = Personalizer(method, experiment.store, experiment.info)
        return looks(method, examples, first), duel(personalizer, examples)


def _show(pooled: Summary) -> None:
    from personaplug.cli.steps import print_summary

    print_summary(pooled)
    if not pooled.gains:
        screen().print("only one row was measured; nothing to compare", markup=False)
