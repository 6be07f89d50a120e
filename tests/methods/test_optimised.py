"""Retrieval that learns from the frozen model: it must come to prefer what makes the user's real answer likely."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from personaplug.backbones.echo import EchoBackbone
from personaplug.core import registry
from personaplug.core.errors import ConfigError, MismatchError, PersonaplugError
from personaplug.core.types import Behavior, Example, History, Profile, Prompt, Request, Scored
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.retrieval import Retrieval
from personaplug.pipeline.artifacts import WEIGHTS
from personaplug.training.config import TrainingConfig

TRAINING = TrainingConfig(steps=60, batch_size=16, lr=5e-2, save_every=1000)
OTHER_NAMES = {"cats": "felines", "cars": "engines", "tea": "infusions", "rain": "showers"}


class Counting(EchoBackbone):
    """Likelier where words are shared, as echo; counts what it scored, and may be killed after some calls."""

    def __init__(self, calls: int = 10**6) -> None:
        super().__init__()
        self.left = calls
        self.scored = 0

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Scored]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.scored += len(prompts)
        return super().score(prompts, continuations)


def build(name: str, backbone: EchoBackbone | None = None, **config: Any) -> Retrieval:
    vectors = VectorCache(registry.build("encoder", "hashing", {"width": 64}))
    return registry.build("method", name, config, backbone=backbone or Counting(), vectors=vectors)


def named_otherwise(number: int) -> Example:
    """The behaviour with the answer calls the topic otherwise; those that share the request's words do not help."""
    user = f"u{number}"
    topic = list(OTHER_NAMES)[number % 4]
    texts = [(f"note {OTHER_NAMES[t]}", f"{user}x{t}") for t in OTHER_NAMES]
    texts += [(f"tell me about {t}", "hm") for t in OTHER_NAMES]
    random.Random(number).shuffle(texts)
    history = History(user, tuple(Behavior(user, str(i), a, b) for i, (a, b) in enumerate(texts)))
    return Example(user, Request.of(user, f"tell me about {topic}"), history, f"{user}x{topic}")


def newest_or_nearest(number: int) -> Example:
    """One kind of request is answered by the newest behaviour, the other by the nearest."""
    user = f"u{number}"
    things = ["lamp", "boat", "hill", "door", "moon"]
    thing = things[number % 4]
    history = History(user, tuple(Behavior(user, t, f"the {t}", f"{user}x{t}") for t in things))
    if number % 2:
        return Example(user, Request.of(user, f"go on as before the {thing} again"), history, f"{user}xmoon")
    return Example(user, Request.of(user, f"what of the {thing}"), history, f"{user}x{thing}")


def place_of_the_answer(method: Retrieval, example: Example) -> int:
    ranked = method.select([example.request], [Profile(example.history)])[0]
    return [b.output for b in ranked].index(example.target)


def nats(method: Retrieval, examples: Sequence[Example]) -> float:
    prompts = method.personalize_many([e.request for e in examples], [Profile(e.history) for e in examples])
    return -sum(s.logprob for s in method.backbone.score(prompts, [e.target for e in examples])) / len(examples)


WORLDS: dict[str, tuple[Callable[[int], Example], dict[str, Any]]] = {
    "ropg": (named_otherwise, {"candidates": 8, "k": 8}),
    "rspg": (newest_or_nearest, {"rankers": ("none", "recent", "dense"), "k": 1}),
}


@pytest.fixture(scope="module", params=sorted(WORLDS))
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    world, config = WORLDS[request.param]
    method = build(request.param, **config)
    train = [world(i) for i in range(64)]
    folder = tmp_path_factory.mktemp(request.param) / "fit"  # scores are kept beside it
    return method, method.fit(train, [], TRAINING, folder), train, folder


@pytest.mark.slow
def test_a_trained_retriever_ranks_what_helps_above_where_the_untrained_one_had_it(tmp_path: Path) -> None:
    untrained, trained = build("ropg", k=8), build("ropg", k=8)
    trained.fit([named_otherwise(i) for i in range(64)], [], TRAINING, tmp_path / "fit")
    held_out = [named_otherwise(i) for i in range(100, 120)]
    assert all(place_of_the_answer(untrained, e) > 0 for e in held_out)
    assert all(place_of_the_answer(trained, e) == 0 for e in held_out)


def test_an_untrained_retriever_is_dense_retrieval() -> None:
    example = named_otherwise(1)
    both = [build(name, k=3).select([example.request], [Profile(example.history)]) for name in ("ropg", "dense")]
    assert both[0] == both[1]


@pytest.mark.slow
def test_a_selector_prefers_the_ranker_that_helps_and_beats_each_of_them(tmp_path: Path) -> None:
    method = build("rspg", rankers=("none", "recent", "dense"), k=1)
    method.fit([newest_or_nearest(i) for i in range(64)], [], TRAINING, tmp_path / "fit")
    held_out = [newest_or_nearest(i) for i in range(100, 120)]
    assert nats(method, held_out) == 0.0
    assert min(nats(build(name, k=1), held_out) for name in ("recent", "dense")) > 0.4


