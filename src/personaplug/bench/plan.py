"""Which methods an experiment measures, how each is built, and under which controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personaplug.bench.controls import NEWEST, check_control
from personaplug.bench.measure import MeasureConfig
from personaplug.core import registry
from personaplug.core.config import from_mapping, to_mapping, with_new_names
from personaplug.core.errors import ConfigError, did_you_mean
from personaplug.core.registry import Section
from personaplug.core.types import Conditioning
from personaplug.pipeline.build import RunConfig
from personaplug.training.config import TrainingConfig

ALL = "all"


@dataclass(frozen=True, slots=True)
class PlannedMethod:
    """A method of an experiment: what it is called there, and its own run."""

    label: str
    run: RunConfig

    @property
    def cls(self) -> Any:
        """The method's class."""
        return self.run.method.cls

    def controls(self, how: MeasureConfig, main: str) -> list[str]:
        """Under what it is measured, its users' own histories first.

        A method that only writes text writes nothing without a history: its row `no history` would be the bare model's.
        """
        if not self.cls.personal or self.cls.oracle:
            return [""]
        learned = self.cls.needs != Conditioning.TEXT or self.cls.trained
        controls = [c for c in how.controls if c != "no history" or learned]
        if self.label in (how.curves or (main,)):
            controls += [f"{NEWEST}{n}" for n in how.newest]
        return ["", *controls]


def read_measuring(run: RunConfig) -> MeasureConfig:
    """What the run's [bench] section says.

    Raises:
        ConfigError: a key is unknown or its value is of the wrong type.
    """
    how = from_mapping(MeasureConfig, run.bench, where="bench")
    for control in how.controls:
        check_control(control)
    return how


def main_label(run: RunConfig) -> str:
    """The label of the method that the experiment is about."""
    return run.method.name


def plan_methods(run: RunConfig, chosen: Sequence[str], prefix: bool) -> list[PlannedMethod]:
    """What to measure, the methods that know no user first.

    Args:
        run: the experiment's configuration.
        chosen: labels under [methods] or names on the shelf; "all" is everything on both; none is what the
            configuration names, or where it names nothing, the bare model, the task prompt and the measured method.
            "all" leaves out what learns from pairs of answers, which few tasks have, unless it is named.
        prefix: whether the backbone takes soft tokens; where it does not, "all" leaves out what needs them, or logits.

    Raises:
        ConfigError: a label is neither there nor on the shelf.
    """
    sections = {label: dict(section) for label, section in run.methods.items()}
    main = main_label(run)
    sections.setdefault(main, run.method.to_mapping())
    if not chosen:
        chosen = ["none", *(["task_prompt"] if prefix and not run.methods else []), *sections]
    named = {*chosen, *sections}  # those fail and say why, where "all" only leaves out what cannot run
    if ALL in chosen:
        chosen = ["none", "task_prompt", *registry.names("method"), *sections]
    methods: dict[str, PlannedMethod] = {}
    for label in dict.fromkeys(chosen):
        if label not in sections and label not in registry.names("method"):
            known = [*sections, *registry.names("method"), ALL]
            raise ConfigError(
                f"method {label!r} is neither in the experiment nor on the shelf; {did_you_mean(label, known)}"
            )
        planned = PlannedMethod(label, _own_run(run, label, sections.get(label, {})))
        inside = Conditioning.PREFIX in planned.cls.needs or planned.cls.needs_logits
        runs = (prefix or not inside) and not planned.cls.needs_preferences
        if runs or label in named:
            methods[label] = planned
    return sorted(methods.values(), key=lambda m: (m.cls.personal, m.cls.oracle))


def _own_run(run: RunConfig, label: str, mapping: Mapping[str, Any]) -> RunConfig:
    """The run of one method: its own encoder and training where it names them, no encoder where it uses none."""
    own = {"name": label, **mapping}
    encoder = own.pop("encoder", None)
    training = own.pop("training", {})
    if own["name"] == "task_prompt" and main_label(run) != "task_prompt":
        own = {**_task_prompt(run), **own}
    method = Section.parse("method", own)
    if run.training.seed and "seed" in {f.name for f in dataclasses.fields(method.cls.Config)}:
        # What draws by itself draws anew for each seed.
        method = method.updated(**{"seed": run.training.seed, **method.given})
    # Written out with its defaults: a result says what was run, and is measured again where a default has changed.
    made = dataclasses.replace(run, method=method.completed(), methods={}, bench={})
    if encoder is not None:
        made = dataclasses.replace(made, encoder=Section.parse("encoder", encoder) if encoder else None)
    if training:
        where = f"methods.{label}.training"
        both = {**to_mapping(run.training), **with_new_names(TrainingConfig, training, where)}
        made = dataclasses.replace(made, training=from_mapping(TrainingConfig, both, where=where))
    return made.without_unused_encoder()


def _task_prompt(run: RunConfig) -> dict[str, Any]:
    """As many soft tokens as the measured plug has, at the same place, none of which sees a user."""
    given = {k: v for k, v in run.method.given.items() if k not in ("encoder", "training")}
    method = Section("method", run.method.name, given)
    return dict(method.cls.control(method.config))
