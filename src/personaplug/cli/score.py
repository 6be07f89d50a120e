"""`personaplug score`: predictions in LaMP's file format, by the official metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from personaplug.cli.console import WORK
from personaplug.cli.console import out as screen

PLACE = (WORK, 8)
EPILOG = "Example: personaplug score predictions.json LaMP_4/dev_outputs.json"


def score(
    predictions: Annotated[
        Path,
        typer.Argument(metavar="PREDICTIONS", help="A file, or a folder with a file a task.", show_default=False),
    ],
    golds: Annotated[
        Path,
        typer.Argument(metavar="GOLDS", help="The right answers, likewise: dev_outputs.json.", show_default=False),
    ],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores.", show_default=False)
    ] = None,
) -> None:
    """Score predictions for LaMP's tasks by the official metrics.

    Both sides must be of the same tasks and the same requests. Of mae and rmse less is better, of all else more.
    """
    from rich.table import Table

    from personaplug.bench.report.render import METRIC_NAMES
    from personaplug.bench.submission import check_writable, score_submission
    from personaplug.core.files import write_json

    if json:
        check_writable(json)
    scores = score_submission(predictions, golds)
    table = Table("task", "metric", box=None, header_style="dim")
    table.add_column("value", justify="right")
    table.add_column("requests", justify="right")
    for own in scores:
        for metric, value in own.metrics.items():
            table.add_row(own.task, METRIC_NAMES.get(metric, metric), f"{value:.4f}", f"{own.requests:,}")
    screen().print(table)
    if json:
        write_json(json, {s.task: {**s.metrics, "requests": s.requests} for s in scores})
