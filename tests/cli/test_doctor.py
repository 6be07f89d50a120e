"""The doctor: what is here, what is not, what to do, and a verdict for scripts."""

from __future__ import annotations

import builtins
import os
from importlib import metadata

import pytest

from personaplug.cli.doctor import findings


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_healthy_place_ends_with_0_and_names_what_to_pull(run, store):
    result = run("doctor", "--store", store)
    assert result.exit_code == 0
    assert "personaplug models pull smollm2-135m" in result.stdout
    assert "personaplug data pull chitchat" in result.stdout
    assert "nothing is broken" in result.stdout


def test_it_says_what_a_model_supports(run, tiny_causal):
    result = run("doctor", "--model", str(tiny_causal))
    assert result.exit_code == 0
    assert "family llama" in result.stdout
    for thing in ("late persona", "shared prompt states", "batching", "training"):
        [line] = [line for line in result.stdout.splitlines() if thing in line]
        assert line.split()[-1] == "supported"


def test_it_leaves_nothing_behind(run, empty_cache, tmp_path):
    run("doctor", "--store", "u.db")
    assert list(tmp_path.iterdir()) == []


def test_each_extra_that_is_missing_comes_with_the_way_to_install_it(monkeypatch):
    version = metadata.version

    def without(library):
        if library in {"sentence-transformers", "sqlalchemy"}:
            raise metadata.PackageNotFoundError(library)
        return version(library)

    monkeypatch.setattr(metadata, "version", without)
    by_thing = {f.thing: f for f in findings("u.db")}
    optional = by_thing["sentence-transformers [sentence]"]
    assert (optional.level, optional.way_out) == ("note", "pip install 'personaplug[sentence]'")
    assert by_thing["sqlalchemy"].level == "broken"


def test_without_torch_it_says_how_to_get_it(monkeypatch):
    imported = builtins.__import__

    def without_torch(name, *rest):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    device = next(f for f in findings("u.db") if f.thing == "device")
    assert (device.level, device.way_out) == ("note", "pip install 'personaplug[local]'")


def test_threads_that_spin_are_told_how_to_sleep(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("KMP_BLOCKTIME", "0")
    threads = next(f for f in findings("u.db") if f.thing == "threads")
    assert threads.way_out.endswith("export OMP_WAIT_POLICY=PASSIVE")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert next(f for f in findings("u.db") if f.thing == "threads").level == "ok"


def test_a_store_that_is_no_store_is_broken_and_ends_with_1(run, tmp_path):
    stranger = tmp_path / "stranger.db"
    stranger.write_bytes(b"certainly not SQLite" * 100)
    result = run("doctor", "--store", stranger)
    assert result.exit_code == 1
    assert "broken" in result.stdout
    assert "name a personaplug store or a new file" in result.stdout


def test_a_store_that_is_not_there_yet_is_no_fault(tmp_path):
    store = list(findings(str(tmp_path / "new.db")))[-1]
    assert store.level == "note"
    assert store.way_out.startswith("personaplug ingest PATH --store")


def test_a_cache_or_store_that_cannot_be_written_is_broken(monkeypatch, tmp_path, store):
    monkeypatch.setattr(os, "access", lambda *_: False)
    by_thing = {f.thing.split(" ")[0]: f for f in findings(str(tmp_path / "new.db"))}
    assert by_thing["cache"].level == "broken"
    assert by_thing["store"].level == "broken"
    there = list(findings(str(store)))[-1]
    assert (there.level, there.state) == ("note", "2 users, read-only")


def test_a_disk_that_is_nearly_full_is_noted(monkeypatch):
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    cache = next(f for f in findings("u.db") if f.thing == "cache")
    assert cache.level == "note"
    assert "PERSONAPLUG_CACHE" in cache.way_out
