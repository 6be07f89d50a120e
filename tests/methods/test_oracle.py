"""The oracle finds the best single behaviour by the right answer, in the bench alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from personaplug.backbones.echo import EchoBackbone
from personaplug.core import registry
from personaplug.core.errors import ConfigError, DataError
from personaplug.core.types import Behavior, Example, History, Profile, Prompt, Request, Scored
from personaplug.tasks.base import TaskInfo, Wording

TASK = TaskInfo("t", "text", wording=Wording(item="{output}"))


class Counting(EchoBackbone):
    """Answers whose words stand in the prompt are likelier."""

    def __init__(self) -> None:
        super().__init__()
        self.scored: list[int] = []

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Scored]:
        self.scored.append(len(prompts))
        return super().score(prompts, continuations)


def example(target: str, *outputs: str, user: str = "ada") -> Example:
    past = History(user, tuple(Behavior(user, str(i), "q", o, at=float(i)) for i, o in enumerate(outputs)))
    return Example(f"{user}/{target}", Request.of(user, "what now"), past, target)


def oracle(backbone=None, task=TASK, **config):
    return registry.build("method", "oracle", config, backbone=backbone or Counting(), task=task)


def prompts(method, *examples: Example) -> list[Prompt]:
    return method.personalize_examples(examples, [Profile(e.history) for e in examples])


def written(method, *examples: Example) -> list[str]:
    return [p.messages[-1].content for p in prompts(method, *examples)]


def test_the_behaviour_under_which_the_right_answer_is_likeliest_is_written_alone():
    assert written(oracle(), example("my red hat", "my blue hat", "a red hat of mine", "my red hat", "nothing")) == [
        "my red hat. what now"
    ]


def test_of_equally_good_behaviours_the_newest_is_taken_and_none_if_none_helps():
    assert written(oracle(), example("red", "red old", "red new")) == ["red new. what now"]
    assert written(oracle(), example("red", "blue", "green"), example("red")) == ["what now", "what now"]


def test_only_the_newest_candidates_are_tried():
    old = example("red", "red one", *["blue"] * 3)
    assert written(oracle(candidates=3), old) == ["what now"]
    assert written(oracle(candidates=4), old) == ["red one. what now"]


def test_all_candidates_of_all_examples_are_scored_in_one_call():
    backbone = Counting()
    method = oracle(backbone)
    some = [example("red", "red", "blue"), example("c d", "a", "c d", "c", user="bob"), example("x", user="eve")]
    together = prompts(method, *some)
    assert backbone.scored == [3 + 4 + 1]
    assert together == [prompts(method, e)[0] for e in some]


def test_behaviours_that_make_the_same_prompt_are_tried_once():
    backbone = Counting()
    prompts(oracle(backbone), example("red", "blue", "blue", "red"))
    assert backbone.scored == [3]


def test_items_are_written_as_retrieval_writes_them():
    [prompt] = prompts(oracle(item="turns"), example("red", "red"))
    assert [m.content for m in prompt.messages] == ["q", "red", "what now"]


def test_it_answers_no_request_outside_the_bench():
    method, asked = oracle(), example("red", "red")
    profile = Profile(asked.history)
    for act in (
        lambda: method.personalize(asked.request, profile),
        lambda: method.personalize_many([asked.request], [profile]),
    ):
        with pytest.raises(ConfigError, match=r"'oracle' chooses by the right answer.*bench") as caught:
            act()
        assert "\n" not in str(caught.value)
    assert method.explain(asked.request, profile) == []


def test_it_is_no_text_method_of_another():
    with pytest.raises(ConfigError, match="text = 'oracle'"):
        registry.build("method", "stats", {"text": {"name": "oracle"}}, backbone=EchoBackbone())


@pytest.mark.parametrize("config", [{"candidates": 0}, {"max_length": 0}])
def test_an_impossible_configuration_is_refused(config):
    with pytest.raises(ConfigError, match="expected 1 or more"):
        oracle(**config)


def test_on_a_real_model_no_behaviour_scores_above_the_chosen_one(synthetic, make_method):
    method = make_method("oracle", candidates=3)
    some = synthetic.examples("test")[:4]
    chosen = prompts(method, *some)
    tried = [method.write(e.request, [b]) for e in some for b in e.history.behaviors[-3:]]
    best = method.backbone.score(chosen, [e.target for e in some])
    others = method.backbone.score(tried, [e.target for e in some for _ in range(3)])
    for i, mine in enumerate(best):
        assert all(mine.logprob >= other.logprob - 1e-5 for other in others[3 * i : 3 * i + 3])


def test_a_withheld_answer_is_an_error(synthetic, make_method):
    first = synthetic.examples("test")[0]
    unknown = Example(first.id, first.request, first.history, "", first.options)
    with pytest.raises(DataError, match="nothing to score"):
        prompts(make_method("oracle"), unknown)
