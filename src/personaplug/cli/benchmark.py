"""`personaplug benchmark`: how fast this machine answers, trains, encodes and observes, as ratios with their goals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from personaplug.cli.console import WORK, err, out
from personaplug.core.errors import ConfigError

PLACE = (WORK, 6)
EPILOG = "Example: personaplug benchmark overhead batch --rounds 5"


def benchmark(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help="What to measure; all by default.", show_default=False),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="How often each thing is timed.")] = 3,
    model: Annotated[str, typer.Option(metavar="NAME", help="The frozen language model.")] = "smollm2-135m",
    encoder: Annotated[str, typer.Option(metavar="NAME", help="The sentence encoder's model.")] = "minilm",
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps.")] = "cpu",
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Also write speed.json there and the claims into the ledger, part by part.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure speed on this machine: ratios of what runs in turns, with the goals that we hold ourselves to.

    Parts: overhead, pooling, first, shared, batch, observing, encoding, training. All take about ten minutes on two
    cores. Needs the two models and the data set chitchat (personaplug models pull, personaplug data pull). Ends with 0
    whether the goals are reached or not: a busy machine misses them.
    """
    import json
    from dataclasses import asdict

    from rich import box
    from rich.table import Table

    from personaplug.bench.claims import Claim, reached, record
    from personaplug.bench.speed.bench import Bench
    from personaplug.bench.speed.parts import PARTS
    from personaplug.core.files import write_json

    wrong = next((name for name in parts or () if name not in PARTS), None)
    if wrong is not None:
        raise ConfigError(f"part {wrong!r} is none of benchmark's; choose from: {', '.join(PARTS)}")
    if results is not None and not results.is_dir():
        raise ConfigError(f"results folder {results}: is no folder; make it first")
    table = Table(box=box.SIMPLE_HEAD)
    for column, side in (("what", "left"), ("ratio", "right"), ("goal", "right"), ("", "left"), ("in words", "left")):
        table.add_column(column, justify=side, overflow="fold")  # type: ignore[arg-type]
    with Bench(rounds, model, encoder, device) as bench:
        for name in parts or PARTS:
            with err().status(f"measuring {name} …"):
                ratios = PARTS[name](bench)
            for ratio in ratios:
                verdict = "met" if reached(ratio.value, ratio.goal) else "missed"
                verdict = "" if ratio.goal == "reported" else verdict
                table.add_row(ratio.id, f"{ratio.value:.3g}", ratio.goal, verdict, ratio.words)
            if results is not None:
                file = results / "speed.json"
                known = json.loads(file.read_text("utf-8")) if file.exists() else {}
                rows = [asdict(ratio) for ratio in ratios]
                write_json(file, {**known, name: {"model": model, "device": device, "rounds": rounds, "rows": rows}})
                record(results, *(Claim.now(r.id, r.words, [r.value], r.goal) for r in ratios))
    out().print(table)
