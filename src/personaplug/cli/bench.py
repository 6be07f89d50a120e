"""`personaplug bench`: many methods on many tasks, each beside its controls, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import WORK, err
from personaplug.cli.eval import (
    LimitOption,
    ResultsOption,
    SeedsOption,
    check_and_write,
    measure_seeds,
    measuring_sets,
    result_file,
    show_summary,
)
from personaplug.cli.train import SetOption, read_experiment

if TYPE_CHECKING:
    from personaplug.bench.experiment import Experiment

PLACE = (WORK, 4)
EPILOG = "Example: personaplug bench experiments/bench --methods all --limit 64 --report report.html"


def bench(  # noqa: PLR0913, PLR0917 - all of them are options of the command
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
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where trained methods and vectors are stored.")] = Path(
        "runs/bench"
    ),
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a report of it all.", show_default=False)
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Experiments side by side, each a process with its share of the cores.")
    ] = 1,
) -> None:
    """Measure every method of every experiment beside its controls, and say what is worth it.

    Leaves RESULTS/TASK/NAME-seedK.json, a row at a time: killed and run again, it goes on, and what nothing has changed
    for is not measured again. A method that fails is shown and noted in the result, the others go on; the exit code is
    then 1. An experiment is a TOML file with sections as for train; the methods that it is compared with stand in
    sections methods.LABEL, how to measure in the section bench.
    """
    from personaplug.bench.report.render import check_installed

    if report:
        check_installed()
    files = _files(targets)
    chosen = [m.strip() for m in methods.split(",") if m.strip()]
    all_sets = [*sets, *measuring_sets(limit, None)]
    seen = [_open(file, all_sets, out) for file in files]
    if jobs > 1 and len(files) > 1:
        words = ["--methods", methods, "--seeds", seeds, "--results", results, "--out", out]
        words += [word for s in all_sets for word in ("--set", s)]
        _side_by_side(files, [str(w) for w in words], jobs)
    else:
        for experiment in seen:
            _measure(experiment, seeds, results, chosen)
    measured = [result_file(results, e.info.name, e.name, e.run.training.seed + n) for e in seen for n in range(seeds)]
    failures = _failures(measured)
    if report:
        from personaplug.bench.report import board as boards
        from personaplug.bench.report.board_page import render_board
        from personaplug.core.files import write_text

        write_text(report, render_board(boards.board(boards.gather(measured))))
        err().print(f"report: {report}", markup=False, soft_wrap=True)
    for failure in failures:
        err().print(f"failed: {failure}", markup=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def _files(targets: list[Path]) -> list[Path]:
    from personaplug.core.errors import ConfigError

    files: list[Path] = []
    for target in targets:
        inside = sorted(target.glob("*.toml")) if target.is_dir() else [target]
        if not inside:
            raise ConfigError(f"{target}: no .toml file in this folder; name an experiment, or a folder of them")
        files += inside
    return files


def _open(file: Path, sets: list[str], out: Path) -> Experiment:
    from personaplug.cli.progress import Steps

    folder = out / file.resolve().parent.name / file.stem
    return read_experiment(file, sets, folder, Steps(), by_content=True)


def _measure(experiment: Experiment, seeds: int, results: Path, chosen: list[str]) -> None:
    from filelock import FileLock, Timeout

    from personaplug.core.errors import DataError

    check_and_write(experiment, chosen)
    first = experiment.run.training.seed
    try:
        with FileLock(experiment.out / ".lock", timeout=0):
            pooled = measure_seeds(experiment, range(first, first + seeds), results, chosen, stop_at_failure=False)
    except Timeout:
        raise DataError(
            f"{experiment.out}: another process is measuring this experiment; wait for it, or choose another --out"
        ) from None
    finally:
        experiment.close()
    show_summary(pooled)


def _side_by_side(files: list[Path], words: list[str], jobs: int) -> None:
    """Run the command once for each file, `jobs` of them at a time.

    Raises:
        DataError: one of them could not measure anything; it has said why.
    """
    import os
    import subprocess
    import sys
    from concurrent.futures import ThreadPoolExecutor

    from personaplug.core.errors import DataError

    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs)), **os.environ}

    def one(file: Path) -> int:
        command = [sys.executable, "-m", "personaplug", "bench", str(file), *words]
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603

    with ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(one, files))
    broken = [str(file) for file, code in zip(files, codes, strict=True) if code not in (0, 1)]
    if broken:
        raise DataError(f"nothing was measured of {', '.join(broken)}; the reason stands above")


def _failures(measured: list[Path]) -> list[str]:
    from personaplug.bench.results import load

    loaded = [(load(path), path) for path in measured]
    return [f"{path}: {title}: {why}" for result, path in loaded for title, why in result.failures.items()]
