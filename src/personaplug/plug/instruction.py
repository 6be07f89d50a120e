"""Soft tokens that know no user: the instruction of a plug, and all of a task prompt.

Shapes: i: instruction tokens, e: width of what is learned, d: the language model's width, w: words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def learned_instruction(tokens: int, width: int, model_width: int) -> tuple[nn.Parameter, nn.Sequential, Tensor]:
    """What is learned [i, e], the MLP that maps it to the model's width, and the mean norm of what that gives at first.

    Divided by this norm, the instruction starts at the length of a natural token. The paper's code (arXiv 2409.11901)
    divides by 7.0, which is this norm for its encoder.
    """
    learned = nn.Parameter(torch.rand(tokens, width))
    mlp = nn.Sequential(nn.Linear(width, model_width), nn.GELU(), nn.Linear(model_width, model_width))
    with torch.no_grad():
        norm = mlp(learned).norm(dim=-1).mean() if tokens else torch.ones(())
    return learned, mlp, norm


def repeat_words(words: Tensor, count: int) -> Tensor:
    """The last `count` [count, d] of words [w, d], which are repeated as needed (arXiv 2104.08691, section 3.2)."""
    return words.repeat(-(-count // len(words)), 1)[-count:]
