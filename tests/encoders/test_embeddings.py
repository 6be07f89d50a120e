"""The vector cache: each text is encoded once ever, and a vector is the same wherever it comes from."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, History
from personaplug.encoders.cache import embeddings as module
from personaplug.encoders.cache.embeddings import VectorCache, behavior_text
from personaplug.encoders.hashing import HashingConfig, HashingEncoder
from personaplug.stores.sql import SqlConfig, SqlStore

TEMPLATE = "{input} {output}"


class CountingEncoder(HashingEncoder):
    """Remembers what it was asked; fails once it has seen `fuse` texts."""

    def __init__(self, width: int = 16, fuse: int | None = None) -> None:
        super().__init__(HashingConfig(width=width))
        self.seen: Counter[tuple[str, str]] = Counter()
        self.fuse = fuse

    def encode(self, texts, role="history", progress=None):
        if self.fuse is not None and self.seen.total() + len(texts) > self.fuse:
            raise KeyboardInterrupt
        self.seen.update((role, t) for t in texts)
        return super().encode(texts, role, progress) * np.float32(1.2345)  # not exact in float16


@pytest.fixture
def store(tmp_path):
    store = SqlStore(SqlConfig(str(tmp_path / "store.db")))
    yield store
    store.close()


def behaviors(user: str, outputs: list[str]) -> tuple[Behavior, ...]:
    return tuple(Behavior(user, str(i), "asked", o, at=float(i)) for i, o in enumerate(outputs))


def history(user: str, outputs: list[str]) -> History:
    return History(user, behaviors(user, outputs))


outputs = st.lists(st.sampled_from(["yes", "no", "perhaps", "", "ünï", "a longer answer"]), max_size=8)
users = st.dictionaries(st.sampled_from("abc"), outputs, max_size=3)


def test_views_of_a_behaviour_stand_side_by_side_and_are_encoded_in_one_go(monkeypatch):
    encoder, calls = CountingEncoder(), []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda *a, **k: calls.append(len(a[0])) or encode(*a, **k))
    said = history("ada", ["yes", "no"])
    views = VectorCache(encoder).embed(said, "{input}", "{output}")
    assert calls == [3]  # both were asked the same
    apart = [VectorCache(encoder).embed(said, template) for template in ("{input}", "{output}")]
    assert np.array_equal(views, np.hstack(apart))
    assert VectorCache(encoder).embed(History("eve"), "{input}", "{output}").shape == (0, 2 * encoder.width)


@given(first=users, second=users)
def test_each_text_is_encoded_once_ever_across_caches_on_one_store(tmp_path_factory, first, second):
    store = SqlStore(SqlConfig(str(tmp_path_factory.mktemp("s") / "store.db")))
    encoder = CountingEncoder()
    for people in (first, second):
        cache = VectorCache(encoder, store)
        histories = [
            History(f"{u}{len(o)}", tuple(Behavior(f"{u}{len(o)}", f"{i}{t}", "asked", t) for i, t in enumerate(o)))
            for u, o in people.items()
        ]
        store.add(b for h in histories for b in h)
        cache.precompute(histories, TEMPLATE)
        for h in histories:
            alone = [HashingEncoder.encode(encoder, [behavior_text(b, TEMPLATE)])[0] * np.float32(1.2345) for b in h]
            expected = np.array(alone, np.float32).reshape(len(h), encoder.width).astype(np.float16)
            assert np.array_equal(cache.embed(h, TEMPLATE), expected)
    assert set(encoder.seen.values()) <= {1}
    store.close()


@given(outputs)
def test_without_a_store_each_text_is_encoded_once_per_cache(answers):
    encoder = CountingEncoder()
    cache = VectorCache(encoder)
    one, two = cache.embed(history("u", answers), TEMPLATE), cache.embed(history("u", answers[::-1]), TEMPLATE)
    assert np.array_equal(one, two[::-1])
    assert one.shape == (len(answers), encoder.width)
    assert one.dtype == np.float32
    assert set(encoder.seen.values()) <= {1}


def test_a_run_that_dies_in_the_middle_goes_on_where_it_was(store, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 10)
    people = [history(u, [f"{u} said {i}" for i in range(20)]) for u in "ab"]
    store.add(b for h in people for b in h)
    dying = CountingEncoder(fuse=25)
    with pytest.raises(KeyboardInterrupt):
        VectorCache(dying, store).precompute(people, TEMPLATE)
    assert dying.seen.total() == 20
    fresh = CountingEncoder()
    assert VectorCache(fresh, store).precompute(people, TEMPLATE) == 20
    assert not set(dying.seen) & set(fresh.seen)
    assert VectorCache(CountingEncoder(fuse=0), store).precompute(people, TEMPLATE) == 0


def test_precompute_takes_behaviours_as_well_as_histories(store):
    store.add(behaviors("u", ["one", "two"]))
    assert VectorCache(CountingEncoder(), store).precompute(behaviors("u", ["one", "two"]), TEMPLATE) == 2
    assert VectorCache(CountingEncoder(), store).precompute([history("u", ["one", "two"])], TEMPLATE) == 0


def test_a_vector_is_the_same_from_the_encoder_from_memory_and_from_the_store(store):
    people = history("u", ["one", "two", "three"])
    store.add(people)
    cache = VectorCache(CountingEncoder(), store)
    fresh, remembered = cache.embed(people, TEMPLATE), cache.embed(people, TEMPLATE)
    stored = VectorCache(CountingEncoder(fuse=0), store).embed(people, TEMPLATE)
    assert np.array_equal(fresh, remembered)
    assert np.array_equal(fresh, stored)


def test_a_text_of_two_users_outlives_either_of_them(store):
    for user in "ab":
        store.add(behaviors(user, ["the same"]))
        VectorCache(CountingEncoder(), store).embed(history(user, ["the same"]), TEMPLATE)
    store.forget("a")
    VectorCache(CountingEncoder(fuse=0), store).embed(history("b", ["the same"]), TEMPLATE)


def test_vectors_of_another_encoder_are_not_used(store):
    people = history("u", ["one"])
    store.add(people)
    VectorCache(CountingEncoder(width=16), store).embed(people, TEMPLATE)
    assert VectorCache(CountingEncoder(width=8), store).embed(people, TEMPLATE).shape == (1, 8)


def test_behaviours_that_are_not_stored_still_get_their_vectors(store):
    cache = VectorCache(CountingEncoder(), store)
    assert cache.embed(history("nobody", ["one", "two"]), TEMPLATE).shape == (2, 16)


def test_a_memory_too_small_for_one_history_changes_no_vector(store):
    people = history("u", ["one", "two", "three", "one"])
    whole = VectorCache(CountingEncoder(), None).embed(people, TEMPLATE)
    small = VectorCache(CountingEncoder(), None, memory_bytes=40, query_bytes=40)
    assert np.array_equal(small.embed(people, TEMPLATE), whole)
    assert np.array_equal(small.embed(people, TEMPLATE), whole)
    assert small.query(["a", "b", "c"]).shape == (3, 16)


def test_memory_stays_under_its_limit_and_drops_what_was_used_least_recently():
    encoder = CountingEncoder()  # 16 float16: 32 bytes a vector
    cache = VectorCache(encoder, query_bytes=64)
    for text in ["a", "b", "a", "c", "a", "b"]:
        cache.query([text])
    assert encoder.seen == {("query", "a"): 1, ("query", "b"): 2, ("query", "c"): 1}


def test_queries_are_encoded_in_the_query_role_once_and_keep_their_order():
    encoder = CountingEncoder()
    cache = VectorCache(encoder)
    vectors = cache.query(["one", "two", "one"])
    assert np.array_equal(vectors[0], vectors[2])
    assert np.array_equal(cache.query(["two", "one"]), vectors[[1, 0]])
    assert encoder.seen == {("query", "one"): 1, ("query", "two"): 1}
    assert cache.query([]).shape == (0, 16)


def test_vectors_beyond_the_range_of_float16_stay_finite():
    class Huge(CountingEncoder):
        def encode(self, texts, role="history", progress=None):
            return super().encode(texts, role, progress) * np.float32(1e9)

    assert np.isfinite(VectorCache(Huge()).embed(history("u", ["one"]), TEMPLATE)).all()


def test_an_empty_history_has_no_vectors():
    assert VectorCache(CountingEncoder()).embed(History("u"), TEMPLATE).shape == (0, 16)


def test_an_empty_text_gets_a_finite_vector(store):
    store.add([Behavior("u", "1", "asked", "")])
    assert np.isfinite(VectorCache(CountingEncoder(), store).embed(store.history("u"), "{output}")).all()


def test_many_threads_get_the_right_vectors_and_encode_nothing_of_theirs_twice(store):
    people = [history(u, [f"{u} said {i}" for i in range(30)]) for u in "abcd"]
    store.add(b for h in people for b in h)
    encoder = CountingEncoder()
    cache = VectorCache(encoder, store)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda h: cache.embed(h, TEMPLATE), people))
    for vectors, h in zip(found, people, strict=True):
        assert np.array_equal(vectors, VectorCache(CountingEncoder()).embed(h, TEMPLATE))
    assert set(encoder.seen.values()) == {1}


def test_a_request_goes_between_the_batches_of_a_long_history():
    class Batches(CountingEncoder):
        def encode(self, texts, role="history", progress=None):
            for text in texts:
                order.append(text)
                begun.set()
                while progress and not cache._lock._urgent and "asked" not in order:
                    time.sleep(0.001)
                if progress:
                    progress(1)
            return super().encode(texts, role, progress)

    order: list[str] = []
    begun, cache = Event(), VectorCache(Batches())
    with ThreadPoolExecutor(1) as pool:
        history_done = pool.submit(cache.embed, history("u", ["one", "two", "three"]), "{output}")
        begun.wait(5)
        cache.query(["asked"])
        assert history_done.result().shape == (3, 16)
    assert order.index("asked") == 1


def test_progress_counts_every_behaviour_once_stored_or_not(store):
    items = behaviors("u", ["one", "two", "one", "three"])
    store.add(items)
    VectorCache(CountingEncoder(), store).precompute(items[:2], TEMPLATE)
    done: list[int] = []
    VectorCache(CountingEncoder(), store).precompute(items, TEMPLATE, done.append)
    assert sum(done) == len(items)


def test_a_template_sees_input_output_rating_and_fields_and_nothing_around_them():
    behavior = Behavior("u", "1", "asked", "said", rating=0.5, fields={"title": "A title"})
    assert behavior_text(behavior, " {title}: {input} -> {output} ({rating})\n") == "A title: asked -> said (0.5)"
    assert behavior_text(Behavior("u", "1", "asked", "said"), "{output} {rating}") == "said"
    assert behavior_text(Behavior("u", "1", "{output}", "said"), "{input}") == "{output}"


def test_a_template_that_names_an_unknown_field_is_refused_with_the_behaviour_and_the_nearest_name():
    with pytest.raises(ConfigError, match=r"'7' of user 'u'.*'outptu'; did you mean 'output'"):
        VectorCache(CountingEncoder()).embed(History("u", (Behavior("u", "7", "a", "b"),)), "{outptu}")
