"""From a file to an answer: each behaviour is stored once and each of its texts is encoded once, whatever the order."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from personaplug.encoders.hashing import HashingEncoder
from tiny_run import run, write_config

USERS, EACH = 6, 12


@pytest.fixture
def config(tmp_path, tiny_causal, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSONAPLUG_STORE", raising=False)
    return write_config(tmp_path, tiny_causal, steps=1)


@pytest.fixture
def encoded(monkeypatch) -> Counter[str]:
    """How often each text of a history was encoded."""
    texts: Counter[str] = Counter()
    encode = HashingEncoder.encode

    def counted(self, given, role="history", progress=None):
        texts.update(given if role == "history" else ())
        return encode(self, given, role, progress)

    monkeypatch.setattr(HashingEncoder, "encode", counted)
    return texts


def rows(table: str) -> int:
    """Rows of a table in all stores below the working directory."""
    total = 0
    for file in Path().rglob("*.db"):
        with sqlite3.connect(file) as database:
            total += database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return total


@pytest.mark.parametrize("store", ["personaplug.db", "users.db"])
def test_every_behaviour_is_stored_once_and_encoded_once_from_ingest_to_the_answer(config, encoded, store):
    named = [] if store == "personaplug.db" else ["--store", store]
    told = run("ingest", "data", "--encode", config, *named)
    assert "72 new" in told
    assert "encoded with hashing" in told
    made = Counter(encoded)
    assert set(made.values()) == {1}
    assert rows("behaviors") == USERS * EACH
    vectors = rows("vectors")
    assert vectors >= USERS * EACH
    told = run("train", config, *named)
    assert store in told
    run("answer", "runs/tiny/plug", "--user", "u1", *named, "what is your favourite colour")
    assert "0 texts encoded" in run("ingest", "data", "--encode", "runs/tiny/plug", *named)
    assert encoded == made
    assert (rows("behaviors"), rows("vectors")) == (USERS * EACH, vectors)


def test_a_store_of_other_people_is_left_alone(config, encoded):
    Path("other.jsonl").write_text('{"user": "eve", "output": "hello"}\n')
    run("ingest", "other.jsonl")
    assert "storing behaviours in runs/tiny/users.db" in run("train", config)
    with sqlite3.connect("personaplug.db") as database:
        assert database.execute("SELECT count(*) FROM behaviors").fetchone() == (1,)


def test_what_looks_at_no_vectors_has_nothing_to_encode(config):
    Path("recent.toml").write_text(
        "backbone.name = 'echo'\nmethod.name = 'recent'\n[task]\nname = 'jsonl'\npath = 'data'\n"
    )
    assert "looks at no vectors" in run("ingest", "data", "--encode", "recent.toml", code=2)
