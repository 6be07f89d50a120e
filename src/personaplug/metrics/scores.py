"""What answers are worth: the benchmarks' own metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personaplug.core.errors import DataError, UnknownNameError, did_you_mean

Answers = Sequence[str | float]
Floats = NDArray[np.float64]
_PerExample = Callable[[Answers, Sequence[str], tuple[str, ...]], list[float]]
_Whole = Callable[[Answers, Sequence[str], tuple[str, ...]], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of a list of answers.

    Attributes:
        summary: what it measures, in one line.
        higher_is_better: which way is up.
        needs_options: whether it makes no sense without the closed set of answers.
        each: one number per example, where the metric is made of such numbers; else None.
        whole: the metric itself; None where it is the mean of `each`.
    """

    summary: str
    higher_is_better: bool = True
    needs_options: bool = False
    each: _PerExample | None = None
    whole: _Whole | None = None


def compute(name: str, predictions: Answers, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """One metric over all examples.

    Args:
        name: a key of `METRICS`.
        predictions: the answers as they were generated; for `auc`, the score of the first option.
        references: the right answers, in the same order.
        options: the closed set of answers, or ().

    Raises:
        UnknownNameError: no such metric.
        DataError: the metric is not defined on these answers.
    """
    metric = _check(name, predictions, references, options)
    if metric.whole is not None:
        return metric.whole(predictions, references, tuple(options))
    return float(np.mean(per_example(name, predictions, references, options)))


def per_example(name: str, predictions: Answers, references: Sequence[str], options: Sequence[str] = ()) -> list[float]:
    """The numbers that a metric is made of, for paired comparisons; for `rmse`, the squared errors.

    Raises:
        UnknownNameError: no such metric.
        DataError: the metric is not defined on these answers, or is no mean over examples (`macro_f1`, `auc`).
    """
    metric = _check(name, predictions, references, options)
    if metric.each is None:
        known = ", ".join(n for n, m in METRICS.items() if m.each is not None)
        raise DataError(f"metric {name!r} has no value for a single example; choose one of: {known}")
    return metric.each(predictions, references, tuple(options))


def option_nll(logprobs: Sequence[float], right: int) -> float:
    """Nats of the right option when the chances of a closed set add up to 1.

    A language model spreads its probability over all texts, a count of labels over the options alone: only normalised
    over the same set are the two comparable.

    Args:
        logprobs: log-probabilities (nats, up to a constant) of a closed set of answers.
        right: index of the right one.

    >>> round(option_nll([-10.0, -10.0], 0), 4)
    0.6931
    """
    return float(np.logaddexp.reduce(logprobs) - logprobs[right])


def labels(text: str, options: Sequence[str]) -> frozenset[str]:
    """The options that an answer names: itself, or its comma-separated parts; empty if it is no valid answer.

    >>> sorted(labels(" joy, fear", ("joy", "fear", "none")))
    ['fear', 'joy']
    >>> labels("Joy", ("joy", "fear"))
    frozenset()
    """
    whole = text.strip()
    if whole in options:
        return frozenset((whole,))
    parts = [part.strip() for part in whole.split(",")]
    named = frozenset(parts)
    return named if len(named) == len(parts) and named <= frozenset(options) else frozenset()


def _check(name: str, predictions: Answers, references: Sequence[str], options: Sequence[str]) -> Metric:
    if name not in METRICS:
        raise UnknownNameError(f"no metric is named {name!r}; {did_you_mean(name, METRICS)}")
    if len(predictions) != len(references):
        raise DataError(f"metric {name!r}: {len(predictions)} predictions for {len(references)} references")
    if not references:
        raise DataError(f"metric {name!r}: no examples; is the split empty?")
    if METRICS[name].needs_options and not options:
        raise DataError(f"metric {name!r} needs the task's options; set them in the task")
    return METRICS[name]


def _text(answer: str | float) -> str:
    return str(answer).strip()


def _exact(predictions: Answers, references: Sequence[str], options: tuple[str, ...]) -> list[float]:
    del options
    return [float(_text(p) == r.strip()) for p, r in zip(predictions, references, strict=True)]


def _golds(references: Sequence[str], options: tuple[str, ...]) -> list[frozenset[str]]:
    golds = [labels(r, options) for r in references]
    for reference, gold in zip(references, golds, strict=True):
        if not gold:
            raise DataError(f"right answer {reference!r} is none of the options {', '.join(options)}")
    return golds


def _accuracy(predictions: Answers, references: Sequence[str], options: tuple[str, ...]) -> list[float]:
    if not options:
        return _exact(predictions, references, options)
    golds = _golds(references, options)
    return [float(labels(_text(p), options) == gold) for p, gold in zip(predictions, golds, strict=True)]


def _any_match(predictions: Answers, references: Sequence[str], options: tuple[str, ...]) -> list[float]:
    golds = _golds(references, options)
    return [float(bool(labels(_text(p), options) & gold)) for p, gold in zip(predictions, golds, strict=True)]


def _macro_f1(predictions: Answers, references: Sequence[str], options: tuple[str, ...]) -> float:
    golds = _golds(references, options)
    answers = [labels(_text(p), options) for p in predictions]
    if all(len(gold) == 1 for gold in golds):  # one label each: naming several is no valid answer
        answers = [answer if len(answer) == 1 else frozenset() for answer in answers]
    scores = []
    for option in options:
        hit = sum(option in answer and option in gold for answer, gold in zip(answers, golds, strict=True))
        named = sum(option in answer for answer in answers) + sum(option in gold for gold in golds)
        scores.append(2.0 * hit / named if named else 0.0)
    return float(np.mean(scores))


def _number(text: str) -> float | None:
    # Only finite numbers count as parsed: the official evaluator has no value for "nan" or "inf" (it crashes).
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _numbers(texts: Sequence[str], what: str) -> list[float]:
    values = []
    for text in texts:
        value = _number(text)
        if value is None:
            raise DataError(f"{what} {text!r} is no number; this metric is for ratings")
        values.append(value)
    return values


def _distances(predictions: Answers, references: Sequence[str], options: tuple[str, ...]) -> list[float]:
    scale = _numbers(options, "option")
    low, high = min(scale), max(scale)
    distances = []
    for prediction, gold in zip(predictions, _numbers(references, "right answer"), strict=True):
        value = _number(_text(prediction))
        if value is None:
            value = low if abs(low - gold) > abs(high - gold) else high
        distances.append(abs(value - gold))
    return distances


def _squares(predictions: Answers, references: Sequence[str], options: tuple[str, ...]) -> list[float]:
    return [d * d for d in _distances(predictions, references, options)]


def _rmse(predictions: Answers, references: Sequence[str], options: tuple[str, ...]) -> float:
    return float(np.sqrt(np.mean(_squares(predictions, references, options))))


@lru_cache(maxsize=2)
def _scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=False)


