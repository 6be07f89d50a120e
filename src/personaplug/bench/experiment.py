"""Measure the methods of a run beside each other and their controls; a killed measurement goes on where it stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from personaplug.bench import results
from personaplug.bench.measure import MeasureConfig, Row, measure, numbered, with_judgement
from personaplug.bench.plan import PlannedMethod, main_label, plan_methods, read_measuring
from personaplug.bench.report.showcase import used_texts
from personaplug.bench.results import Result, Shown
from personaplug.bench.states import StateCache
from personaplug.core.config import to_mapping
from personaplug.core.errors import PersonaplugError
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Conditioning, Example
from personaplug.pipeline.fingerprint import fingerprint, portable, pseudonym
from personaplug.pipeline.run import Fitted, TrainingRun
from personaplug.tasks.base import JudgedTask


class Experiment(TrainingRun):
    """A run whose methods are trained and then measured, each beside its controls.

        OUT/states/                users prepared by methods that are slow to prepare them, by content

    The arguments and what else is in OUT: see `TrainingRun`.
    """

    @cached_property
    def measuring(self) -> MeasureConfig:
        """What to measure: the run's [bench] section.

        Raises:
            ConfigError: a key is unknown, or its value is of the wrong type.
        """
        return read_measuring(self.run)

    @cached_property
    def states(self) -> StateCache:
        """Prepared users of methods that are slow to prepare them."""
        return StateCache(self.out / "states")

    @cached_property
    def _rows(self) -> dict[str, Row]:
        return {}  # by fingerprint

    # -- measuring ------------------------------------------------------------------------------------------------

    def evaluate(
        self, seed: int, how: MeasureConfig, path: Path, chosen: Sequence[str] = (), stop_at_failure: bool = False
    ) -> Result:
        """Train and measure every method of the experiment for one seed, each beside its controls.

        Every finished row is written to `path` at once and never measured again while nothing that it depends on
        changes, so a killed evaluation repeats at most one row. A method that fails is noted and the others go on.

        Args:
            seed: of the training and of the controls' draws.
            how: what to measure.
            path: the result's file.
            chosen: labels of methods, as in `plan.entries`.
            stop_at_failure: raise instead of going on.

        Raises:
            PersonaplugError: nothing at all could be measured; then no file is written.
        """
        self.backbone.check_scores("a measurement")
        examples = self.examples(how.split, how.limit)
        methods = plan_methods(self.run.with_seed(seed), chosen, Conditioning.PREFIX in self.backbone.accepts)
        before = results.load(path) if path.exists() else None
        ids = tuple(pseudonym(e.id) for e in examples)
        old = [r for r in before.rows if r.ids == ids] if before else []
        self._rows.update({r.fingerprint: r for r in old if r.fingerprint})
        result = self._blank(seed, how, before if old else None)
        first: Exception | None = None
        for planned in methods:
            try:
                for row, fitted in self._rows_of(planned, seed, how, examples):
                    result = _with_row(result, row, fitted)
                    if fitted is not None:  # what has not come up yet stays in the file until it does
                        results.save(path, _with_old(result, old))
            except Exception as error:
                if stop_at_failure:
                    raise
                first = first or error
                said = str(error) if isinstance(error, PersonaplugError) else f"{type(error).__name__}: {error}"
                result = dataclasses.replace(result, failures={**result.failures, planned.label: said.splitlines()[0]})
                with self.progress(f"{planned.label} FAILED: {result.failures[planned.label]}", 0):
                    pass
        if not result.rows and first:
            raise first
        result = _with_old(result, old if chosen else [])
        if before is None or results.plain(result) != results.plain(before):
            results.save(path, result)
        return result

    def config(self, how: MeasureConfig) -> dict[str, Any]:
        """The configuration as results keep it: without the store, the seed and this machine's paths."""
        plain = self.run.to_mapping()
        del plain["store"], plain["training"]["seed"], plain["bench"]
        return {**portable(plain), "measuring": to_mapping(how)}

    def _blank(self, seed: int, how: MeasureConfig, before: Result | None) -> Result:
        """A result without rows; what is the same as before keeps its date and times."""
        fresh = Result(
            self.name, seed, self.info, self.config(how), main=main_label(self.run),
            device=results.device_name(getattr(self.backbone, "device", "cpu")),
            versions=results.versions(), commit=results.commit(), date=_now(),
        )  # fmt: skip
        if before is not None:
            fresh = dataclasses.replace(
                fresh, commit=before.commit, date=before.date, versions=before.versions, device=before.device,
                curves=before.curves, seconds=before.seconds,
            )  # fmt: skip
        return dataclasses.replace(fresh, shown=self._shown(how))

    def _shown(self, how: MeasureConfig) -> tuple[Shown, ...]:
        examples = self.examples(how.split, how.limit)
        pool: Sequence[int] = range(len(examples))
        if self.info.kind in ("text", "multilabel") and how.generate:
            pool = evenly_spaced(pool, how.generate)  # those that are answered
        return tuple(
            Shown(i, examples[i].request.messages[-1].content, examples[i].target)
            for i in evenly_spaced(pool, how.examples)
        )

    def _rows_of(
        self, planned: PlannedMethod, seed: int, how: MeasureConfig, examples: Sequence[Example]
    ) -> Iterator[tuple[Row, Fitted | None]]:
        """The rows of one method, with the method where they were measured just now; it is fitted only if one is."""
        fitted: Fitted | None = None
        for control in planned.controls(how, main_label(self.run)):
            print_ = self._fingerprint(planned, control, seed, how)
            known = self._rows.get(print_)
            if known is not None:
                yield dataclasses.replace(known, method=planned.label), None
                continue
            fitted = fitted or self.fit(planned.run, planned.label)
            row = self._measured(planned, fitted, control, seed, how, examples)
            self._rows[print_] = dataclasses.replace(row, fingerprint=print_)
            yield self._rows[print_], fitted

    def _fingerprint(self, planned: PlannedMethod, control: str, seed: int, how: MeasureConfig) -> str:
        trained = planned.cls.trained
        return fingerprint(
            portable(planned.run.to_mapping()),
            control=control,
            seed=seed if trained or control == "shuffled users" else 0,
            trained=self.content("train") if trained else "",
            measured=self.content(how.split, how.limit),
            how=[how.generate, how.examples],
        )

    def _measured(
        self,
        planned: PlannedMethod,
        fitted: Fitted,
        control: str,
        seed: int,
        how: MeasureConfig,
        examples: Sequence[Example],
    ) -> Row:
        method = fitted.components.method
        if not control:
            self.encode(fitted.components, examples)
        with self.progress(f"measuring {planned.label}{', ' * bool(control)}{control}", len(examples)) as advance:
            aside = (control == "no history" or "newest" in control) and not isinstance(self.task, JudgedTask)
            plain = dataclasses.replace(how, generate=0) if aside else how
            row = measure(
                method, self.info, examples, plain, control=control, seed=seed, states=self.states, progress=advance
            )
        if isinstance(self.task, JudgedTask) and row.answered:
            row = with_judgement(row, self.task, examples)
        row = dataclasses.replace(row, method=planned.label, section=portable(planned.run.method.to_mapping()))
        shown = [] if control else [s.index for s in self._shown(how)]
        answered = dict(zip(row.answered, row.predictions, strict=True))
        if examples[0].options and not self.info.options:
            row = numbered(row, examples)
        return dataclasses.replace(
            row,
            used=tuple(used_texts(method, examples[i]) for i in shown),
            answers=tuple(answered.get(i, "") for i in shown),
        )


def _with_old(result: Result, old: Sequence[Row]) -> Result:
    """The result with those rows of an earlier one that it does not have itself."""
    mine = {(r.method, r.control) for r in result.rows}
    return dataclasses.replace(result, rows=(*result.rows, *(r for r in old if (r.method, r.control) not in mine)))


def _with_row(result: Result, row: Row, fitted: Fitted | None) -> Result:
    """The result with one more row; a training that was reused keeps the time of when it was trained."""
    seconds = {**result.seconds, f"measuring {row.title}": row.seconds}
    curves = dict(result.curves)
    if fitted is not None:
        result = dataclasses.replace(result, commit=results.commit(), date=_now(), versions=results.versions())
        if fitted.components.method.trained:
            curves[row.method] = fitted.curve
            seconds[f"training {row.method}"] = fitted.curve.seconds
    return dataclasses.replace(result, rows=(*result.rows, row), seconds=seconds, curves=curves)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
