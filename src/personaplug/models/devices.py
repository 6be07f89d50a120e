"""Where models run and in which number format: `auto` resolved for this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from personaplug.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


def pick_device(name: str = "auto") -> str:
    """The device to run on; `auto` is cuda, else mps, else cpu.

    Raises:
        ConfigError: the device is unknown or not usable here; names the usable ones.
    """
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    usable = [kind for kind in here if here[kind]]
    if name == "auto":
        return usable[0]
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in usable or (index and not (index.isdecimal() and int(index) < count)):
        raise ConfigError(f"device {name!r} is not usable here; use 'auto' or one of: {', '.join(usable)}")
    return name


def pick_dtype(name: str, device: str) -> torch.dtype:
    """The number format to compute in; `auto` is bfloat16 where the device computes in it natively, else float32.

    Raises:
        ConfigError: no such format.
    """
    import torch

    if name == "auto":
        return torch.bfloat16 if _computes_bfloat16(device.partition(":")[0]) else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"dtype {name!r} is not known; {did_you_mean(name, ['auto', *DTYPES])}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _computes_bfloat16(kind: str) -> bool:
    import torch

    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":  # avx512_bf16, amx_bf16, arm_bf16, ...; without one of them bfloat16 is emulated, and slower
        return any(here is True for name, here in torch.cpu.get_capabilities().items() if name.endswith("bf16"))
    return False
