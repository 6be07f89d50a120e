"""The plug inside the package: whole, small, and shown on people whom it was never trained on."""

from __future__ import annotations

import pytest

from personaplug.pipeline import shipped
from personaplug.pipeline.artifacts import load_info, load_tensors, locate


@pytest.fixture
def folder():
    found = shipped.shipped_plug(shipped.DEFAULT)
    assert found is not None
    return found


def test_it_is_named_by_its_model_and_a_folder_of_that_name_comes_first_only_if_it_holds_an_artifact(
    folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert locate(shipped.DEFAULT) == folder
    (tmp_path / shipped.DEFAULT).mkdir()
    assert locate(shipped.DEFAULT) == folder
    (tmp_path / shipped.DEFAULT / "config.json").write_text((folder / "config.json").read_text())
    assert locate(shipped.DEFAULT).resolve() == tmp_path / shipped.DEFAULT


def test_it_fits_in_a_wheel_and_says_what_it_was_trained_against(folder):
    assert sum(f.stat().st_size for f in folder.iterdir()) < 5_000_000
    info = load_info(folder)
    assert info.backbone.config["model"] == shipped.DEFAULT
    assert all(t.isfinite().all() for t in load_tensors(folder).values())


def test_its_people_have_texts_and_none_of_them_was_trained_on(folder):
    from personaplug.core.registry import build

    people = shipped.shipped_people()
    assert len(people) >= 4
    assert all(len(own) == 40 for own in people.values())
    trained = load_info(folder).data["task"]
    assert trained["split"] == "user"
    config = {name: trained[name] for name in ("split", "test", "dev", "seed") if name in trained}
    task = build("task", "jsonl", {"path": folder / shipped.PEOPLE, "min_history": 8, **config})
    assert task.examples("train") == []
    assert {e.history.user for e in task.examples("test")} <= set(people)


def test_the_licence_of_the_texts_is_beside_them(folder):
    notice = (folder.parent / "NOTICE").read_text()
    assert "MIT License" in notice
    assert "Copyright (c) 2019 Perception, Control and Cognition Lab" in notice
