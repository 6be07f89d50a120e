"""Everything a user can get wrong: one line on stderr that names it and the way out, exit code 2."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = b'{"user": "ada", "output": "fine"}\n'


def error_line(result) -> str:
    assert result.exit_code == 2
    assert result.stdout == ""
    line = result.stderr
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(GOOD * 2 + b'{"user": "ada", "output": \n', ("b.jsonl:3", "not JSON"), id="malformed JSON"),
        pytest.param(GOOD + b"[1, 2]\n", ("b.jsonl:2", "[1, 2]", "JSON object"), id="not an object"),
        pytest.param(b"", ("b.jsonl", "no behaviours"), id="empty file"),
        pytest.param(b"\n \n", ("b.jsonl", "no behaviours"), id="blank file"),
        pytest.param(
            GOOD + b'{"user": "ada", "output": "a", "rating": 7}\n', ("b.jsonl:2", "7", "[0, 1]"), id="rating too high"
        ),
        pytest.param(
            GOOD + b'{"user": "ada", "output": "a", "rating": NaN}\n', ("b.jsonl:2", "nan", "[0, 1]"), id="rating NaN"
        ),
        pytest.param(GOOD * 3 + b'{"user": "ad\xffa", "output": "a"}\n', ("b.jsonl:4", "0xff", "UTF-8"), id="UTF-8"),
        pytest.param(
            GOOD + b'{"user": "ada", "output": "' + b"x" * (10 << 20) + b'"}\n',
            ("b.jsonl:2", "10,000,000 bytes"),
            id="10 MB line",
        ),
        pytest.param(GOOD + b'{"user": "ada", "ouput": "a"}\n', ("b.jsonl:2", "'ouput'", "'output'"), id="unknown key"),
        pytest.param(GOOD + b'{"output": "a"}\n', ("b.jsonl:2", "user"), id="no user"),
        pytest.param(GOOD + b'{"user": "", "output": "a"}\n', ("b.jsonl:2", "user", "empty"), id="empty user"),
        pytest.param(GOOD + b'{"user": "a", "output": "b", "at": "noon"}\n', ("b.jsonl:2", "'noon'"), id="no time"),
        pytest.param(GOOD + b'{"user": "a", "output": "b", "rating": 5}\n', ("--rating-scale 1:5",), id="stars"),
        pytest.param(b"user,output\na,hello, you\n", ("b.jsonl:2", "double quotes"), id="table without quotes"),
        pytest.param(b"\x1f\x8b\x08\x00\x00", ("b.jsonl", "damaged or cut off"), id="gzip cut off"),
        pytest.param(b"PAR1" * 9, ("b.jsonl", "Parquet"), id="Parquet cut off"),
        pytest.param("user,output\na,Grüße\n".encode("cp1252"), ("b.jsonl:2", "--encoding"), id="Windows-1252"),
        pytest.param(b'{"user": "a\\n", "output": "b"}\n', ("b.jsonl:1", "control character"), id="name"),
    ],
)
def test_a_bad_file_is_named_with_the_line_the_value_and_the_way_out(run, tmp_path, content, says):
    (tmp_path / "b.jsonl").write_bytes(content)
    line = error_line(run("ingest", "b.jsonl", "--store", "u.db"))
    for part in says:
        assert part in line
    assert not Path("u.db").exists()


def test_a_file_that_is_not_there_is_named(run):
    assert "nowhere.jsonl: no such file" in error_line(run("ingest", "nowhere.jsonl", "--store", "u.db"))


def test_a_folder_without_behaviours_is_named(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no behaviors.jsonl" in error_line(run("ingest", "empty", "--store", "u.db"))


def test_a_longer_line_may_be_allowed(run, tmp_path):
    (tmp_path / "b.jsonl").write_bytes(GOOD)
    assert "b.jsonl:1" in error_line(run("ingest", "b.jsonl", "--store", "u.db", "--max-line-bytes", 10))
    assert run("ingest", "b.jsonl", "--store", "u.db", "--max-line-bytes", 1000).exit_code == 0


@pytest.mark.parametrize("words", [("users", "show", "adda"), ("answer", "echo", "hi", "--user", "adda")])
def test_an_unknown_user_is_named_with_the_nearest_one(run, store, echo, words):
    line = error_line(run(*words, "--store", store))
    assert "no user 'adda' among 2 users" in line
    assert "did you mean 'ada'?" in line


def test_a_store_that_is_a_folder_is_refused(run, behaviors, tmp_path):
    (tmp_path / "folder").mkdir()
    for words in (("ingest", behaviors), ("users", "list")):
        line = error_line(run(*words, "--store", "folder"))
        assert "folder" in line
        assert "name a file in it" in line


def test_a_store_that_is_no_sqlite_file_is_refused_and_left_as_it_was(run, behaviors, tmp_path):
    stranger = tmp_path / "notes.txt"
    stranger.write_bytes(b"dear diary, " * 500)
    for words in (("ingest", behaviors), ("users", "list")):
        line = error_line(run(*words, "--store", stranger))
        assert "notes.txt" in line
        assert "name a personaplug store or a new file" in line
    assert stranger.read_bytes() == b"dear diary, " * 500


def test_a_sqlite_file_of_another_program_is_refused(run, behaviors, tmp_path):
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.commit()
    connection.close()
    assert "'bookmarks'" in error_line(run("ingest", behaviors, "--store", "other.db"))


def test_a_store_in_a_folder_that_is_not_there_is_refused(run, behaviors):
    assert "does not exist" in error_line(run("ingest", behaviors, "--store", "no/where/u.db"))


def test_a_store_address_of_another_database_is_refused(run, behaviors):
    assert "mysql://host/db" in error_line(run("ingest", behaviors, "--store", "mysql://host/db"))


def test_an_artifact_that_is_not_there_is_named_with_the_way_to_make_one(run, store):
    line = error_line(run("answer", "runs/none", "hello", "--user", "ada", "--store", store))
    assert "runs/none" in line


def test_an_artifact_whose_model_is_not_here_names_the_model(run, store, plug, tmp_path):
    config = json.loads((plug / "config.json").read_text())
    config["backbone"]["config"]["model"] = "smollm3-135m"
    (plug / "config.json").write_text(json.dumps(config))
    line = error_line(run("answer", plug, "hello", "--user", "ada", "--store", store))
    assert "'smollm3-135m'" in line
    assert "did you mean 'smollm2-135m'?" in line


def test_an_artifact_trained_against_other_weights_is_refused(run, store, plug):
    config = json.loads((plug / "config.json").read_text())
    config["backbone"]["key"] = "another@model"
    (plug / "config.json").write_text(json.dumps(config))
    line = error_line(run("answer", plug, "hello", "--user", "ada", "--store", store))
    assert "another@model" in line


@pytest.mark.parametrize(
    ("toml", "sets", "says"),
    [
        ("", ["trainng.steps=3"], ("'trainng'", "did you mean 'training'?")),
        ("", ["training.stps=3"], ("'stps'", "did you mean 'steps'?")),
        ("", ["training.steps=many"], ("steps", "'many'")),
        ("[task]\nname =\n", [], ("run.toml", "line 6")),
        ('[method]\nname = "plugg"\n', [], ("'plugg'", "did you mean 'plug'?")),
    ],
)
def test_a_wrong_configuration_names_the_key_or_the_value(run, tmp_path, behaviors, toml, sets, says):
    task = "" if "[task]" in toml else f'[task]\nname = "jsonl"\npath = "{behaviors}"\nmin_history = 1\n'
    encoder = '[backbone]\nname = "echo"\n[encoder]\nname = "hashing"\n'
    (tmp_path / "run.toml").write_text(task + encoder + toml)
    result = run("train", "run.toml", *(word for item in sets for word in ("--set", item)))
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    for part in says:
        assert part in line


def test_an_unknown_command_says_what_was_meant_and_exits_with_2(run):
    result = run("ingst")
    assert result.exit_code == 2
    assert "ingest" in result.stderr


def test_the_real_command_writes_one_line_to_stderr_and_exits_with_2(tmp_path):
    (tmp_path / "b.jsonl").write_bytes(GOOD + b"{\n")
    command = [sys.executable, "-c", "from personaplug.cli import main; main()", "ingest", "b.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: b.jsonl:2: not JSON")
    assert done.stderr.count("\n") == 1


def test_a_library_that_is_missing_is_named_with_the_extra_that_installs_it(run, store, monkeypatch):
    import builtins

    imported = builtins.__import__

    def without(name, *rest):
        if name == "personaplug.pipeline.personalizer":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    line = error_line(run("answer", "recent", "hello", "--user", "ada", "--store", store))
    assert "personaplug answer needs the library 'torch': pip install 'personaplug[local]'" in line


def test_an_interrupt_exits_with_130(run, store, monkeypatch):
    from personaplug.stores.sql import SqlStore

    def interrupted(_self):
        raise KeyboardInterrupt

    monkeypatch.setattr(SqlStore, "users", interrupted)
    assert run("users", "list", "--store", store).exit_code == 130
