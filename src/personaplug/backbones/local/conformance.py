"""Conformance check: which of our ways to run a decoder give what a plain forward of the model gives.

A few rows of token ids and soft tokens run in the product's ways and in the plain one (all columns of one row at once,
no padding, no cache, the model's own positions). Ways are tried from the fastest to the slowest; the first whose logits
and gradients are equal is taken. A model for which none is, is refused. The result is stored by the identity of
weights, configuration and libraries, so that a model is examined once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from personaplug.backbones.local.base import picked_logprobs
from personaplug.backbones.local.causal_model import CausalModel, Row, Support
from personaplug.backbones.local.positions import column_windows, context_length
from personaplug.backbones.local.rows import batches
from personaplug.core.errors import ModelError
from personaplug.core.version import __version__
from personaplug.models import cache_dir

_FORMAT = 2  # of the stored result and of the check; a stored one of another format is not used
_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError,
    ValueError, ImportError,
)  # fmt: skip
_SHORT, _LONG, _SOFT, _TARGET = 2, 5, 2, 3  # columns of a short and a long prompt, of a prefix, of a target
_READING = 40  # tokens: more than models that draw at random read without
_LONGEST = 64  # a window that is at most so long is passed by the long prompt
# A logit vector may differ by this part of its standard deviation (root mean square over the vocabulary).
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.06, torch.float16: 0.02}


class DifferenceError(ValueError):
    """A way to run the model gives something else than a plain forward."""


def check(model: CausalModel, key: str) -> Support:
    """What a model supports: as stored for its identity, else as measured now; the model computes by it from then on.

    Args:
        model: the model.
        key: identity of its weights.

    Raises:
        ModelError: no way to run it gives what a plain forward gives.
    """
    file = cache_dir() / "conformance" / f"{_identity(model.runner.model, key)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # absent or damaged: examined anew
        support = Support(**json.loads(file.read_text(encoding="utf-8")))
        model.adopt(limited(model, support))
        return model.support
    support = examine(model, key)
    with contextlib.suppress(OSError):  # where nothing can be written, the model is examined each time
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(asdict(support)), encoding="utf-8")
        fresh.replace(file)
    model.adopt(limited(model, support))
    return model.support


def limited(model: CausalModel, support: Support) -> Support:
    """The same where prompts' states are not to be stored."""
    return support if model.budget else replace(support, shared=False)


