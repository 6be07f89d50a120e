"""The plug: from a user's history vectors and a request's vector to soft tokens for a frozen language model.

    behaviour i ── encoder ─► its views [v·e] ── W1, GELU ─► value [n, m] ──────────┐
                                │ the first view: key [n, e]                        │
    request x ──── encoder ─► query [e] ── p poolings ─► w [p, n] (softmax) ──► Σ w·value [p·m] ── W2 ─► persona [k, d]
    instruction (learned, shared by all users) ── its own MLP ────────────────────────────────────► instruction [i, d]
                                                                        the prefix is [instruction ; persona] [i + k, d]

This file and pooling.py know torch and nothing of the rest of the package: they can be read and lifted out alone.

Shapes: b: batch, n: behaviours (padded), v: views of a behaviour, e: encoder width, m: projector width, p: poolings,
c: peers, k: persona tokens, i: instruction tokens, d: the language model's width. Source: Persona-Plug, arXiv
2409.11901, section 3, equations 3 to 5; what differs from it is said at each choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from personaplug.plug.pooling import POOLINGS

Objective = Literal["nll", "weighted", "options", "preference"]


@dataclass(frozen=True, slots=True)
class PlugConfig:
    """Every choice of a plug; the defaults are ours, `pplug` is the paper. What each is worth: docs/ablation.md.

    Attributes:
        persona_tokens: k, soft tokens that carry the user; 0 leaves only the instruction (the task prompt control).
        instruction_tokens: i, soft tokens shared by all users.
        position: `first` (before the whole prompt, as in the paper) or `last` (right before the answer).
        pooling: names in `pooling.POOLINGS`, joined by +: `mean+nearest` is a static and a query-aware side by side.
        nobody: the average user takes part in every pooling, with a learned weight.
        temperature: divides the logits of the pooling `softmax`; the paper has 1.
        unit_length: scale each key and query to length 1.
        standardize: subtract the mean and divide by the standard deviation of the training histories' vectors,
            per coordinate (then by sqrt(e), so that lengths are about 1). Cold start is then the average user.
        peers: prototypes of behaviours; what a user did counts as its difference to what is usual near its prototypes
            (arXiv 2507.20849's differences, against a codebook instead of other users); 0 is off.
        prototypes: prototype users (centres of the training users); what those most like this user did is a pooling of
            its own, which does most where little is known of the user; 0 is off.
        projector_width: m; 0 means d.
        scale: length of a natural token; 0 means the backbone's mean token-embedding norm.
        start: what the soft tokens are before training: `random`, or the last `words` of the task's instruction (line
            breaks where it has none), from which the projector's output then leads away (arXiv 2104.08691, section 3.2,
            starts from words too).
        history_text: template, or templates, of what the encoder sees of a behaviour, each view encoded alone; queries
            are compared with the first. Empty means the task's own.
        query_prefix: put before the request's query before encoding (BGE-style encoders want one).
        query_encoder: of queries alone: `frozen`, or a copy of the encoder that is trained in `full` or by `lora`.
        objective: what is learnt: `nll` (next-token loss, arXiv 2409.11901, eq. 6), `weighted` (more on tokens that the
            persona changes), `options` (the right one of the task's options) or `preference` (`nll`, and that what the
            user disliked is less likely).
        history_dropout: while training, up to this share of a history is left out, drawn afresh at each use.
        max_history: at most this many behaviours, the newest (while training: a random subset).
        text: section of a text method whose messages the persona joins, as {name = "bm25", k = 1}; empty is none.
        gate: add that text only where a learned gate expects it to help.
        teacher: section of a text method: what the frozen model would say with its messages is learnt too.
    """

    persona_tokens: int = 4
    instruction_tokens: int = 1
    position: Literal["first", "last"] = "last"
    pooling: str = "mean+nearest"
    nobody: bool = False
    temperature: float = 1.0
    unit_length: bool = False
    standardize: bool = True
    peers: int = 0
    prototypes: int = 0
    projector_width: int = 0
    scale: float = 0.0
    start: Literal["random", "words"] = "words"
    history_text: str | tuple[str, ...] = ("{input}", "{output}")
    query_prefix: str = ""
    query_encoder: Literal["frozen", "lora", "full"] = "frozen"
    objective: Objective = "nll"
    history_dropout: float = 0.5
    max_history: int = 512
    text: Mapping[str, Any] = field(default_factory=dict)
    gate: bool = False
    teacher: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        free = ("persona_tokens", "instruction_tokens", "scale", "peers", "prototypes")
        for name, low in {**dict.fromkeys(free, 0), "max_history": 1}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {low}")
        if self.persona_tokens + self.instruction_tokens == 0:
            raise ValueError("persona_tokens and instruction_tokens are both 0: the prefix would be empty")
        if not 0.0 <= self.history_dropout < 1.0:
            raise ValueError(f"history_dropout is {self.history_dropout}, expected a share in [0, 1)")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a positive number")
        if wrong := [p for p in self.poolings if p not in POOLINGS]:
            raise ValueError(f"pooling {wrong[0]!r} is unknown, expected names joined by + of: {', '.join(POOLINGS)}")

    @property
    def poolings(self) -> tuple[str, ...]:
        """The names in `pooling`."""
        return tuple(self.pooling.split("+"))

    @property
    def views(self) -> int:
        """How many vectors a behaviour has, v."""
        return 1 if isinstance(self.history_text, str) else max(len(self.history_text), 1)

    @property
    def wants_query(self) -> bool:
        """Whether a persona depends on the request."""
        return self.persona_tokens > 0 and any(POOLINGS[p].wants_query for p in self.poolings)


class Pooled(NamedTuple):
    """The prefix [b, i + k, d] and each behaviour's weight in each pooling [b, p, n] (each adds up to at most 1)."""

    prefix: Tensor
    weights: Tensor


