"""The style encoder: named numbers in 0..1 that move with how a text is written, and with nothing else."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.encoders.style import _SMALL_WORDS, FEATURES, VERSION, StyleConfig, StyleEncoder

ENCODER = StyleEncoder(StyleConfig())

# Half of the characters are ones that features look at.
TEXTS = st.text(
    st.one_of(st.sampled_from("aAiI .,!?…'’\"-—:;()<3^xD\n🙂/*1"), st.characters(categories=None)), max_size=60
)


def features(text: str) -> dict[str, float]:
    return dict(zip(FEATURES, ENCODER.encode([text])[0].tolist(), strict=True))


@given(st.lists(TEXTS, max_size=6))
def test_any_text_gets_numbers_in_0_to_1_alone_as_in_a_batch_in_both_roles(texts):
    vectors = ENCODER.encode(texts)
    assert vectors.shape == (len(texts), len(FEATURES))
    assert ((vectors >= 0) & (vectors <= 1)).all()
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(vector, ENCODER.encode([text], role="query")[0])


def test_nothing_is_in_the_empty_text():
    assert not ENCODER.encode([""]).any()


def test_every_column_has_a_name_of_its_own():
    assert len(set(FEATURES)) == len(FEATURES) == ENCODER.width


@pytest.mark.parametrize(
    ("plain", "styled", "feature"),
    [
        ("Yes.", "Yes. I saw it with my own eyes.", "characters"),
        ("Yes.", "Yes. I saw it with my own eyes.", "sentences"),
        ("a bit of it", "considerable quantities", "word_length"),
        ("i know", "I KNOW", "capitals"),
        ("i know", "I know", "starts_with_capital"),
        ("Good. very good.", "Good. Very good.", "sentences_with_capital"),
        ("the Movies", "The Movies", "capitalised_words"),
        ("so good", "so GOOD", "shouted_words"),
        ("I'm in", "i'm in", "small_i"),
        ("see you", "see you.", "ends_with_period"),
        ("see you", 'he said "see you."', "ends_with_period"),
        ("see you.", "see you…", "ends_with_ellipsis"),
        ("see you.", "see you!", "ends_with_exclamation_mark"),
        ("see you.", "see you?", "ends_with_question_mark"),
        ("see you.", "see you :)", "ends_with_smiley"),
        ("see you.", "I said see you again ❤\ufe0f", "ends_with_smiley"),
        ("see you.", "see you", "ends_bare"),
        ("yes and no", "yes, and no", "commas"),
        ("yes and no", "yes and no...", "ellipses"),
        ("dont", "don’t", "apostrophes"),
        ("so he said", "“so” he said", "quotes"),
        ("so he said", 'so – he said', "long_dashes"),
        ("so", "so (or not)", "parentheses"),
        ("what!", "what?!", "repeated_marks"),
        ("yes, no", "yes , no", "spaces_before_marks"),
        ("yes, no", "yes,no", "no_spaces_after_marks"),
        ("it's", "it’s", "typographic_marks"),
        ("nice", "nice 🙂", "emoji"),
        ("nice", "nice :-)", "emoticons"),
        ("see it", "see https://example.org/a?b=1", "urls"),
        ("one two", "one\ntwo", "line_breaks"),
        ("one\ntwo", "- one\n- two", "bullets"),
        ("room four", "room 404", "digits"),
        ("naive", "naïve", "not_ascii"),
        ("no no no", "one two three", "distinct_words"),
        ("so good", "soooo good", "stretched_words"),
        ("well", "hahaha well", "laughter"),
        ("do not", "don't", "contractions"),
        ("I'm", "Im", "bare_contractions"),
        ("it is", "it isn't", "negations"),
        ("he's here", "I'm here", "first_person"),
        ("he is here", "you are here", "second_person"),
        ("it is", "maybe it is", "hedges"),
        ("it is", "thanks", "politeness"),
    ],
)  # fmt: skip
def test_a_feature_rises_with_what_it_is_named_after(plain, styled, feature):
    assert features(styled)[feature] > features(plain)[feature]


def test_smileys_and_addresses_are_not_counted_as_punctuation_or_words():
    marks = ["colons", "parentheses", "slashes", "periods", "question_marks", "words"]
    plain, styled = features("good"), features("good :) https://example.org/a?b=1")
    assert [styled.get(m) for m in marks] == [plain.get(m) for m in marks]


def test_a_mark_is_the_same_in_every_script_and_on_every_keyboard():
    for mark in ("commas", "ends_with_question_mark"):
        assert features("好，是吗？")[mark] == features("好,是吗?")[mark] > 0


def test_the_topic_hardly_shows():
    one, other, shouted = ENCODER.encode(
        ["the cat sat on a mat.", "the dog lay in a bed.", "THE CAT SAT!! on a mat :)"]
    )
    assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(one - shouted)


@pytest.mark.parametrize("piece", ["(", "xD", "'", '."', " ", "\n", "a'", "!", "ha", ":(", "https://", "🙂", "<3"])
def test_a_long_text_of_one_thing_takes_no_longer_than_its_length(piece):
    started = time.perf_counter()
    ENCODER.encode([piece * (200_000 // len(piece))])
    assert time.perf_counter() - started < 2  # a quadratic pattern takes minutes


def test_other_numbers_come_with_another_version():
    text = "Haha yeah, i dont KNOW... what about you?? - I'm soooo in :)\n\nSee https://example.org (maybe).\n"
    digest = hashlib.blake2b(repr((FEATURES, _SMALL_WORDS)).encode(), digest_size=8)
    digest.update(ENCODER.encode([text]).astype(np.float16).tobytes())
    # If features changed on purpose: raise VERSION and write the new pair here.
    assert (ENCODER.key, digest.hexdigest()) == ("style:1", "acfbdb04e4097d34")
    assert ENCODER.key == f"style:{VERSION}"
