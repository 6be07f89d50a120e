"""Names: a bundle, a folder or a hub id, and an identity that follows the weights."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from personaplug import models
from personaplug.core.errors import ModelError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_bundle_that_is_not_here_is_answered_with_the_command_that_pulls_it(cache):
    with pytest.raises(ModelError, match=r"^model 'minilm' is not here: personaplug models pull minilm$"):
        models.resolve("minilm")


def test_a_pulled_bundle_resolves_to_its_folder(cache, index, tiny_bundle):
    folder = models.pull("tiny", fetch=index.fetch)
    found = models.resolve("tiny")
    assert (found.location, found.source, found.license) == (str(folder), "bundle", "MIT")
    assert found.identity == f"tiny@{tiny_bundle.sha256[:12]}"


def test_a_folder_is_identified_by_its_weights_and_not_by_where_it_lies(folder, tmp_path):
    first = models.resolve(str(folder))
    assert first.source == "folder"
    assert re.fullmatch(r"my-model@[0-9a-f]{12}", first.identity)
    (tmp_path / "elsewhere").mkdir()
    moved = folder.rename(tmp_path / "elsewhere" / "my-model")
    assert models.resolve(str(moved)).identity == first.identity


def test_changed_weights_have_another_identity(folder):
    before = models.resolve(str(folder)).identity
    (folder / "model.safetensors").write_bytes(b"trained")
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert models.resolve(str(folder)).identity != before


def test_every_shard_counts(folder):
    before = models.resolve(str(folder)).identity
    (folder / "model-2.safetensors").write_bytes(b"more")
    assert models.resolve(str(folder)).identity != before


def test_weights_are_read_once(folder, monkeypatch):
    from personaplug.models import names

    identity = models.resolve(str(folder)).identity
    monkeypatch.setattr(names, "sha256_of", lambda file: pytest.fail(f"{file} was read again"))
    assert models.resolve(str(folder)).identity == identity


def test_a_damaged_note_of_the_checksum_is_made_anew(folder):
    identity = models.resolve(str(folder)).identity
    (folder / ".personaplug.json").write_text("[")
    assert models.resolve(str(folder)).identity == identity
    assert json.loads((folder / ".personaplug.json").read_text())["sha256"].startswith(identity.split("@")[1])


def test_a_folder_without_a_configuration_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=re.escape(str(tmp_path)) + ".*no config.json"):
        models.resolve(str(tmp_path))


def test_a_folder_without_weights_is_no_model(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        models.resolve(str(folder))


def test_an_unknown_name_is_answered_with_the_nearest_bundle(cache):
    with pytest.raises(ModelError, match=r"'smollm2-135'.*did you mean 'smollm2-135m'"):
        models.resolve("smollm2-135")


def test_a_path_to_nowhere_is_not_taken_for_a_hub_id(cache):
    with pytest.raises(ModelError, match="no folder"):
        models.resolve("./runs/nothing")


def test_a_hub_id_is_identified_by_the_commit_of_its_snapshot(tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--someone--small"
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "snapshots" / commit / "config.json").write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = models.resolve("someone/small")
    assert (found.location, found.source, found.revision) == ("someone/small", "hub", commit)
    assert found.identity == "someone/small@0123456789ab"
    assert models.resolve(f"someone/small@{commit}").identity == found.identity


@pytest.mark.parametrize(("name", "reason"), [("some/where/deep", "neither"), ("someone/absent", "no hub is reached")])
def test_a_hub_id_that_cannot_be_had_is_one_line_with_a_way_out(tmp_path, monkeypatch, name, reason):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=reason) as caught:
        models.resolve(name)
    assert "\n" not in str(caught.value)
    assert "smollm2-135m" in str(caught.value)


def test_naming_models_imports_no_torch():
    code = "import sys, personaplug.models, personaplug.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
