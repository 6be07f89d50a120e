"""`personaplug report`: results of many experiments as one page, a table on the screen, Markdown or LaTeX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import WORK, err, safe
from personaplug.cli.console import out as screen

if TYPE_CHECKING:
    from personaplug.bench.report.board import Board, Cell, Table

PLACE = (WORK, 5)
EPILOG = "Example: personaplug report results --out report.html --into README.md"
_PAGE = Path("report.html")


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Result files, or folders that are searched for them.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help="Write the page here.", show_default="report.html, if nothing else is asked for"
        ),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the table as Markdown.", show_default=False)
    ] = None,
    latex: Annotated[
        Path | None, typer.Option(metavar="FILE.tex", help="Write the table as LaTeX.", show_default=False)
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="PAGE.md", help="Put the Markdown table between the marks of a page.", show_default=False),
    ] = None,
    baseline: Annotated[str, typer.Option(metavar="METHOD", help="What knows nothing.")] = "none",
    reference: Annotated[str, typer.Option(metavar="METHOD", help="What knows the task and no user.")] = "task_prompt",
    metric: Annotated[
        str, typer.Option(help="What tables and gains are in, for example nll.", show_default="each task's headline")
    ] = "",
) -> None:
    """Compare all methods on all tasks: scores, the gains that hold, costs, cold starts, examples.

    Seeds of one experiment are pooled; experiments on known and on unseen users stand in two tables. If anything is
    wrong with a result, nothing is written.
    """
    from personaplug.bench.report import board as boards
    from personaplug.bench.report import table
    from personaplug.core.files import write_text

    if into:
        table.read_from(into)  # fails now if the marks are missing, and not when half is written
    board = boards.board(boards.gather(paths), baseline, reference, metric)
    written: list[tuple[Path, str]] = []
    page = out or (None if markdown or latex or into else _PAGE)
    if page:
        from personaplug.bench.report.board_page import render_board

        written.append((page, render_board(board)))
    if markdown:
        written.append((markdown, table.markdown(board) + "\n"))
    if latex:
        written.append((latex, table.latex(board)))
    for path, text in written:
        write_text(path, text)
        err().print(f"report: {path}", markup=False, soft_wrap=True)
    if into:
        table.write_into(into, table.markdown(board))
        err().print(f"table: {into}", markup=False, soft_wrap=True)
    if not (markdown or latex or into):
        _print(board)


def _print(board: Board) -> None:
    from rich.table import Table as Grid

    from personaplug.bench.report import table

    for part in board.tables:
        grid = Grid(title=table.SPLITS[part.split], title_justify="left")
        grid.add_column("method")
        for column in part.columns:
            grid.add_column(f"{safe(column.title, 30)}\n{table.heading(column)}", justify="right")
        for method in part.methods:
            name = f"{safe(method, 40)} (oracle)" if part.oracle(method) else safe(method, 40)
            cells = [_text(part.cell(method, c), c.metric) for c in part.columns]
            grid.add_row(name, *cells, style="dim" if part.oracle(method) else None)
        screen().print(grid)
        behind = "In brackets: the gain over shuffled users, which is what is personal."
        screen().print(" ".join(table.legend(board, part, behind)), markup=False)
        _print_failures(part)


def _print_failures(part: Table) -> None:
    from personaplug.bench.report import table

    for title, method, reason in table.failures(part):
        screen().print(f"failed: {safe(f'{title}, {method}: {reason}')}", markup=False, soft_wrap=True)


def _text(cell: Cell, metric: str) -> str:
    """A cell for a terminal, on one line."""
    from personaplug.bench.report import table

    mean, spread = table.score(cell, metric)
    over = cell.gains.get("shuffled")
    personal = f"({over.interval.mean:+.3f}{table.MARKS['shuffled'] * cell.better('shuffled')})" if over else ""
    best = f"[bold]{mean}[/bold]" if cell.best else mean
    return " ".join(part for part in (best, spread, table.marks(cell), personal) if part)
