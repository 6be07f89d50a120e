"""What needs no language model: label counts, votes of like behaviours, a regression over both."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from personaplug.bench.measure import NLL, OPTION_NLL, measure
from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, Example, History, Message, Profile, Request, Sampling
from personaplug.data.feedback import pair_behavior
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig

LIKE = TaskInfo("like", "choice", options=("yes", "no"), metrics=("accuracy",))
MOODS = TaskInfo("moods", "multilabel", options=("joy", "fear", "anger"), metrics=("any_match",))
RATED = TaskInfo("rated", "choice", metrics=("accuracy",))
RIVALS = ("prior", "vote", "logistic")


def build(name: str, info: TaskInfo, **config) -> Method:
    vectors = VectorCache(registry.build("encoder", "hashing", {"width": 64}))
    return registry.build(
        "method", name, config, backbone=registry.build("backbone", "echo"), vectors=vectors, task=info
    )


def asked(user: str, *pairs: tuple[str, str]) -> History:
    return History(user, tuple(Behavior(user, str(i), text, said, at=i) for i, (text, said) in enumerate(pairs)))


def by_colour(users: int, requests: int, seed: int) -> list[Example]:
    """Each user likes one colour and never another: what they say depends on the user and on what is asked."""
    rng = random.Random(seed)
    found = []
    for u in range(users):
        loved = rng.choice(["red", "blue"])
        texts = [rng.choice(["red", "blue"]) for _ in range(8 + requests)]
        said = [(f"the {t} one", "yes" if t == loved else "no") for t in texts]
        for r in range(8, 8 + requests):
            text, target = said[r]
            request, history = LIKE.request(f"u{seed}-{u}", text), asked(f"u{seed}-{u}", *said[:r])
            found.append(Example(f"{seed}-{u}-{r}", request, history, target, LIKE.options))
    return found


def liked_texts(users: int, seed: int) -> list[Example]:
    """Each user prefers texts on one subject, whichever it is."""
    rng = random.Random(seed)
    found = []
    for u in range(users):
        loved, other = rng.sample(["red sea waves", "blue sky cloud"], 2)
        user = f"u{seed}-{u}"
        pairs = tuple(
            pair_behavior(
                user, str(i), "which?", f"{loved} {rng.random():.3f}", f"{other} {rng.random():.3f}", float(i)
            )
            for i in range(6)
        )
        texts = [f"{loved} new {rng.random():.3f}", f"{other} new {rng.random():.3f}"]
        request = Request(user, (Message("user", "which?"),), " ".join(texts))
        options = tuple(rng.sample(texts, 2))
        found.append(Example(f"{seed}-{u}", request, History(user, pairs), texts[0], options))
    return found


def fit(method: Method, train: list[Example], dev: list[Example], folder: Path) -> Method:
    method.fit(train, dev, TrainingConfig(), folder)
    return method


def chances(method: Method, examples: list[Example]) -> np.ndarray:
    requests, profiles = [e.request for e in examples], [Profile(e.history) for e in examples]
    prompts = method.personalize_many(requests, profiles)
    options = [e.options or method.task.options for e in examples]
    return np.exp([[s.logprob for s in row] for row in method.score_options(requests, profiles, prompts, options)])


def test_the_prior_is_the_users_own_counts_pulled_towards_everybodys_share(tmp_path):
    train = [Example(str(i), LIKE.request(f"t{i}", "q"), History(f"t{i}"), "yes", LIKE.options) for i in range(3)]
    method = fit(build("prior", LIKE, smoothing=4.0), train, [], tmp_path)
    someone = Example("x", LIKE.request("ada", "q"), asked("ada", ("a", "no"), ("b", "no"), ("c", "yes")), "no")
    share = (3 + 0.5) / 4  # of three answers "yes", and one that is split between the options
    assert chances(method, [someone])[0] == pytest.approx([(1 + 4 * share) / 7, (2 + 4 * (1 - share)) / 7])
    stranger = Example("y", LIKE.request(None, "q"), History("nobody"), "no")
    assert chances(method, [stranger])[0] == pytest.approx([share, 1 - share])


def test_users_who_never_change_their_mind_make_the_prior_trust_their_counts(tmp_path):
    def steady(user: str, said: str) -> Example:
        return Example(user, LIKE.request(user, "q"), asked(user, *[("q", said)] * 6), said, LIKE.options)

    def fickle(user: str, said: str) -> Example:
        other = "no" if said == "yes" else "yes"
        return Example(user, LIKE.request(user, "q"), asked(user, *[("q", said)] * 6), other, LIKE.options)

    both = [("a", "yes"), ("b", "no")]
    sure = fit(build("prior", LIKE), [steady(*x) for x in both], [steady(*x) for x in both], tmp_path)
    unsure = fit(build("prior", LIKE), [fickle(*x) for x in both], [fickle(*x) for x in both], tmp_path)
    example = steady("c", "yes")
    assert chances(sure, [example])[0][0] > 0.9 > chances(unsure, [example])[0][0] > 0.5


@pytest.mark.parametrize("name", ["vote", "logistic"])
def test_what_was_said_of_like_things_decides_where_counts_cannot(name, tmp_path):
    train, dev, test = (by_colour(24, 2, seed) for seed in (1, 2, 3))
    method, prior = fit(build(name, LIKE), train, dev, tmp_path), fit(build("prior", LIKE), train, dev, tmp_path)
    row, counts = measure(method, LIKE, test), measure(prior, LIKE, test)
    assert row.scores["accuracy"] > 0.9 > counts.scores["accuracy"]
    assert row.scores[OPTION_NLL] < counts.scores[OPTION_NLL]
    strangers = measure(method, LIKE, test, control="shuffled users")
    assert strangers.scores["accuracy"] < 0.8


@pytest.mark.parametrize("name", RIVALS)
def test_its_chances_add_up_to_one_and_an_artifact_gives_them_back(name, tmp_path):
    for info, train, test in (
        (LIKE, by_colour(12, 2, 1), by_colour(6, 1, 2)),
        (RATED, liked_texts(12, 1), liked_texts(6, 2)),
    ):
        method = fit(build(name, info), train, [], tmp_path)
        found = chances(method, test)
        assert found.sum(axis=1) == pytest.approx(np.ones(len(found)), abs=1e-4)
        again = build(name, info)
        again.load_tensors(method.tensors())
        assert chances(again, test) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("name", ["vote", "logistic"])
def test_texts_like_those_that_a_user_preferred_are_likelier(name, tmp_path):
    method = fit(build(name, RATED), liked_texts(24, 1), liked_texts(12, 2), tmp_path)
    row = measure(method, RATED, liked_texts(12, 3))
    assert row.scores["accuracy"] > 0.9
    assert row.scores[OPTION_NLL] == pytest.approx(row.scores[NLL])


def test_of_texts_that_nobody_has_labels_for_the_prior_knows_what_everybody_preferred(tmp_path):
    pairs = tuple(pair_behavior("a", str(i), "which?", "the sea", "the sky", float(i)) for i in range(3))
    train = [Example("1", Request.of("a", "which?"), History("a", pairs), "the sea", ("the sea", "the sky"))]
    method = fit(build("prior", RATED), train, [], tmp_path)
    asks = Example("2", Request.of("b", "which?"), History("b"), "the sea", ("the sky", "the sea", "a wall"))
    sky, sea, wall = chances(method, [asks])[0]
    assert sea > wall > sky


@pytest.mark.parametrize("name", RIVALS)
def test_of_several_labels_it_names_those_that_are_likelier_than_not(name, tmp_path):
    def reader(user: str, said: str) -> Example:
        return Example(user, MOODS.request(user, "a tale"), asked(user, *[("a tale", said)] * 9), said, MOODS.options)

    train = [reader(f"u{i}", said) for i, said in enumerate(["joy, fear", "anger"] * 8)]
    method = fit(build(name, MOODS), train, train, tmp_path)
    row = measure(method, MOODS, [reader("x", "joy, fear"), reader("y", "anger")])
    assert row.predictions == ("joy, fear", "anger")
    assert all(nats > 0 for nats in row.nll)
    prompt = method.personalize(train[0].request, Profile(train[0].history))
    pieces = method.stream(train[0].request, Profile(train[0].history), prompt, Sampling())
    assert "".join(pieces) == "joy, fear"


def test_a_bias_is_added_to_what_the_model_gives_and_its_scale_is_learnt(tmp_path):
    train, dev = by_colour(12, 2, 1), by_colour(12, 2, 2)
    for example in (*train, *dev):
        assert example.options
    method = fit(build("prior_bias", LIKE, smoothing=1.0), train, dev, tmp_path)
    steady = asked("ada", *[("q", "no")] * 9)
    request = LIKE.request("ada", "what do they say")
    prompt = method.personalize(request, Profile(steady))
    assert prompt.bias.keys() == {"yes", "no"}
    [[yes, no]] = method.score_options([request], [Profile(steady)], [prompt], [LIKE.options])
    [plain_yes, plain_no] = method.backbone.score([prompt] * 2, LIKE.options)
    assert yes.logprob - plain_yes.logprob == pytest.approx(prompt.bias["yes"])
    assert no.logprob - plain_no.logprob == pytest.approx(prompt.bias["no"])
    if any(prompt.bias.values()):
        [answer] = method.answer_many([request], [Profile(steady)], [prompt], Sampling())
        assert answer.text == "no"


def test_a_scale_of_counts_is_larger_where_counts_tell_more(tmp_path):
    def steady(user: str, said: str) -> Example:
        return Example(user, LIKE.request(user, "q"), asked(user, *[("q", said)] * 6), said, LIKE.options)

    sure = [steady(str(i), said) for i, said in enumerate(["yes", "no"] * 4)]
    method = fit(build("prior_bias", LIKE, smoothing=1.0), sure, sure, tmp_path)
    bias = method.personalize(sure[0].request, Profile(sure[0].history)).bias
    assert bias["yes"] - bias["no"] > math.log(6)


def test_a_bias_on_sets_of_labels_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match="use 'prior'"):
        build("prior_bias", MOODS)


@pytest.mark.parametrize(
    ("name", "config"), [("prior", {"smoothing": -1}), ("vote", {"temperature": -1}), ("logistic", {"c": -1})]
)
def test_a_negative_hyperparameter_is_refused(name, config):
    with pytest.raises(ConfigError, match=name):
        build(name, LIKE, **config)