def test_the_loss_falls(fitted) -> None:
    _, result, _, _ = fitted
    losses = [loss for _, loss in result.curve]
    assert losses[-1] < 0.5 * losses[0]
    assert result.steps == TRAINING.steps


def test_saved_tensors_restore_it(fitted, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    method, _, _, _ = fitted
    world, config = WORLDS[method.name]
    save_file(method.tensors(), tmp_path / WEIGHTS)
    other = build(method.name, **config)
    assert other.key != method.key
    other.load_tensors(load_file(tmp_path / WEIGHTS))
    assert other.key == method.key
    for example in map(world, range(100, 104)):
        pair = [example.request], [Profile(example.history)]
        assert other.select(*pair) == method.select(*pair)


def test_the_same_seed_gives_the_same_weights_without_scoring_again(fitted) -> None:
    method, result, train, folder = fitted
    backbone = Counting(calls=0)
    again = build(method.name, backbone, **WORLDS[method.name][1])
    repeated = again.fit(train, [], TRAINING, folder)
    assert again.key == method.key
    assert repeated.curve == result.curve
    assert not backbone.scored


def test_a_killed_fit_goes_on_without_scoring_again(fitted, tmp_path: Path) -> None:
    method, _, train, _ = fitted
    killed, backbone = Counting(calls=1), Counting()
    with pytest.raises(KeyboardInterrupt):
        build(method.name, killed, **WORLDS[method.name][1]).fit(train, [], TRAINING, tmp_path / "fit")
    again = build(method.name, backbone, **WORLDS[method.name][1])
    again.fit(train, [], TRAINING, tmp_path / "fit")
    assert killed.scored > 0
    assert killed.scored + backbone.scored == method.backbone.scored
    assert again.key == method.key


def test_stored_states_and_batches_give_what_fresh_ones_give_alone(fitted) -> None:
    method, _, _, _ = fitted
    examples = [WORLDS[method.name][0](i) for i in range(100, 106)]
    requests = [e.request for e in examples]
    stored = [Profile(e.history, method.prepare(e.history)) for e in examples]
    together = method.personalize_many(requests, stored)
    assert together == [method.personalize(e.request, Profile(e.history)) for e in examples]


def test_without_a_history_the_request_stays_as_it_is(fitted) -> None:
    method, _, _, _ = fitted
    request = Request.of("nobody", "tell me about cats")
    profile = Profile(History("nobody"))
    assert method.personalize(request, profile) == Prompt(request.messages)
    assert method.explain(request, profile) == []


def test_weights_of_another_shape_are_refused(fitted) -> None:
    method, _, _, _ = fitted
    wrong = {k: torch.zeros(3) for k in method.tensors()}
    with pytest.raises(MismatchError, match="do not fit"):
        build(method.name).load_tensors(wrong)


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_users_with_nothing_to_choose_from_teach_nothing(name: str, tmp_path: Path) -> None:
    nobody = Example("1", Request.of("nobody", "hi"), History("nobody"), "hi")
    backbone = Counting()
    with pytest.raises(ConfigError, match="no training requests"):
        build(name, backbone).fit([nobody], [], TRAINING, tmp_path / "fit")
    assert not backbone.scored


def test_a_limit_of_requests_bounds_the_scoring(tmp_path: Path) -> None:
    backbone = Counting()
    method = build("ropg", backbone, candidates=3, draws=1, requests=4)
    method.fit([named_otherwise(i) for i in range(64)], [], TrainingConfig(steps=1), tmp_path / "fit")
    assert backbone.scored == 4 * (3 + 1)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("ropg", {"train": "encoder"}, "cannot be trained"),
        ("ropg", {"candidates": 1, "draws": 0}, "two together"),
        ("ropg", {"temperature": 0.0}, "temperature"),
        ("rspg", {"rankers": ("recent",)}, "two different rankers"),
        ("rspg", {"rankers": ("none", "ropg")}, "'ropg' among its rankers"),
        ("rspg", {"rankers": ("none", "plug")}, "'plug' among its rankers"),
        ("rspg", {"rankers": ("none", "resent")}, "did you mean 'recent'"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(PersonaplugError, match=message):
        build(name, **config)


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("ropg", {"train": "encoder"}),
        ("ropg", {"train": "map"}),
        ("rspg", {}),
    ],
)
def test_real_models_train_it(real_parts, name: str, config: dict[str, Any], tmp_path: Path) -> None:
    backbone, vectors = real_parts
    method = registry.build("method", name, {"k": 1, **config}, backbone=backbone, vectors=vectors)
    before = method.key
    result = method.fit(
        [named_otherwise(i) for i in range(4)],
        [],
        TrainingConfig(steps=6, batch_size=4, lr=1e-3, log_every=1),
        tmp_path,
    )
    assert 0 <= result.curve[-1][1] < result.curve[0][1] < 10
    assert method.key != before
    example = named_otherwise(5)
    [items] = method.select([example.request], [Profile(example.history)])
    assert {b.id for b in items} <= {b.id for b in example.history}


@pytest.fixture(scope="module")
def real_parts():
    backbone = registry.build("backbone", "causal", {"model": "smollm2-135m", "device": "cpu"})
    return backbone, VectorCache(registry.build("encoder", "sentence", {"model": "minilm", "device": "cpu"}))
