"""Files, pipes, encodings and tables: what each kind of file becomes, and how it is refused."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import threading
import zipfile

import pytest

from personaplug.core.errors import ConfigError, DataError
from personaplug.core.types import Behavior
from personaplug.data.jsonl import Reading, find_data, read_behaviors
from personaplug.data.opening import Source

ROWS = [
    {"user": "ana", "id": "1", "input": "tea; or coffee?", "output": "Tée, please", "at": 1.7e9, "rating": 0.5},
    {"user": "ben", "id": "2", "input": "", "output": 'he said "no"\nand left', "fields": {"mood": "calm"}},
]
MEANT = [Behavior(**row) for row in ROWS]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = (
    "user,id,input,output,at,rating,mood\n"
    'ana,1,tea; or coffee?,"Tée, please",2023-11-14T22:13:20Z,0.5,\n'
    'ben,2,,"he said ""no""\nand left",,,calm\n'
)


def separated(by: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=by).writerows(csv.reader(io.StringIO(TABLE)))
    return out.getvalue()


def parquet(**columns) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def read(tmp_path, name, data, **reading):
    file = tmp_path / name
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_behaviors(file, Reading(**reading)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("text", [LINES, json.dumps(ROWS, indent=1), TABLE], ids=["lines", "array", "table"])
def test_lines_arrays_and_tables_are_read_in_every_unicode_encoding_and_packing(tmp_path, text, pack, encoding):
    assert read(tmp_path, "people", pack(text.encode(encoding))) == MEANT


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n", "\n\ufeff", "\r\n \r\n"])
def test_line_ends_of_every_system_and_joined_files_are_read(tmp_path, end):
    assert read(tmp_path, "b.jsonl", LINES.replace("\n", end)) == MEANT


@pytest.mark.parametrize("by", [";", "\t", "|"])
def test_a_table_may_have_another_separator_which_its_header_tells(tmp_path, by):
    assert read(tmp_path, "b.csv", separated(by)) == MEANT


@pytest.mark.parametrize(
    "text",
    [
        TABLE.replace("user,id,input", "User,ID,Input"),
        "sep=,\r\n" + TABLE,
        "\n" + TABLE + "\n,,,,,,\n",
        TABLE + "\ufeff" + TABLE,
        TABLE.replace("mood\n", "mood,\n").replace("0.5,\n", "0.5,,\n").replace("calm\n", "calm,\n"),
        TABLE.replace("user,", ",user,").replace("ana,", "0,ana,").replace("ben,", "1,ben,"),
    ],
    ids=["names in capitals", "Excel's sep=", "empty rows", "two files joined", "trailing separators", "pandas' index"],
)
def test_a_table_is_read_as_programs_write_it(tmp_path, text):
    assert read(tmp_path, "b.csv", text) == MEANT


def test_the_lines_of_a_table_with_one_column_are_its_texts(tmp_path):
    found = read(tmp_path, "b.csv", 'output\nhello, you\n"yes; no"\n', user="ana")
    assert [b.output for b in found] == ["hello, you", "yes; no"]


def test_a_parquet_file_is_read_with_its_own_types(tmp_path):
    from datetime import datetime

    data = parquet(user=["ana", "ben"], output=["a", "b"], at=[datetime(1970, 1, 2), None], stars=[4, None])
    one, two = read(tmp_path, "b.parquet", data)
    assert (one.user, one.output, one.at, one.fields) == ("ana", "a", 86_400.0, {"stars": "4"})
    assert (two.user, two.output, two.at, two.fields) == ("ben", "b", None, {})


@pytest.mark.skipif(os.name != "posix", reason="a named pipe")
def test_a_pipe_can_be_read_twice_as_a_file_can(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(gzip.compress(LINES.encode(), mtime=0)))
    writer.start()
    source = Source(find_data(pipe)[0])
    assert list(read_behaviors(source)) == list(read_behaviors(source)) == MEANT
    writer.join()


def test_a_scale_and_an_encoding_can_be_named(tmp_path):
    assert read(tmp_path, "b.csv", TABLE.encode("cp1252"), encoding="cp1252") == MEANT
    stars = LINES.replace('"rating": 0.5', '"rating": 3')
    assert read(tmp_path, "b.jsonl", stars, rating_scale="1:5") == MEANT


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("b.csv", TABLE.replace('"Tée, please"', "Tée, please"), ":2: the row has 8 cells, but the header names 7"),
        ("b.csv", "user,output,mood\nana,well, maybe,\n", ":2: the row has 4 cells, but the header names 3"),
        ("b.csv", "user,output,mood\nana,hello\n", ":2: the row has 2 cells"),
        ("b.csv", TABLE.replace('left"', "left"), ":3: the quotes that open in this row never close"),
        ("b.csv", 'user,output\nana,"so" she said\n', ":2: text goes on after closing quotes"),
        ("b.csv", "user,output,output\nana,a,b\n", ":1: the table has the column 'output' 2 times"),
        ("b.csv", "user,text\nana,a\n", ":1: the table has no column 'output'; its first line names 'user, text'"),
        ("b.csv", "user,output,,x\nana,a,b,c\n", ":2: column 3 has no name but the text 'b'"),
        ("b.csv", "user,output\nana,a\ufeffuser,output\nben,b\n", ":2: another file begins in the middle"),
        ("b.csv", "user,output\n", ": no behaviours in the file"),
        ("b.csv", "user,output,rating\nana,a,\"0,5\"\n", ":2: rating is '0,5', expected a number"),
        ("b.csv", TABLE.encode("cp1252"), ":2: byte 25 of the line, 0xe9, is not UTF-8"),
        ("b.csv", b"user,output\nana,a\0b\n", ":2: the line holds NUL"),
        ("b.jsonl", "[1, 2]", ":1: expected a JSON object, got 1"),
        ("b.jsonl", '[\n{"user": "ana", "output": "a"}\n{"user": "b"}]', ":3: expected a comma"),
        ("b.jsonl", '[\n{"user": "ana", "output": "a"},\n', ":3: the JSON array never ends"),
        ("b.jsonl", '[\n{"user": "ana",\n "output": }]', ":3: the JSON array is not JSON"),
        ("b.jsonl", "[] x", ":1: text follows the JSON array"),
        ("b.jsonl", '{\n"user": "ana"}', ":1: not JSON at column 2.*jq -c"),
        ("b.jsonl", "hello", "expected JSON lines, a JSON array, or a table"),
        ("b.jsonl", LINES.rstrip() + "\ufeff" + LINES, "files joined by cat"),
        ("b.jsonl", LINES.encode("utf-16")[:-1], "not in the encoding utf-16"),
        ("b.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-9], ": the compressed file is damaged or cut off"),
        ("b.jsonl.gz", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), ": this is compressed twice"),
        ("b.parquet", b"PAR1 and no more", ": the Parquet file cannot be read"),
        ("b.xls", b"\xd0\xcf\x11\xe0" + b"\0" * 99, ": this is an old Excel or Word file; save the sheet as CSV UTF-8"),
        ("b.db", b"SQLite format 3\0", ": this is a SQLite database"),
        ("b.jsonl", bytes(range(256)) * 9, "NUL"),
        ("b.json", '{"task": "LaMP_2", "golds": []}', "a file of LaMP"),
        ("b.json", '[{"id": "1", "input": "a", "profile": []}]', "a file of LaMP"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_with_the_line_and_the_way_out(tmp_path, name, data, says):
    with pytest.raises(DataError, match=says) as caught:
        read(tmp_path, name, data)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("inside", "says"), [("xl/workbook.xml", "an Excel workbook"), ("a.jsonl", "a zip archive")])
def test_archives_are_named_for_what_they_are(tmp_path, inside, says):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(inside, "x")
    with pytest.raises(DataError, match=f"this is {says}"):
        read(tmp_path, "b.zip", out.getvalue())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rating_scale": "5"}, "expected LOW:HIGH"),
        ({"rating_scale": "5:1"}, "expected LOW:HIGH"),
        ({"encoding": "klingon"}, "no such encoding"),
        ({"user": ".."}, "a step in an address"),
    ],
)
def test_a_wrong_way_of_reading_is_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        Reading(**options)


@pytest.mark.parametrize("name", ["ana\n", "a\tb", "acme\x1fbob", "x" * 257, ".", ".."])
def test_a_name_that_no_address_can_hold_is_refused_by_line(tmp_path, name):
    with pytest.raises(DataError, match=r"b\.jsonl:1: user .*: the name "):
        read(tmp_path, "b.jsonl", json.dumps({"user": name, "output": "a"}))


def test_a_folder_may_hold_its_behaviours_as_a_table(tmp_path):
    (tmp_path / "behaviors.csv").write_text(TABLE, encoding="utf-8")
    assert list(read_behaviors(find_data(tmp_path)[0])) == MEANT
    (tmp_path / "behaviors.parquet").touch()
    with pytest.raises(DataError, match=r"has behaviors\.csv and behaviors\.parquet; name the one"):
        find_data(tmp_path)
