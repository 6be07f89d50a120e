"""What a library says of weights that cannot be loaded, as one line with the way out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from personaplug.core.errors import ModelError
from personaplug.models.names import ResolvedModel

# What a kind of quantisation needs; others are named by their own message.
_LIBRARIES = {
    "awq": "gptqmodel", "bitsandbytes": "bitsandbytes", "compressed-tensors": "compressed-tensors",
    "fbgemm_fp8": "fbgemm-gpu", "gptq": "gptqmodel", "hqq": "hqq", "quanto": "optimum-quanto", "torchao": "torchao",
}  # fmt: skip


@contextmanager
def loading(resolved: ResolvedModel) -> Iterator[None]:
    """Turn what goes wrong within into one line.

    Raises:
        ModelError: names the model, the cause and, for quantised weights, the kind and its library.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (
        ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError,
        SafetensorError, TypeError, ValueError, EOFError,
    ) as error:  # fmt: skip
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = lines[0][:300] if lines else type(error).__name__
        kind = quantisation(resolved)
        if kind:
            library = _LIBRARIES.get(kind)
            needs = f"install {library}" if library else "install its library"
            raise ModelError(
                f"model {resolved.name!r} is quantised by {kind} and cannot be loaded here ({cause}): {needs}, or take "
                "the model's unquantised weights"
            ) from error
        damaged = isinstance(error, SafetensorError)
        way_out = "fetch the model again" if damaged else "fetch or save it again, or choose another"
        raise ModelError(f"model {resolved.name!r} cannot be loaded: {cause}; {way_out}") from error


def quantisation(resolved: ResolvedModel) -> str:
    """The kind of quantisation that a folder's configuration names, or ""."""
    with suppress(OSError, ValueError, AttributeError):
        config = json.loads((Path(resolved.location) / "config.json").read_text(encoding="utf-8"))
        return str((config.get("quantization_config") or {}).get("quant_method") or "")
    return ""
