"""Which methods an experiment measures, how each is built, and under which controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personaplug.bench.controls import NEWEST, check_control
from personaplug.bench.measure import Measuring
from personaplug.core import registry
from personaplug.core.config import from_mapping, to_mapping
from personaplug.core.errors import ConfigError, did_you_mean
from personaplug.core.types import Conditioning
from personaplug.pipeline.build import RunConfig, needs_encoder

ALL = "all"


@dataclass(frozen=True, slots=True)
class Entry:
    """A method of an experiment: what it is called there, and its own run."""

    label: str
    run: RunConfig

    @property
    def cls(self) -> Any:
        """The method's class."""
        return registry.find("method", registry.split_section(self.run.method, "method")[0])

    def controls(self, how: Measuring, main: str) -> list[str]:
        """Under what it is measured, its users' own histories first.

        A method that only writes text writes nothing without a history: its row `no history` would be the bare model's.
        """
        if not self.cls.personal or self.cls.oracle:
            return [""]
        learned = self.cls.needs != Conditioning.TEXT or self.cls.trained
        found = [c for c in how.controls if c != "no history" or learned]
        if self.label in (how.curves or (main,)):
            found += [f"{NEWEST}{n}" for n in how.newest]
        return ["", *found]


def read_measuring(run: RunConfig) -> Measuring:
    """What the run's [bench] section says.

    Raises:
        ConfigError: a key is unknown or its value is of the wrong type.
    """
    how = from_mapping(Measuring, run.bench, where="bench")
    for control in how.controls:
        check_control(control)
    return how


def main_label(run: RunConfig) -> str:
    """The label of the method that the experiment is about."""
    return registry.split_section(run.method, "method")[0]


def entries(run: RunConfig, chosen: Sequence[str], prefix: bool) -> list[Entry]:
    """What to measure, the methods that know no user first.

    Args:
        run: the experiment's configuration.
        chosen: labels under [methods] or names on the shelf; "all" is everything on both; none is what the
            configuration names, or where it names nothing, the bare model, the task prompt and the measured method.
            "all" leaves out what learns from pairs of answers, which few tasks have, unless it is named.
        prefix: whether the backbone takes soft tokens; where it does not, "all" leaves out what needs them.

    Raises:
        ConfigError: a label is neither there nor on the shelf.
    """
    sections = {label: dict(section) for label, section in run.methods.items()}
    main = main_label(run)
    sections.setdefault(main, dict(run.method))
    if not chosen:
        chosen = ["none", *(["task_prompt"] if prefix and not run.methods else []), *sections]
    named = {*chosen, *sections}  # those fail and say why, where "all" only leaves out what cannot run
    if ALL in chosen:
        chosen = ["none", "task_prompt", *registry.names("method"), *sections]
    found: dict[str, Entry] = {}
    for label in dict.fromkeys(chosen):
        if label not in sections and label not in registry.names("method"):
            known = [*sections, *registry.names("method"), ALL]
            raise ConfigError(
                f"method {label!r} is neither in the experiment nor on the shelf; {did_you_mean(label, known)}"
            )
        entry = Entry(label, _own_run(run, label, sections.get(label, {})))
        runs = (prefix or Conditioning.PREFIX not in entry.cls.needs) and not entry.cls.needs_preferences
        if runs or label in named:
            found[label] = entry
    return sorted(found.values(), key=lambda e: (e.cls.personal, e.cls.oracle))


def _own_run(run: RunConfig, label: str, section: Mapping[str, Any]) -> RunConfig:
    """The run of one method: its own encoder and training where it names them, no encoder where it uses none."""
    own = dict(section)
    encoder = own.pop("encoder", None)
    training = own.pop("training", {})
    method = {"name": label, **own}
    if method["name"] == "task_prompt" and main_label(run) != "task_prompt":
        method = {**_task_prompt(run), **method}
    cls = registry.find("method", method["name"])
    if run.training.seed and "seed" in {f.name for f in dataclasses.fields(cls.Config)}:
        method.setdefault("seed", run.training.seed)  # what draws by itself draws anew for each seed
    # Written out with its defaults: a result says what was run, and is measured again where a default has changed.
    config = from_mapping(cls.Config, registry.split_section(method, "method")[1], where=f"method {method['name']!r}")
    method = {"name": method["name"], **to_mapping(config)}
    made = dataclasses.replace(run, method=method, methods={}, bench={})
    if encoder is not None:
        made = dataclasses.replace(made, encoder=encoder)
    if training:
        both = {**to_mapping(run.training), **training}
        where = f"methods.{label}.training"
        made = dataclasses.replace(made, training=from_mapping(type(run.training), both, where=where))
    return made if needs_encoder(made) else dataclasses.replace(made, encoder={})


def _task_prompt(run: RunConfig) -> dict[str, Any]:
    """As many soft tokens as the measured plug has, at the same place, none of which sees a user."""
    name, section = registry.split_section(run.method, "method")
    section = {k: v for k, v in section.items() if k not in ("encoder", "training")}
    cls = registry.find("method", name)
    return dict(cls.control(from_mapping(cls.Config, section, where=f"method {name!r}")))
