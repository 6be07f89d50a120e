"""The rankers: what each puts first, and that ties, strangers and odd texts do no harm."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.backbones.echo import EchoBackbone
from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, History, Message, Profile, Request
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.encoders.hashing import HashingConfig, HashingEncoder
from personaplug.methods.bm25 import words
from personaplug.methods.retrieval import Retrieval
from personaplug.methods.retrieval.ranking import best, dot, reciprocal_ranks
from personaplug.stores.sql import SqlConfig, SqlStore
from personaplug.tasks.base import TaskInfo, Wording

RANKERS = ["bm25", "dense", "random", "recent", "rrf"]
WORDS = ["red", "green", "blue", "a", "the", "ünï", "你好", "!!", ""]

lines = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
outputs = st.lists(lines.filter(bool), max_size=9)


def make(name: str, task: TaskInfo | None = None, **config) -> Retrieval:
    vectors = VectorCache(HashingEncoder(HashingConfig(64)))
    return registry.build("method", name, config, backbone=EchoBackbone(), vectors=vectors, task=task)


@cache
def again(name: str, k: int) -> Retrieval:
    return make(name, k=k)


def history(outputs: list[str], user: str = "ada") -> History:
    return History(user, tuple(Behavior(user, str(i), "said", o, at=float(i)) for i, o in enumerate(outputs)))


def rank(method: Retrieval, query: str, *outputs: str) -> list[int]:
    h = history(list(outputs))
    [stored] = method.rank([Request.of("ada", query)], [Profile(h, method.prepare(h))])
    [fresh] = method.rank([Request.of("ada", query)], [Profile(h)])
    assert stored == fresh
    return stored


# -- every ranker -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANKERS)
@given(data=st.data())
def test_a_ranking_has_the_best_k_without_doubles_and_is_the_same_in_a_batch_as_alone(name, data):
    method = again(name, data.draw(st.sampled_from([0, 1, 3])))
    histories = [history(data.draw(outputs), user) for user in "abc"]
    requests = [Request.of(h.user, data.draw(lines) or "?") for h in histories]
    profiles = [Profile(h, method.prepare(h)) for h in histories]
    together = method.rank(requests, profiles)
    for request, profile, found in zip(requests, profiles, together, strict=True):
        n = len(profile.history)
        assert len(set(found)) == len(found)
        assert set(found) <= set(range(n))
        assert len(found) >= min(method.config.k, n)
        assert all(type(i) is int for i in found)
        assert method.rank([request], [profile]) == [found]


@pytest.mark.parametrize("name", RANKERS)
def test_a_user_without_history_gets_the_messages_as_they_are(name):
    method, request = make(name), Request.of("ada", "red?", "be brief")
    empty = History("ada")
    for profile in (Profile(empty), Profile(empty, method.prepare(empty))):
        assert method.personalize(request, profile).messages == request.messages
        assert method.explain(request, profile) == []


@pytest.mark.parametrize("name", RANKERS)
def test_its_state_survives_a_store(name, tmp_path):
    method, h = make(name, k=3), history(["red green", "ünï 你好", "blue"])
    state = method.prepare(h)
    if state is None:
        return
    store = SqlStore(SqlConfig(str(tmp_path / "store.db")))
    store.add(h.behaviors)
    store.put_state("ada", method.key, 1, state)
    _, back = store.state("ada", method.key) or (0, None)
    store.close()
    request = Request.of("ada", "你好 green")
    assert method.rank([request], [Profile(h, back)]) == method.rank([request], [Profile(h, state)])


@pytest.mark.parametrize("name", RANKERS)
def test_a_prompt_holds_k_behaviours_at_most_and_explains_them(name):
    task = TaskInfo("t", "text", wording=Wording(item="<{output}>"))
    method, h = make(name, task, k=2), history(["red", "green", "blue"])
    [message] = method.personalize(Request.of("ada", "green?"), Profile(h)).messages
    shares = method.explain(Request.of("ada", "green?"), Profile(h))
    assert message.content == ", and ".join(f"<{s.behavior.output}>" for s in shares) + ". green?"
    assert [s.weight for s in shares] == [0.5, 0.5]


def test_items_as_turns_whatever_the_task_says():
    task = TaskInfo("t", "text", wording=Wording(item="<{output}>"))
    messages = make("recent", task, k=1, item="turns").personalize(
        Request.of("ada", "and?"), Profile(history(["red", "blue"]))
    )
    assert messages.messages == (Message("user", "said"), Message("assistant", "blue"), Message("user", "and?"))


@pytest.mark.parametrize("config", [{"k": -1}, {"max_length": 0}])
def test_an_impossible_size_is_refused_by_name(config):
    [(key, value)] = config.items()
    with pytest.raises(ConfigError, match=rf"{key} = {value}\b.*expected") as error:
        make("recent", **config)
    assert "\n" not in str(error.value)


def test_random_draws_depend_on_seed_user_and_request_alone():
    h = history([str(i) for i in range(50)])
    ask = Request.of("ada", "x")
    first = make("random").rank([ask], [Profile(h)])
    assert first == make("random").rank([ask], [Profile(h)])
    others = [
        make("random", seed=1).rank([ask], [Profile(h)]),
        make("random").rank([Request.of("bob", "x")], [Profile(h)]),
        make("random").rank([Request.of("ada", "y")], [Profile(h)]),
    ]
    assert all(first != other for other in others)


# -- bm25 ---------------------------------------------------------------------------------------------------------


def test_bm25_puts_shared_words_first_and_rare_ones_before_common_ones():
    assert rank(make("bm25"), "the zebra", "the the cat", "the dog", "a zebra", "the cow")[0] == 2


def test_bm25_reads_no_more_than_the_words_whatever_case_and_punctuation():
    assert rank(make("bm25"), "ZEBRA?", "one zebra!", "two", "three")[0] == 0


def test_bm25_finds_words_of_any_script():
    texts = ["我喜欢黑猫", "ฉันชอบแมวดำ", "मुझे बिल्ली पसंद है", "я люблю кошек", "ich mag Straßen", "le cafe\u0301 noir"]
    for i, query in enumerate(["黑猫在哪里", "แมวดำ", "बिल्ली", "КОШЕК", "straßen", "café"]):
        assert rank(make("bm25"), query, *texts)[0] == i


def test_words_of_a_script_without_spaces_are_its_characters_and_their_pairs():
    assert words("猫が3匹") == ["猫", "が", "猫が", "3", "匹"]
    assert words("बिल्ली, naïve ÉTÉ_2") == ["बिल्ली", "naïve", "été_2"]


@pytest.mark.parametrize("query", ["unknown", "!!", " ", "\n"])
def test_bm25_falls_back_to_the_newest_where_no_word_is_shared(query):
    assert rank(make("bm25", k=2), query, "red", "green", "blue") == [2, 1]


def test_bm25_breaks_ties_by_age_with_the_newer_first():
    assert rank(make("bm25", k=5), "red", "red one", "blue", "red two", "green") == [2, 0, 3, 1]


@pytest.mark.parametrize("texts", [["!!", "??"], ["!!", "red"], ["red"], ["red"] * 300])
def test_bm25_takes_histories_without_words_of_one_and_of_many(texts):
    assert rank(make("bm25", k=400), "red", *texts) == list(range(len(texts)))[::-1]


def test_bm25_gives_the_library_s_own_scores():
    import bm25s

    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice([f"w{i}" for i in range(40)], 12)) for _ in range(60)]
    query = "w1 w2 w3 w3 w4"
    retriever = bm25s.BM25()
    retriever.index([t.split() for t in texts], show_progress=False)
    wanted = best(retriever.get_scores(query.split()), 60)
    method = make("bm25", k=60, history_text="{output}")
    assert rank(method, query, *texts) == wanted


def test_bm25_looks_at_the_task_s_text_unless_told_otherwise():
    task = TaskInfo("t", "text", history_text="{output}")
    assert rank(make("bm25", task, k=1), "said", "said", "other") == [0]
    assert rank(make("bm25", k=1), "said", "said", "other") == [0]  # twice is more than once
    assert rank(make("bm25", task, k=1, history_text="{input}"), "said", "said", "other") == [1]
    assert make("bm25", task).key != make("bm25").key


# -- dense --------------------------------------------------------------------------------------------------------


def test_dense_puts_the_nearest_first():
    method = make("dense", history_text="{output}", k=2)
    assert rank(method, "a red car", "a red car", "green tea", "the red car") == [0, 2]


@given(outputs, lines)
def test_dense_ranks_by_cosine_with_the_newer_first_among_equals(texts, query):
    method = again("dense", 20)
    encoder = method.needed_vectors().encoder
    h = history([*texts, *texts])
    [found] = method.rank([Request.of("ada", query or "?")], [Profile(h)])
    if not texts:
        assert found == []
        return
    vectors = encoder.encode([f"said {o}".strip() for o in [*texts, *texts]])
    scores = vectors @ encoder.encode([query or "?"])[0]
    assert all(scores[i] >= scores[j] - 2e-3 for i, j in pairwise(found))
    for i in range(len(texts)):
        assert found.index(i + len(texts)) < found.index(i)


def test_dense_keeps_unit_vectors_in_half_precision_under_the_encoder_s_key():
    method = make("dense")
    state = method.prepare(history(["red", "green"]))
    assert state["vectors"].dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(state["vectors"].astype(float), axis=1), 1, atol=1e-3)
    assert method.needed_vectors().encoder.key in method.key
    assert method.history_templates == ("{input} {output}",)
    assert type(method).needs_encoder(method.config)


def test_dense_without_an_encoder_is_refused_when_built():
    with pytest.raises(ConfigError, match="method 'dense' needs an encoder"):
        registry.build("method", "dense", backbone=EchoBackbone())


# -- rrf ----------------------------------------------------------------------------------------------------------


def test_rrf_adds_up_reciprocal_ranks():
    scores = reciprocal_ranks([[0, 2], [2, 1]], 4, 60)
    np.testing.assert_allclose(scores, [1 / 61, 1 / 62, 1 / 62 + 1 / 61, 0])


def test_rrf_prefers_what_several_rankers_like():
    texts = ["red car", "tea", "red cars are red", "news", "more news"]
    assert rank(make("rrf", k=1, rankers=("bm25", "dense")), "red cars", *texts) == [2]


def test_rrf_of_one_ranker_ranks_as_that_one_does():
    texts = [f"{c} {i}" for i, c in enumerate(["red", "blue", "red", "green"] * 10)]
    for name in ("bm25", "dense", "recent"):
        alone = rank(make(name, k=5), "red 3", *texts)
        assert rank(make("rrf", k=5, rankers=(name,)), "red 3", *texts) == alone[:5]


def test_rrf_sees_deeper_than_its_k():
    # Each ranker's favourite is the other one's last; what both like second wins, if it is seen.
    texts = ["red red red", "red tea tea tea tea", "red tea", "tea"]
    shallow, deep = (make("rrf", k=1, depth=depth, rankers=("recent", "bm25")) for depth in (1, 10))
    assert rank(shallow, "red", *texts) == [3]
    assert rank(deep, "red", *texts) == [2]


def test_rrf_encodes_only_if_a_ranker_does():
    assert type(make("rrf")).needs_encoder(make("rrf").config)
    plain = registry.build("method", "rrf", {"rankers": ["bm25", "recent"]}, backbone=EchoBackbone())
    assert not type(plain).needs_encoder(plain.config)
    assert plain.history_templates == ()
    assert make("rrf").history_templates == ("{input} {output}",)


def test_rrf_has_the_keys_of_its_rankers():
    assert make("dense").key in make("rrf").key
    assert make("rrf").key != make("rrf", rankers=("bm25",)).key


@pytest.mark.parametrize("name", ["none", "task_prompt"])
def test_rrf_refuses_what_is_no_ranker(name):
    with pytest.raises(ConfigError, match=f"'{name}'.*no plain ranker.*bm25") as error:
        make("rrf", rankers=("bm25", name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", [{"rankers": ()}, {"constant": -1.0}, {"depth": 0}])
def test_rrf_refuses_numbers_that_make_no_sense(config):
    with pytest.raises(ConfigError, match="expected"):
        make("rrf", **config)


# -- shared -------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=30), st.integers(0, 35))
def test_the_best_are_those_of_a_full_sort_with_the_newer_first(scores, k):
    full = sorted(range(len(scores)), key=lambda i: (-scores[i], -i))
    assert best(np.array(scores, np.float32), k) == full[:k]


@given(st.integers(0, 2**16 - 1), st.integers(1, 5))
def test_every_float16_is_widened_exactly(bits, e):
    number = np.array([bits], np.uint16).view(np.float16)
    if np.isfinite(number[0]) and abs(number[0]) <= 1:
        query = np.zeros(e, np.float32)
        query[-1] = 1.0
        assert dot(np.repeat(number, e)[None], query)[0] == np.float32(number[0])


def test_many_rows_are_multiplied_as_numpy_does():
    rng = np.random.default_rng(0)
    vectors = rng.uniform(-0.1, 0.1, (2500, 33)).astype(np.float16)
    query = rng.uniform(-0.1, 0.1, 33).astype(np.float32)
    np.testing.assert_allclose(dot(vectors, query), vectors.astype(np.float32) @ query, atol=1e-6)
