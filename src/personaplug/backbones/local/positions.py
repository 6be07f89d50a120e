"""How many positions a decoder has, and where it begins to count them in another way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_UNLIMITED = 1 << 30
# What families call the number of positions; the first that is set counts.
_LENGTHS = ("max_position_embeddings", "max_seq_len", "max_target_positions")


def context_length(model: Any) -> int:
    """Number of columns that a model reads at most; a very large number where its configuration names none.

    Dynamic positions (NTK scaling by the longest row ever read) change with every column beyond those that the model
    was trained with, and with the rows before it: such a model is read up to there.
    """
    config = model.config.get_text_config(decoder=True)
    lengths = [value for name in _LENGTHS if isinstance(value := getattr(config, name, None), int) and value > 0]
    context = lengths[0] if lengths else _UNLIMITED
    for rope in _ropes(config):
        if "dynamic" in str(rope.get("rope_type")):
            context = min(context, int(rope.get("original_max_position_embeddings") or context))
    return min([context, *_learned_positions(model, context)])


def longrope_boundary(config: Any) -> int | None:
    """The longest row that a model reads with its short factors (longrope), or None where it has no such factors."""
    config = config.get_text_config(decoder=True)
    ends = [
        int(rope.get("original_max_position_embeddings") or config.max_position_embeddings)
        for rope in _ropes(config)
        if rope.get("rope_type") == "longrope"
    ]
    return min(ends, default=None)


def column_windows(config: Any) -> list[int]:
    """Lengths of the windows of local attention that a configuration names."""
    values = vars(config.get_text_config(decoder=True))
    named = [v for name, v in values.items() if name.endswith(("window", "window_size"))]
    return [v for v in named if isinstance(v, int) and v > 0]


def _ropes(config: Any) -> Iterator[dict[str, Any]]:
    """The settings of rotary positions: one for all layers, or one a kind of layer."""
    settings = getattr(config, "rope_parameters", None) or {}
    if "rope_type" in settings:
        yield settings
    else:
        yield from (s for s in settings.values() if isinstance(s, dict))


def _learned_positions(model: Any, context: int) -> Iterator[int]:
    """Rows of learned tables of positions; where such a table has a row for padding, positions begin after it."""
    from torch import nn

    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and "position" in name.rsplit(".", 1)[-1]:
            rows = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            if 0 < rows < context <= module.num_embeddings:
                yield rows
