"""Predictions in LaMP's file format: made for a split, written, read and scored by the official definitions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from personaplug.bench.measure import likeliest, score_options
from personaplug.core.errors import ConfigError, DataError
from personaplug.core.files import write_text
from personaplug.core.types import Example, Profile
from personaplug.metrics import scores as metrics
from personaplug.tasks.base import TaskInfo
from personaplug.tasks.lamp import read_outputs
from personaplug.tasks.lamp_specs import SPECS, Spec

if TYPE_CHECKING:
    from personaplug.bench.states import StateCache
    from personaplug.methods.base import Method

_NAMED = 3  # ids named in an error


@dataclass(frozen=True, slots=True)
class Score:
    """What a submission is worth on one task: metric -> value, over so many requests."""

    task: str
    requests: int
    metrics: Mapping[str, float]


# -- making predictions -----------------------------------------------------------------------------------------------


def predict(
    method: Method,
    info: TaskInfo,
    examples: Sequence[Example],
    batch_size: int = 32,
    states: StateCache | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Answer every example; their targets are not looked at.

    Args:
        method: fitted, if it has something to fit.
        info: the task's: of a choice or a rating, the likeliest option is the answer; all else is generated.
        examples: what is asked, with histories.
        batch_size: requests run together.
        states: where states of methods that are slow to prepare are stored.
        progress: called with the number of examples done since the last call.

    Raises:
        ConfigError: the method is an oracle, which needs the right answers.
    """
    check_no_oracle(type(method), method.name)
    answers: list[str] = []
    for at in range(0, len(examples), batch_size):
        batch = examples[at : at + batch_size]
        histories = {e.history.digest: e.history for e in batch}  # a user with several requests is prepared once
        distinct = list(histories.values())
        made = states.prepare(method, distinct) if states else method.prepare_many(distinct)
        prepared = dict(zip(histories, made, strict=True))
        profiles = [Profile(e.history, prepared[e.history.digest]) for e in batch]
        answers += _answer(method, info, batch, profiles)
        if progress:
            progress(len(batch))
    return answers


def check_no_oracle(cls: type[Method], name: str) -> None:
    """Refuse a method that looks at the right answer.

    Raises:
        ConfigError: it does.
    """
    if cls.oracle:
        raise ConfigError(
            f"method {name!r} looks at the right answers, so it cannot predict them; measure it with: personaplug bench"
        )


def _answer(method: Method, info: TaskInfo, batch: Sequence[Example], profiles: Sequence[Profile]) -> list[str]:
    requests = [e.request for e in batch]
    prompts = method.personalize_many(requests, profiles)
    if info.kind in ("text", "multilabel"):
        prompts = method.with_unconditional(requests, prompts, info.sampling)
        return [c.text.strip() for c in method.answer_many(requests, profiles, prompts, info.sampling)]
    return [likeliest(scored) for scored in score_options(method, info, batch, profiles, prompts)]


# -- files ------------------------------------------------------------------------------------------------------------


