"""`personaplug bench`: many methods on many tasks, each beside its controls, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import err
from personaplug.cli.eval import (
    LimitOption,
    ResultsOption,
    SeedsOption,
    keep_if_sound,
    measure_seeds,
    measuring_sets,
    result_file,
    show_summary,
)
from personaplug.cli.train import SetOption, read_experiment

if TYPE_CHECKING:
    from personaplug.bench.experiment import Experiment
    from personaplug.bench.summary import Summary

EPILOG = "Example: personaplug bench experiments/bench --methods all --limit 64 --report report.html"


def bench(
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="TARGET...", help="Configuration files, or folders of them.", show_default=False),
    ],
    methods: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="Labels of the experiment, names on the shelf, or all.",
            show_default="what the configuration names",
        ),
    ] = "",
    sets: SetOption = [],  # noqa: B006 - typer's own default for a list
    seeds: SeedsOption = 1,
    limit: LimitOption = None,
    results: ResultsOption = Path("results"),
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where trained methods and vectors are kept.")] = Path(
        "runs/bench"
    ),
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a report of it all.", show_default=False)
    ] = None,
) -> None:
    """Measure every method of every experiment beside its controls, and say what is worth it.

    Leaves RESULTS/TASK/NAME-seedK.json, a row at a time: killed and run again, it goes on, and what nothing has changed
    for is not measured again. A method that fails is shown and noted in the result, the others go on; the exit code is
    then 1. An experiment is a TOML file with sections as for train; the methods that it is compared with stand in
    sections methods.LABEL, how to measure in the section bench.
    """
    from personaplug.bench.report import check_installed

    if report:
        check_installed()
    files = _files(targets)
    chosen = [m.strip() for m in methods.split(",") if m.strip()]
    failures: list[str] = []
    measured: list[Path] = []
    for file in files:
        experiment = _open(file, [*sets, *measuring_sets(limit, None)], out)
        keep_if_sound(experiment, chosen)
        first = experiment.run.training.seed
        try:
            pooled = measure_seeds(experiment, range(first, first + seeds), results, chosen, stop_at_failure=False)
        finally:
            experiment.close()
        show_summary(pooled)
        failures += _failures(file, pooled)
        name, task = experiment.name, experiment.info.name
        measured += [result_file(results, task, name, seed) for seed in range(first, first + seeds)]
    if report:
        from personaplug.bench import board as boards
        from personaplug.bench.board_page import render_board
        from personaplug.bench.results import write_text

        write_text(report, render_board(boards.board(boards.gather(measured))))
        err().print(f"report: {report}", markup=False, soft_wrap=True)
    for failure in failures:
        err().print(f"failed: {failure}", markup=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def _files(targets: list[Path]) -> list[Path]:
    from personaplug.errors import ConfigError

    found: list[Path] = []
    for target in targets:
        inside = sorted(target.glob("*.toml")) if target.is_dir() else [target]
        if not inside:
            raise ConfigError(f"{target}: no .toml file in this folder; name an experiment, or a folder of them")
        found += inside
    return found


def _open(file: Path, sets: list[str], out: Path) -> Experiment:
    from personaplug.cli.steps import Steps

    folder = out / file.resolve().parent.name / file.stem
    return read_experiment(file, sets, folder, "", Steps(), by_content=True)


def _failures(file: Path, pooled: Summary) -> list[str]:
    found = {f"{file}: {title}: {why}": None for r in pooled.results for title, why in r.failures.items()}
    return list(found)
