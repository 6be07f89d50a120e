"""The hashing encoder: deterministic, unit-length, blind to nothing that is in the words."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.errors import ConfigError
from personaplug.encoders.hashing import HashingConfig, HashingEncoder

ENCODER = HashingEncoder(HashingConfig())


@given(st.lists(st.text(max_size=40), max_size=8))
def test_vectors_are_unit_length_or_zero_and_do_not_depend_on_the_batch(texts):
    vectors = ENCODER.encode(texts)
    for text, vector in zip(texts, vectors, strict=True):
        length = np.linalg.norm(vector)
        assert length == pytest.approx(1, abs=1e-5) or length == 0
        assert np.array_equal(vector, ENCODER.encode([text])[0])


@given(st.lists(st.text(max_size=20), min_size=2, max_size=8), st.randoms())
def test_the_order_of_the_texts_is_the_order_of_the_vectors(texts, random):
    order = list(range(len(texts)))
    random.shuffle(order)
    assert np.array_equal(ENCODER.encode([texts[i] for i in order]), ENCODER.encode(texts)[order])


def test_another_process_gives_the_same_vectors():
    code = (
        "from personaplug.encoders.hashing import *;"
        "print(HashingEncoder(HashingConfig()).encode(['a fixed text']).tobytes().hex())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == ENCODER.encode(["a fixed text"]).tobytes().hex()


def test_case_punctuation_and_spelling_show():
    plain, *others = ENCODER.encode(["see you", "See you", "see you!", "see yuo"])
    assert all(plain @ other < 0.99 for other in others)


def test_texts_that_share_words_are_nearer_than_texts_that_do_not():
    text, near, far = ENCODER.encode(["a film about robots", "robots in a film", "quarterly tax reporting"])
    assert text @ near > text @ far + 0.2


def test_a_width_of_one_is_refused():
    with pytest.raises(ConfigError, match="width is 1"):
        HashingEncoder(HashingConfig(width=1))
