"""LaMP's official metrics, each worked out again from its definition, on predictions as awkward as they come."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplug.bench.submission import score_submission, write_submission
from personaplug.metrics.scores import compute
from personaplug.tasks.lamp_specs import SPECS

CHOICES = ("LaMP_1", "LaMP_2", "LaMP_2N")
TEXTS = ("LaMP_4", "LaMP_5", "LaMP_6", "LaMP_7")
STARS = SPECS["LaMP_3"].options
TITLE = "The Cats' 2 hats: a naïve study"

AWKWARD = [
    "", " ", "\n\t", "[1]", " [1] ", "[1", "1", "[1], [2]", "[1],", "[2] because it fits", "comedy", " Comedy",
    "COMEDY ", "dark  comedy", "comedy, dark comedy", "tag: comedy", "true story.", "4.5", "five", "5 stars", " 3\n",
    "-2", "1e1", "100", "nan", "inf", "-Infinity", "٤", "４", "1_0", "0x3", "None", "the cats", "THE CATS!", "cats the",
    "cat's hats", "naive study", "日本語", "so tired 😴", "İstanbul", "\u2028", "a\x00b", "[PAD]" * 50, "x" * 20_000,
    "the hats " * 2_000,
]  # fmt: skip


# -- the definitions --------------------------------------------------------------------------------------------------


def accuracy(predictions: list[str], golds: list[str], labels: tuple[str, ...]) -> float:
    """Stripped, equal to a label of the list, and to the right one."""
    found = [labels.index(p.strip()) if p.strip() in labels else -1 for p in predictions]
    return sum(f == labels.index(g.strip()) for f, g in zip(found, golds, strict=True)) / len(golds)


def macro_f1(predictions: list[str], golds: list[str], labels: tuple[str, ...]) -> float:
    """From precision and recall of every label of the list; what is no label is nobody's."""
    total = 0.0
    for label in labels:
        named = [p.strip() == label for p in predictions]
        right = [g.strip() == label for g in golds]
        hits = sum(n and r for n, r in zip(named, right, strict=True))
        precision = hits / sum(named) if any(named) else 0.0
        recall = hits / sum(right) if any(right) else 0.0
        total += 2 * precision * recall / (precision + recall) if hits else 0.0
    return total / len(labels)


def errors(predictions: list[str], golds: list[str]) -> list[float]:
    """Distance to the right rating; of what is no number, the distance of the end that is farther from it.

    Of "nan" and "inf" the official evaluator makes no score at all; here they are no numbers.
    """
    found = []
    for prediction, gold in zip(predictions, golds, strict=True):
        right = float(gold)
        try:
            value = float(prediction.strip())
        except ValueError:
            value = math.nan
        found.append(abs(value - right) if math.isfinite(value) else max(abs(1.0 - right), abs(5.0 - right)))
    return found


def mae(predictions: list[str], golds: list[str], labels: tuple[str, ...]) -> float:
    return sum(errors(predictions, golds)) / len(golds)


def rmse(predictions: list[str], golds: list[str], labels: tuple[str, ...]) -> float:
    return math.sqrt(sum(e * e for e in errors(predictions, golds)) / len(golds))


def tokens(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


def f_measure(hits: int, predicted: int, gold: int) -> float:
    return 2 * hits / (predicted + gold) if hits else 0.0  # 2pr / (p + r), with p = hits / predicted, r = hits / gold


def rouge1(predictions: list[str], golds: list[str], labels: tuple[str, ...] = ()) -> float:
    """F-measure of the words in common, each as often as both have it."""
    scores = []
    for p, g in zip(map(tokens, predictions), map(tokens, golds), strict=True):
        scores.append(f_measure((Counter(p) & Counter(g)).total(), len(p), len(g)))
    return sum(scores) / len(scores)


def common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = row
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if word == other else max(row[j], before[j + 1]))
    return row[-1]


def rouge_l(predictions: list[str], golds: list[str], labels: tuple[str, ...] = ()) -> float:
    """F-measure of the longest common subsequence of words."""
    scores = []
    for p, g in zip(map(tokens, predictions), map(tokens, golds), strict=True):
        scores.append(f_measure(common(p, g), len(p), len(g)))
    return sum(scores) / len(scores)


DEFINITIONS = {
    "accuracy": accuracy, "macro_f1": macro_f1, "mae": mae, "rmse": rmse, "rouge1": rouge1, "rougeL": rouge_l,
}  # fmt: skip


def check(task: str, predictions: list[str], golds: list[str]) -> None:
    for metric in SPECS[task].metrics:
        expected = DEFINITIONS[metric](predictions, golds, SPECS[task].options)
        found = compute(metric, predictions, golds, SPECS[task].options)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12), metric


