"""Whatever file people have, it is read as it was meant, or refused in one line with nothing stored."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.data.files import Made, damaged, make

from personaplug.core.errors import DataError
from personaplug.core.registry import build
from personaplug.data.ingest import ingest
from personaplug.data.jsonl import read_behaviors


def outcome(made: Made, folder: Path) -> str:
    """ "" where the file was refused in one line, else "read"; anything else fails."""
    file = folder / made.name
    file.write_bytes(made.data)
    try:
        behaviors = list(read_behaviors(file))
    except DataError as error:
        message = str(error)
        assert message.startswith(str(file)), message
        assert len(message.splitlines()) == 1, message
        assert len(message) < len(str(file)) + 400, message
        return "refused"
    meant = [
        (r["user"], r["id"], r["input"], r["output"], r.get("at"), r.get("rating"), r.get("fields", {}))
        for r in made.rows
    ]
    assert not made.hopeless, meant
    assert [(b.user, b.id, b.input, b.output, b.at, b.rating, b.fields) for b in behaviors] == meant
    return "read"


@pytest.mark.parametrize("files", [200, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_file_by_chance_is_read_as_it_was_meant_or_refused_in_one_line(tmp_path, files):
    outcomes = []
    for seed in range(files):
        made = make(random.Random(seed))
        try:
            outcomes.append(outcome(made, tmp_path))
        except Exception as error:
            error.add_note(f"seed {seed}: {made.name}, {made.data[:300]!r}")
            raise
    assert 0.4 < outcomes.count("read") / files < 0.9, "both are tried"


@pytest.mark.parametrize("files", [200, pytest.param(4_000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_read_or_refused_in_one_line_and_never_fails_otherwise(tmp_path, files):
    messages = []
    for seed in range(files):
        rng = random.Random(seed)
        made = make(rng)
        file = tmp_path / made.name
        file.write_bytes(damaged(rng, made.data))
        try:
            list(read_behaviors(file))
        except DataError as error:
            messages.append(str(error))
    assert all(len(message.splitlines()) == 1 for message in messages)
    assert len(messages) > files / 2


def test_nothing_of_a_file_that_is_refused_is_stored(tmp_path):
    store = build("store", "sql", {"url": str(tmp_path / "u.db")})
    for seed in range(60):
        made = make(random.Random(seed))
        before = store.users()
        (tmp_path / made.name).write_bytes(made.data)
        try:
            ingest(tmp_path / made.name, store)
        except DataError:
            assert store.users() == before
        else:
            for user in {row["user"] for row in made.rows}:
                assert len(store.history(user)) == sum(row["user"] == user for row in made.rows)
                store.forget(user)
    store.close()
