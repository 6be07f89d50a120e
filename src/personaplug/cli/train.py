"""`personaplug train`: a method on a task, from a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personaplug.cli.console import out as screen

if TYPE_CHECKING:
    from personaplug.bench.experiment import Experiment
    from personaplug.cli.progress import Steps

EPILOG = "Example: personaplug train experiments/chitchat/plug.toml --set training.steps=200"
RUN = "run.toml"

SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a value, for example training.steps=200.")
]
StoreUrlOption = Annotated[
    str, typer.Option("--store", metavar="FILE", help="Where vectors are kept; by default users.db in --out.")
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

    experiment = open_experiment(config, sets, out, store, Steps())
    fitted = experiment.fit()
    curve = fitted.curve
    if not fitted.assembly.method.trained:
        text = f"{fitted.assembly.method.name} has nothing to train; measure it with: personaplug eval"
    elif fitted.reused:
        text = f"{fitted.folder} is trained already with this configuration ({curve.steps} steps); nothing to do"
    else:
        last = f", last loss {curve.curve[-1][1]:.4f} nats a token" if curve.curve else ""
        text = f"{fitted.folder}: {curve.steps} steps in {duration(curve.seconds)}{last}"
    screen().print(text, markup=False, soft_wrap=True)


def open_experiment(
    config: Path, sets: list[str], out: Path | None, store: str, steps: Steps, *, by_content: bool = False
) -> Experiment:
    """The experiment of a configuration file, or of a folder that `train` made; its folder is there from now on.

    Raises:
        ConfigError: there is no such file, or something in it is wrong.
    """
    experiment = read_experiment(config, sets, out, store, steps, by_content=by_content)
    keep_run(experiment)
    return experiment


def read_experiment(
    config: Path, sets: list[str], out: Path | None, store: str, steps: Steps, *, by_content: bool = False
) -> Experiment:
    """As `open_experiment`, but nothing is written yet: not before `keep_run`."""
    from personaplug.bench.experiment import Experiment, read_run
    from personaplug.core.config import apply_sets, read_toml

    file = config / RUN if config.is_dir() else config
    name = config.resolve().name if config.is_dir() else config.stem
    folder = out or (config if config.is_dir() else Path("runs") / name)
    plain = apply_sets(read_toml(file), sets)
    if store:
        plain["store"] = {"name": "sql", "url": store}
    run = read_run(plain, str(file))
    return Experiment(run, folder, name, steps.watch, by_content=by_content)


def keep_run(experiment: Experiment) -> None:
    """Write the run's configuration into the experiment's folder, which can then stand for it."""
    from personaplug.core.config import to_mapping, write_toml

    experiment.out.mkdir(parents=True, exist_ok=True)
    write_toml(experiment.out / RUN, _absolute(to_mapping(experiment.run)))


def _absolute(run: dict[str, Any]) -> dict[str, Any]:
    """The run as it can be read from anywhere: the task's data and the store are named by their full paths."""
    task, store = dict(run["task"]), dict(run["store"])
    if "path" in task and Path(task["path"]).expanduser().exists():  # else it is the name of a packaged data set
        task["path"] = str(Path(task["path"]).expanduser().absolute())
    if "://" not in store.get("url", "://"):
        store["url"] = str(Path(store["url"]).expanduser().absolute())
    return {**run, "task": task, "store": store}
