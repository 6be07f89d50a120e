"""The table of scores and gains as Markdown, put between two marks of a page by a command and never by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from personaplug.bench.run import NLL
from personaplug.bench.summary import Summary
from personaplug.errors import DataError
from personaplug.metrics import Interval

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def markdown(summaries: Sequence[Summary]) -> str:
    """One table for each experiment: a line for each row, with the gain of the measured method over it."""
    return "\n\n".join(_table(s) for s in summaries)


def write_into(page: Path, table: str) -> None:
    """Replace what stands between the marks.

    Raises:
        DataError: the page lacks the marks.
    """
    before, after = _around(page)
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def read_from(page: Path) -> str:
    """What stands between the marks.

    Raises:
        DataError: the page lacks the marks.
    """
    before, after = _around(page)
    text = page.read_text("utf-8")
    return text[len(before) + len(BEGIN) : len(text) - len(after) - len(END)].strip("\n")


def _around(page: Path) -> tuple[str, str]:
    text = page.read_text("utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise DataError(f"{page}: needs the marks {BEGIN} and {END} once each; put them where the table shall stand")
    return text.split(BEGIN)[0], text.split(END)[1]


def _table(summary: Summary) -> str:
    first, main = summary.results[0], summary.main
    name = "nats a token" if summary.metric == NLL else summary.metric
    gains = {g.other: g.interval for g in summary.gains}
    seeds = len(summary.results)
    lines = [
        f"`{first.task.name}`, {len(main.ids)} held-out requests of {len(set(main.users))} users, "
        f"{seeds} seed{'s' if seeds > 1 else ''}, backbone `{first.config['backbone'].get('model', '')}`:",
        "",
        f"| what the frozen model is given | {name} | gain of {main.title} over it |",
        "|---|---|---|",
    ]
    for line in summary.lines:
        mean, deviation = line.scores[summary.metric]
        score = f"{mean:.3f}" + (f" ± {deviation:.3f}" if seeds > 1 else "")
        title = f"**{line.row.title}**" if line.row is main else line.row.title
        lines.append(f"| {title} | {score} | {_shown(gains.get(line.row.title))} |")
    return "\n".join(lines)


def _shown(gain: Interval | None) -> str:
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" if gain else "–"
