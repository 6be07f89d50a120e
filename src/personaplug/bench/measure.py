"""Measure a method on examples: likelihood of what the user really wrote, predictions, and the task's own metrics."""

from __future__ import annotations

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from personaplug.backbones.base import TrainableBackbone
from personaplug.bench.controls import apply_control
from personaplug.core.errors import DataError
from personaplug.core.sequences import evenly_spaced
from personaplug.core.types import Example, History, Profile, Prompt, Scored, Split, State
from personaplug.metrics import scores as metrics
from personaplug.pipeline.fingerprint import pseudonym
from personaplug.tasks.base import JudgedTask, TaskInfo

if TYPE_CHECKING:
    from personaplug.bench.states import StateCache
    from personaplug.methods.base import Method

NLL = "nll"
"""The score that every row has, lower is better: mean over examples of nats a token of the user's real answer, or where
requests bring their own texts to choose among, of nats of the right choice."""

OPTION_NLL = "option_nll"
"""On closed sets, lower is better: nats of the right option, where the options' chances add up to 1. By it, rows of
methods with and without a language model are comparable."""

_STATES = 512  # prepared histories in memory; a user's examples stand together


@dataclass(frozen=True, slots=True)
class Row:
    """One method under one control on one split; the per-example values stand in the examples' order.

    Attributes:
        method: its name.
        key: identity of the method's weights.
        control: "" for the users' own histories, else a control's name.
        ids: pseudonyms of the examples.
        users: pseudonyms of who asked.
        histories: number of behaviours that the users themselves had before each request.
        nll: nats a token of each user's real answer, without an end-of-turn token; where requests bring their own texts
            to choose among, nats of the right choice.
        tokens: of each real answer.
        answered: indices of the examples that also have a prediction.
        predictions: their answers: an option (of a request's own ones, its number in a result), or generated text.
        values: metric -> a number for each answered example.
        scores: metric -> over all answered examples; `nll` over all examples.
        seconds: wall time of it all.
        prompt_tokens: mean over the examples, soft tokens not counted.
        prefix_tokens: soft tokens of a prompt, the most of any.
        name: the method's name on the shelf; `method` is what the experiment calls it.
        section: the method's configuration.
        fingerprint: of everything that the numbers depend on; a row of the same is not measured again.
        bytes_per_user: mean size of what the method stores of a user beside their behaviours.
        prepare_seconds: of `seconds`, preparing users.
        personalize_seconds: of `seconds`, making prompts of prepared users.
        oracle: whether the method looked at the right answers: an upper bound, not a method.
        used: for each of the result's shown examples, the behaviours that went into its prompt, as text.
        answers: for each of the result's shown examples, what was answered; "" where nothing was.
    """

    method: str
    key: str
    control: str
    ids: tuple[str, ...]
    users: tuple[str, ...]
    histories: tuple[int, ...]
    nll: tuple[float, ...]
    tokens: tuple[int, ...]
    answered: tuple[int, ...]
    predictions: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    scores: Mapping[str, float]
    seconds: float
    prompt_tokens: float
    prefix_tokens: int
    name: str = ""
    section: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    bytes_per_user: float = 0.0
    prepare_seconds: float = 0.0
    personalize_seconds: float = 0.0
    oracle: bool = False
    used: tuple[tuple[str, ...], ...] = ()
    answers: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What a table calls it."""
        return f"{self.method}, {self.control}" if self.control else self.method

    @property
    def nats(self) -> float:
        """Total nats of all real answers."""
        return sum(n * t for n, t in zip(self.nll, self.tokens, strict=True))


@dataclass(frozen=True, slots=True)
class MeasureConfig:
    """What to measure: the `[bench]` section of an experiment.

    Attributes:
        split: of the task: `test`, or `dev` where the test's answers are withheld.
        limit: at most so many requests, evenly spread; 0 is all.
        generate: how many of them get a generated answer (text and multilabel tasks), evenly spread.
        batch_size: requests run together.
        controls: what each personal method is also measured under: "shuffled users", "no history".
        newest: points of a cold-start curve: each method of `curves` with the newest so many behaviours alone.
        curves: labels of the methods that get one; by default the measured method.
        examples: how many requests stand in the result with their texts, for the report; 0 for data that may not be
            passed on.
    """

    split: Split = "test"
    limit: int = 0
    generate: int = 64
    batch_size: int = 128
    controls: tuple[str, ...] = ("shuffled users", "no history")
    newest: tuple[int, ...] = ()
    curves: tuple[str, ...] = ()
    examples: int = 0


def lower_is_better(metric: str) -> bool:
    """Which way is up."""
    return metric not in metrics.JUDGED and (
        metric in (NLL, OPTION_NLL) or not metrics.METRICS[metric].higher_is_better
    )


def headline(info: TaskInfo) -> str:
    """The number that a task's claims are about: its own; `nll` for text; else its first metric of single examples."""
    if info.headline or info.kind == "text":
        return info.headline or NLL
    return next((m for m in info.metrics if metrics.METRICS[m].each is not None), NLL)


