"""A persona and retrieved text in one prompt (the paper's PPlug with retrieval), by configuration."""

from __future__ import annotations

import numpy as np
import pytest

from personaplug.core.errors import ConfigError, UnknownNameError
from personaplug.core.types import Profile
from personaplug.training.config import TrainingConfig

RECENT = {"name": "recent", "k": 1}


def profiles(method, examples):
    return [Profile(e.history, method.prepare(e.history)) for e in examples]


def test_the_messages_are_the_text_methods_and_the_soft_tokens_the_plugs(make_method, synthetic):
    examples = synthetic.examples("test")[:4]
    layered, plain, text = make_method("plug", text=RECENT), make_method("plug"), make_method("recent", k=1)
    plain.load_tensors(layered.tensors())
    requests = [e.request for e in examples]
    for mine, soft, written in zip(
        layered.personalize_many(requests, profiles(layered, examples)),
        plain.personalize_many(requests, profiles(plain, examples)),
        text.personalize_many(requests, profiles(text, examples)),
        strict=True,
    ):
        assert mine.messages == written.messages
        assert np.allclose(mine.prefix, soft.prefix)


@pytest.mark.parametrize("text", [RECENT, {"name": "dense", "k": 2}, {"name": "bm25", "k": 2}, {"name": "stats"}])
def test_stored_states_hold_both_parts_and_give_what_fresh_ones_give(make_method, synthetic, text):
    method, examples = make_method("plug", text=text), synthetic.examples("test")[:3]
    requests = [e.request for e in examples]
    stored = method.personalize_many(requests, profiles(method, examples))
    fresh = [method.personalize(e.request, Profile(e.history)) for e in examples]
    assert [p.messages for p in stored] == [p.messages for p in fresh]
    for a, b in zip(stored, fresh, strict=True):
        assert np.allclose(a.prefix, b.prefix, atol=1e-5)


def test_training_sees_the_text_too(make_method, synthetic, tmp_path, monkeypatch):
    method = make_method("plug", text=RECENT, persona_tokens=1)
    seen = []
    run = method.backbone.token_logprobs
    monkeypatch.setattr(method.backbone, "token_logprobs", lambda p, t: seen.extend(p) or run(p, t))
    train = synthetic.examples("train")[:8]
    method.fit(train, [], TrainingConfig(steps=1, batch_size=4), tmp_path)
    written = {make_method("recent", k=1).personalize(e.request, Profile(e.history)).messages for e in train}
    assert seen
    assert {p.messages for p in seen} <= written


def test_a_task_prompt_on_the_same_text_is_its_control(make_method, synthetic):
    [example] = synthetic.examples("test")[:1]
    control = make_method("task_prompt", text=RECENT)
    prompt = control.personalize(example.request, Profile(example.history))
    assert prompt.messages == make_method("recent", k=1).personalize(example.request, Profile(example.history)).messages
    assert prompt.prefix is not None


def test_the_key_changes_with_the_text_method(make_method):
    assert make_method("plug", text=RECENT).key != make_method("plug").key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({"k": 1}, "text has no name"),
        ({"name": "oracle"}, "expected one that only writes text"),
        ({"name": "plug"}, "expected one that only writes text"),
    ],
)
def test_what_cannot_stand_below_is_refused(make_method, text, said):
    with pytest.raises(ConfigError, match=said):
        make_method("plug", text=text)


def test_a_misspelt_text_method_gets_the_nearest_name(make_method):
    with pytest.raises(UnknownNameError, match="recent"):
        make_method("plug", text={"name": "recnt"})
