"""A user's own data: one behaviour a line, requests made of the later behaviours, histories of what came before."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast
from urllib.parse import quote

from personaplug import data
from personaplug.core.config import from_mapping, to_mapping
from personaplug.core.errors import ConfigError, DataError, did_you_mean
from personaplug.core.types import Behavior, Example, History, Sampling, Split
from personaplug.data.feedback import DISLIKED
from personaplug.data.jsonl import MAX_LINE_BYTES, Reading, TaskFile, find_data, read_behaviors, read_task_json
from personaplug.data.opening import Source
from personaplug.metrics.scores import METRICS, labels
from personaplug.tasks.base import Kind, Task, TaskInfo, Wording
from personaplug.tasks.splits import drawn_users, held_out, limited, uniform

_METRICS: dict[str, tuple[str, ...]] = {
    "text": ("rouge1", "rougeL"),
    "choice": ("accuracy", "macro_f1"),
    "rating": ("mae", "rmse"),
    "multilabel": ("any_match", "macro_f1"),
}

# The instruction to a language model that writes a user's profile.
PROFILES: dict[str, str] = {
    "text": "Describe in two sentences how this person writes (length, tone, punctuation, favourite words).",
    "choice": "Describe in two sentences what this person likes and dislikes, judging by what they chose.",
    "rating": "Describe in two sentences how strict or kind this person's ratings are, and what they praise or blame.",
    "multilabel": "Describe in two sentences which labels this person tends to give, and to what.",
}


@dataclass(frozen=True, slots=True)
class JsonlConfig:
    """What to read and how to make requests of it. Empty values are filled from the folder's task.json.

    Attributes:
        path: a folder with behaviors.jsonl (and maybe task.json), a .jsonl file, or a packaged data set's name.
        name: the task's name; by default the folder's or file's.
        kind: text, choice, rating or multilabel; by default text.
        instruction: the system message of every request.
        options: the closed set of answers (not for text).
        metrics: the first one is the headline; by default what suits the kind.
        history_text: template of what encoders see of a behaviour; by default "{input} {output}".
        group: name of a field, for example of the conversation that a message is from: a request's history ends before
            its group began, and a group is never split between train, dev and test.
        by_text: also split by input text: no dev or test request asks what a train request asked (of anyone).
        wording: how behaviours are written into a prompt as text; what it leaves at its default is filled from the
            task.json, and `profile` then by what suits the kind. By default behaviours are turns of the conversation.
        split: `time`: each user's newest behaviours are the test; `user`: users in test are seen in no other split.
        test: share of test, in [0, 1): of a user's behaviours, or of the users.
        dev: likewise, just before the test.
        min_history: a behaviour with fewer behaviours before it is no request.
        max_history: at most so many behaviours, the newest.
        requests_per_user: at most so many train requests a user, evenly over time; 0 is no limit.
        eval_requests_per_user: at most so many dev and test requests a user (of each), the newest; 0 is no limit.
        max_users: at most so many users, drawn by `seed`; 0 is no limit.
        max_behaviors: only each user's newest so many are used at all; 0 is no limit.
        max_tokens: of an answer; by default 64 for text, else 16.
        max_line_bytes: a longer line is an error.
        rating_scale: the ratings' worst and best, LOW:HIGH, for example 1:5; by default 0:1.
        encoding: of a file that is neither UTF-8 nor UTF-16, for example cp1252.
        seed: of every draw.
    """

    path: Path
    name: str = ""
    kind: Literal["", "text", "choice", "rating", "multilabel"] = ""
    instruction: str = ""
    options: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    history_text: str = ""
    group: str = ""
    by_text: bool = False
    wording: Wording = Wording()
    split: Literal["time", "user"] = "time"
    test: float = 0.2
    dev: float = 0.1
    min_history: int = 4
    max_history: int = 512
    requests_per_user: int = 0
    eval_requests_per_user: int = 0
    max_users: int = 0
    max_behaviors: int = 0
    max_tokens: int = 0
    max_line_bytes: int = MAX_LINE_BYTES
    rating_scale: str = ""
    encoding: str = ""
    seed: int = 0


class Jsonl(Task):
    """Reads and splits when first asked; the file may hold any number of users."""

    Config: ClassVar[type[Any]] = JsonlConfig
    summary: ClassVar[str] = "your own data: one behaviour a line, split by time or by user"
    source: ClassVar[str] = "personaplug"

    def __init__(self, config: JsonlConfig) -> None:
        file, task_file = find_data(_located(Path(config.path)))
        self._file, where = Source(file), str(task_file or file)
        self.config = _filled(config, read_task_json(task_file) if task_file else TaskFile(), where)
        _check(self.config, where)
        self._reading = Reading(self.config.max_line_bytes, self.config.encoding, self.config.rating_scale)
        self.info = _info(self.config)
        self._examples: dict[Split, list[Example]] | None = None
        self._users: frozenset[str] = frozenset()

    def behaviors(self) -> Iterator[Behavior]:
        """Every behaviour in the file's order; with `max_users`, of the drawn users alone."""
        if self.config.max_users:
            self._plan()
        for behavior in read_behaviors(self._file, self._reading):
            if not self.config.max_users or behavior.user in self._users:
                yield behavior

    def examples(self, split: Split) -> list[Example]:
        """The split's requests, user by user, oldest first.

        Raises:
            DataError: a line is malformed, or no behaviour at all can be a request.
        """
        return self._plan()[split]

    def timelines(self) -> list[Timeline]:
        """Every user's dated behaviours, each with its split.

        Raises:
            DataError: a line is malformed, or none has a time.
        """
        return _timelines(read_behaviors(self._file, self._reading), self.config, self._file.name)

    def _plan(self) -> dict[Split, list[Example]]:
        if self._examples is None:
            timelines = self.timelines()
            candidates = [c for t in timelines for c in _candidates(t, self.config)]
            if not candidates:
                raise DataError(
                    f"{self._file.name}: no behaviour can be a request: {_why_no_request(timelines, self.config)}"
                )
            self._users = drawn_users((c.timeline.user for c in candidates), self.config.max_users, self.config.seed)
            candidates = [c for c in candidates if c.timeline.user in self._users]
            if self.config.by_text:
                candidates = _without_shared_texts(candidates, self.config.seed)
            examples: dict[Split, list[Example]] = {"train": [], "dev": [], "test": []}
            limits = self.config.requests_per_user, self.config.eval_requests_per_user
            for candidate in limited(candidates, lambda c: (c.timeline.user, c.split), *limits):
                examples[candidate.split].append(self._example(candidate))
            self._examples = examples
        return self._examples

    def _example(self, candidate: _Candidate) -> Example:
        behavior, config = candidate.behavior, self.config
        target = behavior.output
        if config.options:
            target, named = target.strip(), labels(target, config.options)
            if not named or (len(named) > 1 and config.kind != "multilabel"):
                raise DataError(
                    f"{self._file.name}: behaviour {behavior.id!r} of user {behavior.user!r}: output {target!r} is "
                    f"none of the options {', '.join(config.options)}"
                )
        end = candidate.timeline.cuts[candidate.index]
        past = candidate.timeline.behaviors[max(0, end - config.max_history) : end]
        return Example(
            id=f"{quote(behavior.user, safe=' @:+')}/{behavior.id}",  # quoted, so that no two of them can be equal
            request=self.info.request(behavior.user, behavior.input, behavior.at),
            history=History(behavior.user, past),
            target=target,
            options=config.options,
            disliked=behavior.fields.get(DISLIKED, ""),
        )


