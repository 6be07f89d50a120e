"""Devices and number formats: `auto` runs anywhere, a wrong name says what is usable."""

from __future__ import annotations

import pytest
import torch

from personaplug.core.errors import ConfigError
from personaplug.models.devices import pick_device, pick_dtype


def test_auto_is_a_device_that_computes_here():
    assert torch.ones(2, device=pick_device("auto")).sum() == 2


def test_the_cpu_is_always_usable():
    assert pick_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpux", "cuda:-1", ""])
def test_a_device_that_is_not_here_is_refused_with_the_usable_ones(name):
    with pytest.raises(ConfigError, match=r"is not usable here; use 'auto' or one of: .*cpu"):
        pick_device(name)


def test_a_format_is_taken_by_name_and_auto_is_one_that_the_device_computes_in():
    assert pick_dtype("float16", "cpu") == torch.float16
    assert pick_dtype("auto", pick_device("auto")) in {torch.float32, torch.bfloat16}
    assert pick_dtype("auto", "mps") == torch.float32


def test_an_unknown_format_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'bfloat16'"):
        pick_dtype("bfloat61", "cpu")
