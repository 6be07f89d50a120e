"""Metrics agree with golden values worked out independently, and intervals cover what they should."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.errors import DataError, UnknownNameError
from personaplug.metrics.bootstrap import bootstrap, paired_bootstrap
from personaplug.metrics.scores import METRICS, compute, labels, option_nll, per_example

TAGS = ("comedy", "dark comedy", "true story")
STARS = ("1", "2", "3", "4", "5")

AWKWARD = [
    "",
    "  ",
    "five",
    "4.5",
    " 3 ",
    "5 stars",
    "COMEDY",
    " comedy\n",
    "comedy, dark comedy",
    "comédie",
    "３",
    "x" * 50_000,
]


def test_accuracy_strips_and_otherwise_wants_the_exact_label():
    predictions = [" comedy\n", "Comedy", "comedy.", "", "comedy, true story", "comedy, comedy"]
    assert per_example("accuracy", predictions, ["comedy"] * 6, TAGS) == [1, 0, 0, 0, 0, 0]


def test_an_option_may_contain_a_comma():
    assert labels("yes, sir", ("yes, sir", "no")) == {"yes, sir"}


def test_macro_f1_counts_a_label_never_predicted_as_zero_and_an_invalid_answer_as_no_class():
    predictions = ["comedy", "comedy", "nonsense", "dark comedy"]
    references = ["comedy", "dark comedy", "comedy", "dark comedy"]
    # comedy: tp 1, fp 1, fn 1 -> 1/2; dark comedy: tp 1, fp 0, fn 1 -> 2/3; true story: never -> 0
    assert compute("macro_f1", predictions, references, TAGS) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_equals_scikit_learns(seed):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = random.Random(seed)
    references = rng.choices(TAGS[:2], k=40)
    predictions = rng.choices([*TAGS, "invalid"], k=40)
    index = {t: i for i, t in enumerate(TAGS)}
    expected = sklearn.f1_score(
        [index[r] for r in references],
        [index.get(p, -1) for p in predictions],
        labels=[0, 1, 2],
        average="macro",
        zero_division=0,
    )
    assert compute("macro_f1", predictions, references, TAGS) == pytest.approx(expected)


def test_several_labels_are_compared_as_sets():
    options = ("joy", "fear", "anger")
    references = ["joy, fear", "anger", "joy"]
    predictions = ["fear,joy", "joy, anger", "fear"]
    assert per_example("accuracy", predictions, references, options) == [1, 0, 0]
    assert per_example("any_match", predictions, references, options) == [1, 1, 0]
    # joy: tp 1, fp 1, fn 1; fear: tp 1, fp 1, fn 0; anger: tp 1
    assert compute("macro_f1", predictions, references, options) == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)


@pytest.mark.parametrize(
    ("prediction", "gold", "error"),
    [
        ("4.5", "5", 0.5),
        (" 3 ", "5", 2.0),
        ("100", "5", 95.0),  # not clipped
        ("five", "5", 4.0),  # unparseable: the farther end
        ("five", "1", 4.0),
        ("five", "2", 3.0),
        ("five", "3", 2.0),  # both ends are as far
        ("", "4", 3.0),
        ("4 stars", "4", 3.0),
        ("nan", "5", 4.0),
        ("inf", "2", 3.0),
        ("1" * 5000, "2", 3.0),
    ],
)
def test_a_rating_that_cannot_be_read_counts_as_the_farther_end_of_the_scale(prediction, gold, error):
    assert per_example("mae", [prediction], [gold], STARS) == [error]
    assert per_example("rmse", [prediction], [gold], STARS) == [error**2]


def test_mae_and_rmse_by_hand():
    predictions, references = ["1", "5", "oops"], ["2", "5", "5"]
    assert compute("mae", predictions, references, STARS) == pytest.approx((1 + 0 + 4) / 3)
    assert compute("rmse", predictions, references, STARS) == pytest.approx(math.sqrt((1 + 0 + 16) / 3))


def test_the_farther_end_is_taken_from_the_options():
    assert per_example("mae", ["?"], ["2"], ("0", "10")) == [8.0]


def test_exact_strips_only():
    assert per_example("exact", [" a b ", "A b", "a  b"], ["a b"] * 3) == [1, 0, 0]


def f_measure(hits: int, predicted: int, gold: int) -> float:
    p, r = hits / predicted, hits / gold
    return 2 * p * r / (p + r)


def test_rouge_by_hand():
    gold, prediction = "The cats sat on the mat", "the mat: cat sat!"
    # words: the cats sat on the mat / the mat cat sat; no stemming, so cat != cats
    assert compute("rouge1", [prediction], [gold]) == pytest.approx(f_measure(3, 4, 6))
    assert compute("rougeL", [prediction], [gold]) == pytest.approx(f_measure(2, 4, 6))


def test_rouge_of_an_empty_answer_is_zero():
    assert per_example("rouge1", ["", " ", "…"], ["a headline"] * 3) == [0, 0, 0]


def test_auc_by_hand():
    options = ("yes", "no")
    assert compute("auc", [0.9, 0.8, 0.3, 0.1], ["yes", "no", "yes", "no"], options) == pytest.approx(3 / 4)
    assert compute("auc", [0.5, 0.5], ["yes", "no"], options) == 0.5
    assert compute("auc", [-1, -2, -3], ["yes", "yes", "no"], options) == 1.0


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    yes = [s for s, positive in rows if positive]
    no = [s for s, positive in rows if not positive]
    references = ["yes" if positive else "no" for _, positive in rows]
    if not yes or not no:
        with pytest.raises(DataError, match="needs both options"):
            compute("auc", [s for s, _ in rows], references, ("yes", "no"))
        return
    expected = np.mean([1.0 if y > n else 0.5 if y == n else 0.0 for y in yes for n in no])
    assert compute("auc", [s for s, _ in rows], references, ("yes", "no")) == pytest.approx(expected)


@pytest.mark.parametrize("name", [n for n in METRICS if n != "auc"])
@pytest.mark.parametrize("prediction", AWKWARD, ids=lambda p: repr(p[:12]))
def test_no_answer_however_awkward_makes_a_metric_fail(name, prediction):
    gold, options = ("3", STARS) if name in {"mae", "rmse"} else ("comedy", TAGS)
    assert math.isfinite(compute(name, [prediction, gold], [gold, gold], options))


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if m.each is not None])
def test_a_metric_is_the_mean_of_its_examples(name):
    golds, options = (["1", "4"], STARS) if name in {"mae", "rmse"} else (["comedy", "true story"], TAGS)
    each = per_example(name, ["2", "comedy"], golds, options)
    mean = np.mean(each)
    assert compute(name, ["2", "comedy"], golds, options) == pytest.approx(math.sqrt(mean) if name == "rmse" else mean)


@pytest.mark.parametrize("name", METRICS)
def test_right_answers_are_never_worse_than_wrong_ones(name):
    golds, wrong, options = ["1", "4"], ["5", "1"], STARS
    if name == "auc":
        golds, options = ["1", "2"], ("1", "2")
        best, worst = compute(name, [1, 0], golds, options), compute(name, [0, 1], golds, options)
    else:
        best, worst = compute(name, golds, golds, options), compute(name, wrong, golds, options)
    assert best > worst if METRICS[name].higher_is_better else best < worst


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: compute("rouge", ["a"], ["a"]), UnknownNameError, "did you mean 'rouge"),
        (lambda: compute("exact", ["a"], ["a", "b"]), DataError, "1 predictions for 2 references"),
        (lambda: compute("exact", [], []), DataError, "no examples"),
        (lambda: compute("mae", ["1"], ["1"]), DataError, "needs the task's options"),
        (lambda: compute("mae", ["1"], ["good"], STARS), DataError, "'good' is no number"),
        (lambda: compute("mae", ["1"], ["1"], ("low", "high")), DataError, "'low' is no number"),
        (lambda: compute("macro_f1", ["x"], ["x"], TAGS), DataError, "'x' is none of the options"),
        (lambda: per_example("macro_f1", ["x"], ["x"], TAGS), DataError, "no value for a single example"),
        (lambda: compute("auc", ["a", 1], ["yes", "no"], ("yes", "no")), DataError, "score 'a'"),
        (lambda: compute("auc", [math.nan, 1], ["yes", "no"], ("yes", "no")), DataError, "score 'nan'"),
        (lambda: compute("auc", [1, 2], ["yes", "maybe"], ("yes", "no")), DataError, "'maybe' is none"),
        (lambda: compute("auc", [1], ["1"], STARS), DataError, "two options"),
        (lambda: bootstrap([1.0, math.nan]), DataError, "nan is not finite"),
        (lambda: bootstrap([1.0]), DataError, "at least 2"),
        (lambda: bootstrap([1.0, 2.0], groups=["u", "u"]), DataError, "over 1 users"),
        (lambda: bootstrap([1.0, 2.0], groups=["u"]), DataError, "1 groups"),
        (lambda: paired_bootstrap([1.0], [1.0, 2.0]), DataError, "1 and 2 values"),
    ],
)
def test_what_is_not_defined_is_an_error_that_says_so(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    values = list(np.random.default_rng(0).normal(size=50))
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_the_95_percent_interval_covers_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for i in range(300):
        interval = bootstrap(rng.normal(0.3, 1.0, 60), samples=500, seed=i)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_only_the_interval_over_users_covers_when_a_users_examples_are_alike():
    rng = np.random.default_rng(1)
    users = [f"u{i // 8}" for i in range(40 * 8)]
    hits = {"users": 0, "examples": 0}
    for i in range(200):
        values = np.repeat(rng.normal(size=40), 8) + 0.2 * rng.normal(size=320)
        by_user = bootstrap(values, 300, i, groups=users)
        by_example = bootstrap(values, 300, i)
        hits["users"] += by_user.low <= 0.0 <= by_user.high
        hits["examples"] += by_example.low <= 0.0 <= by_example.high
    assert hits["users"] / 200 >= 0.88
    assert hits["examples"] / 200 <= 0.70


def test_users_of_different_sizes_weigh_by_their_examples():
    interval = bootstrap([1.0, 1.0, 1.0, 0.0], groups=["a", "a", "a", "b"])
    assert (interval.mean, interval.low, interval.high) == (0.75, 0.0, 1.0)


def test_a_paired_interval_is_narrower_than_what_both_rows_vary_by():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    a, b = hard + 0.1 + 0.05 * rng.normal(size=200), hard
    gain = paired_bootstrap(list(a), list(b))
    assert gain.excludes_zero
    assert gain.high - gain.low < 0.03
    assert not paired_bootstrap(list(b), list(b)).excludes_zero


def test_a_large_bootstrap_works_in_bounded_pieces():
    values = np.random.default_rng(0).normal(size=5_000)
    interval = bootstrap(values, samples=1_000)
    assert interval.low < values.mean() < interval.high
    assert str(interval).count(".") == 3


@given(st.lists(st.floats(-50, 0), min_size=2, max_size=6), st.floats(-100, 100))
def test_nats_of_the_right_option_do_not_depend_on_what_the_model_gives_to_all_other_texts(logprobs, shift):
    for right in range(len(logprobs)):
        moved = option_nll([x + shift for x in logprobs], right)
        assert moved == pytest.approx(option_nll(logprobs, right), abs=1e-6)
    assert sum(math.exp(-option_nll(logprobs, i)) for i in range(len(logprobs))) == pytest.approx(1)
