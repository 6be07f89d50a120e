"""The report: one HTML file with its charts and styles inside, which needs nothing else and no network."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from personaplug.bench.compare import Gain, gain_by_history, gain_by_user
from personaplug.bench.measure import NLL, Row, lower_is_better
from personaplug.bench.report import charts
from personaplug.bench.report.showcase import Comparison, UserExample
from personaplug.bench.report.summary import Line, Summary
from personaplug.core.config import to_mapping
from personaplug.core.errors import DataError
from personaplug.core.files import write_text
from personaplug.core.registry import missing_extra
from personaplug.pipeline.run import Curve

METRIC_NAMES = {
    NLL: "NLL", "rouge1": "ROUGE-1", "rougeL": "ROUGE-L", "auc": "AUC", "macro_f1": "macro F1", "mae": "MAE",
    "rmse": "RMSE", "option_nll": "NLL of options",
}  # fmt: skip
"""How metrics are written in tables, where it is not their name."""

_EXPLAINED = {
    "none": "the frozen model alone",
    "task_prompt": "a soft prompt of the same size and training that sees no user",
    "shuffled users": "the same weights, each user given another user's history",
    "no history": "the same weights, as for a user nobody knows",
}


@dataclass(frozen=True, slots=True)
class _Cell:
    """One score of a row: its mean, its interval or deviation, whether it is the best of its column."""

    text: str
    spread: str
    best: bool


def write_report(
    path: Path, summary: Summary, examples: Sequence[UserExample] = (), comparison: Comparison | None = None
) -> None:
    """Write the report.

    Args:
        path: the .html file.
        summary: what was measured.
        examples: held-out requests of single users.
        comparison: the same requests as two users.

    Raises:
        MissingExtraError: the libraries of the extra `report` are not installed.
    """
    write_text(path, render(summary, examples, comparison))


def render(summary: Summary, examples: Sequence[UserExample] = (), comparison: Comparison | None = None) -> str:
    """The report as HTML; all text of users and models is escaped.

    Raises:
        MissingExtraError: the libraries of the extra `report` are not installed.
    """
    check_installed()
    first = summary.results[0]
    return fill_page(
        "report.html.j2",
        summary=summary,
        first=first,
        main=summary.main,
        unit=unit(summary.metric),
        metrics=[METRIC_NAMES.get(m, m) for m in _metrics(summary)],
        table=[(line, _explained(line.row), _cells(summary, line)) for line in summary.lines],
        verdicts=[(g, g.interval.low > 0) for g in _controls_first(summary)],
        charts={name: markup(svg) for name, svg in _charts(summary).items()},
        examples=examples,
        comparison=comparison,
        facts=_facts(summary),
        config=flat(first.config),
    )


def fill_page(template: str, **data: Any) -> str:
    """A page from a template of this folder; everything in `data` is escaped, charts (`markup`) are not."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(lambda name: files("personaplug.bench.report").joinpath(name).read_text("utf-8"))
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html: str = environment.get_template(template).render(**data)
    return html


def markup(svg: str) -> Any:
    """A chart of ours as a page takes it: unescaped."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704 - what others wrote stands in it as Matplotlib escaped it


def check_installed() -> None:
    """Fail now, and not after an hour of training.

    Raises:
        MissingExtraError: a library of the extra `report` is not installed.
    """
    for library in ("jinja2", "matplotlib"):
        try:
            importlib.import_module(library)
        except ModuleNotFoundError as error:
            raise missing_extra("the report", error) from error


def unit(metric: str) -> str:
    """What a gain in a metric is counted in."""
    return "nats a token" if metric == NLL else METRIC_NAMES.get(metric, metric)


def _metrics(summary: Summary) -> list[str]:
    metrics = dict.fromkeys([summary.metric, NLL])
    for line in summary.lines:
        metrics |= dict.fromkeys(line.scores)
    return list(metrics)


def _cells(summary: Summary, line: Line) -> list[_Cell | None]:
    cells: list[_Cell | None] = []
    for metric in _metrics(summary):
        if metric not in line.scores:
            cells.append(None)
            continue
        mean, deviation = line.scores[metric]
        others = [n.scores[metric][0] for n in summary.lines if metric in n.scores]
        best = mean == (min(others) if lower_is_better(metric) else max(others))
        interval = line.intervals.get(metric)
        spread = f"{interval.low:.3f} \u2013 {interval.high:.3f}" if interval else ""
        if line.seeds > 1:
            spread = f"{spread} · sd {deviation:.3f}".lstrip(" ·")
        cells.append(_Cell(f"{mean:.3f}", spread, best))
    return cells


def _controls_first(summary: Summary) -> list[Gain]:
    return sorted(summary.gains, key=lambda g: g.other == "none")


def _explained(row: Row) -> str:
    return _EXPLAINED.get(row.control or row.method, "")


def _charts(summary: Summary) -> dict[str, str]:
    main = summary.main
    gain_unit = f"gain, {unit(summary.metric)} (right is better)"
    # The distance to the bare model would squeeze the others together; it has its own number above.
    gains = [g for g in summary.gains if g.other != "none"] or list(summary.gains)
    drawn = {"gains": charts.gains_chart(gains, gain_unit)} if gains else {}
    curves: dict[str, list[Curve]] = {}
    for result in summary.results:
        for name, curve in result.curves.items():
            curves.setdefault(name, []).append(curve)
    if any(c.curve for own in curves.values() for c in own):
        drawn["curves"] = charts.curves_chart(curves, main.method)
    rival = summary.line("task_prompt") or summary.line("none")
    if rival is None or rival.row is main:
        return drawn
    over = f"gain over {rival.row.method}, {unit(summary.metric)}"
    try:
        bands = gain_by_history(main, rival.row, summary.metric)
    except DataError:  # too few users for any interval
        bands = []
    if bands:
        drawn["bands"] = charts.bands_chart(bands, f"gain over {rival.row.method}")
    drawn["users"] = charts.users_chart(list(gain_by_user(main, rival.row, summary.metric).values()), over)
    return drawn


def _facts(summary: Summary) -> list[tuple[str, str]]:
    first, main = summary.results[0], summary.main
    facts = [
        ("held-out requests", f"{len(main.ids):,} of {len(set(main.users)):,} users"),
        ("history before a request", f"{min(main.histories)} to {max(main.histories)} behaviours"),
        ("seeds", ", ".join(str(r.seed) for r in summary.results)),
        ("prompt", f"{main.prompt_tokens:.0f} tokens and {main.prefix_tokens} soft tokens"),
    ]
    facts += [(step, duration(seconds)) for step, seconds in first.seconds.items()]
    facts += [("device", first.device), ("measured", first.date), ("commit", first.commit[:12] or "\u2013")]
    facts.append(("versions", ", ".join(f"{name} {version}" for name, version in first.versions.items())))
    return [(name, text) for name, text in facts if text]


def duration(seconds: float) -> str:
    """Seconds in words."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A configuration as lines: dotted keys and their values."""
    rows: list[tuple[str, str]] = []
    for key, value in (config if isinstance(config, Mapping) else to_mapping(config)).items():
        name = f"{prefix}{key}"
        rows += flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, str(value))]
    return rows