def metrics_of(info: TaskInfo) -> list[str]:
    """What is computed for a task: its own metrics, then those of its kind that people read."""
    read = {"rating": ["accuracy", "mae"], "multilabel": ["any_match", "macro_f1"]}.get(info.kind, ["accuracy"])
    if info.kind == "choice" and info.options:
        read += ["auc", "macro_f1"] if len(info.options) == 2 else ["macro_f1"]
    return list(dict.fromkeys([*info.metrics, *(read if info.kind != "text" else [])]))


def measure(
    method: Method,
    info: TaskInfo,
    examples: Sequence[Example],
    how: MeasureConfig = MeasureConfig(),
    *,
    control: str = "",
    seed: int = 0,
    states: StateCache | None = None,
    progress: Callable[[int], None] | None = None,
) -> Row:
    """Measure a method.

    Choices and ratings are predicted by the likeliest option for all examples; text and multilabel answers are
    generated for `how.generate` of them, evenly spread.

    Args:
        method: fitted, if it has something to fit.
        info: the task's.
        examples: of one split, each user's oldest first.
        how: how many answers to generate, and how many requests to run together.
        control: a control's name.
        seed: of the control's draw.
        states: where states of methods that are slow to prepare are stored.
        progress: called with the number of examples done since the last call.

    Raises:
        DataError: there are no examples, their answers are withheld, or a control is impossible on them.
        MismatchError: the backbone gives no log-probabilities.
    """
    method.backbone.check_scores(f"measuring method {method.name!r}")
    if not examples:
        raise DataError(f"task {info.name!r}: the split has no examples to measure on; give it more data")
    if withheld := next((e.id for e in examples if not e.target.strip()), None):
        raise DataError(
            f"task {info.name!r}: the right answer of request {withheld!r} is empty or withheld, so nothing can be "
            "measured on it; measure on the dev split (bench.split = dev), or write answers with: personaplug predict"
        )
    start = time.perf_counter()
    chosen = evenly_spaced(range(len(examples)), how.generate) if _generates(info) else []
    meter = _Meter(method, info, set(chosen), states)
    changed = apply_control(examples, control, seed)
    for at in range(0, len(examples), how.batch_size):
        meter.take(range(at, min(at + how.batch_size, len(examples))), changed[at : at + how.batch_size])
        if progress:
            progress(len(changed[at : at + how.batch_size]))
    values, scores = meter.results([examples[i] for i in meter.answered])
    return Row(
        method=method.name,
        key=method.key,
        control=control,
        ids=tuple(pseudonym(e.id) for e in examples),
        users=tuple(pseudonym(e.history.user) for e in examples),
        histories=tuple(len(e.history) for e in examples),
        nll=tuple(meter.nll),
        tokens=tuple(meter.tokens),
        answered=tuple(meter.answered),
        predictions=tuple(meter.predictions),
        values=values,
        scores={**scores, NLL: sum(meter.nll) / len(meter.nll)},
        seconds=time.perf_counter() - start,
        prompt_tokens=meter.prompt_tokens / len(examples),
        prefix_tokens=meter.prefix_tokens,
        name=method.name,
        bytes_per_user=meter.state_bytes / len(examples),
        prepare_seconds=meter.prepare_seconds,
        personalize_seconds=meter.personalize_seconds,
        oracle=method.oracle,
    )


