"""A gate for retrieved text: a small logistic regression that says for which requests the text helps.

Shapes: b: requests, n: behaviours (padded), e: encoder width, f: features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from personaplug.backbones.base import TrainableBackbone
from personaplug.core.types import Example, Prompt

FEATURES = ("nearest", "near", "behaviours")
"""Cosine of the request and its nearest behaviour, mean cosine of the four nearest, log(1 + number of behaviours)."""

_NEAR = 4
_BATCH = 32  # requests, while a gate is fitted


class Gate(nn.Module):
    """Opens where it expects the answer to be likelier with the text; open for all before it is fitted."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(len(FEATURES)))
        self.register_buffer("bias", torch.ones(()))
        self.register_buffer("center", torch.zeros(len(FEATURES)))
        self.register_buffer("spread", torch.ones(len(FEATURES)))

    weight: Tensor
    bias: Tensor
    center: Tensor
    spread: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """[b, f] -> [b], True where the text is to be added."""
        return ((features - self.center) / self.spread) @ self.weight + self.bias > 0

    def fit(self, features: Tensor, gain: Tensor) -> None:
        """Learn from requests whose gain by text [b] (nats a token) is known: what matters more weighs more."""
        from sklearn.linear_model import LogisticRegression

        self.center.copy_(features.mean(0))
        self.spread.copy_(features.std(0, correction=0).clamp(min=1e-4))
        helps = (gain > 0).cpu().numpy()
        self.weight.zero_()
        self.bias.fill_(1.0 if helps.all() else -1.0)
        if helps.any() and not helps.all():
            scaled = ((features - self.center) / self.spread).cpu().numpy()
            fitted = LogisticRegression(C=1.0).fit(scaled, helps, sample_weight=gain.abs().cpu().numpy())
            self.weight.copy_(torch.as_tensor(fitted.coef_[0]))
            self.bias.copy_(torch.as_tensor(fitted.intercept_[0]))


@torch.inference_mode()
def learn(
    gate: Gate,
    backbone: TrainableBackbone,
    sides: tuple[Sequence[Example], Sequence[Example]],
    personas: Callable[[Sequence[Example]], tuple[list[Tensor], Tensor]],
    position: Literal["first", "last"],
) -> None:
    """Fit a gate by how much likelier the right answers are with the text, the persona standing there in both cases.

    Args:
        gate: a fresh one.
        backbone: the frozen model.
        sides: the same examples without and with the text.
        personas: prefixes of examples [i + k, d] and what the gate looks at [b, f].
        position: where the persona stands.
    """
    seen, gain = [], []
    for start in range(0, len(sides[0]), _BATCH):
        plain, written = (side[start : start + _BATCH] for side in sides)
        prefixes, looked_at = personas(plain)
        targets = [e.target for e in plain]
        losses = [
            backbone.loss(
                [Prompt(e.request.messages, p, position) for e, p in zip(side, prefixes, strict=True)], targets
            )
            for side in (plain, written)
        ]
        gain.append(losses[0] - losses[1])
        seen.append(looked_at)
    gate.fit(torch.cat(seen), torch.cat(gain))


def features(keys: Tensor, mask: Tensor, query: Tensor) -> Tensor:
    """What the gate looks at [b, f], of keys [b, n, e], mask [b, n] and queries [b, e]."""
    cosines = torch.einsum("be,bne->bn", F.normalize(query, dim=-1), F.normalize(keys, dim=-1))
    sizes = mask.sum(-1)
    best = F.pad(cosines.masked_fill(~mask, -1.0), (0, _NEAR), value=-1.0).topk(_NEAR, dim=-1).values
    real = torch.arange(_NEAR, device=mask.device) < sizes[:, None]
    near = (best * real).sum(-1) / sizes.clamp(min=1, max=_NEAR)
    return torch.stack([best[:, 0].masked_fill(sizes == 0, 0.0), near, sizes.float().log1p()], dim=-1)
