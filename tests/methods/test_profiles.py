"""Words about a user, written by the model or by counting: stored, refreshed, said in each request, never invented."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.backbones.echo import EchoBackbone
from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, Completion, History, Profile, Prompt, Request, Sampling
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method
from personaplug.pipeline.personalizer import Personalizer
from personaplug.stores.base import Store
from personaplug.tasks.base import TaskInfo, Wording

ASKED = Request.of("ada", "what now", system="Answer.")
LEAD = "About this user: "


class Writer(EchoBackbone):
    """Writes a profile that names the number of lines it was shown and the last one; remembers what it was asked."""

    def __init__(self, answer: str = "", key: str = "writer", finish: str = "stop") -> None:
        super().__init__()
        self.key, self.answer, self.finish = key, answer, finish
        self.calls: list[list[Prompt]] = []

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        self.calls.append(list(prompts))
        return [Completion(self.answer or self._seen(p), (), 0, self.finish) for p in prompts]  # type: ignore[arg-type]

    def _seen(self, prompt: Prompt) -> str:
        lines = shown(prompt)
        return f"Does {len(lines)} things, newest: {lines[-1]}"


def shown(prompt: Prompt) -> list[str]:
    """The lines of behaviours in a request for a profile."""
    return prompt.messages[-1].content.split("\n")[2:-2]


def history(user: str, *outputs: str, inputs: str = "hey") -> History:
    return History(user, tuple(Behavior(user, str(i), inputs, o, at=float(i)) for i, o in enumerate(outputs)))


def summary(backbone: EchoBackbone | None = None, task: TaskInfo | None = None, **config) -> Method:
    return registry.build("method", "summary", config, backbone=backbone or Writer(), task=task)


def stats(kind: str = "text", options: tuple[str, ...] = (), **config) -> Method:
    task = TaskInfo("t", kind, options=options)  # type: ignore[arg-type]
    return registry.build("method", "stats", config, backbone=EchoBackbone(), task=task)


def said(method: Method, of: History) -> str:
    """What the system message says of the user, stored or not."""
    fresh = method.personalize(ASKED, Profile(of))
    stored = method.personalize(ASKED, Profile(of, method.prepare(of)))
    assert fresh == stored
    head, *rest = fresh.messages[0].content.split("\n" + LEAD)
    assert head == "Answer."
    assert fresh.messages[1:] == ASKED.messages[1:]
    return "".join(rest)


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    opened = registry.build("store", "sql", {"url": str(tmp_path / "users.db")})
    yield opened
    opened.close()


# Both


@pytest.mark.parametrize("method", [summary(), stats()], ids=["summary", "stats"])
def test_of_an_empty_history_nothing_is_said(method):
    assert method.prepare(History("ada")) is None
    assert method.personalize(ASKED, Profile(History("ada"))).messages == ASKED.messages


@pytest.mark.parametrize("name", ["summary", "stats"])
def test_a_text_method_writes_behaviours_besides_the_words(name):
    parts = {"backbone": Writer(), "task": TaskInfo("t", "text", wording=Wording(item="{output}"))}
    ada = history("ada", "red one", "red two")
    method = registry.build("method", name, {"text": {"name": "recent", "k": 1}}, **parts)
    alone = registry.build("method", name, {}, **parts)
    system, user = method.personalize(ASKED, Profile(ada, method.prepare(ada))).messages
    assert user.content == "red two. what now"
    assert system == alone.personalize(ASKED, Profile(ada)).messages[0]
    assert [w.behavior.output for w in method.explain(ASKED, Profile(ada))] == ["red two"]
    assert alone.explain(ASKED, Profile(ada)) == []
    assert method.key != alone.key


@pytest.mark.parametrize("name", ["summary", "stats"])
def test_words_join_a_request_without_a_system_message(name):
    method = registry.build("method", name, {}, backbone=Writer())
    prompt = method.personalize(Request.of("ada", "what now"), Profile(history("ada", "red")))
    assert [m.role for m in prompt.messages] == ["system", "user"]
    assert prompt.messages[0].content.startswith(LEAD)


def test_a_layered_plug_can_stand_on_a_profile(synthetic, synthetic_backbone):
    vectors = VectorCache(registry.build("encoder", "hashing", {"width": 32}))
    config = {"text": {"name": "stats"}}
    method = registry.build("method", "plug", config, backbone=synthetic_backbone, vectors=vectors, task=synthetic.info)
    ada = history("ada", *synthetic.info.options[:1] * 3)
    prompt = method.personalize(ASKED, Profile(ada, method.prepare(ada)))
    assert prompt.prefix is not None
    assert LEAD in prompt.messages[0].content


# A profile that the model writes


def test_a_stored_profile_is_written_once_and_again_when_the_history_changes(store):
    writer = Writer()
    me = Personalizer(summary(writer), store)
    me.observe(Behavior("ada", "1", "hey", "grand", at=1.0))
    for _ in range(2):
        [prompt] = me.prompts([ASKED])
    assert prompt.messages[0].content == f"Answer.\n{LEAD}Does 1 things, newest: hey => grand"
    later = Personalizer(summary(writer), store)
    assert later.prompts([ASKED]) == [prompt]
    assert len(writer.calls) == 1
    me.observe(Behavior("ada", "2", "hey", "naïve 🎉", at=2.0))
    [prompt] = me.prompts([ASKED])
    assert prompt.messages[0].content.endswith("Does 2 things, newest: hey => naïve 🎉")
    assert len(writer.calls) == 2


def test_many_users_are_written_in_one_batch_and_equal_questions_once():
    writer = Writer()
    histories = [history("ada", "a"), History("nobody"), history("bob", "b", "c"), history("eve", "a")]
    states = summary(writer).prepare_many(histories)
    assert [len(call) for call in writer.calls] == [2]
    assert states[1] is None
    texts = [s["profile"].tobytes().decode() for s in states if s is not None]
    assert [t.split(" ", 1)[1] for t in texts] == [
        "1 things, newest: hey => a",
        "2 things, newest: hey => c",
        "1 things, newest: hey => a",
    ]
    assert all(s is None or s["profile"].dtype == np.uint8 for s in states)


def test_the_model_is_told_what_the_task_or_the_configuration_says():
    task = TaskInfo("t", "text", wording=Wording(item="[{output}]", profile="Say who."))
    for config, words in (({}, "Say who."), ({"instruction": "Say more."}, "Say more.")):
        writer = Writer()
        summary(writer, task, **config).prepare(history("ada", "a\n\nb", "c"))
        [[prompt]] = writer.calls
        assert words in prompt.messages[-1].content
        assert [m.role for m in prompt.messages] == ["system", "user"]
        assert shown(prompt) == ["[a b]", "[c]"]  # oldest first, a line each


def test_its_key_changes_with_everything_that_decides_the_profile():
    task = TaskInfo("t", "text", wording=Wording(profile="Say who."))
    methods = [
        summary(),
        summary(Writer(key="another")),
        summary(task=task),
        summary(task=TaskInfo("t", "text", wording=Wording(item="{output}"))),
        *(summary(**{k: v}) for k, v in (("instruction", "Who?"), ("max_tokens", 9), ("history_tokens", 9))),
        summary(text={"name": "recent"}),
    ]
    assert len({m.key for m in methods}) == len(methods)
    assert summary().key == summary().key


@pytest.mark.parametrize(
    ("answer", "finish", "kept"),
    [
        ("This person is terse. They like", "length", "This person is terse."),
        ('They say "no!" They', "length", 'They say "no!"'),
        ("This person is terse. They like", "stop", "This person is terse. They like"),
        ("no end at all", "length", "no end at all"),
        ("\n 1. Is terse.\n 2. Is kind.\n3.", "length", "Is terse. Is kind."),
        ("- likes red\n- hates blue\n", "stop", "likes red hates blue"),
        ("简短。喜欢", "length", "简短。"),
    ],
)
def test_a_profile_is_one_line_of_whole_sentences(answer, finish, kept):
    assert said(summary(Writer(answer, finish=finish)), history("ada", "a")) == kept


def test_an_empty_answer_changes_no_message():
    method = summary(Writer(" \n"))
    ada = history("ada", "a")
    state = method.prepare(ada)
    assert state is not None
    assert method.personalize(ASKED, Profile(ada, state)).messages == ASKED.messages


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=60), tokens=st.integers(4, 120))
def test_what_it_reads_fits_is_spread_over_the_history_and_has_the_newest(sizes, tokens):
    ada = history("ada", *(" ".join([f"w{i}"] * n) for i, n in enumerate(sizes)), inputs="q")
    writer = Writer()
    summary(writer, history_tokens=tokens).prepare(ada)
    [[prompt]] = writer.calls
    lines = shown(prompt)
    assert sum(len(line.split()) for line in lines) <= tokens
    which = [int(line.split()[-1][1:]) for line in lines]
    assert which == sorted(which)
    assert which[-1] == len(sizes) - 1
    if sum(n + 2 for n in sizes) <= tokens:
        assert len(lines) == len(sizes)
    gaps = np.diff([-1, *which])
    assert max(gaps[1:], default=1) - min(gaps[1:], default=1) <= 1


@pytest.mark.parametrize("key", ["max_tokens", "history_tokens"])
def test_no_tokens_at_all_is_refused(key):
    with pytest.raises(ConfigError, match=f"{key} = 0; expected 1 or more"):
        summary(**{key: 0})


def test_a_field_that_behaviours_lack_is_a_clear_error():
    task = TaskInfo("t", "text", wording=Wording(item="{titel}: {output}"))
    with pytest.raises(ConfigError, match=r"behaviour '0' of user 'ada': template .* names 'titel'"):
        summary(task=task).prepare(history("ada", "a"))


def test_a_seq2seq_model_writes_one_too(tiny_t5):
    backbone = registry.build("backbone", "seq2seq", {"model": str(tiny_t5), "dtype": "float32", "device": "cpu"})
    method = summary(backbone, max_tokens=4)
    states = method.prepare_many([history("ada", "red a b"), history("bob", "blue please")])
    alone = method.prepare(history("bob", "blue please"))
    assert states[1] is not None
    assert alone is not None
    np.testing.assert_array_equal(states[1]["profile"], alone["profile"])


# Statistics


def test_the_most_used_labels_are_named_with_their_shares():
    given_ = history("ada", "yes", "no", "yes", "yes")
    assert said(stats("choice", ("no", "yes")), given_) == "they most often answered yes (75%) and no (25%)."


def test_of_many_labels_the_first_three_are_named_ties_in_the_options_order():
    given_ = history("ada", "joy", "joy, fear", "calm", "none")
    words = said(stats("multilabel", ("none", "fear", "calm", "joy")), given_)
    assert words == "they most often answered joy (50%), none (25%) and fear (25%)."


def test_ratings_have_a_mean_and_a_most_used_one():
    words = said(stats("rating", ("1", "2", "3", "4", "5")), history("ada", "5", "5", "4", "2"))
    assert words == "their mean rating is 4.0 on a scale from 1 to 5; they most often gave 5 (50%)."
    assert "most often answered good" in said(stats("rating", ("bad", "good")), history("ada", "good"))


def test_habits_of_writing_are_named():
    words = said(stats(), history("ada", "grand so!!", "grand :)", "ok then", "aye grand"))
    assert words == (
        "they typically write 2 words. They always write all in lower case, sometimes end with punctuation, "
        "never ask questions, sometimes use exclamation marks and sometimes use emoji. Words they often use: grand."
    )


def test_words_that_others_say_as_often_are_not_the_users_own():
    ada = history("ada", "pizza tonight", "pizza again", "tonight then", inputs="pizza later")
    assert said(stats(), ada).endswith("Words they often use: tonight.")


def test_a_history_of_other_things_than_the_answers_is_free_text():
    words = said(stats("choice", ("[1]", "[2]")), history("ada", "On Persona", "On Style"))
    assert words.startswith("they typically write 2 words.")


def test_texts_of_nothing_but_blanks_say_nothing():
    ada = History("ada", (Behavior("ada", "1", "seen", " "),))
    assert stats().personalize(ASKED, Profile(ada, stats().prepare(ada))).messages == ASKED.messages


@given(outputs=st.lists(st.text(st.characters(codec="utf-8"), max_size=30).filter(bool), min_size=1, max_size=8))
def test_any_text_has_statistics_of_one_line_that_do_not_depend_on_its_order(outputs):
    words = [said(stats(), history("ada", *some)) for some in (outputs, outputs[::-1])]
    assert words[0] == words[1]
    assert "\n" not in words[0]


def test_statistics_are_prepared_anew_for_another_set_of_options():
    assert stats("choice", ("a", "b")).key != stats("choice", ("a", "c")).key != stats().key


# The real small model


@pytest.mark.model
def test_the_real_model_writes_different_profiles_of_different_people():
    from personaplug import models

    models.pull("smollm2-135m")
    backbone = registry.build("backbone", "causal", {"model": "smollm2-135m", "dtype": "float32", "device": "cpu"})
    chat = ("omg yesss!!! lol", "haha i loveee it!!", "cant wait for the beach partyyy", "sooo tired lol")
    mail = (
        "I should be grateful for a reply at your earliest convenience.",
        "Please find enclosed the quarterly accounts.",
        "The committee regrets that the meeting is postponed.",
    )
    states = summary(backbone, max_tokens=32).prepare_many([history("ada", *chat), history("bob", *mail)])
    texts = [s["profile"].tobytes().decode() for s in states if s is not None]
    assert len(set(texts)) == 2
    assert all(len(t.split()) > 3 for t in texts)
