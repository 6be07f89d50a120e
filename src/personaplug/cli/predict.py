"""`personaplug predict`: a method's answers to every request of a split, as a file in LaMP's submission format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from personaplug.cli.console import WORK, pluralize
from personaplug.cli.console import out as screen
from personaplug.cli.train import SetOption, read_experiment, write_run

if TYPE_CHECKING:
    from personaplug.bench.experiment import Experiment
    from personaplug.bench.plan import PlannedMethod
    from personaplug.core.types import Example

PLACE = (WORK, 7)
EPILOG = "Example: personaplug predict experiments/lamp/plug.toml --split test --out predictions.json"

_BATCH = 32  # requests run together; a killed run repeats at most so many


def predict(
    target: Annotated[
        Path,
        typer.Argument(metavar="TARGET", help="A configuration file, or a folder that train made.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="The predictions.", show_default=False)],
    split: Annotated[Literal["dev", "test"], typer.Option(help="What to answer.")] = "test",
    method: Annotated[
        str,
        typer.Option(
            metavar="LABEL", help="A label of the configuration, or a name on the shelf.", show_default="its own method"
        ),
    ] = "",
    sets: SetOption = [],  # noqa: B006 - typer's own default for a list
    limit: Annotated[int, typer.Option(min=0, help="At most so many requests, evenly spread; 0 is all.")] = 0,
) -> None:
    """Answer every request of a split, and write the answers as LaMP's evaluator reads them.

    The right answers need not be there. What is not trained yet is trained first. Of a choice or rating the likeliest
    option is the answer, texts are generated. Killed and run again, it goes on. LaMP's tasks are scored by: personaplug
    score
    """
    from personaplug.bench.plan import main_label, plan_methods
    from personaplug.bench.submission import check_no_oracle, check_writable
    from personaplug.cli.progress import Steps
    from personaplug.core.errors import DataError

    check_writable(out)
    experiment = read_experiment(target, sets, None, Steps())
    [entry] = plan_methods(experiment.run, [method or main_label(experiment.run)], prefix=True)
    check_no_oracle(entry.cls, entry.label)
    # What is malformed is refused before anything is written.
    examples = experiment.examples(split, limit)
    if not examples:
        raise DataError(f"task {experiment.info.name!r}: the {split} split has no requests; choose another --split")
    try:
        if not target.is_dir():
            write_run(experiment)
        _write(experiment, entry, examples, split, out)
    finally:
        experiment.close()
    what = f"{pluralize(len(examples), 'prediction')} for {experiment.info.name} ({split}) by {entry.label}"
    screen().print(f"{out}: {what}", markup=False, soft_wrap=True)


def _write(experiment: Experiment, entry: PlannedMethod, examples: list[Example], split: str, out: Path) -> None:
    from personaplug.bench.submission import Draft, predict
    from personaplug.pipeline.fingerprint import content, fingerprint, portable

    if not entry.cls.trained:
        experiment.by_content = True  # nothing to keep of the method, so no artifact, and train need not be there
    components = experiment.fit(entry.run, entry.label).components
    experiment.encode(components, examples)
    plain = portable(entry.run.to_mapping())
    draft = Draft(out, fingerprint(plain, method=components.method.key, asked=content(examples)))
    left = [e for e in examples if e.id not in draft.answers]
    with experiment.progress(f"answering {split}", len(left)) as advance:
        for at in range(0, len(left), _BATCH):
            batch = left[at : at + _BATCH]
            answers = predict(components.method, experiment.info, batch, _BATCH, experiment.states, advance)
            draft.add(dict(zip([e.id for e in batch], answers, strict=True)))
    draft.finish(experiment.info.name, [e.id for e in examples])
