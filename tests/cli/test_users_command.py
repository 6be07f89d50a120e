"""The users of a store: shown, taken out whole, erased when asked twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.strategies import NAMES, TIMES

from personaplug.core.registry import build
from personaplug.core.types import Behavior
from personaplug.data.ingest import ingest

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def test_list_shows_every_user_with_counts_and_dates(run, store):
    shown = run("users", "list", "--store", store).stdout
    assert "ada" in shown
    assert "bob" in shown
    assert "1970-01-01 00:05" in shown
    assert "2 users, 3 behaviours" in shown


def test_show_has_the_newest_behaviour_first_and_no_more_than_wanted(run, store):
    shown = run("users", "show", "ada", "--store", store).stdout
    assert "ada: 2 behaviours" in shown
    assert shown.index("yes please") < shown.index("favourite colour")
    fewer = run("users", "show", "ada", "--newest", 1, "--store", store).stdout
    assert "yes please" in fewer
    assert "favourite colour" not in fewer


def test_show_spells_out_what_would_drive_the_terminal(run, tmp_path):
    with_store(tmp_path / "u.db", Behavior("ada", "1", "", "before\x1b[2J[red]after"))
    shown = run("users", "show", "ada", "--store", "u.db").stdout
    assert r"before\x1b[2J[red]after" in shown


def test_an_export_goes_to_the_pipe_or_to_a_file(run, store):
    piped = run("users", "export", "ada", "--store", store).stdout
    assert [json.loads(line)["output"] for line in piped.splitlines()] == ["red", "yes please"]
    run("users", "export", "ada", "--out", "ada.jsonl", "--store", store)
    assert Path("ada.jsonl").read_text(encoding="utf-8") == piped


def test_an_export_that_cannot_be_written_is_an_error(run, store):
    result = run("users", "export", "ada", "--out", "no/such/folder.jsonl", "--store", store)
    assert result.exit_code == 2
    assert "no/such/folder.jsonl" in result.stderr


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            Behavior,
            user=st.just("ada"),
            id=NAMES,
            input=TEXT,
            output=TEXT,
            at=st.none() | TIMES,
            rating=st.none() | st.floats(0, 1),
            fields=st.dictionaries(NAMES, TEXT, max_size=2),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda b: b.id,
    )
)
def test_what_is_exported_and_ingested_again_is_the_same_history(run, tmp_path_factory, behaviors):
    folder = tmp_path_factory.mktemp("export")
    with_store(folder / "a.db", *behaviors)
    file = folder / "ada.jsonl"
    assert run("users", "export", "ada", "--out", file, "--store", folder / "a.db").exit_code == 0

    again = build("store", "sql", {"url": str(folder / "a.db")})
    assert ingest(file, again).new == 0
    fresh = build("store", "sql", {"url": str(folder / "b.db")})
    ingest(file, fresh)
    assert fresh.history("ada").behaviors == again.history("ada").behaviors
    again.close()
    fresh.close()


def test_forget_asks_and_keeps_the_user_unless_told_yes(run, store):
    refused = run("users", "forget", "ada", "--store", store, typed="n\n")
    assert refused.exit_code == 1
    assert "2 behaviours" in refused.stderr
    assert "ada" in run("users", "list", "--store", store).stdout
    agreed = run("users", "forget", "ada", "--store", store, typed="y\n")
    assert agreed.exit_code == 0
    assert "2 behaviours, 0 vectors, 0 prepared states erased" in agreed.stdout


def test_forget_with_yes_erases_every_byte_and_leaves_the_others(run, store):
    assert run("users", "forget", "ada", "--yes", "--store", store).exit_code == 0
    assert "1 user, 1 behaviour" in run("users", "list", "--store", store).stdout
    assert all(b"favourite" not in f.read_bytes() for f in store.parent.glob("users.db*"))


@pytest.mark.parametrize("words", [("list",), ("show", "ada"), ("export", "ada"), ("forget", "ada", "--yes")])
def test_a_store_that_is_not_there_is_an_error_and_is_not_made(run, words):
    result = run("users", *words, "--store", "nowhere.db")
    assert result.exit_code == 2
    assert "nowhere.db: no such file" in result.stderr
    assert "personaplug ingest" in result.stderr
    assert not Path("nowhere.db").exists()


def test_the_store_may_be_named_by_the_environment(run, store, monkeypatch):
    monkeypatch.setenv("PERSONAPLUG_STORE", str(store))
    assert "2 users" in run("users", "list").stdout


def with_store(path: Path, *behaviors: Behavior) -> None:
    opened = build("store", "sql", {"url": str(path)})
    opened.add(behaviors)
    opened.close()