def numbered(row: Row, examples: Sequence[Example]) -> Row:
    """The row with the numbers of predicted options, where they are a request's own: results hold no users' texts."""
    places = (examples[i].options.index(text) for i, text in zip(row.answered, row.predictions, strict=True))
    return dataclasses.replace(row, predictions=tuple(map(str, places)))


def with_judgement(row: Row, task: JudgedTask, examples: Sequence[Example]) -> Row:
    """The row with what its answers are worth to their users, by the task's own judgement."""
    judged = task.judge([examples[i] for i in row.answered], row.predictions)
    means = {name: sum(values) / len(values) for name, values in judged.items()}
    return dataclasses.replace(row, values={**row.values, **judged}, scores={**row.scores, **means})


def score_options(
    method: Method,
    info: TaskInfo,
    examples: Sequence[Example],
    profiles: Sequence[Profile],
    prompts: Sequence[Prompt],
) -> list[dict[str, Scored]]:
    """Option -> its score, for each prompt with its own options.

    Texts that a request brings along differ in length, so they are compared by nats a token, and each one's score is
    the log of its chance among them: by this all methods can be compared, also those that ask no language model.
    """
    options = [e.options or info.options for e in examples]
    scored = method.score_options([e.request for e in examples], profiles, prompts, options)
    by_option = [dict(zip(own, scores, strict=True)) for own, scores in zip(options, scored, strict=True)]
    return by_option if info.options else [_among(own) for own in by_option]


def _among(scored: Mapping[str, Scored]) -> dict[str, Scored]:
    each = {option: s.logprob / s.tokens for option, s in scored.items()}
    total = float(np.logaddexp.reduce(list(each.values())))
    return {option: Scored(value - total, 1) for option, value in each.items()}


def likeliest(scored: Mapping[str, Scored]) -> str:
    """The option with the highest sum of log-probabilities; of equal ones the first."""
    return max(scored, key=lambda option: scored[option].logprob)