def _identity(model: Any, key: str) -> str:
    """A name for weights, configuration, number format, kind of device and libraries."""
    import transformers

    what = [
        _FORMAT, key, model.config.to_json_string(use_diff=False), str(model.dtype), model.device.type,
        model.config._attn_implementation, torch.__version__, transformers.__version__, __version__,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def examine(model: CausalModel, key: str, *, thorough: bool = False) -> Support:
    """Measure what a model supports.

    Args:
        model: the model; afterwards it holds no states and computes by the result.
        key: what errors call it.
        thorough: also train a persona in front, and rows that are longer than small windows.

    Raises:
        ModelError: no way to run it gives what a plain forward gives; names the model, its family and the reason.
    """
    reason: Exception | None = None
    try:
        probe = _Probe(model, thorough)
        for support in _ladder(probe.most()):
            model.adopt(support)
            model.forget()
            try:
                measured = replace(support, difference=round(probe.difference(), 6))
            except _FAILURES as error:
                reason = error
                continue
            model.adopt(measured)
            return measured
    except _FAILURES as error:
        reason = error
    finally:
        model.forget()
    family = getattr(model.runner.model.config, "model_type", "unknown")
    said = next(iter(str(reason).strip().splitlines()), "") or type(reason).__name__
    raise ModelError(
        f"model {key!r} (family {family}) cannot be run here with soft tokens: {said[:200]}; choose another model"
    ) from reason


def _ladder(most: Support) -> Iterator[Support]:
    """Ways to run a model, from the fastest to the slowest; those that differ from the one before."""
    before = None
    for training in (True, False):
        way = replace(most, training=most.training and training)
        for drop in ((), ("continues", "shared"), ("batching",), ("steps",)):
            way = replace(way, **dict.fromkeys(drop, False))
            if way != before:
                yield way
            before = way


@dataclass(frozen=True, slots=True)
class _Plain:
    """What a plain forward says of a row: its logits [s, v] at a target, and the gradient of their loss."""

    row: Row
    target: list[int]
    logits: Tensor
    gradient: Tensor | None


class _Probe:
    """A few rows, what a plain forward says of them, and how far our ways are from that."""

    def __init__(self, model: CausalModel, thorough: bool) -> None:
        self._model = model
        self._thorough = thorough
        self._tolerance = _TOLERANCE.get(model.runner.model.dtype, 0.06)
        self._trains = True
        self._worst = 0.0
        size = model.runner.embedding.weight.shape[0]
        generator = torch.Generator().manual_seed(0)
        # Out of the middle of the vocabulary: special tokens stand at its ends.
        self._ids = (torch.randint(size // 2, generator=generator, size=(256,)) + size // 4).tolist()
        self._generator = generator
        model.adopt(Support(reads_ids=False))
        model.runner.reads_ids = not self._embeddings_suffice()
        self._long = self._length_of_long()
        self._refuse_random()
        try:
            self._run_plainly()
        except _FAILURES:
            if model.runner.reads_ids:
                raise
            model.runner.reads_ids = True  # it looks the ids of embeddings up, and a soft token has none
            self._run_plainly()

    def _refuse_random(self) -> None:
        """Refuse a model that draws at random while it reads (Reformer's hashing): nothing can equal it."""
        row = Row(tuple(self._ids[: min(_READING, context_length(self._model.runner.model) - 1)]))
        with torch.no_grad():
            first, second = (self._model.plain_logits(row, self._ids[:1]).float() for _ in range(2))
        if (first - second).abs().max() > self._tolerance * first.std():
            raise RuntimeError("its own plain forward differs from run to run")

    def _run_plainly(self) -> None:
        """Rows with a late persona, of two lengths, and with one in front."""
        self._trains = True
        # Prefixes of two lengths leave padding between a prompt's states and its prefix.
        short = 1 if self.most().shared else _SOFT
        long = 3 * _SOFT if self.most().shared and self._thorough else _SOFT
        self._late = [self._plain(self._long, long, "last"), self._plain(_SHORT, short, "last", self._thorough)]
        self._first = [self._plain(_SHORT, _SOFT, "first", self._thorough)]
        if self._thorough:
            self._first.append(self._plain(self._long, _SOFT, "first"))

    # -- the plain way ------------------------------------------------------------------------------------------------

    def _take(self, n: int) -> tuple[int, ...]:
        """The next so many token ids."""
        taken, self._ids = self._ids[:n], self._ids[n:] + self._ids[:n]
        return tuple(taken)

    def _plain(self, n: int, k: int, position: Any, gradient: bool = True) -> _Plain:
        """A row of n tokens and k soft tokens, run plainly."""
        runner = self._model.runner
        soft = torch.randn(k, runner.embedding.weight.shape[1], generator=self._generator)
        ids = self._take(n)
        like = runner.words(ids).embeds
        soft = (soft / soft.norm(dim=-1, keepdim=True) * like.float().norm(dim=-1).mean().cpu()).to(like)
        row, target = Row(ids, soft, position), list(self._take(_TARGET))
        slope = None
        with contextlib.suppress(*_FAILURES) if gradient else contextlib.nullcontext():
            if gradient:
                logits, [slope] = self._gradient([row], [target], plain=True)
        if slope is None:
            self._trains = self._trains and not gradient
            with torch.no_grad():
                logits = self._model.plain_logits(row, target)[None]
        _refuse_infinite(logits)
        return _Plain(row, target, logits[0], slope)

    def _gradient(
        self, rows: Sequence[Row], targets: list[list[int]], plain: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits [b, s, v], and the gradient of their loss with respect to each prefix."""
        with torch.inference_mode(False), torch.enable_grad():
            prefixes = [row.prefix.detach().clone().requires_grad_() for row in rows if row.prefix is not None]
            rows = [replace(row, prefix=prefix) for row, prefix in zip(rows, prefixes, strict=True)]
            if plain:
                logits = self._model.plain_logits(rows[0], targets[0])[None]
                ids = torch.tensor(targets[:1], device=logits.device)
            else:
                logits, ids = self._model.target_logits(rows, targets)
            gradients = torch.autograd.grad(picked_logprobs(logits, ids).sum(), prefixes)
        _refuse_infinite(*gradients)
        if any(float(g.abs().max()) == 0 for g in gradients):
            raise DifferenceError("no gradient reaches the soft tokens")
        return logits.detach(), list(gradients)

    def _embeddings_suffice(self) -> bool:
        """Whether a model that is handed embeddings says the same as one that looks token ids up."""
        runner = self._model.runner
        with torch.no_grad():
            columns = runner.words(self._take(4))
            runner.reads_ids = True
            looked_up, self._cache = runner.run(columns, keep=True, last=2)
            _refuse_infinite(looked_up)
            runner.reads_ids = False
            try:
                given = runner.run(columns, last=2).logits
                self._compare(given, looked_up)
            except _FAILURES:
                pass
            else:
                return True
            runner.reads_ids = True
            others = replace(columns, embeds=columns.embeds.flip(1).contiguous())
            if torch.allclose(runner.run(others, last=2).logits, looked_up):
                raise DifferenceError("its forward reads token ids alone")
        return False

    def _length_of_long(self) -> int:
        """Tokens of the long prompt: beyond the model's windows, where these are short."""
        layers = getattr(self._cache, "layers", None) or []
        windows = [layer.sliding_window for layer in layers if getattr(layer, "is_sliding", False)]
        windows += column_windows(self._model.runner.model.config)
        windows += [self._model.boundary] if self._model.boundary else []
        return max([_LONG, *(window + 4 for window in windows if window <= _LONGEST)])

    # -- our ways -----------------------------------------------------------------------------------------------------

    def most(self) -> Support:
        """The fastest way that the kinds of the model's cache allow."""
        from transformers.cache_utils import DynamicLayer

        known = batches(self._cache)
        # A window that a model counts in columns must not have padding between stored states and what follows.
        plain = known and {type(layer) for layer in self._cache.layers} == {DynamicLayer}
        plain = plain and not column_windows(self._model.runner.model.config)
        return Support(
            steps=self._cache is not None, batching=known, continues=known, shared=plain,
            training=self._trains, reads_ids=self._model.runner.reads_ids,
        )  # fmt: skip

    def difference(self) -> float:
        """The largest difference to plain forwards.

        Raises:
            DifferenceError: it is larger than the number format explains.
        """
        self._worst = 0.0
        self._answers()
        self._scores()
        self._training(self._late)
        if self._thorough:
            self._training(self._first)
        return self._worst

    def _compare(self, logits: Tensor, plain: Tensor) -> None:
        logits, plain = (x.reshape(-1, x.shape[-1]) for x in (logits, plain))
        _refuse_infinite(logits)
        size = plain.std(-1).clamp(min=1e-12)
        worst = float(((logits - plain).square().mean(-1).sqrt() / size).max())
        self._worst = max(self._worst, worst)
        if not worst <= self._tolerance:
            raise DifferenceError(f"its logits differ from its plain forward by {worst:.3g} standard deviations")

    @torch.inference_mode()
    def _answers(self) -> None:
        """Two prompts begin together, one joins and one leaves; then the same prompts again, from stored states.

        That logits do not depend on columns behind is seen here too: the plain rows hold their targets.
        """
        first, second, third = *self._late, self._first[0]
        decoding = self._model.prefill([first.row, second.row])
        self._compare(decoding.logits, torch.stack([first.logits[0], second.logits[0]]))
        decoding.step([first.target[0], second.target[0]])
        self._compare(decoding.logits, torch.stack([first.logits[1], second.logits[1]]))
        decoding.concat(self._model.prefill([third.row]))
        decoding.select([1, 2])
        self._compare(decoding.logits, torch.stack([second.logits[1], third.logits[0]]))
        decoding.step([second.target[1], third.target[0]])
        self._compare(decoding.logits, torch.stack([second.logits[2], third.logits[1]]))
        if self._model.support.shared:
            again = self._model.prefill([second.row, first.row])
            self._compare(again.logits, torch.stack([second.logits[0], first.logits[0]]))

    @torch.inference_mode()
    def _scores(self) -> None:
        """Several continuations of the same prompts."""
        if not self._model.support.continues or (self._model.support.shared and not self._thorough):
            return  # then a score is what training computes, or runs after stored states as training does
        owners, lengths = [1, 0, 0], [1, _TARGET, 2]
        at = torch.tensor(owners, device=self._late[0].logits.device)
        targets = [self._late[i].target[:n] for i, n in zip(owners, lengths, strict=True)]
        got = self._model.continue_logprobs([p.row for p in self._late], at, targets)
        for i, n, row in zip(owners, lengths, got, strict=True):
            plain = self._late[i]
            ids = torch.tensor([plain.target[:n]], device=plain.logits.device)
            want = picked_logprobs(plain.logits[None, :n], ids)[0]
            worst = float(((row[:n] - want).abs() / plain.logits[:n].std(-1)).max())
            if not worst <= 5 * self._tolerance:
                raise DifferenceError(f"its scores differ from its own plain forward by {worst:.3g}")

    def _training(self, plains: Sequence[_Plain]) -> None:
        """Targets of two lengths after prompts of two lengths, and the gradients of the first or of both."""
        rows, targets = [p.row for p in plains], [p.target for p in plains]
        if self._model.support.training:
            logits, gradients = self._gradient(rows, targets)
            for got, plain in zip(gradients, plains, strict=True):
                if plain.gradient is not None:
                    error = float((got - plain.gradient).float().norm() / plain.gradient.float().norm())
                    if not error <= 5 * self._tolerance:
                        raise DifferenceError(f"its gradients differ from those of its plain forward by {error:.3g}")
        else:
            targets[-1] = targets[-1][:2]
            with torch.inference_mode():
                logits, _ = self._model.target_logits(rows, targets)
        for row, plain, target in zip(logits, plains, targets, strict=True):
            self._compare(row[: len(target)], plain.logits[: len(target)])


def _refuse_infinite(*tensors: Tensor) -> None:
    if not all(bool(t.isfinite().all()) for t in tensors):
        raise DifferenceError("its forward gives numbers that are not finite")
