"""Each reward likes what it says that it likes."""

from __future__ import annotations

import pytest

import tiny
from personaplug import models
from personaplug.core import registry
from personaplug.core.errors import ConfigError, ModelError, UnknownNameError
from personaplug.rewards.published import PUBLISHED
from personaplug.rewards.style import TASTES

LIKED = [
    ("sentiment", {}, "What a lovely day. I am so happy.", "This is terrible. I hate it."),
    ("readability", {}, "The cat sat. It ate. It slept.", "Interdepartmental communication necessitates organisation."),
    ("length", {}, "one two three four", "one two"),
    ("length", {"target": 2}, "one two", "one two three four"),
    ("concreteness", {}, "An apple on the table.", "Hope is an idea of freedom."),
    ("correctness", {}, "She goes to school every day.", "she go to school every days , i has a apple"),
    (
        "style",
        {"taste": "formality"},
        "The report of the committee was sent to the office.",
        "lol i dunno, can't u ask!!",
    ),
    ("style", {"taste": "politeness"}, "Could you please help me? Thank you kindly.", "No. Never. You don't."),
    ("style", {"taste": "hedging"}, "Perhaps it might be so, I guess.", "It is absolutely so."),
    ("style", {"taste": "enthusiasm"}, "This is really great!!!", "This is fine."),
    ("style", {"taste": "lists"}, "Two things:\n- bread\n- milk", "Two things, bread and milk."),
    ("style", {"taste": "emoji"}, "See you 🙂🎉", "See you."),
    ("style", {"taste": "questions"}, "What do you think?", "I think so."),
    ("style", {"taste": "closeness"}, "I told you, my friend, well, you know me.", "The sky is blue."),
    ("style", {"taste": "variety"}, "Every word here differs.", "word word word word"),
    ("style", {"features": {"commas": -1}}, "one two", "one, two"),
    ("relevance", {"encoder": {"name": "hashing"}}, "a question, you say", "zebra"),
]


@pytest.mark.parametrize(("name", "config", "better", "worse"), LIKED, ids=lambda v: v if isinstance(v, str) else "")
def test_it_likes_what_it_says(name, config, better, worse):
    reward = registry.build("reward", name, config)
    high, low = reward.score(["a question"] * 2, [better, worse])
    assert high > low


def test_every_taste_is_tested_above():
    assert set(TASTES) == {config["taste"] for name, config, *_ in LIKED if name == "style" and "taste" in config}


def test_a_wrong_taste_or_feature_is_met_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match="did you mean 'formality'"):
        registry.build("reward", "style", {"taste": "formalty"})
    with pytest.raises(UnknownNameError, match="did you mean 'commas'"):
        registry.build("reward", "style", {"features": {"comas": 1}})
    with pytest.raises(ConfigError, match="name a taste"):
        registry.build("reward", "style")


def test_the_papers_ten_are_there_by_name():
    assert len(PUBLISHED) == 10
    assert list(PUBLISHED) == sorted(PUBLISHED)


@pytest.mark.parametrize("alias", ["beaver_7b", "oasst_pythia_1b", "oasst_pythia_7b"])
def test_a_published_model_of_a_class_of_its_own_is_refused_before_it_is_fetched(alias):
    with pytest.raises(ModelError, match=f"{alias}.*class of its own"):
        registry.build("reward", "hf", {"model": alias})


@pytest.mark.parametrize("template", ["{bos}{chat}", "{chat}"])
def test_a_chat_begins_once_whether_the_template_or_the_tokenizer_or_both_say_so(tmp_path, template):
    from tokenizers.processors import TemplateProcessing

    scores = []
    for folder, itself, chat in (("plain", False, "{bos}{chat}"), ("own", True, template)):
        path = tiny.save_judge(tmp_path / folder)
        tok = tiny.tokenizer()
        said = "{% for m in messages %}{{ m['content'] }} <eos> {% endfor %}"
        tok.chat_template = chat.format(bos="{{ bos_token }} ", chat=said)
        if itself:
            tok.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        tok.save_pretrained(path)
        scores.append(registry.build("reward", "hf", {"model": str(path)}).score(["red blue"], ["a b"])[0])
    assert scores[0] == scores[1]


def test_a_cost_can_be_turned_round(tmp_path):
    folder = str(tiny.save_judge(tmp_path / "judge"))
    cost, reward = (registry.build("reward", "hf", {"model": folder, "negate": n}) for n in (False, True))
    assert (cost.score(["red"], ["blue"]) == -reward.score(["red"], ["blue"])).all()
    assert cost.key != reward.key


def test_a_model_without_a_scoring_head_is_refused(tmp_path):
    folder = str(tiny.save_causal(tmp_path / "lm"))
    with pytest.raises(ModelError, match="no sequence-classification model"):
        registry.build("reward", "hf", {"model": folder})


@pytest.mark.parametrize("form", ["pair", "Q: {prompt} A: {answer}"])
def test_a_reward_model_reads_the_form_that_it_is_given(tmp_path, form):
    folder = str(tiny.save_judge(tmp_path / "judge"))
    asked = registry.build("reward", "hf", {"model": folder, "form": form}).score(["red", "blue"], ["a b", "a b"])
    assert asked[0] != asked[1]


@pytest.mark.model
def test_a_rubric_makes_what_it_asks_for_likelier():
    models.pull("smollm2-135m")
    rubric = "You are a pirate. You always talk like a pirate."
    reward = registry.build("reward", "likelihood", {"rubric": rubric})
    pirate, plain = reward.score(["How are you?"] * 2, ["Arr, matey! Fine as the seven seas!", "I am fine, thanks."])
    assert pirate > plain
