"""A tiny random model of every decoder family in the installed transformers, and the table of what each supports.

Run as a program, this writes docs/models.md: `python tests/families.py`.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from personaplug.backbones.local import conformance
from personaplug.backbones.local.causal_model import CausalModel, Support
from personaplug.backbones.local.positions import longrope_boundary
from personaplug.core.errors import ModelError

FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
TABLE = Path(__file__).parents[1] / "docs" / "models.md"

_TABLES = json.loads(Path(__file__).with_name("families.json").read_text(encoding="utf-8"))
SMALL: dict[str, Any] = _TABLES["small"]
"""What configurations call their sizes, and how small each is made where a configuration has it."""
OWN: dict[str, dict[str, Any]] = _TABLES["own"]
"""What else a family needs to be small, to be a decoder, or to hold several kinds of layers; null leaves a name out."""
NOT_BUILT: dict[str, str] = _TABLES["not_built"]
"""Families of which transformers' own classes make no model of this size, or none at all here, and why."""


def config(family: str) -> Any:
    """A tiny configuration of a family."""
    own = OWN.get(family, {})
    return _shrunk(CONFIG_MAPPING[family], own, {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})


def _shrunk(kind: Any, own: Mapping[str, Any], more: Mapping[str, Any]) -> Any:
    plain, made = kind(), dict(more)
    for name, size in SMALL.items():
        try:
            there = getattr(plain, name, None) is not None
        except Exception:  # noqa: BLE001 - what each family raises for a name that it has not
            there = False
        if there:
            made[name] = size
    parts = getattr(kind, "sub_configs", {})
    for name in parts:
        part = getattr(plain, name, None)
        if part is not None and not isinstance(part, dict):
            its = OWN.get(getattr(part, "model_type", ""), {}) | own.get(name, {})
            made[name] = _shrunk(type(part), its, {}).to_dict()
    made |= {name: value for name, value in own.items() if name not in parts}
    return kind(**{name: value for name, value in made.items() if value is not None})


def build(family: str) -> Any:
    """A tiny random model of a family."""
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    made = config(family)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(made).parameters())
    assert size < 12_000_000, f"{family} has {size:,} weights"
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(made, attn_implementation="eager").eval().requires_grad_(False)


def causal_model(family: str) -> CausalModel:
    """The product's arithmetic over a tiny model of a family."""
    model = build(family)
    return CausalModel(model, 1 << 30, longrope_boundary(model.config))


def examined(family: str) -> Support | str:
    """What a family supports, or why it is refused."""
    if family in NOT_BUILT:
        return f"not tried: {NOT_BUILT[family]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return conformance.examine(causal_model(family), family, thorough=True)
        except ModelError as error:
            return "refused: " + str(error).partition("soft tokens: ")[2].partition("; choose")[0]


HEAD = """# Models

The backbone `causal` runs a model of any of these families of transformers. When a model is first loaded, what it gives
is compared with a plain forward of the model itself (`personaplug doctor --model NAME` prints the result): logits and
gradients, with soft tokens in front and behind, in batches, from shared states. What a family does not allow is
computed in a slower way that is right; a family for which there is no such way is refused in one line.

- **late persona**: soft tokens behind the prompt, right before the answer (`position = "last"`).
- **shared states**: a prompt runs once for all users and epochs; else it runs again for each request.
- **batching**: requests of any lengths run together; else one after another.
- **training**: gradients reach the soft tokens.
- **difference**: of the logits from those of a plain forward, at most, in standard deviations of the logits (float32).

Made by `python tests/families.py` with tiny random models and transformers {version}.

| family | late persona | shared states | batching | training | difference |
|---|---|---|---|---|---|
"""


def line(family: str, support: Support | str) -> str:
    """A family's line of the table."""
    if isinstance(support, str):
        return f"| {family} | {support.replace('|', '/')} | | | | |"
    said = ["yes" if x else "no" for x in (support.shared, support.batching, support.training)]
    return f"| {family} | yes | {' | '.join(said)} | {support.difference:.0e} |"


def lines() -> Iterator[str]:
    """Every family's line."""
    for family in FAMILIES:
        yield line(family, examined(family))


if __name__ == "__main__":
    torch.set_num_threads(1)
    table = []
    for made in lines():
        sys.stderr.write(made + "\n")
        table.append(made)
    TABLE.write_text(HEAD.format(version=transformers.__version__) + "\n".join(table) + "\n", encoding="utf-8")