class Plug(nn.Module):
    """The trained part: poolings, a projector and an instruction; about 2 M parameters in front of a 135 M model.

    Args:
        config: the choices.
        encoder_width: e.
        model_width: d.
        token_norm: mean L2 norm of the backbone's token embeddings, the length of a natural token.
    """

    center: Tensor
    spread: Tensor
    instruction_norm: Tensor
    start: Tensor
    peer_keys: Tensor
    peer_views: Tensor
    prototypes: Tensor
    prototype_shares: Tensor

    def __init__(self, config: PlugConfig, encoder_width: int, model_width: int, token_norm: float) -> None:
        super().__init__()
        self.config = config
        self.encoder_width = encoder_width
        self.model_width = model_width
        self.scale = config.scale or token_norm
        width, wide = config.projector_width or model_width, encoder_width * config.views
        tracks = [POOLINGS[p](encoder_width, config.temperature) for p in config.poolings]
        self.poolings = nn.ModuleList(tracks if config.persona_tokens else [])
        # Which of them give one persona a user, and which one a request.
        self.static = [i for i, p in enumerate(self.poolings) if not POOLINGS[config.poolings[i]].wants_query]
        self.asked = [i for i in range(len(self.poolings)) if i not in self.static]
        self.unit_keys = bool(self.asked) and all(POOLINGS[config.poolings[i]].unit for i in self.asked)
        self.nobody = nn.Parameter(torch.zeros(len(self.poolings))) if config.nobody else None
        self.inner = nn.Linear(wide, width)
        self.tracks = len(self.poolings) + (config.prototypes > 0)
        # Those that need no request, and so are a user's own: prototype users stand after the poolings.
        self.unasked = [*self.static, *range(len(self.poolings), self.tracks)]
        self.outer = nn.Linear(max(self.tracks, 1) * width, max(config.persona_tokens, 1) * model_width)
        self.instruction = nn.Parameter(torch.rand(config.instruction_tokens, encoder_width))
        self.instruction_mlp = nn.Sequential(
            nn.Linear(encoder_width, model_width), nn.GELU(), nn.Linear(model_width, model_width)
        )
        self.register_buffer("start", torch.zeros(config.instruction_tokens + config.persona_tokens, model_width))
        self.register_buffer("center", torch.zeros(wide))
        self.register_buffer("spread", torch.ones(wide))
        self.register_buffer("peer_keys", torch.zeros(config.peers, encoder_width))
        self.register_buffer("peer_views", torch.zeros(config.peers, wide))
        kept = config.prototypes > 0  # plugs without them load as before
        self.register_buffer("prototypes", torch.zeros(config.prototypes, wide), kept)
        self.register_buffer("prototype_shares", torch.ones(config.prototypes) / max(config.prototypes, 1), kept)
        self.likeness = nn.Parameter(torch.tensor(_LIKENESS).log()) if config.prototypes else None
        # The paper's code divides by 7.0, which is this norm for its encoder: the instruction starts at token length.
        with torch.no_grad():
            norm = self.instruction_mlp(self.instruction).norm(dim=-1).mean() if config.instruction_tokens else 1.0
        self.register_buffer("instruction_norm", torch.as_tensor(norm, dtype=torch.float32))

    # -- what training histories say, before any training ---------------------------------------------------------

    @torch.no_grad()
    def start_from(self, words: Tensor) -> None:
        """Begin at the embeddings of words [w, d], repeated as needed: before training, the prefix is those words."""
        count = len(self.start)
        self.start.copy_(words.repeat(-(-count // len(words)), 1)[-count:])
        self.outer.weight.zero_()
        self.outer.bias.zero_()
        for parameter in self.instruction_mlp[2].parameters():
            parameter.zero_()

    def set_statistics(self, vectors: Tensor) -> None:
        """Take the mean and standard deviation of vectors [N, v·e] for `standardize`; NaN is a missing view."""
        self.center.copy_(vectors.nanmean(0).nan_to_num())
        spread = ((vectors - self.center) ** 2).nanmean(0).sqrt().nan_to_num()
        # A coordinate that never varied says nothing: where it does later, it must not drown all others.
        self.spread.copy_(torch.where(spread < 1e-4, 1.0, spread))

    @torch.no_grad()
    def set_peers(self, vectors: Tensor, seed: int = 0) -> None:
        """Take `peers` prototypes of vectors [N, v·e]: k-means over their keys, and what people do near each."""
        views = self._standard(vectors)
        keys = views[:, : self.encoder_width]
        label = _clusters(keys, self.config.peers, seed)
        taken = label.unique()  # near doubles may leave a cluster empty
        for at in range(self.config.peers):
            mine = views[label == taken[at % len(taken)]]
            self.peer_views[at] = mine.mean(0)
            self.peer_keys[at] = mine[:, : self.encoder_width].mean(0)

    @torch.no_grad()
    def set_prototypes(self, users: Sequence[Tensor], seed: int = 0) -> None:
        """Take prototype users from the raw vectors [n, v·e] of each training user: k-means of their means.

        Of fewer users than that, the rest are prototypes of nobody.
        """
        means = torch.stack([self._standard(own).mean(0) for own in users if len(own)])
        label = _clusters(means, self.config.prototypes, seed)
        self.prototype_shares.zero_()
        for at, kind in enumerate(label.unique()):
            self.prototypes[at] = means[label == kind].mean(0)
            self.prototype_shares[at] = (label == kind).float().mean()
        # Means over many behaviours are short, and what differs between users is little of them: without a gain the
        # projector would learn what all share long before it learns who is who.
        self.prototypes /= F.linear(self.prototypes, self.inner.weight).std().clamp(min=1e-4)

    # -- per user -------------------------------------------------------------------------------------------------

    def _standard(self, vectors: Tensor) -> Tensor:
        if self.config.standardize:
            wide = vectors.shape[-1]
            vectors = ((vectors - self.center[:wide]) / self.spread[:wide]).clamp(-_FAR, _FAR) / self.encoder_width**0.5
        if self.config.unit_length:
            vectors = F.normalize(vectors.unflatten(-1, (-1, self.encoder_width)), dim=-1).flatten(-2)
        return vectors.nan_to_num()  # a view that a behaviour lacks counts as the average

    def query(self, vectors: Tensor) -> Tensor:
        """Raw query vectors [..., e] as they are compared with keys."""
        return self._standard(vectors)

    def read(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Raw encoder vectors [..., v·e] -> keys [..., e], and values [..., m]: the projector up to its last layer.

        The last layer is linear, so it commutes with the weighted sum and is applied once after it: exact, and n
        times cheaper than projecting every behaviour (eq. 4).
        """
        views = self._standard(vectors)
        keys = views[..., : self.encoder_width]
        if self.config.peers:
            near = (_PEER_SHARPNESS * F.normalize(keys, dim=-1) @ F.normalize(self.peer_keys, dim=-1).T).softmax(-1)
            usual = near @ self.peer_views
            # With one view, its difference to the prototypes; with several, what was met stays as it is.
            kept = 0 if self.config.views == 1 else self.encoder_width
            views = torch.cat([views[..., :kept], (views - usual)[..., kept:]], dim=-1)
        return F.normalize(keys, dim=-1) if self.unit_keys else keys, F.gelu(self.inner(views))

    def alike(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """What prototype users did who are like these, [b, 1, m], from raw vectors [b, n, v·e] and mask [b, n].

        Attention over prototypes by the cosine of mean views, sharpened, and by how many users each stands for: one
        behaviour says little of a taste, but which tastes there are is known, and so most of what is accidental goes.
        A user without behaviours is like all of them.
        """
        assert self.likeness is not None
        mean = (self._standard(vectors) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        near = F.normalize(mean, dim=-1) @ F.normalize(self.prototypes, dim=-1).T
        shares = (self.likeness.exp() * near + self.prototype_shares.log()).softmax(-1)
        return F.gelu(self.inner(shares @ self.prototypes))[:, None]

    # -- per request ----------------------------------------------------------------------------------------------

    def weights(
        self, keys: Tensor, mask: Tensor, query: Tensor | None, poolings: Sequence[int] | None = None
    ) -> Tensor:
        """Each behaviour's share in each pooling, [b, n, e], [b, n], [b, e] -> [b, p, n]; eq. 3 for `softmax`.

        What is missing from 1 is nobody's; all of it where the history is empty.

        Args:
            keys: what `read` gave.
            mask: True where there is a behaviour.
            query: what `query` gave; None where no pooling needs it.
            poolings: which, by number; all by default.
        """
        which = range(len(self.poolings)) if poolings is None else poolings
        if not which or not keys.shape[1]:
            return keys.new_zeros(len(keys), len(which), keys.shape[1])
        age = mask.flip(1).cumsum(1).flip(1) - mask.long()
        logits = torch.stack([self._logits(self.poolings[i], keys, query, age) for i in which], dim=1)
        # A finite floor, not -inf: softmax over an empty history must not be NaN.
        logits = logits.masked_fill(~mask[:, None], torch.finfo(logits.dtype).min)
        if self.nobody is None:
            return logits.softmax(-1) * mask[:, None]
        nobody = self.nobody[list(which)][None, :, None].expand(len(logits), -1, 1)
        return torch.cat([logits, nobody], dim=-1).softmax(-1)[..., :-1] * mask[:, None]

    def _logits(self, pooling: nn.Module, keys: Tensor, query: Tensor | None, age: Tensor) -> Tensor:
        if pooling.unit and not self.unit_keys:
            keys = F.normalize(keys, dim=-1)
        logits: Tensor = pooling(keys, query, age)
        return logits.float()

    def pooled(self, values: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums [b, p, m] of values [b, n, m] with weights [b, p, n]; eq. 4.

        Nobody's value is that of the zero vector: finite, and with `standardize` that of the average user.
        """
        return _summed(values, weights) + (1 - weights.sum(-1, keepdim=True)) * F.gelu(self.inner.bias)

    def prefix(self, pooled: Tensor) -> Tensor:
        """Prefix [b, i + k, d] from what all poolings gave [b, p, m], the prototype users last; eq. 5."""
        parts = []
        if self.config.instruction_tokens:
            instruction = self.instruction_mlp(self.instruction) / self.instruction_norm
            parts.append(instruction.expand(len(pooled), -1, -1))
        if self.config.persona_tokens:
            parts.append(self.outer(pooled.flatten(1)).unflatten(-1, (self.config.persona_tokens, self.model_width)))
        return self.start + self.scale * torch.cat(parts, dim=1)

    def forward(self, vectors: Tensor, mask: Tensor, query: Tensor | None = None) -> Pooled:
        """Raw vectors [b, n, v·e], mask [b, n] (True: a behaviour), raw query [b, e] -> prefix and weights."""
        keys, values = self.read(vectors)
        weights = self.weights(keys, mask, None if query is None else self.query(query))
        pooled = [self.pooled(values, weights)]
        if self.config.prototypes:
            pooled.append(self.alike(vectors, mask))
        return Pooled(self.prefix(torch.cat(pooled, dim=1)), weights)

    def nobodys_prefix(self, rows: int = 1) -> Tensor:
        """The prefix of the unknown user [rows, i + k, d]."""
        nothing = self.inner.bias.new_zeros(rows, 0, self.inner.in_features)
        return self(nothing, nothing[..., 0].bool(), nothing.new_zeros(rows, self.encoder_width)).prefix

    def influence(self, values: Tensor, weights: Tensor) -> Tensor:
        """How far the persona of one user would move without each behaviour [n], as shares that add up to 1.

        Leaving out i of weight w turns a pooled p into (p - w·v_i) / (1 - w): a shift of w / (1 - w) · (p - v_i), that
        the last layer maps to soft tokens. A weight alone says how much was read, not how much it said.

        Args:
            values: [n, m].
            weights: [p, n].
        """
        rest = 1 - weights.sum(-1, keepdim=True)  # [p, 1]
        pooled = weights @ values + rest * F.gelu(self.inner.bias)  # [p, m]
        share = (weights / (1 - weights).clamp(min=1e-3)).T[..., None]  # [n, p, 1]
        shift = share * (pooled[None] - values[:, None])  # [n, p, m]
        own = self.outer.weight[:, : shift[0].numel()]  # what prototype users did is no behaviour's
        moved = F.linear(shift.flatten(1), own).norm(dim=-1) + 1e-9  # alike where nothing moves it
        return moved / moved.sum()


def _summed(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums [b, p, m] of values [b, n, m] with weights [b, p, n].

    Values in half precision, as stored, are read where they lie, without a float32 copy of a whole history: that copy
    costs twice the sum.
    """
    if values.dtype == weights.dtype or not values.shape[1]:
        return weights @ values.to(weights.dtype)
    bags = torch.arange(values.shape[:2].numel(), device=values.device).view(len(values), 1, -1).expand_as(weights)
    shares = weights.flatten(0, 1).to(values.dtype)
    summed = F.embedding_bag(bags.flatten(0, 1), values.flatten(0, 1), per_sample_weights=shares, mode="sum")
    return summed.view(*weights.shape[:2], -1).to(weights.dtype)


def _clusters(points: Tensor, count: int, seed: int) -> Tensor:
    """Which of at most `count` clusters each point [N, e] is in, by k-means; near doubles are one point."""
    from sklearn.cluster import KMeans

    points = points.round(decimals=4)
    found = KMeans(min(count, len(points.unique(dim=0))), n_init=1, random_state=seed).fit(points.cpu().numpy())
    return torch.as_tensor(found.labels_, dtype=torch.long, device=points.device)


_FAR = 10.0  # standard deviations: a rare feature counts, but does not drown all others
_PEER_SHARPNESS = 10.0  # of the softmax over prototypes' cosines
_LIKENESS = 10.0  # the same for prototype users, before training


def drop_history(n: int, config: PlugConfig, generator: torch.Generator) -> Tensor:
    """Indices [r], ascending, of the behaviours that a training step sees of a history of length n.

    As in the reference's augmentation: of more than two, a share drawn from [0, history_dropout) plus one is left
    out, then at most `max_history` remain, chosen at random. The reference wrote 10 such copies to disk; here each
    use draws afresh.
    """
    keep = n
    if n > 2 and config.history_dropout > 0:
        keep = n - min(n - 1, int(n * config.history_dropout * torch.rand((), generator=generator).item()) + 1)
    keep = min(keep, config.max_history)
    return torch.randperm(n, generator=generator)[:keep].sort().values
