"""`personaplug train`: a method on a task, from a configuration file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personaplug.cli.console import DEFAULT_STORE, STORE_VARIABLE, WORK, store_file
from personaplug.cli.console import out as screen
from personaplug.stores import DEFAULT, store_section

if TYPE_CHECKING:
    from personaplug.bench.experiment import Experiment
    from personaplug.cli.progress import Steps
    from personaplug.core.registry import Section
    from personaplug.pipeline.build import RunConfig
    from personaplug.pipeline.run import TrainingRun

PLACE = (WORK, 2)
EPILOG = "Example: personaplug train experiments/chitchat/plug.toml --set training.steps=200"

SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a value, for example training.steps=200.")
]
StoreUrlOption = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="FILE",
        help="Histories and vectors; by default what ingest wrote if it holds the task's, else users.db in --out.",
    ),
]


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to train.", show_default=False)],
    sets: SetOption = [],  # noqa: B006 - typer's own default for a list
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What is left here.", show_default="runs/CONFIG")
    ] = None,
    store: StoreUrlOption = "",
) -> None:
    """Train a method on a task; killed and run again, it goes on where it stopped.

    The trained artifact stands in FOLDER/METHOD; a second run with the same configuration loads it and is done.
    """
    from personaplug.cli.progress import Steps, duration

    training = read_training(config, sets, out, store, Steps())
    write_run(training)
    fitted = training.fit()
    curve = fitted.curve
    if not fitted.components.method.trained:
        text = f"{fitted.components.method.name} has nothing to train; measure it with: personaplug eval"
    elif fitted.reused:
        text = f"{fitted.folder} is trained already with this configuration ({curve.steps} steps); nothing to do"
    else:
        last = f", last loss {curve.curve[-1][1]:.4f} nats a token" if curve.curve else ""
        text = f"{fitted.folder}: {curve.steps} steps in {duration(curve.seconds)}{last}"
    screen().print(text, markup=False, soft_wrap=True)


def read_training(config: Path, sets: list[str], out: Path | None, store: str, steps: Steps) -> TrainingRun:
    """The run of a configuration file, or of a folder that `train` made; nothing is written before `write_run`.

    Raises:
        ConfigError: there is no such file, or something in it is wrong.
    """
    from personaplug.pipeline.run import TrainingRun

    run, folder, name = _read(config, sets, out, store)
    return TrainingRun(run, folder, name, steps.progress, shared=_ingested_store())


def read_experiment(
    config: Path, sets: list[str], out: Path | None, steps: Steps, *, by_content: bool = False
) -> Experiment:
    """As `read_training`, with what it takes to measure."""
    from personaplug.bench.experiment import Experiment

    run, folder, name = _read(config, sets, out, "")
    return Experiment(run, folder, name, steps.progress, by_content=by_content, shared=_ingested_store())


def _read(config: Path, sets: list[str], out: Path | None, store: str) -> tuple[RunConfig, Path, str]:
    from personaplug.core.config import apply_sets, read_toml
    from personaplug.pipeline.build import read_run
    from personaplug.pipeline.run import RUN

    file = config / RUN if config.is_dir() else config
    name = config.resolve().name if config.is_dir() else config.stem
    folder = out or (config if config.is_dir() else Path("runs") / name)
    plain = apply_sets(read_toml(file), sets)
    if store:
        plain["store"] = {"name": DEFAULT, "url": store}
    return read_run(plain, str(file)), folder, name


def _ingested_store() -> Section | None:
    """The store that `ingest` writes by default, if it is there."""
    url = os.environ.get(STORE_VARIABLE) or DEFAULT_STORE
    file = store_file(url)
    return store_section(url) if file is None or file.exists() else None


def write_run(training: TrainingRun) -> None:
    """Write the run's configuration into its folder, which can then stand for it."""
    from personaplug.core.config import write_toml
    from personaplug.pipeline.run import RUN

    training.out.mkdir(parents=True, exist_ok=True)
    write_toml(training.out / RUN, _absolute(training.run.to_mapping()))


def _absolute(run: dict[str, Any]) -> dict[str, Any]:
    """The run as it can be read from anywhere: the task's data and the store are named by their full paths."""
    task, store = dict(run["task"]), dict(run["store"])
    if "path" in task and Path(task["path"]).expanduser().exists():  # else it is the name of a packaged data set
        task["path"] = str(Path(task["path"]).expanduser().absolute())
    if "://" not in store.get("url", "://"):
        store["url"] = str(Path(store["url"]).expanduser().absolute())
    return {**run, "task": task, "store": store}
