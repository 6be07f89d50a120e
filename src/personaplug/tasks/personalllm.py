"""PersonalLLM: simulated users who like and dislike answers, and what an answer is worth to each of them.

Shapes: u: users, p: prompts, a: stored answers to a prompt, w: rewards, n: answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from personaplug.core import registry
from personaplug.core.errors import ConfigError, DataError, did_you_mean
from personaplug.core.types import Behavior, Example, History, Sampling, Split
from personaplug.rewards.base import Reward
from personaplug.rewards.panel import Panel, published
from personaplug.rewards.published import PUBLISHED
from personaplug.tasks.base import JudgedTask, TaskInfo, Wording
from personaplug.tasks.simulate.answer_set import PANEL_FILE, SET_FILE, AnswerSet, find_rows, read_answers
from personaplug.tasks.simulate.feedback import Feedback
from personaplug.tasks.simulate.histories import draw_prompts, say_of, simulate_history
from personaplug.tasks.simulate.users import Users, draw_users

Floats = NDArray[np.float64]

# Where an output may be one that the user disliked, turns of a conversation would show it as an example to follow.
_RATED = 'To "{input}", this user rates the answer "{output}" {rating} of 1'


@dataclass(frozen=True, slots=True)
class PersonalLLMConfig:
    """Which answers, which users, and what they say.

    Attributes:
        path: a folder with train and test rows in the published columns (.jsonl, .json, .parquet): one that
            `personaplug simulate` made, or the published data set's.
        rewards: the users weigh these; by default all of the panel's.
        users: how many; 0: as the folder's set.json says, else 1,000.
        alpha: of their Dirichlet; 0: as the folder's set.json says, else 0.05.
        history: prompts of each user's history; a longer one has older prompts before those of a shorter one.
        feedback: of which form.
        split: `user`: users in test are in no other split; `time`: each user is in all of them.
        test: with `user`, share of the users.
        dev: likewise.
        requests: of each user in train, each on its own prompt.
        test_requests: of each user in test.
        reference: model whose stored answers are the reference to win against; by default the first answer's.
        max_tokens: of an answer.
        seed: of users, prompts and feedback.
    """

    path: Path
    rewards: tuple[str, ...] = ()
    users: int = 0
    alpha: float = 0.0
    history: int = 5
    feedback: Feedback = Feedback("extremes")
    split: Literal["user", "time"] = "user"
    test: float = 0.3
    dev: float = 0.1
    requests: int = 1
    test_requests: int = 1
    reference: str = ""
    max_tokens: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.users, self.alpha, self.history) < 0 or min(self.requests, self.test_requests) < 1:
            raise ConfigError(
                f"task 'personalllm': users = {self.users}, alpha = {self.alpha}, history = {self.history}; expected 0 "
                f"or more; requests = {self.requests}, test_requests = {self.test_requests}; expected 1 or more"
            )
        if min(self.test, self.dev) <= 0 or self.test + self.dev >= 1:
            raise ConfigError(
                f"task 'personalllm': test = {self.test}, dev = {self.dev}; shares that leave some for train"
            )


@dataclass(frozen=True, slots=True)
class _Place:
    """Which user asks which prompt, and of which file."""

    user: int
    prompt: int
    tested: bool


class PersonalLLM(JudgedTask):
    """Histories are feedback on train prompts, test requests are test prompts; targets are users' best stored answers.

    What the released code does otherwise, and this does not: one user's weights for all, weights and rewards joined by
    place, raw scores, the last answer and the last item of a history never shown.
    """

    Config: ClassVar[type[Any]] = PersonalLLMConfig
    summary: ClassVar[str] = "simulated users with tastes: feedback on answers, and what any answer is worth to each"
    source: ClassVar[str] = "PersonalLLM, arXiv 2409.20296"

    def __init__(self, config: PersonalLLMConfig) -> None:
        self.config = config
        self._set = _set_of(Path(config.path))
        rated = config.feedback.kind in ("thumbs", "scalar")
        self.info = TaskInfo(
            name="personalllm",
            kind="text",
            metrics=("rouge1", "rougeL"),
            sampling=Sampling(max_tokens=config.max_tokens),
            wording=Wording(item=_RATED) if rated else Wording(),
            headline="user_reward",
            split=config.split,
        )
        self._places: dict[str, _Place] = {}

    # -- parts ------------------------------------------------------------------------------------------------------

    @cached_property
    def panel(self) -> Panel:
        """The rewards that users weigh: the folder's panel.json, else the published statistics."""
        file = Path(self.config.path) / PANEL_FILE
        whole = Panel.load(file) if file.exists() else published()
        return whole.only(self.config.rewards) if self.config.rewards else whole

    @cached_property
    def users(self) -> Users:
        """All users, of every split."""
        named = self._set.get("users", {})
        count = self.config.users or int(named.get("count", 1000))
        return draw_users(
            count, self.panel.names, self.config.alpha or float(named.get("alpha", 0.05)), self.config.seed
        )

    @cached_property
    def train_answers(self) -> AnswerSet:
        """What histories and training requests are about."""
        return read_answers(find_rows(Path(self.config.path), "train"), self.panel.names)

    @cached_property
    def test_answers(self) -> AnswerSet:
        """What test requests are about."""
        return read_answers(find_rows(Path(self.config.path), "test"), self.panel.names)

    @cached_property
    def rewards(self) -> dict[str, Reward]:
        """The rewards themselves, built when a new answer is to be judged.

        Raises:
            ConfigError: nobody says how to build one of them.
        """
        sections: Mapping[str, Any] = self._set.get("rewards", {n: {"name": "hf", "model": n} for n in PUBLISHED})
        rewards = {}
        for name in self.panel.names:
            if name not in sections:
                raise ConfigError(f"reward {name!r}: neither {SET_FILE} nor the published ones say how to build it")
            section = dict(sections[name])
            rewards[name] = registry.build("reward", section.pop("name"), section)
        return rewards

    # -- what every task does ---------------------------------------------------------------------------------------

    @override
    def behaviors(self) -> Iterator[Behavior]:
        for user in range(len(self.users)):
            yield from self._history(user)

    @override
    def examples(self, split: Split) -> list[Example]:
        """The split's requests, user by user.

        Raises:
            DataError: the folder has no such rows, or they are malformed.
        """
        return self.requests(self.users_of(split), split)

    def requests(self, users: Sequence[int], split: Split) -> list[Example]:
        """A split's requests of some users, by number: in test, users of training are the seen ones."""
        examples = []
        for user in users:
            history = self._history(user)
            places = (_Place(user, prompt, split == "test") for prompt in self._asked(user, split))
            examples += [self._example(place, split, history) for place in places]
        return examples

    @override
    def judge(self, examples: Sequence[Example], answers: Sequence[str]) -> Mapping[str, tuple[float, ...]]:
        """`user_reward`, and whether that is strictly above the reference's and above the best stored answer's.

        Args:
            examples: of this task.
            answers: one each.
        """
        prompts = [e.request.query for e in examples]
        raw = np.stack([reward.score(prompts, answers) for reward in self.rewards.values()], axis=-1)  # [n, w]
        own = self.worth(examples, raw)
        stored = [self.stored_worth(e) for e in examples]
        reference = [float(s[self.reference(e)]) for e, s in zip(examples, stored, strict=True)]
        return {
            "user_reward": tuple(float(v) for v in own),
            "win_reference": tuple(float(v > r) for v, r in zip(own, reference, strict=True)),
            "win_best": tuple(float(v > s.max()) for v, s in zip(own, stored, strict=True)),
        }

    # -- what answers are worth -------------------------------------------------------------------------------------

    def worth(self, examples: Sequence[Example], raw: Floats) -> Floats:
        """What one answer each, of raw scores [n, w] in the panel's order, is worth to the examples' users [n]."""
        weights = self.users.weights[[self._place(e).user for e in examples]]
        return np.asarray((weights * self.panel.standardise(raw)).sum(-1))

    def stored(self, example: Example) -> tuple[str, ...]:
        """The stored answers to the example's prompt."""
        place = self._place(example)
        return self._answers(place).answers[place.prompt]

    def stored_worth(self, example: Example) -> Floats:
        """What each stored answer is worth to the example's user [a]."""
        place = self._place(example)
        return self._values(place.user, self._answers(place), [place.prompt])[0]

    def reference(self, example: Example) -> int:
        """Which stored answer is the named reference.

        Raises:
            DataError: no answer is by that model.
        """
        place, wanted = self._place(example), self.config.reference
        names = self._answers(place).models[place.prompt]
        if wanted and wanted not in names:
            raise DataError(
                f"{self.config.path}: no answer is by the reference {wanted!r}; {did_you_mean(wanted, names)}"
            )
        return names.index(wanted) if wanted else 0

    def _values(self, user: int, answers: AnswerSet, prompts: Sequence[int]) -> Floats:
        """[p, a]."""
        return np.asarray(self.panel.standardise(answers.raw[list(prompts)]) @ self.users.weights[user])

    # -- who asks what ----------------------------------------------------------------------------------------------

    def _answers(self, place: _Place) -> AnswerSet:
        return self.test_answers if place.tested else self.train_answers

    def _place(self, example: Example) -> _Place:
        if example.id not in self._places:
            raise DataError(f"request {example.id!r} is none of this task's; ask it for its examples")
        return self._places[example.id]

    def users_of(self, split: Split) -> list[int]:
        """Numbers of the users whose requests a split has."""
        count = len(self.users)
        if self.config.split == "time":
            return list(range(count))
        order = [int(i) for i in np.random.default_rng([self.config.seed, 4]).permutation(count)]
        test, dev = max(1, round(self.config.test * count)), max(1, round(self.config.dev * count))
        parts = {"test": order[:test], "dev": order[test : test + dev], "train": order[test + dev :]}
        return sorted(parts[split])

    def _asked(self, user: int, split: Split) -> tuple[int, ...]:
        """Prompts of a user's requests: of the test file for the test, else of the train file, none in the history."""
        if split == "test":
            drawn = np.random.default_rng([self.config.seed, 5, user]).permutation(len(self.test_answers))
            return tuple(int(i) for i in drawn[: self.config.test_requests])
        both = self._drawn(user)[0]
        if self.config.split == "user":
            return both[:-1]
        return both[-1:] if split == "dev" else both[:-1]

    def _drawn(self, user: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Prompts of requests (the last one is for dev where users are in all splits), and of the history."""
        drawn = draw_prompts(
            user, len(self.train_answers), self.config.requests + 1, self.config.history, self.config.seed
        )
        return drawn.requests, drawn.history

    def _history(self, user: int) -> History:
        answers, prompts = self.train_answers, self._drawn(user)[1]
        values = np.zeros(answers.raw.shape[:2])
        if prompts:
            values[list(prompts)] = self._values(user, answers, prompts)
        return simulate_history(user, prompts, answers, values, self.config.feedback, self.config.seed)

    def _example(self, place: _Place, split: Split, history: History) -> Example:
        answers = self._answers(place)
        prompt, worth = answers.prompts[place.prompt], self._values(place.user, answers, [place.prompt])[0]
        # The bench asks that a target is not empty; nearly every best answer has words.
        spoken = [i for i, text in enumerate(answers.answers[place.prompt]) if text.strip()]
        if not spoken:
            raise DataError(f"{self.config.path}: all answers to {prompt[:60]!r} are empty; leave the row out")
        target = answers.answers[place.prompt][max(spoken, key=worth.__getitem__)]
        said = say_of(place.user, place.prompt, worth, self.config.feedback, self.config.seed).disliked
        disliked = "" if said is None else answers.answers[place.prompt][said]
        id_ = f"{history.user}/{split}-{place.prompt}"
        self._places[id_] = place
        request = self.info.request(history.user, prompt, float(len(history)))
        return Example(id_, request, history, target, disliked="" if disliked == target else disliked)


def _set_of(folder: Path) -> Mapping[str, Any]:
    """The recipe of a built set; {} where there is none, as beside the published files.

    Raises:
        DataError: no such folder, or the recipe is no JSON object.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; build one with: personaplug simulate RECIPE.toml")
    path = folder / SET_FILE
    try:
        recipe = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(recipe, dict):
        raise DataError(f"{path}: expected a JSON object")
    return recipe
