"""`personaplug voices`: do answers in free text sound like their users, and what does a persona cost elsewhere?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import WORK, err
from personaplug.cli.console import out as screen
from personaplug.cli.eval import ResultsOption, result_file
from personaplug.cli.train import SetOption, read_experiment, write_run

if TYPE_CHECKING:
    from personaplug.bench.voices import VoicesRow

PLACE = (WORK, 4)
EPILOG = "Example: personaplug voices experiments/chitchat/plug.toml --strength 1 --strength 2 --people 40"


def voices(  # noqa: PLR0913 (a command's options, each of which people look for by its own name)
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A configuration or a folder that train made.", show_default=False)
    ],
    *,
    methods: Annotated[
        str,
        typer.Option(metavar="A,B,...", help="Labels of the experiment or names.", show_default="the measured method"),
    ] = "",
    strength: Annotated[
        list[float] | None,
        typer.Option(min=0.0, metavar="S", help="Of the persona. May be repeated.", show_default="1"),
    ] = None,
    people: Annotated[int, typer.Option(min=2, metavar="N", help="How many users answer.")] = 40,
    questions: Annotated[int, typer.Option(min=1, metavar="N", help="How many requests each of them.")] = 6,
    texts: Annotated[int, typer.Option(min=1, metavar="N", help="Texts that a user needs.")] = 20,
    among: Annotated[int, typer.Option(min=2, metavar="N", help="Of how many people one is recognized.")] = 10,
    off_topic: Annotated[
        int, typer.Option(min=0, metavar="N", help="As how many of them the 200 checkable questions are asked.")
    ] = 2,
    show: Annotated[bool, typer.Option("--show", help="Keep and print answers: for data that may be shown.")] = False,
    sets: SetOption = [],  # noqa: B006 - typer's own default for a list
    results: ResultsOption = Path("results"),
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where trained methods are.", show_default="as for train")
    ] = None,
) -> None:
    """Habits of writing, author retrieval, distinct and broken answers, and what stays right of other questions.

    What is not trained yet is trained first. Every number stands with its 95% interval, whole users resampled. Leaves
    RESULTS/TASK/NAME-seedK.voices.json.
    """
    from personaplug.bench.plan import main_label, plan_methods
    from personaplug.bench.results import VOICES_RESULT, rounded
    from personaplug.bench.voices import VoicesConfig, gains, measure_voices
    from personaplug.cli.progress import Steps
    from personaplug.core.config import to_mapping
    from personaplug.core.files import write_json
    from personaplug.core.types import Conditioning

    experiment = read_experiment(target, sets, out, Steps())
    how = VoicesConfig(people, questions, texts, among, tuple(strength or (1.0,)), off_topic=off_topic)
    seed = experiment.run.training.seed
    chosen = [m.strip() for m in methods.split(",") if m.strip()] or [main_label(experiment.run)]
    planned = plan_methods(experiment.run, chosen, Conditioning.PREFIX in experiment.backbone.accepts)
    examples = experiment.examples("test")
    write_run(experiment)
    rows: list[VoicesRow] = []
    for method in [m for m in planned if m.label in chosen]:
        fitted = experiment.fit(method.run, method.label)
        with experiment.progress(f"answering by {method.label}", 0) as advance:
            made = measure_voices(
                fitted.components.method, method.label, experiment.info, examples, how, advance, show=show
            )
            rows += made
    path = result_file(results, experiment.info.name, experiment.name, seed).with_suffix(VOICES_RESULT)
    write_json(
        path,
        rounded(
            {
                "task": experiment.info.name,
                "seed": seed,
                "how": to_mapping(how),
                "rows": [
                    {**to_mapping(row), "gains": {m: to_mapping(i) for m, i in own.items()}}
                    for row, own in zip(rows, gains(rows), strict=True)
                ],
            }
        ),
    )
    _print(rows)
    err().print(f"written: {path}", markup=False, soft_wrap=True)


def _print(rows: list[VoicesRow]) -> None:
    from rich.table import Table

    from personaplug.bench.voices import MEASURES, gains

    table = Table("what is measured", *(f"{r.method}, strength {r.strength:g}" for r in rows))
    for name in MEASURES:
        cells = [r.scores.get(name) for r in rows]
        if any(cells):
            table.add_row(name, *(f"{c.mean:.3f} [{c.low:.3f}, {c.high:.3f}]" if c else "–" for c in cells))
    table.add_row("lower case, correlation", *("–" if r.correlation is None else f"{r.correlation:.2f}" for r in rows))
    screen().print(table)
    for row, own in list(zip(rows, gains(rows), strict=True))[1:]:
        for name in ("author", "habits", "distinct"):
            if name in own:
                gain = own[name]
                over = f"{rows[0].method}, strength {rows[0].strength:g}"
                screen().print(
                    f"{name}: {row.method}, strength {row.strength:g}, over {over}: {gain.mean:+.3f} "
                    f"[{gain.low:+.3f}, {gain.high:+.3f}]",
                    markup=False,
                )
    for row in rows:
        for user, answers in list(row.answers.items())[:5]:
            screen().print(f"{row.method}, strength {row.strength:g}, {user}: {answers[0]}", markup=False)