# -- the checks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SPECS)
def test_awkward_predictions_score_as_the_definitions_say(task):
    right = SPECS[task].options or (TITLE, "x", "…", "The the THE")
    check(task, AWKWARD, [right[i % len(right)] for i in range(len(AWKWARD))])


@pytest.mark.parametrize("prediction", AWKWARD, ids=lambda p: repr(p[:12]))
def test_one_awkward_prediction_alone_scores_as_the_definitions_say(prediction):
    for task in ("LaMP_1", "LaMP_2", "LaMP_3", "LaMP_4"):
        for gold in SPECS[task].options[:3] or (TITLE,):
            check(task, [prediction], [gold])


@pytest.mark.parametrize(
    ("prediction", "gold", "error"),
    [
        ("4.5", "4", 0.5), ("five", "5", 4), ("five", "2", 3), ("", "3", 2), ("nan", "1", 4), (" [1] ", "4", 3),
        ("100", "5", 95),
    ],
)  # fmt: skip
def test_ratings_by_hand(prediction, gold, error):
    assert errors([prediction], [gold]) == [error]
    assert compute("mae", [prediction], [gold], STARS) == compute("rmse", [prediction], [gold], STARS) == error


def test_labels_by_hand():
    # [1]: named once, rightly, of two; [2]: named once, wrongly, and missed once
    assert compute("macro_f1", [" [1] ", "[2]", "1"], ["[1]", "[1]", "[2]"], ("[1]", "[2]")) == pytest.approx(1 / 3)
    assert compute("accuracy", [" [1] ", "[2]", "1"], ["[1]", "[1]", "[2]"], ("[1]", "[2]")) == pytest.approx(1 / 3)


def test_rouge_by_hand():
    # 4 of 5 words are among the 7 right ones, 3 of them in order
    prediction, gold = "hats: the cats' 2 dogs", "the cats 2 hats a na ve"
    assert compute("rouge1", [prediction], [gold]) == pytest.approx(2 * 4 / (5 + 7))
    assert compute("rougeL", [prediction], [gold]) == pytest.approx(2 * 3 / (5 + 7))


LABELS = {task: st.sampled_from(SPECS[task].options) for task in SPECS if SPECS[task].options}
NOISE = st.text(max_size=12) | st.sampled_from(AWKWARD[:-3])
NUMBERS = st.floats().map(str) | st.integers(-9, 9).map(str) | st.sampled_from([f" {s}\n" for s in STARS])
SENTENCES = st.lists(st.sampled_from(["the", "The", "cat", "cats", "sat.", "2", "–", "é", ""]), max_size=9).map(
    " ".join
)


@given(st.data(), st.sampled_from(CHOICES))
def test_labels_score_as_the_definitions_say(data, task):
    golds = data.draw(st.lists(LABELS[task], min_size=1, max_size=20))
    one = LABELS[task] | LABELS[task].map(lambda s: f" {s}\n") | LABELS[task].map(str.upper) | NOISE
    check(task, data.draw(st.lists(one, min_size=len(golds), max_size=len(golds))), golds)


@given(st.lists(st.tuples(NUMBERS | NOISE, LABELS["LaMP_3"]), min_size=1, max_size=20))
def test_ratings_score_as_the_definitions_say(rows):
    if all(abs(e) < 1e100 for e in errors(*map(list, zip(*rows, strict=True)))):  # else its square is no number
        check("LaMP_3", [p for p, _ in rows], [g for _, g in rows])


@given(st.lists(st.tuples(SENTENCES | NOISE, SENTENCES | st.text(max_size=30)), min_size=1, max_size=8))
def test_texts_score_as_the_definitions_say(rows):
    check("LaMP_5", [p for p, _ in rows], [g for _, g in rows])


@given(st.permutations(range(len(AWKWARD))))
@settings(max_examples=4)
def test_the_order_of_a_submission_does_not_matter(tmp_path_factory, order):
    folder: Path = tmp_path_factory.mktemp("order")
    golds = [STARS[i % 5] for i in range(len(AWKWARD))]
    body = {"task": "LaMP_3", "golds": [{"id": str(i), "output": g} for i, g in enumerate(golds)]}
    (folder / "golds.json").write_text(json.dumps(body))
    write_submission(folder / "p.json", "LaMP_3", {str(i): AWKWARD[i] for i in order})
    [score] = score_submission(folder / "p.json", folder / "golds.json")
    expected = {m: DEFINITIONS[m](AWKWARD, golds, STARS) for m in ("mae", "rmse")}
    assert score.metrics == pytest.approx(expected)
    assert (score.task, score.requests) == ("LaMP_3", len(AWKWARD))