@dataclass(frozen=True, slots=True)
class Timeline:
    """One user's dated behaviours, oldest first; the history of the i-th is `behaviors[:cuts[i]]`."""

    user: str
    behaviors: tuple[Behavior, ...]
    cuts: tuple[int, ...]
    splits: tuple[Split, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A behaviour that may become a request."""

    timeline: Timeline
    index: int

    @property
    def behavior(self) -> Behavior:
        return self.timeline.behaviors[self.index]

    @property
    def split(self) -> Split:
        return self.timeline.splits[self.index]


def _located(path: Path) -> Path:
    return data.path(str(path)) if str(path) in data.DATA_SETS and not path.exists() else path


def _filled(config: JsonlConfig, task: TaskFile, where: str) -> JsonlConfig:
    unset = {f.name: getattr(task, f.name) for f in fields(task) if not getattr(config, f.name)}
    return replace(config, **unset, wording=_wording(config.wording, task.wording, f"{where}: wording"))


def _wording(wording: Wording, task: Mapping[str, Any], where: str) -> Wording:
    default = Wording()
    own = {k: v for k, v in to_mapping(wording).items() if v != getattr(default, k)}
    return from_mapping(Wording, {**task, **own}, where)


def _check(config: JsonlConfig, where: str) -> None:
    kind = config.kind or "text"
    if kind not in _METRICS:
        raise ConfigError(f"{where}: kind = {kind!r}; {did_you_mean(kind, _METRICS)}")
    if (kind == "text") == bool(config.options):
        way_out = "has no options; remove them or set another kind" if config.options else "needs options; list them"
        raise ConfigError(f"{where}: kind {kind!r} {way_out}")
    for metric in config.metrics:
        if metric not in METRICS:
            raise ConfigError(f"{where}: metrics = {metric!r}; {did_you_mean(metric, METRICS)}")
    if min(config.test, config.dev) < 0.0 or config.test + config.dev >= 1.0:
        raise ConfigError(
            f"{where}: test = {config.test} and dev = {config.dev}; both are shares, and some must be left for train"
        )
    limits = ("requests_per_user", "eval_requests_per_user", "max_users", "max_behaviors", "max_tokens")
    for key in ("min_history", *limits):
        if getattr(config, key) < 0:
            raise ConfigError(f"{where}: {key} = {getattr(config, key)}; expected 0 or more")
    for key in ("max_history", "max_line_bytes"):
        if getattr(config, key) < 1:
            raise ConfigError(f"{where}: {key} = {getattr(config, key)}; expected 1 or more")


def _info(config: JsonlConfig) -> TaskInfo:
    kind: Kind = config.kind or "text"
    path = Path(config.path)
    wording = config.wording
    if wording.profile == Wording().profile:
        wording = replace(wording, profile=PROFILES[kind])
    return TaskInfo(
        name=config.name or (path.resolve().name if path.is_dir() else path.stem),
        kind=kind,
        instruction=config.instruction,
        options=config.options,
        metrics=config.metrics or _METRICS[kind],
        history_text=config.history_text or "{input} {output}",
        sampling=Sampling(max_tokens=config.max_tokens or (64 if kind == "text" else 16)),
        wording=wording,
        split=config.split,
    )


def _timelines(behaviors: Iterable[Behavior], config: JsonlConfig, file: str) -> list[Timeline]:
    by_user: defaultdict[str, list[Behavior]] = defaultdict(list)
    names: set[str] = set()
    for behavior in behaviors:
        names.update(behavior.fields)
        if behavior.at is not None:  # an undated behaviour may be from after the request
            by_user[behavior.user].append(behavior)
    if not by_user:
        raise DataError(f"{file}: no behaviour has 'at'; give each its UTC seconds, or at least a rising number")
    if config.group and config.group not in names:
        raise DataError(
            f"{file}: no behaviour has the field {config.group!r} (group); {did_you_mean(config.group, names)}"
        )
    return [_timeline(user, dated, config) for user, dated in by_user.items()]


def _timeline(user: str, dated: list[Behavior], config: JsonlConfig) -> Timeline:
    dated.sort(key=lambda b: cast("float", b.at))  # stable: equal times stay in the file's order
    dated = dated[-config.max_behaviors :]  # -0: all
    ats = [cast("float", b.at) for b in dated]
    groups = [b.fields.get(config.group) if config.group else None for b in dated]
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for i, group in enumerate(groups):
        if group is not None:
            first.setdefault(group, i)
            last[group] = i
    begins = [i if g is None else first[g] for i, g in enumerate(groups)]
    ends = [i if g is None else last[g] for i, g in enumerate(groups)]
    cuts = tuple(bisect_left(ats, ats[i]) for i in begins)
    splits = _by_user(user, len(dated), config) if config.split == "user" else _by_time(ends, config)
    return Timeline(user, tuple(dated), cuts, splits)


def _by_user(user: str, n: int, config: JsonlConfig) -> tuple[Split, ...]:
    u = uniform(config.seed, "split", user)
    split: Split = "test" if u < config.test else "dev" if u < config.test + config.dev else "train"
    return (split,) * n


def _by_time(ends: Sequence[int], config: JsonlConfig) -> tuple[Split, ...]:
    """Newest `test`, then `dev`, then train, in runs: groups that overlap in time are one run and stay together.

    A run belongs where its middle lies, so that each share is met to within half a run.
    """
    n = len(ends)
    splits: list[Split] = []
    start = reach = 0
    for i, end in enumerate(ends):
        reach = max(reach, end)
        if reach > i:
            continue
        newer = n - (start + i + 1) / 2.0  # behaviours newer than the run's middle
        # 1e-9: 0.3 * 5 is a little more or less than 1.5, as rounding will have it
        split: Split = (
            "test"
            if newer <= config.test * n + 1e-9
            else "dev"
            if newer <= (config.test + config.dev) * n + 1e-9
            else "train"
        )
        splits.extend([split] * (i + 1 - start))
        start = i + 1
    return tuple(splits)


def _candidates(timeline: Timeline, config: JsonlConfig) -> list[_Candidate]:
    return [
        _Candidate(timeline, i)
        for i, b in enumerate(timeline.behaviors)
        if timeline.cuts[i] >= config.min_history and b.input.strip() and b.output.strip()
    ]


def _why_no_request(timelines: Sequence[Timeline], config: JsonlConfig) -> str:
    if all(len({b.at for b in t.behaviors}) == 1 for t in timelines) and any(len(t.behaviors) > 1 for t in timelines):
        return "all behaviours of each user have the same 'at', so none is older than another; give each its own time"
    return f"none has an input, an output and {config.min_history} older ones of its user; lower min_history"


def _without_shared_texts(candidates: list[_Candidate], seed: int) -> list[_Candidate]:
    """Only candidates whose text belongs to their side, train or held out, so that no text is on both."""
    held = held_out(((c.behavior.input.strip(), c.split) for c in candidates), seed)
    return [c for c in candidates if (c.behavior.input.strip() in held) == (c.split != "train")]