class Draft:
    """Answers so far, written beside the file that they will make, so that a killed run goes on.

    Args:
        path: of the finished file; the draft is `.NAME.draft` in the same folder.
        key: identity of what the answers depend on; a draft of another key is begun anew.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.answers: dict[str, str] = {}
        self._file = path.with_name(f".{path.name}.draft")
        self._head = json.dumps(key)
        self._begun = False
        lines = self._file.read_text(encoding="utf-8").split("\n") if self._file.is_file() else []
        if lines[:1] == [self._head]:
            for line in lines[1:-1]:  # what follows the last line's end was cut off when the run was killed
                self.answers.update(json.loads(line))

    def add(self, answers: Mapping[str, str]) -> None:
        """Keep some more answers."""
        self.answers |= answers
        if self._begun:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(answers) + "\n")
        else:
            write_text(self._file, f"{self._head}\n{json.dumps(self.answers)}\n")
            self._begun = True

    def finish(self, task: str, ids: Sequence[str]) -> None:
        """Write the submission, in the order of `ids`, and drop the draft."""
        write_submission(self.path, task, {key: self.answers[key] for key in ids})
        self._file.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse a path that cannot become a file, before hours of work go into it.

    Raises:
        DataError: it is a folder, or lies where nothing can be written.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file in it, for example {path / 'predictions.json'}")
    there = next(p for p in path.absolute().parents if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise DataError(f"{path}: nothing can be written in {there}; name another file")


def write_submission(path: Path, task: str, predictions: Mapping[str, str]) -> None:
    """Write id -> answer in the shape of LaMP's outputs, in one step; the official evaluator reads it.

    Args:
        path: the file.
        task: a task's name; one that LaMP publishes under another name is written under that.
        predictions: in the order in which they are to stand there.
    """
    spec = SPECS.get(task)
    golds = [{"id": key, "output": output} for key, output in predictions.items()]
    body = {"task": (spec.published_as if spec else "") or task, "golds": golds}
    write_text(path, json.dumps(body) + "\n")  # ASCII alone: every string survives, also halves of surrogate pairs


# -- scoring ----------------------------------------------------------------------------------------------------------


def score_submission(predictions: Path, golds: Path) -> list[Score]:
    """What predictions are worth by LaMP's official metrics.

    ROUGE is the plain mean over the requests; the official evaluator reports the middle of a bootstrap of it, which
    differs from run to run in the fourth digit.

    Args:
        predictions: a file, or a folder with a file for each task.
        golds: likewise; of the same tasks.

    Raises:
        DataError: a file is malformed, or predictions and golds are of different tasks or requests.
    """
    answers, right = _by_task(predictions), _by_task(golds)
    if lacking := sorted(set(right) - set(answers)):
        raise DataError(f"{predictions}: has no predictions of {', '.join(lacking)}, which {golds} has; add them")
    if unknown := sorted(set(answers) - set(right)):
        raise DataError(f"{golds}: has no right answers of {', '.join(unknown)}; leave that task out, or add its golds")
    return [_score(task, answers[task], right[task]) for task in sorted(right)]


@dataclass(frozen=True, slots=True)
class _Outputs:
    path: Path
    outputs: Mapping[str, str]


def _by_task(path: Path) -> dict[str, _Outputs]:
    """Published task name -> its outputs."""
    files = sorted(p for p in path.rglob("*.json") if not p.name.startswith(".")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: the folder has no .json file; put a file for each task there")
    tasks: dict[str, _Outputs] = {}
    for file in files:
        name, outputs = read_outputs(file)
        name = SPECS[name].published_as or name if name in SPECS else name
        if name in tasks:
            raise DataError(f"{file}: is of {name}, as {tasks[name].path} is; leave one file for each task")
        tasks[name] = _Outputs(file, outputs)
    return tasks


def _score(task: str, answers: _Outputs, right: _Outputs) -> Score:
    _check_ids(answers, right)
    name, spec = _spec(task, right)
    given = [answers.outputs[key] for key in right.outputs]
    targets = list(right.outputs.values())
    return Score(name, len(targets), {m: metrics.compute(m, given, targets, spec.options) for m in spec.metrics})


def _check_ids(answers: _Outputs, right: _Outputs) -> None:
    if not right.outputs:
        raise DataError(f"{right.path}: has no right answers; name another file")
    if lacking := [key for key in right.outputs if key not in answers.outputs]:
        raise DataError(
            f"{answers.path}: has no prediction for {_some(lacking)}, which {right.path} has; every request counts, "
            "so predict without --limit"
        )
    if unknown := [key for key in answers.outputs if key not in right.outputs]:
        raise DataError(f"{answers.path}: {_some(unknown)} not in {right.path}; was another split predicted?")


def _spec(task: str, right: _Outputs) -> tuple[str, Spec]:
    """The record of a published name; LaMP_2 stands for two tasks, and the right answers tell which."""
    named = {name: spec for name, spec in SPECS.items() if (spec.published_as or name) == task}
    if not named:
        raise DataError(
            f"{right.path}: task is {task!r}, which has no official metrics (LaMP_1 to LaMP_7 have); "
            "measure other tasks with: personaplug eval"
        )
    for name, spec in named.items():
        if not spec.options or {output.strip() for output in right.outputs.values()} <= set(spec.options):
            return name, spec
    options = next(iter(named.values())).options
    wrong = next((key, output) for key, output in right.outputs.items() if output.strip() not in options)
    raise DataError(f"{right.path}: the right answer of {wrong[0]!r} is {wrong[1]!r}; expected {', '.join(options)}")


def _some(ids: Sequence[str]) -> str:
    """Some ids in words: the first few, and how many there are."""
    named = ", ".join(repr(key) for key in ids[:_NAMED])
    if len(ids) > _NAMED:
        return f"{len(ids)} ids ({named}, ...)"
    return f"{'id' if len(ids) == 1 else 'ids'} {named}"
