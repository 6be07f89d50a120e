"""The user's own words, mixed into the model's probabilities, make what they write again likelier."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.bench.measure import NLL, measure
from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, Example, History, Profile, Prompt
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig

CHAT = TaskInfo("chat", "text", metrics=("exact",))
SAYS = ("red red", "blue please", "green", "yes tell me")


@pytest.fixture(scope="module")
def backbone(tiny_causal: Path) -> CausalBackbone:
    return CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))


def build(backbone, **config):
    return registry.build("method", "cache", config, backbone=backbone, task=CHAT)


def chats(users: int, faithful: bool = True) -> list[Example]:
    found = []
    for u in range(users):
        own, other = SAYS[u % len(SAYS)], SAYS[(u + 1) % len(SAYS)]
        past = tuple(Behavior(f"u{u}", str(i), "what", own, at=float(i)) for i in range(4))
        target = own if faithful else other
        found.append(Example(str(u), CHAT.request(f"u{u}", "what is it"), History(f"u{u}", past), target))
    return found


def test_words_of_the_users_own_are_likelier_and_those_of_strangers_are_not(backbone, tmp_path):
    method = build(backbone)
    method.fit([], chats(8), TrainingConfig(), tmp_path)
    bare = measure(registry.build("method", "none", backbone=backbone, task=CHAT), CHAT, chats(8))
    own, strangers = measure(method, CHAT, chats(8)), measure(method, CHAT, chats(8), control="shuffled users")
    assert own.scores[NLL] < bare.scores[NLL]
    assert own.scores[NLL] < strangers.scores[NLL]


def test_where_nobody_repeats_their_words_the_weight_is_nothing(backbone, tmp_path):
    method = build(backbone)
    method.fit([], chats(8, faithful=False), TrainingConfig(), tmp_path)
    plain = registry.build("method", "none", backbone=backbone, task=CHAT)
    rows = [measure(m, CHAT, chats(8, faithful=False)) for m in (method, plain)]
    assert rows[0].nll == pytest.approx(rows[1].nll, abs=1e-4)


def test_the_mixture_by_hand(backbone):
    method = build(backbone, weight=0.25)
    history = History("ada", (Behavior("ada", "1", "what", "red blue"), Behavior("ada", "2", "what", "red red")))
    request = CHAT.request("ada", "what")
    prompt = Prompt(request.messages)
    [scored] = method.score_answers([request], [Profile(history)], [prompt], ["red blue"])
    first = backbone.score([prompt], ["red"])[0].logprob
    second = backbone.score([prompt], ["red blue"])[0].logprob - first
    # Unigrams: red 3 of 4, blue 1 of 4. A text begins with red; after red come blue and red, once each.
    mine = [0.5 * 3 / 4 + 0.5 * 1.0, 0.5 * 1 / 4 + 0.5 * 0.5]
    expected = sum(math.log(0.75 * math.exp(m) + 0.25 * u) for m, u in zip((first, second), mine, strict=True))
    assert scored.tokens == 2
    assert scored.logprob == pytest.approx(expected, abs=1e-4)


def test_a_user_without_texts_has_the_models_own_probabilities(backbone):
    method = build(backbone, weight=0.5)
    request = CHAT.request(None, "what")
    prompt = Prompt(request.messages)
    [scored] = method.score_answers([request], [Profile(History(""))], [prompt], ["red"])
    assert scored.logprob == pytest.approx(backbone.score([prompt], ["red"])[0].logprob, abs=1e-4)


def test_a_backbone_without_token_probabilities_and_a_wrong_weight_are_refused(backbone):
    with pytest.raises(ConfigError, match="'echo'"):
        build(registry.build("backbone", "echo")).prepare(chats(1)[0].history)
    with pytest.raises(ConfigError, match=r"weight = 1\.0"):
        build(backbone, weight=1.0)
