"""PAG: the frozen model itself writes a profile of each user, ahead of any request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, Completion, History, Message, Prompt, Request, Sampling
from personaplug.encoders.cache.embeddings import VectorCache, behavior_text
from personaplug.methods.profile import ProfileConfig, Profiled
from personaplug.methods.prompts.wording import TokenBudget
from personaplug.tasks.base import TaskInfo, Wording

_LINE = "{input} => {output}"  # of a behaviour, where the task writes them as turns
_ALONE = "{output}"
_ROLE = "You describe people in a few words."
_START = "Begin with: This person"  # else small models go on with the list, or answer as the person
_NOTHING = Request.of(None, "")  # beside the behaviours nothing shares their tokens
# A behaviour counts for at most a 24th of the tokens, or 16, when it is decided how many are shown.
_PARTS, _LEAST = 24, 16

_MARKER = re.compile(r"^\s*(?:[-*•#]+|\d{1,2}[.)])(?:\s+|$)", re.MULTILINE)
_SENTENCE_END = re.compile(r"""[.!?…]["'”’)\]]*(?=\s|$)|[。！？]""")


@dataclass(frozen=True, slots=True)
class SummaryConfig(ProfileConfig):
    """What the model reads and writes.

    Attributes:
        instruction: what the model is asked; by default the task's `wording.profile`.
        max_tokens: of a profile; one that is cut there ends with its last whole sentence.
        history_tokens: tokens of the behaviours that it is written from: all of them, or, where they do not fit, as
            many as do, evenly spread, the newest among them.
    """

    instruction: str = ""
    max_tokens: int = 64
    history_tokens: int = 768


class Summary(Profiled):
    """A stored profile costs one generation a user and change of their history, and none a request."""

    Config = SummaryConfig
    summary = "a profile of the user that the frozen model writes itself, with or without retrieved behaviours"
    source = "PAG, arXiv 2310.20081, section 3"
    slow_prepare = True

    def __init__(
        self,
        config: SummaryConfig,
        *,
        backbone: Backbone,
        vectors: VectorCache | None = None,
        task: TaskInfo | None = None,
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        for field in ("max_tokens", "history_tokens"):
            if getattr(config, field) < 1:
                raise ConfigError(f"method {self.name!r}: {field} = {getattr(config, field)}; expected 1 or more")
        wording = task.wording if task else Wording()
        self._wording = replace(wording, item=wording.item or _LINE, joint="\n")
        self._instruction = config.instruction or wording.profile

    @property
    @override
    def key(self) -> str:
        """Everything that decides what the model writes."""
        config = self.config
        parts = (_ROLE, _START, self._instruction, self._wording.item, config.max_tokens, config.history_tokens)
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()
        return f"{self.name}:{digest}:{self.backbone.key}{self.text_key}"

    @override
    def describe(self, histories: Sequence[History]) -> list[str]:
        asked = [self._ask(h) if h.behaviors else None for h in histories]
        prompts = {p.messages: p for p in asked if p}  # equal questions are asked once
        sampling = Sampling(max_tokens=self.config.max_tokens)
        answers = self.backbone.generate(list(prompts.values()), sampling) if prompts else []
        profiles = {messages: _tidy(a) for messages, a in zip(prompts, answers, strict=True)}
        return [profiles[p.messages] if p else "" for p in asked]

    def _ask(self, history: History) -> Prompt | None:
        """The request for a profile; None where there is nothing to write one from."""
        lines = [self._line(b) for b in self._shown(history)]
        if not lines:
            return None
        asked = "\n".join(["What this person did:", "", *lines, "", f"{self._instruction} {_START}"])
        return Prompt((Message("system", _ROLE), Message("user", asked)))

    def _line(self, behavior: Behavior) -> str:
        bare = self._wording.item == _LINE and not behavior.input
        return " ".join(behavior_text(behavior, _ALONE if bare else self._wording.item).split())

    def _shown(self, history: History) -> list[Behavior]:
        """The behaviours that the profile is written from, oldest first, each cut to its share."""
        tokens, count = self.config.history_tokens, self.backbone.count
        newest = history.behaviors[::-1]
        pool = [newest[i] for i in _spread(len(newest), min(len(newest), tokens))]  # a line has a token at least
        sizes = [count(self._line(b)) for b in pool]
        largest = max(tokens // _PARTS, _LEAST)
        n = len(pool)
        while (total := sum(min(sizes[i], largest) for i in _spread(len(pool), n))) > tokens and n > 1:
            n = max(1, min(n - 1, n * tokens // total))
        # Shortest first: what they leave of their shares goes to the longer ones.
        picked = sorted(_spread(len(pool), n), key=sizes.__getitem__)
        fitting = TokenBudget(tokens, self.backbone).fit([pool[i] for i in picked], _NOTHING, self._wording)
        age = {b.id: i for i, b in enumerate(pool)}
        return sorted(fitting, key=lambda b: -age[b.id])


def _spread(n: int, count: int) -> list[int]:
    """`count` of n places, evenly spread, the first among them."""
    return [i * n // count for i in range(count)]


def _tidy(answer: Completion) -> str:
    """One line without list markers; where the tokens ran out, up to its last whole sentence."""
    text = " ".join(_MARKER.sub("", answer.text).split())
    ends = [m.end() for m in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends and answer.finish_reason == "length" else text
