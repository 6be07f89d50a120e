"""A user's own data is read whole or refused in one line that names the file and the line."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from personaplug.core.errors import DataError
from personaplug.core.types import Behavior
from personaplug.data.jsonl import Reading, read_behaviors, read_task_json

GOOD = {"user": "ana", "id": "1", "at": 1, "input": "hi", "output": "ho"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_line_becomes_a_behaviour(tmp_path):
    line = {**GOOD, "rating": 0.5, "fields": {"title": "x"}}
    assert list(read_behaviors(write(tmp_path / "b.jsonl", [line]))) == [
        Behavior("ana", "1", "hi", "ho", at=1.0, rating=0.5, fields={"title": "x"})
    ]


@pytest.mark.parametrize(
    ("at", "seconds"),
    [
        (0, 0.0),
        (1.5, 1.5),
        (-1, -1.0),
        (None, None),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
        ("1970-01-02", 86400.0),
    ],
)
def test_times_are_seconds_or_iso_8601_and_utc_unless_they_say_otherwise(tmp_path, at, seconds):
    [behavior] = read_behaviors(write(tmp_path / "b.jsonl", [{**GOOD, "at": at}]))
    assert behavior.at == seconds


def test_a_byte_order_mark_windows_line_ends_blank_lines_and_a_missing_last_end_are_no_trouble(tmp_path):
    path = tmp_path / "b.jsonl"
    second = {**GOOD, "id": "2", "output": "ö 🎺"}
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n" + json.dumps(second, ensure_ascii=False).encode()
    )
    assert [b.output for b in read_behaviors(path)] == ["ho", "ö 🎺"]


def test_ids_made_from_content_are_unique_and_the_same_at_each_reading(tmp_path):
    line = {"user": "ana", "output": "ho"}
    path = write(tmp_path / "b.jsonl", [line, line, {**line, "output": "hu"}, {**line, "user": "ben"}])
    ids = [b.id for b in read_behaviors(path)]
    assert len(set(ids)) == 4
    assert [b.id for b in read_behaviors(path)] == ids
    longer = write(tmp_path / "c.jsonl", [{**line, "output": "new"}, line, line])
    assert [b.id for b in read_behaviors(longer)][1:] == ids[:2]


def test_the_same_line_twice_is_one_behaviour(tmp_path):
    assert len(list(read_behaviors(write(tmp_path / "b.jsonl", [GOOD, GOOD])))) == 1


def test_the_same_id_of_two_users_is_two_behaviours(tmp_path):
    assert len(list(read_behaviors(write(tmp_path / "b.jsonl", [GOOD, {**GOOD, "user": "ben"}])))) == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"user": "ana", "output": "ho"', "not JSON at column 31"),
        (b"hello", "not JSON at column 1, near 'hello'"),
        (b'["ana", "ho"]', "expected a JSON object, got \\['ana'"),
        (b"[" * 100_000, "not readable JSON"),
        (b'{"user": "ana", "output": "ho", "at": ' + b"1" * 5000 + b"}", "not readable JSON"),
        (b'{"user": "ana"}', "key 'output' is missing"),
        (b'{"output": "ho"}', "key 'user' is missing"),
        (b'{"user": "ana", "outptu": "ho"}', "unknown key 'outptu'; did you mean 'output'"),
        (b'{"user": 7, "output": "ho"}', "user is 7, expected a string"),
        (b'{"user": "ana", "output": null}', "output is None, expected a string"),
        (b'{"user": "ana", "id": 7, "output": "ho"}', "id is 7, expected a string"),
        (b'{"user": "", "output": "ho"}', "must not be empty"),
        (b'{"user": "ana", "output": ""}', "both input and output are empty"),
        (b'{"user": "ana", "output": "ho", "rating": 7}', "rating is 7, expected a number in \\[0, 1\\]"),
        (b'{"user": "ana", "output": "ho", "rating": NaN}', "rating is nan"),
        (b'{"user": "ana", "output": "ho", "rating": true}', "rating is True"),
        (b'{"user": "ana", "output": "ho", "rating": "1"}', "rating is '1'"),
        (b'{"user": "ana", "output": "ho", "at": "yesterday"}', "at is 'yesterday', expected UTC seconds"),
        (b'{"user": "ana", "output": "ho", "at": 1e999}', "at is inf"),
        (b'{"user": "ana", "output": "ho", "at": ' + b"1" * 400 + b"}", "at is 111"),
        (b'{"user": "ana", "output": "ho", "at": false}', "at is False"),
        (b'{"user": "ana", "output": "ho", "fields": []}', "fields is \\[\\], expected an object"),
        (b'{"user": "ana", "output": "ho", "fields": {"n": 1}}', "field 'n' is 1, expected a string"),
        (b'{"user": "ana", "output": "\\ud800"}', "surrogate"),
        (b'{"user": "ana", "output": "h\xf6"}', "byte 29 of the line, 0xf6, is not UTF-8"),
        (b'{"user": "first", "id": "1", "output": "other"}', "user 'first' has id '1' on an earlier line"),
        (b'{"user": "ana", "output": "' + b"x" * 300_000 + b'"}', "longer than 200,000 bytes"),
    ],
)
def test_a_wrong_line_is_refused_in_one_line_that_names_file_and_line(tmp_path, line, words):
    path = tmp_path / "b.jsonl"
    path.write_bytes(b'{"user": "first", "id": "1", "output": "fine"}\n' + line + b"\n")
    with pytest.raises(DataError, match=words) as caught:
        list(read_behaviors(path, Reading(max_line_bytes=200_000)))
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300


def test_a_line_of_exactly_the_limit_is_read(tmp_path):
    path = write(tmp_path / "b.jsonl", [GOOD])
    size = len(path.read_bytes()) - 1
    assert list(read_behaviors(path, Reading(max_line_bytes=size)))
    with pytest.raises(DataError, match="longer than"):
        list(read_behaviors(path, Reading(max_line_bytes=size - 1)))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "b.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=r"b\.jsonl: no behaviours in the file"):
        list(read_behaviors(path))


def test_reading_does_not_wait_for_the_whole_file(tmp_path):
    path = write(tmp_path / "b.jsonl", [GOOD])
    with path.open("ab") as file:
        file.write(b"broken")
    assert len(list(islice(read_behaviors(path), 1))) == 1


def test_a_task_json_that_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / "task.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(DataError, match="byte 10 is not UTF-8"):
        read_task_json(tmp_path / "task.json")
