"""The page reads a file as it was meant, as `personaplug ingest` does, or refuses it in one line."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest
from tests.data.files import make

import personaplug
from npm import node_and_npm

SCRIPT = """
import { readFile } from MODULE;
import fs from "node:fs";
for (const name of process.argv.slice(2)) {
  try { console.log(JSON.stringify(readFile(name, fs.readFileSync(name)).lines)); }
  catch (error) { console.log(JSON.stringify(error.message)); }
}
"""


@pytest.fixture
def page_reads(tmp_path):
    module = (Path(personaplug.__file__).parent / "serve" / "page" / "csv.js").as_uri()
    script = tmp_path / "read.mjs"
    script.write_text(SCRIPT.replace("MODULE", json.dumps(module)))
    node, _ = node_and_npm()

    def read(*files: Path) -> list[list[dict] | str]:
        done = subprocess.run([node, script, *files], capture_output=True, text=True, check=True)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        return [[json.loads(line) for line in s] if isinstance(s, list) and all(map(_is_json, s)) else s for s in said]

    return read


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_a_file_by_chance_is_read_as_it_was_meant_or_refused_in_one_line(page_reads, tmp_path):
    files, meant = [], []
    for seed in range(300):
        made = make(random.Random(seed), ("jsonl", "array", "csv", "naive"))
        name = f"{seed}-{made.name}"
        (tmp_path / name).write_bytes(made.data)
        files.append(tmp_path / name)
        meant.append(made.rows)
    read = 0
    for seed, (said, rows) in enumerate(zip(page_reads(*files), meant, strict=True)):
        if isinstance(said, str):
            assert 0 < len(said.splitlines()) <= 1, (seed, said)
            continue
        if not all(isinstance(line, dict) for line in said):
            continue  # the server names the line
        texts = [(line["input"], line["output"]) for line in said]
        wanted = [(row["input"], row["output"]) for row in rows]
        assert texts in (wanted, wanted * 2), (seed, files[seed].name)
        read += 1
    assert read > 100


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"output,at\nhello, you,1\n", "Line 2 has 3 cells, but the header names 2"),
        (b"output,at\nhello\n", "Line 2 has 1 cells"),
        (b'output,at\n"hello,1\n', "Line 2: the quotes that open here never close"),
        (b'output,at\n"so" he said,1\n', "Line 2: text goes on after closing quotes"),
        (b"output,Output\na,b\n", 'the column "output" twice'),
        ("output\nGrüße\n".encode("cp1252"), "line 2 is not UTF-8"),
        (b"output,rating\na,1\nb,5\n", "Line 3: the rating is 5"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip"),
        (b"PK\x03\x04", "an Excel workbook or a zip archive"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"output\na\0b\n", "line 2 holds NUL"),
    ],
)
def test_what_is_not_read_is_refused_with_the_line_and_the_way_out(page_reads, tmp_path, data, says):
    file = tmp_path / "b.csv"
    file.write_bytes(data)
    [said] = page_reads(file)
    assert isinstance(said, str)
    assert says in said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("by", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_is_read_whatever_its_separator_line_ends_and_encoding(page_reads, tmp_path, by, end, encoding):
    file = tmp_path / "b.csv"
    file.write_bytes(
        end.join([by.join(["Output", "mood"]), by.join(["Grüße", ""]), by.join(['"a b"', "ok"]), ""]).encode(encoding)
    )
    assert page_reads(file) == [[{"output": "Grüße"}, {"output": "a b", "fields": {"mood": "ok"}}]]
