"""Every decoder family of the installed transformers: we compute what a plain forward gives, or it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

import families
from personaplug.backbones.local import conformance
from personaplug.backbones.local.causal_model import CausalModel, Row, Support
from personaplug.core.errors import ModelError

COMMON = [
    "gemma3_text",
    "gemma4_text",
    "gpt2",
    "gpt_neo",
    "lfm2",
    "llama",
    "mamba",
    "mistral",
    "mpt",
    "phi3",
    "qwen3_5_text",
]
TOKENS = 10


@pytest.fixture(autouse=True)
def _quiet(recwarn: pytest.WarningsRecorder) -> None:
    """Families warn of what they lack (kernels, settings)."""


def rows_of(model: CausalModel) -> list[Row]:
    """Rows longer and shorter than the tiny models' windows, with soft tokens behind, in front and none."""
    generator = torch.Generator().manual_seed(1)
    embedding = model.runner.embedding.weight

    def soft(k: int) -> torch.Tensor:
        return torch.randn(k, embedding.shape[1], generator=generator) * embedding.std()

    def ids(n: int) -> tuple[int, ...]:
        return tuple((torch.randint(30, (n,), generator=generator) + 5).tolist())

    return [Row(ids(20), soft(3), "last"), Row(ids(3), soft(1), "last"), Row(ids(9), soft(2), "first"), Row(ids(12))]


@torch.no_grad()
def greedy_by_hand(model: CausalModel, row: Row) -> list[int]:
    """A full forward for each token: no cache, no padding, nothing of ours but the order of the columns."""
    net, table = model.runner.model, model.runner.embedding
    parts = [table(torch.tensor(row.ids))]
    if row.prefix is not None:
        parts.insert(0 if row.position == "first" else 1, row.prefix)
    said: list[int] = []
    while len(said) < TOKENS:
        columns = torch.cat([*parts, table(torch.tensor(said, dtype=torch.long))])
        said.append(int(net(inputs_embeds=columns[None], use_cache=False).logits[0, -1].argmax()))
    return said


def greedy(model: CausalModel, rows: Sequence[Row]) -> list[list[int]]:
    """All rows together, each leaving when its answer is done: the second first."""
    with torch.inference_mode():
        decoding = model.prefill(rows[:-1], [TOKENS] * (len(rows) - 1))
        said = [[int(x.argmax())] for x in decoding.logits]
        decoding.step([s[-1] for s in said])
        decoding.concat(model.prefill(rows[-1:], [TOKENS]))
        said.append([])
        running = list(range(len(rows)))
        while running:
            for at, x in zip(running, decoding.logits, strict=True):
                said[at].append(int(x.argmax()))
            stay = [i for i, at in enumerate(running) if len(said[at]) < (TOKENS if at != 1 else 4)]
            running = [running[i] for i in stay]
            decoding.select(stay)
            if running:
                decoding.step([said[at][-1] for at in running])
    return said


def check(family: str) -> Support:
    model = families.causal_model(family)
    support = conformance.examine(model, family, thorough=True)
    model.adopt(support)
    if not support.reads_ids:  # else a plain forward over embeddings is another model
        rows = rows_of(model)
        expected = [greedy_by_hand(model, row) for row in rows]
        for _ in range(2):  # with nothing stored, then from stored states
            for got, want in zip(greedy(model, rows), expected, strict=True):
                assert got == want[: len(got)]
    return support


@pytest.mark.parametrize("family", COMMON)
def test_a_common_family_answers_as_a_plain_forward_does(family: str) -> None:
    assert check(family).training


@pytest.mark.slow
@pytest.mark.parametrize("family", [f for f in families.FAMILIES if f not in COMMON and f not in families.NOT_BUILT])
def test_every_family_answers_as_a_plain_forward_does_or_is_refused_in_one_line(family: str) -> None:
    refusal = ""
    try:
        check(family)
    except ModelError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert not refusal or family in refusal


def test_the_table_of_models_has_a_line_for_every_family() -> None:
    text = families.TABLE.read_text(encoding="utf-8")
    head, _, rest = families.HEAD.partition("{version}")
    assert text.startswith(head)
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rest.splitlines()[-1] in text
    assert [line.split("|")[1].strip() for line in lines] == families.FAMILIES
    assert {line.count("|") for line in lines} == {7}


@pytest.mark.parametrize("family", ["gemma4_text", "llama", "mistral", "mpt"])
def test_the_table_of_models_says_what_the_check_finds(family: str) -> None:
    line = families.line(family, families.examined(family)).rsplit("|", 2)[0]
    assert line in families.TABLE.read_text(encoding="utf-8")


def test_a_model_is_examined_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path))
    model = families.causal_model("llama")
    first = conformance.check(model, "llama@1")
    monkeypatch.setattr(conformance, "examine", lambda *_: pytest.fail("it was examined a second time"))
    assert conformance.check(families.causal_model("llama"), "llama@1") == first
    model.runner.model.config.rope_parameters["rope_theta"] = 20.0
    with pytest.raises(pytest.fail.Exception):
        conformance.check(model, "llama@1")  # another configuration is another model


def test_a_damaged_result_is_measured_anew(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path))
    model = families.causal_model("llama")
    first = conformance.check(model, "llama@1")
    [file] = (tmp_path / "conformance").iterdir()
    file.write_text('{"steps": tr', encoding="utf-8")
    assert conformance.check(model, "llama@1") == first


def test_an_encoder_is_refused_because_later_columns_change_earlier_logits() -> None:
    model = families.build("bert")
    for layer in model.bert.encoder.layer:
        layer.attention.self.is_causal = False
    model.config.is_decoder = model.bert.config.is_decoder = False
    with pytest.raises(
        ModelError, match=r"'bert' \(family bert\) cannot be run here with soft tokens: its logits differ"
    ):
        conformance.examine(CausalModel(model, 0), "bert")


def test_what_fails_within_a_forward_leaves_no_states_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.causal_model("llama")
    rows = rows_of(model)[:2]
    layer = model.runner.model.model.layers[2]
    forward = layer.forward

    def fails(*_args, **_kwargs):
        raise RuntimeError("no memory")

    monkeypatch.setattr(layer, "forward", fails)
    for run in (lambda: model.prefill(rows), lambda: model.target_logits(rows, [[5, 6], [7]])):
        with pytest.raises(RuntimeError, match="no memory"):
            run()
    assert model.prompts.tokens == 0
    assert model.prompts.bytes == 0
    monkeypatch.setattr(layer, "forward", forward)
    assert greedy(model, rows_of(model))[0] == greedy_by_hand(model, rows[0])


def test_rows_on_both_sides_of_a_longrope_boundary_share_a_call() -> None:
    model = families.causal_model("phi3")
    model.adopt(conformance.examine(model, "phi3"))
    assert model.boundary == 16
    rows = [replace(row, prefix=None) for row in rows_of(model)]
    assert [len(row) > 16 for row in rows] == [True, False, False, False]
    assert greedy(model, rows)[2] == greedy_by_hand(model, rows[2])  # it passes the boundary within its answer
    logits, _ = model.target_logits(rows, [[5, 6], [7], [8, 9], [5]])
    with torch.no_grad():
        for got, row, target in zip(logits, rows, ([5, 6], [7], [8, 9], [5]), strict=True):
            torch.testing.assert_close(got[: len(target)], model.plain_logits(row, target), atol=1e-4, rtol=1e-4)
