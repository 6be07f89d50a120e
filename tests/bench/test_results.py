from __future__ import annotations

import json
from pathlib import Path

import pytest

from personaplug.bench import claims, results
from personaplug.bench.claims import Claim
from personaplug.bench.report.summary import record_claims, summarize
from personaplug.core.errors import DataError
from personaplug.metrics.bootstrap import Interval
from personaplug.pipeline.fingerprint import portable


def test_a_result_read_back_is_the_one_that_was_saved(make_result, tmp_path):
    path = tmp_path / "chat" / "demo-seed0.json"
    results.save(path, make_result(), digits=17)
    assert results.load(path) == make_result()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_saved_result_is_rounded_and_names_examples_once(make_result, tmp_path):
    results.save(tmp_path / "r.json", make_result())
    text = (tmp_path / "r.json").read_text()
    assert text.count('"r11"') == 1
    assert max(len(str(v)) for v in json.loads(text)["rows"][0]["nll"]) <= 7


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": []}', "\x00"])
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=r"r\.json"):
        results.load(tmp_path / "r.json")


def test_results_do_not_say_where_on_this_machine_things_lay():
    plain = {"task": {"path": "/home/ada/data/mail", "name": "jsonl"}, "n": [1, "/tmp/x"]}
    assert portable(plain) == {"task": {"path": "mail", "name": "jsonl"}, "n": [1, "x"]}


def test_a_summary_pools_seeds_and_gives_the_deviation_between_them(summary):
    plug = summary.line("plug")
    assert plug.seeds == 2
    assert plug.scores["nll"][1] > 0
    gains = {g.other: g.interval.mean for g in summary.gains}
    assert gains["task_prompt"] == pytest.approx(0.5, abs=0.02)
    assert gains["plug, shuffled users"] == pytest.approx(0.25)


def test_results_of_two_experiments_are_not_pooled(make_result):
    with pytest.raises(DataError, match="chat/demo, chat/other"):
        summarize([make_result(0), make_result(1, name="other")])


def test_claims_say_whether_the_controls_were_beaten(summary, tmp_path):
    record_claims(tmp_path, summary)
    entries = claims.load(tmp_path / "claims.json")
    assert [e["id"] for e in entries] == ["chat.demo.plug-beats-shuffled-users", "chat.demo.plug-beats-task-prompt"]
    for entry in entries:
        assert {"id", "claim", "value", "interval", "goal", "holds", "command", "commit", "date"} == set(entry)
        assert entry["holds"]
        assert entry["interval"][0] > 0


def test_a_claim_is_replaced_by_id_and_the_ledger_stays_sorted(tmp_path):
    path = tmp_path / "claims.json"
    claims.record(tmp_path, Claim("b", "x", 1.0, "> 0", True), Claim("a", "y", 2.0, "> 0", True))
    claims.record(tmp_path, Claim("b", "x", -1.0, "> 0", False))
    assert [(e["id"], e["value"], e["holds"]) for e in claims.load(path)] == [("a", 2.0, True), ("b", -1.0, False)]


def test_a_claim_that_falls_short_is_kept(tmp_path):
    claims.record(tmp_path, Claim.now("a", "x", Interval(0.1, -0.1, 0.3), "> 0", False))
    assert claims.load(tmp_path / "claims.json")[0]["holds"] is False


def test_single_runs_are_kept_where_there_is_no_interval():
    claim = Claim.now("speed", "x", [1.0, 2.0], ">= 1", True)
    assert (claim.value, claim.runs, claim.interval) == (1.5, (1.0, 2.0), None)


def test_a_ledger_that_is_none_is_not_overwritten(tmp_path):
    (tmp_path / "claims.json").write_text("{}")
    with pytest.raises(DataError, match=r"claims\.json"):
        claims.record(tmp_path, Claim("a", "x", 1.0, "> 0", True))
    assert (tmp_path / "claims.json").read_text() == "{}"


def test_all_commands_of_a_checkout_write_to_one_ledger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("results", "results/real_people", "benchmarks"):
        claims.record(Path(folder), Claim(folder, "x", 1.0, "> 0", True))
    assert [file.relative_to(tmp_path) for file in tmp_path.rglob("claims.json")] == [Path("results/claims.json")]
    assert len(claims.load(Path("results/claims.json"))) == 3


def test_a_table_goes_between_the_marks_of_a_page_and_nowhere_else(tmp_path):
    from personaplug.bench.report.table import read_from, write_into

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    write_into(page, "| new |")
    assert read_from(page) == "| new |"
    assert page.read_text() == "before\n<!-- results -->\n| new |\n<!-- /results -->\nafter\n"
    page.write_text("no marks")
    with pytest.raises(DataError, match="needs the marks"):
        write_into(page, "| new |")