def _rouge(kind: str) -> _PerExample:
    def each(predictions: Answers, references: Sequence[str], options: tuple[str, ...]) -> list[float]:
        del options
        scorer = _scorer(kind)
        return [
            float(scorer.score(r.strip(), _text(p))[kind].fmeasure)
            for p, r in zip(predictions, references, strict=True)
        ]

    return each


def _auc(predictions: Answers, references: Sequence[str], options: tuple[str, ...]) -> float:
    if len(options) != 2:
        raise DataError(f"metric 'auc' is for two options, this task has {len(options)}")
    for reference in references:
        if reference.strip() not in options:
            raise DataError(f"right answer {reference!r} is none of the options {', '.join(options)}")
    positive = np.array([r.strip() == options[0] for r in references])
    scores = np.array(_numbers([_text(p) for p in predictions], "score"))
    if positive.all() or not positive.any():
        raise DataError(f"metric 'auc': every right answer is {references[0].strip()!r}; it needs both options")
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[index]  # from 1; equal scores share their middle rank
    p, n = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - p * (p + 1) / 2.0) / (p * n))


METRICS: dict[str, Metric] = {
    "accuracy": Metric("share of answers equal to the right one, after strip", each=_accuracy),
    "macro_f1": Metric(
        "F1 averaged over all options; an option never named counts 0, an invalid answer is no class",
        needs_options=True,
        whole=_macro_f1,
    ),
    "any_match": Metric("share of answers that name at least one right label", needs_options=True, each=_any_match),
    "mae": Metric(
        "mean absolute error; an answer that is no number counts as the farther end of the scale",
        higher_is_better=False,
        needs_options=True,
        each=_distances,
    ),
    "rmse": Metric(
        "root of the mean squared error; no-numbers as in mae",
        higher_is_better=False,
        needs_options=True,
        each=_squares,
        whole=_rmse,
    ),
    "exact": Metric("share of answers equal to the right text, after strip", each=_exact),
    "rouge1": Metric("ROUGE-1 F-measure, no stemming", each=_rouge("rouge1")),
    "rougeL": Metric("ROUGE-L F-measure, no stemming", each=_rouge("rougeL")),
    "auc": Metric(
        "chance that the first option scores higher where it is right than where it is not",
        needs_options=True,
        whole=_auc,
    ),
}
"""Name -> metric. LaMP's own (accuracy, macro_f1, mae, rmse, rouge1, rougeL) follow its evaluator, arXiv 2304.11406."""

JUDGED: dict[str, str] = {
    "user_reward": "what answers are worth to their users, in standard deviations of the rewards",
    "win_reference": "share of answers worth more to their users than the named reference answer",
    "win_best": "share of answers worth more to their users than the best stored answer",
    "user_rating": "how their users rated the chosen texts, in [0, 1]",
    "chance_to_best": "where that stands between a text drawn from those shown (0) and the user's best of them (1)",
}
"""Name -> what it measures; more is better. Only a task that knows what an answer is worth computes these."""
