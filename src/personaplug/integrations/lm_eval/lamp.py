"""LaMP for lm_eval: what the task files in tasks/ name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from personaplug.core.errors import DataError
from personaplug.integrations.lm_eval.docs import Docs, to_docs, to_info
from personaplug.metrics import scores as metrics
from personaplug.tasks.lamp import Lamp, LampConfig

FOLDER = "PERSONAPLUG_LAMP"
"""The environment variable that names the folder of LaMP files."""

_Answered = tuple[str, str, tuple[str, ...]]  # prediction, right answer, the task's options


def dataset(lamp_task: str, lamp: str = "", **_: Any) -> dict[str, Docs]:
    """The dev split of a task, the last one whose right answers are published.

    Args:
        lamp_task: LaMP_1 to LaMP_7, or LaMP_2N.
        lamp: a folder with the task's published files, or with a folder of the task's name that holds them; by default
            what the environment variable PERSONAPLUG_LAMP says.

    Raises:
        DataError: there is no such folder, or what it holds is not the task.
    """
    named = lamp or os.environ.get(FOLDER, "")
    way_out = f"set {FOLDER}=FOLDER or give --metadata lamp=FOLDER, with the published files in FOLDER/{lamp_task}"
    if not named:
        raise DataError(f"{lamp_task}: no folder of LaMP files is named; {way_out}")
    if not Path(named).is_dir():
        raise DataError(f"{lamp_task}: {named} is no folder; {way_out}")
    own = Path(named) / lamp_task
    task = Lamp(LampConfig(own if own.is_dir() else Path(named), lamp_task))
    return {"dev": to_docs(task.examples("dev"), task.info)}


def process_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float | _Answered]:
    """What each of the task's metrics needs to know of an answer.

    Args:
        doc: the question.
        results: the generated answer, or log-likelihood and greediness of each option, of which the likeliest is taken.
    """
    info = to_info(doc)
    if info.options:
        prediction = info.options[max(range(len(results)), key=lambda i: results[i][0])]
    else:
        prediction = str(results[0]).strip()
    out: dict[str, float | _Answered] = {}
    for name in info.metrics:
        if metrics.METRICS[name].whole is None:
            [out[name]] = metrics.per_example(name, [prediction], [doc["target"]], info.options)
        else:
            out[name] = (prediction, doc["target"], info.options)
    return out


def macro_f1(answered: Sequence[_Answered]) -> float:
    """F1 averaged over all options."""
    return _compute("macro_f1", answered)


def rmse(answered: Sequence[_Answered]) -> float:
    """Root of the mean squared error."""
    return _compute("rmse", answered)


def _compute(name: str, answered: Sequence[_Answered]) -> float:
    predictions, targets, options = zip(*answered, strict=True)
    return metrics.compute(name, predictions, targets, options[0])
