"""Long steps on the screen: what is under way, how fast it goes, and what each took at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from personaplug.cli.console import err, out, progress_bar, safe

if TYPE_CHECKING:
    from personaplug.bench.report.showcase import Comparison, UserExample
    from personaplug.bench.report.summary import Line, Summary


NOTHING = "(nothing)"


class Steps:
    """Shows steps as they run and remembers their wall times; `progress` is what an `Experiment` is given."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def progress(self, name: str, total: int = 0) -> Iterator[Callable[[int], None]]:
        """Show a step: with a bar where its size is known."""
        start = time.perf_counter()
        if total:
            with progress_bar(name, total) as advance:
                yield advance
        else:
            err().print(f"{name} …", markup=False)
            yield lambda _: None
        spent = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + spent
        err().print(f"{name}: {duration(spent)}", markup=False)

    def print(self) -> None:
        """Print what each step took, the longest first shown where it happened."""
        from rich.table import Table

        table = Table("step", "time", box=None, header_style="dim")
        for name, seconds in self.seconds.items():
            table.add_row(safe(name), duration(seconds))
        out().print(table)


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(4.25), duration(252.0)
    ('4.2 s', '4 min 12 s')
    """
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


def print_summary(summary: Summary) -> None:
    """The table of scores with their intervals, and the gains that matter."""
    from rich.table import Table

    from personaplug.bench.report.render import METRIC_NAMES, unit

    metrics = list(dict.fromkeys(m for line in summary.lines for m in line.scores))
    table = Table(title=f"{summary.results[0].task.name} / {summary.results[0].name}", title_justify="left")
    table.add_column("what the model is given")
    for metric in metrics:
        table.add_column(METRIC_NAMES.get(metric, metric), justify="right")
    for line in summary.lines:
        style = "bold" if line.row is summary.main else None
        table.add_row(safe(line.row.title), *(_cell(line, m) for m in metrics), style=style)
    screen = out()
    screen.print(table)
    if summary.gains:
        screen.print(f"gain of {summary.main.title}, {unit(summary.metric)} (more is better):", markup=False)
    for gain in summary.gains:
        interval = gain.interval
        verdict = "better" if interval.low > 0 else "worse" if interval.high < 0 else "not shown: includes 0"
        screen.print(
            f"  over {gain.other}: {interval.mean:+.4f}  95% [{interval.low:+.4f}, {interval.high:+.4f}]  {verdict}",
            markup=False,
        )


def print_people(comparison: Comparison | None, examples: Sequence[UserExample]) -> None:
    """The same requests as two users, and what a persona looked at."""
    screen = out()
    if comparison:
        for n, request in enumerate(comparison.requests):
            screen.print(f"\nrequest: {safe(request)}", markup=False, style="bold")
            for person, answer in zip(comparison.people, comparison.answers[n], strict=True):
                screen.print(f"  as {safe(person.user)}: {safe(answer, 300) or NOTHING}", markup=False)
            screen.print(f"  as nobody: {safe(comparison.plain[n], 300) or NOTHING}", markup=False, style="dim")
    for example in examples[:1]:
        note = "all weigh the same (mean pooling); the newest" if example.uniform else "heaviest first"
        screen.print(f"\nwhat the persona of {safe(example.user)} looked at, {note}:", markup=False, style="bold")
        for share in example.shares[:5]:
            screen.print(f"  {share.weight:6.1%}  {safe(share.text, 100)}", markup=False)


def _cell(line: Line, metric: str) -> str:
    if metric not in line.scores:
        return "–"
    mean, deviation = line.scores[metric]
    interval = line.intervals.get(metric)
    text = f"{mean:.3f}" + (f" ± {deviation:.3f}" if line.seeds > 1 else "")
    return f"{text} [{interval.low:.3f}, {interval.high:.3f}]" if interval else text
