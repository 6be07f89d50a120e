"""How far a persona would move without each behaviour.

Shapes: n: behaviours, p: poolings, d: the language model's width.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from personaplug.plug.model import Plug


def influence(plug: Plug, values: Tensor, weights: Tensor) -> Tensor:
    """How far the persona of one user would move without each behaviour [n], as shares that add up to 1.

    Leaving out i of weight w turns a pooled p into (p - w·v_i) / (1 - w): a shift of w / (1 - w) · (p - v_i), that the
    last layer maps to soft tokens. A weight alone says how much was read, not how much it said.

    Args:
        plug: the plug.
        values: [n, d], as `project` gives them.
        weights: [p, n], as `weights` gives them for one user.
    """
    rest = 1 - weights.sum(-1, keepdim=True)  # [p, 1]
    pooled = weights @ values + rest * F.gelu(plug.inner.bias)  # [p, d]
    share = (weights / (1 - weights).clamp(min=1e-3)).T[..., None]  # [n, p, 1]
    shift = share * (pooled[None] - values[:, None])  # [n, p, d]
    own = plug.outer.weight[:, : shift[0].numel()]  # what prototype users did is no behaviour's
    moved = F.linear(shift.flatten(1), own).norm(dim=-1) + 1e-9  # alike where nothing moves it
    return moved / moved.sum()
