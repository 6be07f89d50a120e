"""Artifacts: what is saved comes back, and does not come back where it does not belong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from personaplug.core.errors import ConfigError, MismatchError, ModelError
from personaplug.core.types import Sampling
from personaplug.pipeline.artifacts import ArtifactInfo, ComponentSpec, load_info, load_tensors, locate, save_pretrained
from personaplug.tasks.base import TaskInfo

BACKBONE = ComponentSpec("causal", "causal:tiny@abc", 32, {"model": "tiny"})
ENCODER = ComponentSpec("hashing", "hashing:64", 64, {"width": 64})
INFO = ArtifactInfo(
    method="plug",
    config={"persona_tokens": 2},
    backbone=BACKBONE,
    encoder=ENCODER,
    task=TaskInfo("mail", "text", "Write as this person.", metrics=("rouge1",), sampling=Sampling(max_tokens=7)),
    data={"users": 12},
    scores={"nll": 3.5},
    training={"steps": 5},
)
TENSORS = {"a": torch.arange(6).view(2, 3).float(), "b": torch.ones(3).bfloat16()}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save_pretrained(tmp_path / "plug", INFO, TENSORS)
    assert load_info(tmp_path / "plug") == INFO
    loaded = load_tensors(tmp_path / "plug")
    assert all(torch.equal(loaded[k], v) for k, v in TENSORS.items())


def test_saving_again_replaces_the_whole_artifact_and_leaves_nothing_else(tmp_path: Path) -> None:
    save_pretrained(tmp_path / "plug", INFO, TENSORS)
    save_pretrained(tmp_path / "plug", dataclasses.replace(INFO, scores={}), {"a": TENSORS["a"]})
    assert set(load_tensors(tmp_path / "plug")) == {"a"}
    assert [p.name for p in tmp_path.iterdir()] == ["plug"]


def test_the_model_card_names_base_model_encoder_data_and_scores(tmp_path: Path) -> None:
    save_pretrained(tmp_path / "plug", INFO, TENSORS)
    card = (tmp_path / "plug" / "README.md").read_text()
    for part in ("base_model: tiny", "hashing:64", "| users | 12 |", "| nll | 3.5 |", "2409.11901"):
        assert part in card


@pytest.mark.parametrize(
    ("backbone", "encoder"),
    [
        (dataclasses.replace(BACKBONE, key="causal:other@abc"), ENCODER),
        (dataclasses.replace(BACKBONE, width=33), ENCODER),
        (BACKBONE, dataclasses.replace(ENCODER, key="hashing:128")),
        (BACKBONE, None),
    ],
)
def test_parts_of_another_identity_or_width_are_refused(backbone: ComponentSpec, encoder: ComponentSpec | None) -> None:
    with pytest.raises(MismatchError, match="was trained against") as caught:
        INFO.check(backbone, encoder)
    assert "\n" not in str(caught.value)


def test_the_parts_it_was_trained_against_are_accepted() -> None:
    INFO.check(BACKBONE, ENCODER)
    dataclasses.replace(INFO, encoder=None).check(BACKBONE, None)


def test_a_folder_without_an_artifact_is_one_clear_line(tmp_path: Path) -> None:
    for call in (load_info, load_tensors):
        with pytest.raises(ModelError) as caught:
            call(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    save_pretrained(tmp_path / "plug", INFO, TENSORS)
    (tmp_path / "plug" / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ModelError, match="damaged"):
        load_tensors(tmp_path / "plug")
    (tmp_path / "plug" / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON at line 1"):
        load_info(tmp_path / "plug")


def test_an_unknown_key_in_the_configuration_is_refused(tmp_path: Path) -> None:
    save_pretrained(tmp_path / "plug", INFO, TENSORS)
    path = tmp_path / "plug" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": 1}))
    with pytest.raises(ConfigError, match="colour"):
        load_info(tmp_path / "plug")


def test_a_folder_is_located_as_it_is(tmp_path: Path) -> None:
    assert locate(str(tmp_path)) == tmp_path
    assert locate("./nothing/here") == Path("./nothing/here")
