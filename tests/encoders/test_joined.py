"""Encoders side by side: each part's vectors as they are, one backbone in memory, one identity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.backbones.echo import EchoBackbone
from personaplug.core import registry
from personaplug.core.config import NoConfig, from_mapping, to_mapping
from personaplug.core.errors import ConfigError
from personaplug.encoders.base import Encoder
from personaplug.encoders.joined import JoinedConfig, JoinedEncoder
from personaplug.pipeline.build import RunConfig, build_components, build_encoder, load
from personaplug.tasks.base import TaskInfo

HASHING, STYLE = {"name": "hashing", "width": 16}, {"name": "style"}
TEXTS = ["See you!", "", "a rather longer text, with a comma", "日本語 🙂"]


def joined(*parts: dict) -> JoinedEncoder:
    return registry.build("encoder", "joined", {"parts": list(parts)})


def build_section(kind: str, name: str, config: dict) -> Encoder:
    """As a run builds it."""
    return build_encoder({"name": name, **config}, EchoBackbone())


PARTS = [registry.build("encoder", "style"), registry.build("encoder", "hashing", {"width": 16})]
BOTH = joined(STYLE, HASHING)


@given(st.lists(st.text(max_size=20), max_size=5), st.sampled_from(["query", "history"]))
def test_a_vector_is_the_parts_vectors_one_after_another(texts, role):
    assert BOTH.width == sum(p.width for p in PARTS)
    assert np.array_equal(BOTH.encode(texts, role), np.concatenate([p.encode(texts, role) for p in PARTS], axis=1))


def test_other_parts_or_another_order_give_another_key():
    other = [[HASHING, STYLE], [STYLE, HASHING], [HASHING, STYLE, STYLE], [{"name": "hashing"}, STYLE]]
    keys = [joined(*parts).key for parts in other]
    assert len(set(keys)) == len(other)
    assert joined(HASHING, STYLE).key == keys[0]


class Batched(Encoder):
    """Tells its role and how far it is after so many texts."""

    def __init__(self, batch: int) -> None:
        self.config, self.width, self.key, self.batch, self.roles = NoConfig(), 1, f"batched:{batch}", batch, []

    def encode(self, texts, role="history", progress=None):
        self.roles.append(role)
        for start in range(0, len(texts), self.batch):
            progress(len(texts[start : start + self.batch]))
        return np.zeros((len(texts), 1), np.float32)


@given(st.integers(0, 40), st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_progress_counts_each_text_once_whatever_the_parts_batches(n, batches):
    parts = iter([Batched(b) for b in batches])
    seen = []
    both = JoinedEncoder(JoinedConfig(({"name": "batched"},) * len(batches)), build=lambda _: next(parts))
    both.encode(["x"] * n, progress=seen.append)
    assert sum(seen) == n
    assert all(s > 0 for s in seen)


def test_every_part_learns_the_role():
    parts = [Batched(1), Batched(2)]
    rest = iter(parts)
    both = JoinedEncoder(JoinedConfig(({"name": "a"}, {"name": "b"})), build=lambda _: next(rest))
    both.encode(["x"], "query")
    assert [p.roles for p in parts] == [["query"], ["query"]]


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ([], "parts has 0 entries, expected at least 2"),
        ([STYLE], "parts has 1 entries, expected at least 2"),
        ([STYLE, {"width": 16}], r"parts\[1\] has no name; one of: hashing, hidden"),
        ([STYLE, {"name": "joined", "parts": [STYLE, HASHING]}], r"parts\[1\] is 'joined' again"),
        ([STYLE, "hashing"], "parts.1 = 'hashing'"),
        ([STYLE, {"name": "hashing", "widht": 16}], "'hashing': unknown key 'widht'"),
    ],
)
@pytest.mark.parametrize("build", [registry.build, build_section])
def test_wrong_parts_are_refused_in_one_line_that_says_which(parts, line, build):
    with pytest.raises(ConfigError, match=line) as caught:
        build("encoder", "joined", {"parts": parts})
    assert "\n" not in str(caught.value)


def test_its_configuration_is_complete_and_gives_the_same_encoder_again():
    first = joined({"name": "hashing"}, STYLE)
    plain = to_mapping(first.config)
    assert plain == {"parts": [{"name": "hashing", "width": 256}, {"name": "style"}]}
    again = registry.build("encoder", "joined", plain)
    assert from_mapping(JoinedConfig, plain) == first.config == again.config
    assert again.key == first.key


def test_a_hidden_part_shares_the_backbones_weights_as_a_lone_one_does(tiny_model):
    backbone = CausalBackbone(CausalConfig(model=tiny_model(), dtype="float32", device="cpu"))
    hidden = {"name": "hidden", "dtype": "float32", "layer": 1}  # of the backbone's model: none is named
    both = build_encoder({"name": "joined", "parts": [hidden, STYLE]}, backbone)
    lone = build_encoder(hidden, backbone)
    assert both.config.parts[0]["model"] == tiny_model()
    weights = {p.data_ptr() for p in backbone.model.parameters()}
    assert {p.data_ptr() for p in both._parts[0]._blocks.parameters()} <= weights
    assert np.array_equal(both.encode(TEXTS)[:, : lone.width], lone.encode(TEXTS))
    assert lone.key in both.key


def test_an_artifact_brings_its_joined_encoder_back(tmp_path):
    encoder = {"name": "joined", "parts": [STYLE, HASHING]}
    run = RunConfig.parse(backbone={"name": "echo"}, encoder=encoder, method={"name": "dense"})
    saved = build_components(run, TaskInfo("mail", "text", "Write as this person."), None)
    saved.save(tmp_path / "dense", {}, {})
    loaded = load(tmp_path / "dense", None)
    assert loaded.vectors.encoder.key == saved.vectors.encoder.key
    assert np.array_equal(loaded.vectors.query(TEXTS), saved.vectors.query(TEXTS))
