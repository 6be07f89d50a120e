"""`personaplug simulate`: answers of several writers, scored by several rewards, for simulated users; resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import WORK, err, out, pluralize
from personaplug.cli.train import SetOption

if TYPE_CHECKING:
    from personaplug.bench.answer_sets.statistics import SetFacts

PLACE = (WORK, 9)
EPILOG = "Example: personaplug simulate experiments/personalllm/local.toml --report tastes.html"


def simulate(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="What to build.", show_default=False)],
    sets: SetOption = [],  # noqa: B006 - typer's own default for a list
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where the set goes.", show_default="runs/personalllm/NAME"),
    ] = None,
    results: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the statistics go: FOLDER/personalllm/NAME.set.json.")
    ] = Path("results"),
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page.", show_default=False)] = None,
) -> None:
    """Build a PersonalLLM-style set: prompts, several answers to each, rewards, and how simulated users differ on them.

    Killed and run again, it goes on: answers and scores that are there are not made again. The task `personalllm` reads
    the folder.
    """
    from filelock import FileLock, Timeout

    from personaplug.bench.answer_sets.make import build
    from personaplug.bench.answer_sets.recipe import Recipe
    from personaplug.bench.answer_sets.statistics import facts, render_facts, write_facts
    from personaplug.bench.report.render import check_installed
    from personaplug.bench.results import SET_RESULT
    from personaplug.cli.progress import Steps
    from personaplug.core.config import apply_sets, from_mapping, read_toml
    from personaplug.core.errors import DataError
    from personaplug.core.files import write_text

    if report:
        check_installed()
    wanted = from_mapping(Recipe, apply_sets(read_toml(recipe), sets), where=str(recipe))
    target = folder or Path("runs") / "personalllm" / recipe.stem
    target.mkdir(parents=True, exist_ok=True)
    steps = Steps()
    try:
        with FileLock(target / ".lock", timeout=0):
            built = build(wanted, target, steps.progress)
    except Timeout:
        raise DataError(
            f"{target}: another process is building this set; wait for it, or choose another --out"
        ) from None
    facts_of_set = facts(recipe.stem, wanted, built, steps.seconds)
    write_facts(results / "personalllm" / f"{recipe.stem}{SET_RESULT}", facts_of_set)
    if report:
        write_text(report, render_facts(facts_of_set))
        err().print(f"report: {report}", markup=False, soft_wrap=True)
    _show(facts_of_set, target)


def _show(facts: SetFacts, folder: Path) -> None:
    from rich.table import Table

    screen = out()
    prompts = pluralize(facts.train + facts.test, "prompt")
    screen.print(f"{folder}: {prompts}, {facts.answers} answers each, {len(facts.scales)} rewards", markup=False)
    table = Table("alpha", "heaviest weight", "rewards a user rests on", "two users differ", box=None)
    for d in facts.diversity:
        row = (f"{d.alpha:g}", f"{d.top_weight:.3f}", f"{d.effective_rewards:.2f}", f"{d.disagreement:.1%}")
        table.add_row(*row)
    screen.print(table)
    if facts.constant:
        err().print(f"gives all answers the same score: {', '.join(facts.constant)}", markup=False)
