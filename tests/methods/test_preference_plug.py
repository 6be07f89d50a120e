"""The preference plug: it learns tastes from likes and dislikes, for users that it never met."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch

from personaplug.core.types import Behavior, Example, History, Profile, Request
from personaplug.data.feedback import pair_behavior, thumb_behavior
from personaplug.methods.base import Method
from personaplug.training.config import TrainingConfig
from personaplug.training.trainer import SampledExample

TASTES = ("amber", "birch", "coral")  # words of the tiny model
SMALL: dict[str, Any] = {"persona_tokens": 1, "start": "random", "history_dropout": 0.9}
TRAINING = TrainingConfig(steps=100, batch_size=16, lr=3e-3, save_every=1000)


def pair(user: str, id_: int, liked: str, disliked: str) -> Behavior:
    return pair_behavior(user, str(id_), f"food {id_}", liked, disliked, float(id_))


def person(number: int, pairs: int = 4, kind: str = "pair") -> tuple[History, str]:
    """Somebody of one taste, and that."""
    rng, user, taste = random.Random(number), f"user{number}", TASTES[number % 3]
    others = [t for t in TASTES if t != taste]
    if kind == "thumbs":
        texts = [taste if i % 2 else rng.choice(others) for i in range(pairs)]
        said = [thumb_behavior(user, str(i), f"food {i}", t, t == taste, float(i)) for i, t in enumerate(texts)]
    else:
        said = [pair(user, i, taste, rng.choice(others)) for i in range(pairs)]
    return History(user, tuple(said)), taste


def asked(number: int, pairs: int = 4, kind: str = "pair") -> Example:
    history, taste = person(number, pairs, kind)
    disliked = TASTES[(number + 1) % 3]
    request = Request.of(history.user, "book")
    return Example(str(number), request, history, taste, TASTES, disliked)


def fitted(make_method, tmp_path_factory, training: TrainingConfig) -> Method:
    method = make_method("preference_plug", **SMALL)
    train = [asked(n, 1 + n % 6, "thumbs" if n % 4 == 0 else "pair") for n in range(90)]
    method.fit(train, [], training, tmp_path_factory.mktemp("tastes"))
    return method


@pytest.fixture(scope="module")
def trained(make_method, tmp_path_factory) -> Method:
    return fitted(make_method, tmp_path_factory, TRAINING)


@pytest.fixture(scope="module")
def begun(make_method, tmp_path_factory) -> Method:
    """After a few steps: it has the statistics of its training histories, and weights that have moved."""
    return fitted(make_method, tmp_path_factory, dataclasses.replace(TRAINING, steps=5))


def prefix(method: Method, history: History) -> torch.Tensor:
    found = method.personalize(Request.of(history.user, "food"), Profile(history)).prefix
    assert found is not None
    return found


STRANGERS = [asked(n, 1 + n % 5) for n in range(300, 330)]


@pytest.mark.slow
def test_it_learns_tastes_of_people_whom_it_never_met_and_of_nobody_else(trained, measure) -> None:
    assert measure(trained, STRANGERS) > 0.9
    # The next one always has another taste.
    assert measure(trained, STRANGERS, [Profile(e.history) for e in STRANGERS[1:] + STRANGERS[:1]]) < 0.1


@pytest.mark.slow
def test_thumbs_say_it_too_also_where_somebody_only_dislikes(trained, measure) -> None:
    assert measure(trained, [asked(n, 6, "thumbs") for n in range(300, 330)]) > 0.9
    down = [thumb_behavior("eve", str(i), "food", t, False, float(i)) for i, t in enumerate(("amber", "birch") * 2)]
    prompt = trained.personalize(Request.of("eve", "book"), Profile(History("eve", tuple(down))))
    scored = trained.backbone.score([prompt] * 3, list(TASTES))
    assert TASTES[int(np.argmax([s.logprob for s in scored]))] == "coral"


@pytest.mark.slow
def test_one_piece_of_feedback_moves_the_persona_less_than_many_alike(trained) -> None:
    nobody = prefix(trained, History("ada"))
    many = History("ada", tuple(pair("ada", i, "amber", "birch") for i in range(12)))
    far = [(prefix(trained, many.last(n)) - nobody).norm().item() for n in (1, 3, 12)]
    assert 0 < far[0] < far[1] < far[2]


@pytest.mark.slow
def test_contradictory_feedback_is_near_nobodys(trained) -> None:
    nobody = prefix(trained, History("ada"))
    sure = History("ada", tuple(pair("ada", i, "amber", "birch") for i in range(6)))
    sides = ("amber", "birch")
    torn = History("ada", tuple(pair("ada", i, sides[i % 2], sides[1 - i % 2]) for i in range(6)))
    assert (prefix(trained, torn) - nobody).norm() < 0.6 * (prefix(trained, sure) - nobody).norm()


def test_a_side_of_which_nothing_is_said_counts_as_the_average(begun) -> None:
    up = History("ada", (thumb_behavior("ada", "1", "food", "amber", True, 1.0),))
    width = begun.encoder_width
    [raw] = begun.views(up)
    assert not raw[:width].isnan().any()
    assert raw[width:].isnan().all()
    filled = torch.cat([raw[:width], begun.plug.standard.mean[width:]])
    for one, other in zip(begun.plug.project(raw[None]), begun.plug.project(filled[None]), strict=True):
        torch.testing.assert_close(one, other)


def test_its_loss_is_that_of_the_liked_answers_and_how_little_they_are_preferred(make_method, tmp_path) -> None:
    method = make_method("preference_plug", **SMALL)
    told, silent = asked(1), asked(2)
    silent = Example(silent.id, silent.request, silent.history, silent.target)
    module = method.training_module([told, silent], [told, silent])
    losses = module(**module.collate([SampledExample(0, 0), SampledExample(1, 0)]))
    prompts = method.personalize_many([told.request, silent.request], [Profile(told.history), Profile(silent.history)])
    liked = method.backbone.loss(prompts, [told.target, silent.target])
    disliked = method.backbone.loss(prompts[:1], [told.disliked])
    contrast = -torch.nn.functional.logsigmoid(2.0 * (disliked - liked[:1]) - 1.0)
    torch.testing.assert_close(losses, liked + torch.cat([contrast, torch.zeros(1)]), atol=2e-3, rtol=2e-3)


def test_two_templates_are_refused(make_method) -> None:
    with pytest.raises(Exception, match="expected one template"):
        make_method("preference_plug", history_text=["{input}", "{output}"])
