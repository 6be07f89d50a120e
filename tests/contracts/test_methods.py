"""What holds for every method on the shelf. A new method joins by itself; give it a line in CONFIGS if it needs one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tiny
from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.core import registry
from personaplug.core.errors import MismatchError
from personaplug.core.types import Behavior, Conditioning, Example, History, Profile, Prompt, Request, Sampling
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method

CONFIGS: dict[str, dict[str, Any]] = {"pplug": {"query_encoder": "frozen"}, "summary": {"max_tokens": 8}}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> CausalBackbone:
    folder = tiny.save_causal(tmp_path_factory.mktemp("models") / "tiny")
    return CausalBackbone(CausalConfig(str(folder), "float32", "cpu"))


@pytest.fixture(params=registry.names("method"))
def method(request: pytest.FixtureRequest, backbone: CausalBackbone) -> Method:
    vectors = VectorCache(registry.build("encoder", "hashing", {"width": 32}))
    return registry.build("method", request.param, CONFIGS.get(request.param), backbone=backbone, vectors=vectors)


def history(user: str, n: int) -> History:
    return History(user, tuple(Behavior(user, str(i), "what is", f"red {i}", at=float(i)) for i in range(n)))


USERS = [history("ada", 5), history("bob", 1), history("nobody", 0), history("eve", 9)]
REQUESTS = [Request.of(h.user, text) for h, text in zip(USERS, ["a b", "tell me more", "c", "no"], strict=True)]


def prefix(prompt: Any) -> np.ndarray:
    return np.zeros(0) if prompt.prefix is None else np.asarray(prompt.prefix)


def ask(method: Method, requests: list[Request], profiles: list[Profile]) -> list[Prompt]:
    """What the bench asks of an oracle, and everybody of any other method."""
    if not method.oracle:
        return method.personalize_many(requests, profiles)
    examples = [Example(str(i), r, p.history, "red") for i, (r, p) in enumerate(zip(requests, profiles, strict=True))]
    return method.personalize_examples(examples, profiles)


def one(method: Method, request: Request, profile: Profile) -> Prompt:
    return ask(method, [request], [profile])[0] if method.oracle else method.personalize(request, profile)


def test_it_says_what_it_is(method: Method) -> None:
    assert method.summary
    assert method.source
    assert method.name in registry.names("method")


def test_its_prompts_need_no_more_than_it_declared(method: Method) -> None:
    for request, h in zip(REQUESTS, USERS, strict=True):
        assert one(method, request, Profile(h)).needs & ~method.needs == Conditioning(0)


def test_a_backbone_that_lacks_what_it_needs_is_refused_when_built(method: Method) -> None:
    if method.needs == Conditioning.TEXT:
        pytest.skip("text is accepted by every backbone")
    with pytest.raises(MismatchError):
        registry.build("method", method.name, backbone=registry.build("backbone", "echo"))


def test_mixed_users_get_what_each_gets_alone(method: Method) -> None:
    profiles = [Profile(h, method.prepare(h)) for h in USERS]
    together = ask(method, REQUESTS, profiles)
    for request, profile, prompt in zip(REQUESTS, profiles, together, strict=True):
        alone = one(method, request, profile)
        assert alone.messages == prompt.messages
        np.testing.assert_allclose(prefix(alone), prefix(prompt), atol=1e-5)


def test_a_requests_own_options_score_in_a_batch_as_alone(method: Method) -> None:
    profiles = [Profile(h, method.prepare(h)) for h in USERS]
    prompts = ask(method, REQUESTS, profiles)
    options = [["red", "a b"], ["red", "no", "what is it"], ["yes", "no"], ["tell me more", "red"]]
    together = method.score_options(REQUESTS, profiles, prompts, options)
    assert [len(scored) for scored in together] == [2, 3, 2, 2]
    for i, scored in enumerate(together):
        [alone] = method.score_options([REQUESTS[i]], [profiles[i]], [prompts[i]], [options[i]])
        np.testing.assert_allclose([s.logprob for s in alone], [s.logprob for s in scored], atol=1e-3)


def test_a_stored_state_gives_what_a_fresh_one_gives(method: Method) -> None:
    for request, h in zip(REQUESTS, USERS, strict=True):
        stored, fresh = one(method, request, Profile(h, method.prepare(h))), one(method, request, Profile(h))
        assert stored.messages == fresh.messages
        np.testing.assert_allclose(prefix(stored), prefix(fresh), atol=1e-5)


def test_a_state_that_is_extended_is_the_one_that_is_prepared_anew(method: Method) -> None:
    whole = history("eve", 9)
    for known in (0, 1, 8):
        before = history("eve", known)
        state = method.extend(Profile(before, method.prepare(before)), History("eve", whole.behaviors[known:]))
        if state is not None:
            anew = method.prepare(whole)
            assert anew is not None
            assert state.keys() == anew.keys()
            for name in state:
                np.testing.assert_allclose(np.asarray(state[name], float), np.asarray(anew[name], float), atol=2e-3)


def test_a_user_without_history_gets_a_sensible_answer(method: Method) -> None:
    prompt = one(method, REQUESTS[2], Profile(USERS[2]))
    assert np.isfinite(prefix(prompt)).all()
    [answer] = method.backbone.generate([prompt], Sampling(max_tokens=3))
    assert isinstance(answer.text, str)


def test_explained_weights_are_of_the_users_own_behaviours_and_add_up_to_one(method: Method) -> None:
    weights = method.explain(REQUESTS[3], Profile(USERS[3]))
    assert {w.behavior.id for w in weights} <= {b.id for b in USERS[3]}
    assert not weights or sum(w.weight for w in weights) == pytest.approx(1, abs=1e-3)
    assert [w.weight for w in weights] == sorted((w.weight for w in weights), reverse=True)


def test_its_key_is_stable_and_its_tensors_restore_it(method: Method) -> None:
    before = method.key
    method.load_tensors(method.tensors())
    assert method.key == before