class _Meter:
    """Collects the numbers of one row batch by batch."""

    def __init__(self, method: Method, info: TaskInfo, chosen: set[int], states: StateCache | None) -> None:
        self.method = method
        self.info = info
        self.chosen = chosen
        self.nll: list[float] = []
        self.tokens: list[int] = []
        self.answered: list[int] = []
        self.predictions: list[str] = []
        self.leads: list[float] = []  # how much likelier the first of two options is than the second, for `auc`
        self.option_nll: list[float] = []
        self.prompt_tokens = 0
        self.prefix_tokens = 0
        self.state_bytes = 0
        self.prepare_seconds = 0.0
        self.personalize_seconds = 0.0
        self._kept = states
        self._states: OrderedDict[str, State | None] = OrderedDict()

    def take(self, indices: Sequence[int], examples: Sequence[Example]) -> None:
        """Measure one batch."""
        profiles = self._profiles([e.history for e in examples])
        start = time.perf_counter()
        prompts = self.method.personalize_examples(examples, profiles)
        self.personalize_seconds += time.perf_counter() - start
        scored = self._choose(indices, examples, profiles, prompts) if not _generates(self.info) else {}
        rest = [i for i, e in enumerate(examples) if (i, e.target) not in scored]
        asked = [examples[i].request for i in rest], [profiles[i] for i in rest], [prompts[i] for i in rest]
        targets = self.method.score_answers(*asked, [examples[i].target for i in rest])
        scored |= {(i, examples[i].target): s for i, s in zip(rest, targets, strict=True)}
        for i, example in enumerate(examples):
            own = scored[i, example.target]
            self.nll.append(-own.logprob / own.tokens)
            self.tokens.append(own.tokens)
        self._count(prompts)
        self._generate([i for i, n in enumerate(indices) if n in self.chosen], indices, examples, profiles, prompts)

    def _choose(
        self,
        indices: Sequence[int],
        examples: Sequence[Example],
        profiles: Sequence[Profile],
        prompts: Sequence[Prompt],
    ) -> dict[tuple[int, str], Scored]:
        """Score every option of every request and predict the likeliest."""
        scored = score_options(self.method, self.info, examples, profiles, prompts)
        for n, example, by_option in zip(indices, examples, scored, strict=True):
            first, second, *_ = by_option.values()
            self.answered.append(n)
            self.predictions.append(likeliest(by_option))
            self.leads.append(first.logprob - second.logprob)
            if example.target in by_option:
                right = list(by_option).index(example.target)
                self.option_nll.append(metrics.option_nll([s.logprob for s in by_option.values()], right))
        return {(i, option): s for i, by_option in enumerate(scored) for option, s in by_option.items()}

    def _generate(
        self,
        chosen: Sequence[int],
        indices: Sequence[int],
        examples: Sequence[Example],
        profiles: Sequence[Profile],
        prompts: Sequence[Prompt],
    ) -> None:
        if chosen:
            requests = [examples[i].request for i in chosen]
            sampling = self.info.sampling
            own = self.method.with_unconditional(requests, [prompts[i] for i in chosen], sampling)
            answers = self.method.answer_many(requests, [profiles[i] for i in chosen], own, sampling)
            self.answered += [indices[i] for i in chosen]
            self.predictions += [a.text.strip() for a in answers]

    def _count(self, prompts: Sequence[Prompt]) -> None:
        sizes = [0 if p.prefix is None else len(p.prefix) for p in prompts]
        self.prefix_tokens = max(self.prefix_tokens, *sizes)
        if isinstance(self.method.backbone, TrainableBackbone):
            lengths = self.method.backbone.lengths(prompts, [""] * len(prompts))
            self.prompt_tokens += sum(lengths) - len(prompts) - sum(sizes)  # without an end-of-turn token each
        else:
            count = self.method.backbone.count
            self.prompt_tokens += sum(count(m.content) for p in prompts for m in p.messages)

    def _profiles(self, histories: Sequence[History]) -> list[Profile]:
        """The users, prepared; a history that stands there several times is prepared once."""
        start = time.perf_counter()
        wanted = {h.digest: h for h in histories}
        missing = {d: h for d, h in wanted.items() if d not in self._states}
        prepare = self.method.prepare_many
        made = self._kept.prepare(self.method, list(missing.values())) if self._kept else prepare([*missing.values()])
        self._states.update(zip(missing, made, strict=True))
        profiles = [Profile(h, self._states[h.digest]) for h in histories]
        while len(self._states) > _STATES:
            self._states.popitem(last=False)
        self.state_bytes += sum(array.nbytes for p in profiles for array in (p.state or {}).values())
        self.prepare_seconds += time.perf_counter() - start
        return profiles

    def results(self, answered: Sequence[Example]) -> tuple[dict[str, tuple[float, ...]], dict[str, float]]:
        """Each metric's value for each answered example, and over all of them."""
        values: dict[str, tuple[float, ...]] = {}
        scores: dict[str, float] = {}
        if not answered:
            return values, scores
        options = self.info.options  # (): of requests with own options, the right one is the one that equals the target
        targets = [e.target for e in answered]
        for name in metrics_of(self.info):
            given = self.leads if name == "auc" else self.predictions
            if name == "auc" and len({t.strip() for t in targets}) < 2:
                continue  # a tiny split where everybody said the same: the area is not defined
            scores[name] = metrics.compute(name, given, targets, options)
            if metrics.METRICS[name].each is not None:
                values[name] = tuple(metrics.per_example(name, given, targets, options))
        if len(self.option_nll) == len(answered):  # a right answer that is none of the options has no chance among them
            values[OPTION_NLL] = tuple(self.option_nll)
            scores[OPTION_NLL] = sum(self.option_nll) / len(answered)
        return values, scores


def _generates(info: TaskInfo) -> bool:
    return info.kind in ("text", "multilabel")
