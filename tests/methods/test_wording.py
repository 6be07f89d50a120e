"""Behaviours written into a prompt: nothing of the request is lost, and nothing takes more room than it was given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.backbones.echo import EchoBackbone
from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, Message, Request
from personaplug.methods.prompts.wording import TokenBudget, with_examples, with_profile
from personaplug.tasks.base import Wording

LAMP_1 = (
    'For an author who has written the paper with the title "Q", which reference is related? '
    'Just answer with [1] or [2]. [1]: "title one" [2]: "two"'
)


class Pieces(EchoBackbone):
    """Tokens of up to three characters that never reach over a blank, so that joining texts merges tokens."""

    def count(self, text):
        return sum(-(-len(word) // 3) for word in text.split(" "))

    def cut(self, text, tokens):
        while self.count(text) > tokens:
            text = text[:-1]
            if not text:
                break
        return text


def b(output: str, input: str = "", id: str = "1", **fields: str) -> Behavior:  # noqa: A002
    return Behavior("ada", id, input, output, fields=fields)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
items = st.lists(st.builds(b, texts, st.just("") | texts), max_size=5)
wordings = st.sampled_from(
    [
        Wording(),
        Wording(item='"{output}"'),
        Wording(item='"{output}" is the title for "{input}"', whole="{items}. Following the given patterns {request}"),
        Wording(item='"{output}"', after="title"),
    ]
)
requests = texts.map(lambda t: Request.of("ada", t, "be brief"))


def cost(kept, wording, backbone):
    """What the items take as they stand in the prompt."""
    written = with_examples(Request.of("ada", "?"), kept, Wording(wording.item, wording.joint, "{items}"))
    return sum(backbone.count(m.content + "\n" * (not wording.item)) for m in written if m.content != "?")


@given(items, requests, wordings, st.integers(1, 60), st.sampled_from([EchoBackbone(), Pieces()]))
def test_items_never_take_more_than_their_budget(found, request, wording, length, backbone):
    kept = TokenBudget(length, backbone).fit(found, request, wording)
    asked = backbone.count(request.messages[-1].content)
    room = length - min(asked, int(0.6 * length))
    slack = 2 * len(kept)  # tokens at the seams
    assert not kept or cost(kept, wording, backbone) <= room + slack


@given(items, requests, wordings, st.integers(1, 60))
def test_the_request_is_never_cut_and_other_messages_stay(found, request, wording, length):
    kept = TokenBudget(length, Pieces()).fit(found, request, wording)
    messages = with_examples(request, kept, wording)
    assert messages[0] == request.messages[0]
    assert messages[-1].role == "user"
    asked = request.messages[-1].content
    if not wording.after:
        assert messages[-1].content.endswith(asked)
    if not kept:
        assert messages == request.messages


@given(items, requests)
def test_what_fits_is_not_changed(found, request):
    wording = Wording(item="{input} {output}")
    assert TokenBudget(10_000, EchoBackbone()).fit(found, request, wording) == found


@given(items, requests, wordings, st.integers(1, 60))
def test_what_is_cut_is_the_end_of_a_text(found, request, wording, length):
    kept = TokenBudget(length, Pieces()).fit(found, request, wording)
    left = iter(found)
    for short in kept:  # in the given order, some left out
        assert any(_begins(short, item) for item in left)


def _begins(short, item):
    return all(getattr(item, p).lstrip().startswith(getattr(short, p).lstrip()) for p in ("input", "output"))


def test_tokens_that_one_item_leaves_over_go_to_the_next():
    long = " ".join(map(str, range(100)))
    budget, request = TokenBudget(50, EchoBackbone()), Request.of("ada", " ".join(["why"] * 10))
    wording = Wording(item="{output}", joint=" ")
    assert [len(k.output.split()) for k in budget.fit([b(long), b(long)], request, wording)] == [20, 20]
    assert [len(k.output.split()) for k in budget.fit([b("hi"), b(long)], request, wording)] == [1, 39]


def test_a_long_request_leaves_the_items_two_fifths():
    long = " ".join(["word"] * 100)
    [kept] = TokenBudget(50, EchoBackbone()).fit([b(long)], Request.of("ada", long), Wording(item="{output}"))
    assert len(kept.output.split()) == 20


def test_the_input_is_cut_before_the_output():
    found = TokenBudget(10, EchoBackbone()).fit(
        [b("o p q", "a b c d e f g h i")], Request.of("ada", "x"), Wording(item="{input} {output}")
    )
    assert [(k.input, k.output) for k in found] == [("a b c d e f", "o p q")]


def test_an_item_of_which_nothing_would_be_left_is_left_out():
    wording = Wording(item="one two three four five {output}")
    assert TokenBudget(4, EchoBackbone()).fit([b("hi")], Request.of("ada", "x"), wording) == []
    only = Wording(item='he read "{input}"')
    assert TokenBudget(3, EchoBackbone()).fit([b("out", "in put")], Request.of("ada", "x y"), only) == []


def test_text_items_stand_before_the_request_with_the_best_one_first():
    request = Request.of("ada", "And now?", "be brief")
    wording = Wording(item='"{output}" for "{input}" ({mood})')
    messages = with_examples(request, [b("A", "a", mood="good"), b("B", "b", mood="bad")], wording)
    assert messages == (
        Message("system", "be brief"),
        Message("user", '"A" for "a" (good), and "B" for "b" (bad). And now?'),
    )


def test_turns_stand_between_the_instruction_and_the_conversation_with_the_best_one_last():
    said = [Message("system", "s"), Message("user", "1"), Message("assistant", "2"), Message("user", "3")]
    messages = with_examples(Request("ada", tuple(said)), [b("A", "a"), b("B", "b")], Wording())
    assert [m.content for m in messages] == ["s", "b", "B", "a", "A", "1", "2", "3"]
    assert [m.role for m in messages] == ["system", *["user", "assistant"] * 3, "user"]


@given(st.lists(st.tuples(st.sampled_from(["", "in"]), st.sampled_from(["", "out"])).filter(any), max_size=5))
def test_turns_alternate_even_where_nobody_asked_or_nothing_was_answered(pairs):
    messages = with_examples(Request.of("ada", "?"), [b(o, i) for i, o in pairs], Wording())
    assert [m.role for m in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]


def test_lamp_1_takes_its_items_in_the_middle_of_the_question():
    wording = Wording(item='"{output}"', after="title")
    [message] = with_examples(Request.of("ada", LAMP_1), [b("A"), b("B")], wording)
    assert message.content == LAMP_1.replace('title "Q"', 'title "A", and "B", and "Q"')


def test_items_stand_behind_a_whole_word_only():
    wording = Wording(item='"{output}"', after="title")
    [message] = with_examples(Request.of("ada", 'A subtitle, titled; the title "Q"?'), [b("A")], wording)
    assert message.content == 'A subtitle, titled; the title "A", and "Q"?'


def test_without_the_word_they_stand_in_front():
    wording = Wording(item='"{output}"', after="title")
    [message] = with_examples(Request.of("ada", "what now?"), [b("A")], wording)
    assert message.content == '"A". what now?'


def test_braces_in_what_people_write_are_just_text():
    wording = Wording(item="{output}")
    [message] = with_examples(Request.of("ada", "{items} {x}"), [b("{request} {input}")], wording)
    assert message.content == "{request} {input}. {items} {x}"


def test_a_wording_that_names_a_missing_field_is_refused():
    with pytest.raises(ConfigError, match=r"behaviour '1' of user 'ada'.*'mood'"):
        with_examples(Request.of("ada", "x"), [b("A")], Wording(item="{mood}"))


def test_words_about_a_user_join_the_instruction():
    system, asked = Request.of("ada", "hi", "be brief").messages
    assert with_profile([system, asked], "Ada is kind.") == (Message("system", "be brief\nAda is kind."), asked)
    assert with_profile([asked], "Ada is kind.") == (Message("system", "Ada is kind."), asked)
    assert with_profile([system, asked], "") == (system, asked)
