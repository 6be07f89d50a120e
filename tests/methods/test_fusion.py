"""Fusion: a persona and a rival that counts, weighted by what development requests say."""

from __future__ import annotations

import numpy as np
import pytest

from personaplug.core.errors import ConfigError
from personaplug.core.types import Example, History, Profile, Request
from personaplug.training.config import TrainingConfig

FEW = TrainingConfig(steps=1, batch_size=4, save_every=1000)
SOFT = {"name": "plug", "start": "random", "history_text": "{output}"}


@pytest.fixture
def fusion(make_method):
    def make(closed: str = "prior"):
        return make_method("fusion", soft=SOFT, closed={"name": closed})

    return make


def test_its_chances_are_a_weighted_product_of_both(fusion, synthetic) -> None:
    method, examples = fusion(), synthetic.examples("test")[:3]
    method._weights = np.array([0.5, 2.0])
    requests, profiles = [e.request for e in examples], [Profile(e.history) for e in examples]
    options = [e.options for e in examples]
    prompts = method.soft.personalize_many(requests, profiles)
    scored = method.soft.score_options(requests, profiles, prompts, options)
    counted = method.rival.chances(requests, profiles, options)
    for own, rival, both in zip(scored, counted, method.chances(requests, profiles, options), strict=True):
        logs = np.array([s.logprob for s in own])
        product = np.exp(0.5 * (logs - np.logaddexp.reduce(logs))) * rival**2
        np.testing.assert_allclose(both, product / product.sum(), rtol=1e-5)


def test_it_is_no_worse_on_dev_than_the_rival_alone(fusion, synthetic, tmp_path) -> None:
    method, train, dev = fusion(), synthetic.examples("train")[:40], synthetic.examples("dev")
    method.fit(train, dev, FEW, tmp_path)
    requests, profiles = [e.request for e in dev], [Profile(e.history) for e in dev]
    options = [e.options for e in dev]
    fused = method.mean_nats(dev, method.chances(requests, profiles, options))
    alone = method.mean_nats(dev, method.rival.chances(requests, profiles, options))
    assert fused <= alone + 1e-6


def test_its_tensors_restore_both_parts_and_their_weights(fusion, synthetic, tmp_path) -> None:
    method, other = fusion(), fusion()
    method.fit(synthetic.examples("train")[:16], synthetic.examples("dev")[:8], FEW, tmp_path)
    other.load_tensors(method.tensors())
    example: Example = synthetic.examples("test")[0]
    asked = [example.request], [Profile(example.history, method.prepare(example.history))], [example.options]
    np.testing.assert_allclose(method.chances(*asked)[0], other.chances(*asked)[0], rtol=1e-5)
    assert method.key == other.key


def test_what_it_cannot_weigh_is_refused_in_one_line(fusion, synthetic, tmp_path, make_method) -> None:
    with pytest.raises(ConfigError, match="closed = 'recent' needs a language model"):
        make_method("fusion", soft=SOFT, closed={"name": "recent"})
    with pytest.raises(ConfigError, match="fits its weights on development requests"):
        fusion().fit(synthetic.examples("train")[:8], [], FEW, tmp_path)


def test_free_text_is_the_soft_methods_own(fusion) -> None:
    method = fusion()
    request, profile = Request.of("ada", "drink food"), Profile(History("ada"))
    mine, soft = (m.personalize(request, profile) for m in (method, method.soft))
    np.testing.assert_array_equal(np.asarray(mine.prefix), np.asarray(soft.prefix))
