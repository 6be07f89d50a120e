"""Ingesting: everything or nothing of a bad file, each behaviour once, whatever happens."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from personaplug.core.errors import ConflictError
from personaplug.core.registry import build
from personaplug.data.ingest import BATCH, Ingested, ingest


def test_it_says_how_many_users_and_behaviours_were_read_and_how_many_are_new(run, behaviors):
    assert "2 users, 3 behaviours read, 3 new in u.db" in run("ingest", behaviors, "--store", "u.db").stdout
    assert "2 users, 3 behaviours read, 0 new in u.db" in run("ingest", behaviors, "--store", "u.db").stdout


def test_a_folder_is_its_behaviors_jsonl(run, behaviors):
    assert "3 new" in run("ingest", behaviors.parent, "--store", "u.db").stdout


def test_a_user_of_two_files_is_one_user(run, behaviors, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text('{"user": "ada", "id": "3", "output": "green"}\n')
    assert "2 users, 4 behaviours read, 4 new" in run("ingest", behaviors, more, "--store", "u.db").stdout


def test_nothing_of_any_file_is_added_and_no_store_made_when_one_line_is_bad(run, behaviors, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"user": "eve", "output": "a"}\n{"user": "eve"}\n')
    result = run("ingest", behaviors, bad, "--store", "u.db")
    assert result.exit_code == 2
    assert f"{bad}:2" in result.stderr
    assert not Path("u.db").exists()


def test_progress_adds_up_to_the_number_of_behaviours(tmp_path):
    file = tmp_path / "many.jsonl"
    many = BATCH + 5
    file.write_text("".join(f'{{"user": "u{i % 3}", "output": "{i}"}}\n' for i in range(many)))
    store = build("store", "sql", {"url": str(tmp_path / "u.db")})
    steps: list[int] = []
    assert ingest(file, store, steps.append) == Ingested(3, many, many)
    assert steps == [BATCH, 5]
    store.close()


def test_an_id_stored_with_other_content_is_an_error_that_names_the_file(store, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"user": "ada", "id": "1", "output": "never said"}\n')
    opened = build("store", "sql", {"url": str(store)})
    with pytest.raises(ConflictError, match=r"other\.jsonl: .*'1' of user 'ada'"):
        ingest(other, opened)
    opened.close()


def test_standard_input_is_read_from_a_dash(run, monkeypatch):
    lines = b'{"user": "ada", "output": "a"}\n{"user": "bob", "output": "b"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert ingest("-", build("store", "sql", {"url": "u.db"})) == Ingested(2, 2, 2)


def test_a_table_of_stars_is_taken_with_its_scale_and_its_user_named(run):
    Path("b.csv").write_text("output,rating\nawful,1\nfair,3\n")
    assert (
        "1 user, 2 behaviours read, 2 new"
        in run("ingest", "b.csv", "--user", "ada", "--rating-scale", "1:5", "--store", "u.db").stdout
    )
    assert [
        json.loads(line)["rating"] for line in run("users", "export", "ada", "--store", "u.db").stdout.splitlines()
    ] == [0, 0.5]


def test_a_tenants_user_is_exported_and_ingested_again_as_the_same(run):
    Path("b.jsonl").write_text('{"user": "ada", "id": "1", "output": "a"}\n')
    assert "1 new" in run("ingest", "b.jsonl", "--tenant", "acme", "--store", "u.db").stdout
    exported = run("users", "export", "acme\x1fada", "--store", "u.db").stdout
    Path("c.jsonl").write_text(exported)
    assert "0 new" in run("ingest", "c.jsonl", "--tenant", "acme", "--store", "u.db").stdout
    assert "1 new" in run("ingest", "c.jsonl", "--store", "u.db").stdout


@pytest.mark.slow
def test_a_process_killed_while_it_adds_loses_and_doubles_nothing_when_it_runs_again(tmp_path):
    file, store = tmp_path / "big.jsonl", tmp_path / "u.db"
    total, users = 16_000, 50
    with file.open("w", encoding="utf-8") as out:
        for i in range(total):
            record = {"user": f"u{i % users}", "at": i, "input": f"question {i}", "output": f"answer {i} " * 10}
            out.write(json.dumps(record if i % 2 else record | {"id": str(i)}) + "\n")

    process = subprocess.Popen(
        _command("ingest", file, "--store", store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and not _stored(store) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    halfway = _stored(store)
    assert 0 < halfway < total
    assert halfway % BATCH == 0, "a batch is there whole or not at all"

    done = subprocess.run(_command("ingest", file, "--store", store), capture_output=True, text=True, check=True)
    assert done.stderr == "", "no bar where nobody looks"
    assert f"{users} users, {total:,} behaviours read, {total - halfway:,} new" in done.stdout
    opened = build("store", "sql", {"url": str(store)})
    outputs = [b.output for u in opened.users() for b in opened.history(u.user)]
    opened.close()
    assert sorted(outputs) == sorted(f"answer {i} " * 10 for i in range(total))


def _command(*words: object) -> list[str]:
    return [sys.executable, "-c", "from personaplug.cli import main; main()", *map(str, words)]


def _stored(store: Path) -> int:
    if not store.exists():
        return 0
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5)
    try:
        return connection.execute("SELECT count(*) FROM behaviors").fetchone()[0]
    except sqlite3.OperationalError:  # the tables are being made
        return 0
    finally:
        connection.close()


@pytest.mark.skipif(os.name != "posix", reason="a terminal of our own")
def test_a_terminal_sees_a_bar(behaviors, tmp_path):
    import pty

    leader, follower = pty.openpty()
    command = _command("ingest", behaviors, "--store", tmp_path / "u.db")
    environment = os.environ | {"TERM": "xterm"}
    subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, env=environment, check=True)
    assert b"adding" in os.read(leader, 100_000)
    os.close(leader)
    os.close(follower)
