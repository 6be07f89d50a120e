"""Methods of likes and dislikes: icl (the user's own), neighbours (others'), lowrank (shared directions)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core import registry
from personaplug.core.config import NoConfig
from personaplug.core.errors import ConfigError, DataError
from personaplug.core.types import Behavior, Completion, Example, History, Profile, Prompt, Request, Sampling
from personaplug.data.feedback import pair_behavior, thumb_behavior
from personaplug.encoders.base import Encoder
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method
from personaplug.methods.preference.bradley_terry import Belief, next_pair, updated, usefulness
from personaplug.pipeline.artifacts import ArtifactInfo, ComponentSpec, load_tensors, save_pretrained
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig


class Words(Encoder):
    """A float a known word: how often it stands there."""

    Config = NoConfig
    KNOWN = ("food", "sport", "music", "short", "long", "kind", "rude")
    key = "words"
    width = len(KNOWN)

    def encode(self, texts: Any, role: Any = "history", progress: Any = None) -> Any:
        return np.array([[t.lower().split().count(w) for w in self.KNOWN] for t in texts], np.float32).reshape(-1, 7)


def method(name: str, **config: Any) -> Method:
    echo = registry.build("backbone", "echo")
    return registry.build("method", name, config, backbone=echo, vectors=VectorCache(Words()))


def history(user: str, *feedback: Behavior) -> History:
    return History(user, feedback)


ADA = history(
    "ada",
    pair_behavior("ada", "1", "about food", "kind food", "rude food"),
    pair_behavior("ada", "2", "about sport", "kind sport", "rude sport"),
    thumb_behavior("ada", "3", "about music", "rude music", up=False),
    thumb_behavior("ada", "4", "about food and music", "kind music", up=True),
)
FOOD = Request.of("ada", "any food ?")


def text(made: Method, request: Request = FOOD, profile: Profile | None = None) -> str:
    return made.personalize(request, profile or Profile(ADA)).messages[-1].content


# -- icl --------------------------------------------------------------------------------------------------------------


def test_the_nearest_prompts_are_shown_the_best_one_last():
    shown = text(method("icl", k=2))
    assert "rude" not in shown
    assert "sport" not in shown
    assert shown.index("kind music") < shown.index("kind food") < shown.index("any food ?")


@pytest.mark.parametrize(
    ("show", "there", "not_there"),
    [
        ("liked", ["Liked answer: kind food"], ["Disliked", "rude"]),
        ("both", ["Liked answer: kind food", "Disliked answer: rude food"], []),
        ("disliked", ["Disliked answer: rude food", "unlike the answers"], ["kind food", "Liked"]),
        ("mislabelled", ["Liked answer: rude food", "that they liked."], ["kind food", "Disliked", "disliked"]),
    ],
)
def test_each_way_of_showing_says_what_it_says(show, there, not_there):
    shown = text(method("icl", k=1, show=show))
    assert all(words in shown for words in there)
    assert not any(words in shown for words in not_there)


def test_feedback_that_says_nothing_of_what_is_shown_is_passed_over():
    music = Request.of("ada", "music music")
    assert "rude music" in text(method("icl", k=1, show="disliked"), music)
    assert "rude music" not in text(method("icl", k=4, show="liked"), music)


def test_the_request_itself_is_never_cut_and_shots_that_do_not_fit_are_left_out():
    shown = text(method("icl", k=4, max_length=8))
    assert shown.count("Liked answer") == 1
    tiny = text(method("icl", k=4, max_length=6))  # not even one: its texts are cut
    assert tiny.count("Liked answer") == 1
    assert tiny.endswith("User: any food ?")


def test_what_users_wrote_themselves_counts_as_liked():
    own = history("ada", Behavior("ada", "1", "about food", "my own words"))
    assert "Liked answer: my own words" in text(method("icl"), FOOD, Profile(own))


# -- neighbours -------------------------------------------------------------------------------------------------------


def people(count: int = 12) -> list[Example]:
    """Kind users and rude ones by turns; each has judged food and sport, and music alone was never asked."""
    found = []
    for i in range(count):
        liked, other = ("kind", "rude") if i % 2 else ("rude", "kind")
        pairs = [
            pair_behavior(f"u{i}", t, f"about {t} {i}", f"{liked} {t} by u{i}", f"{other} {t}")
            for t in ("food", "sport")
        ]
        found.append(Example(str(i), Request.of(f"u{i}", "about music"), history(f"u{i}", *pairs), f"{liked} music"))
    return found


def fitted(name: str, tmp_path: Path, **config: Any) -> Method:
    made = method(name, **config)
    made.fit(people(), [], TrainingConfig(), tmp_path)
    return made


SPORTY = history("new", pair_behavior("new", "1", "about sport", "kind sport", "rude sport"))


def test_a_new_user_is_shown_what_users_like_them_liked(tmp_path):
    made = fitted("neighbours", tmp_path, users=3, k=3)
    shown = text(made, Request.of("new", "food food"), Profile(SPORTY))
    assert shown.count("kind food by u") == 3
    assert "rude" not in shown


def test_nobody_is_their_own_neighbour(tmp_path):
    made = fitted("neighbours", tmp_path, users=12, k=12, own=False)
    alike = people()[1].history
    shown = text(made, Request.of("u1", "food food"), Profile(alike))
    assert "by u1\n" not in shown
    assert "by u3\n" in shown


def test_a_user_without_feedback_gets_the_nearest_of_everybody(tmp_path):
    shown = text(fitted("neighbours", tmp_path, k=2), Request.of("new", "food food"), Profile(History("new")))
    assert shown.count("Liked answer") == 2
    assert "food" in shown


def test_own_items_go_before_others_that_are_as_near(tmp_path):
    made = fitted("neighbours", tmp_path, k=1)
    assert "Liked answer: kind sport\n" in text(made, Request.of("new", "sport"), Profile(SPORTY))
    assert [w.behavior.id for w in made.explain(Request.of("new", "sport"), Profile(SPORTY))] == ["1"]


@pytest.mark.parametrize("name", ["neighbours", "lowrank"])
def test_what_was_learnt_is_kept_in_an_artifact(name, tmp_path):
    made = fitted(name, tmp_path)
    info = ArtifactInfo(name, {}, ComponentSpec("echo", "echo"), TaskInfo("t", "text"))
    save_pretrained(tmp_path / "artifact", info, made.tensors())
    again = method(name)
    again.load_tensors(load_tensors(tmp_path / "artifact"))
    request = Request.of("new", "food food")
    assert text(again, request, Profile(SPORTY)) == text(made, request, Profile(SPORTY))
    assert again.key == made.key
    if name == "lowrank":
        np.testing.assert_allclose(worth(again, SPORTY), worth(made, SPORTY))


@pytest.mark.parametrize("name", ["neighbours", "lowrank"])
def test_training_users_without_feedback_are_refused(name, tmp_path):
    bare = [Example("1", Request.of("a", "q"), History("a"), "t")]
    with pytest.raises(DataError, match=f"{name}: no training user"):
        method(name).fit(bare, [], TrainingConfig(), tmp_path)


# -- lowrank ----------------------------------------------------------------------------------------------------------

ANSWERS = ["rude music", "kind music"]


def worth(made: Any, own: History) -> Any:
    return made.worth(Profile(own, made.prepare(own)), "about music", ANSWERS)


def test_a_taste_shown_on_one_thing_holds_for_another(tmp_path):
    made = fitted("lowrank", tmp_path, rank=2)
    rude = history("new", pair_behavior("new", "1", "about sport", "rude sport", "kind sport"))
    assert worth(made, SPORTY).argmax() == 1
    assert worth(made, rude).argmax() == 0


def test_thumbs_tell_as_much_as_a_pair(tmp_path):
    made = fitted("lowrank", tmp_path, rank=2)
    ups = [thumb_behavior("new", "1", "about food", "kind food", up=True)]
    downs = [thumb_behavior("new", "2", "about sport", "rude sport", up=False)]
    assert worth(made, history("new", *ups, *downs)).argmax() == 1


def test_contradictory_feedback_leaves_a_user_where_they_were(tmp_path):
    made = fitted("lowrank", tmp_path, rank=2)
    both = [
        pair_behavior("new", "1", "about sport", "rude sport", "kind sport"),
        pair_behavior("new", "2", "about sport", "kind sport", "rude sport"),
    ]
    torn, fresh = made.prepare(history("new", *both)), made.prepare(History("new"))
    assert np.abs(np.subtract(torn["mean"], fresh["mean"])).max() < np.sqrt(np.diag(fresh["covariance"])).max()
    assert np.trace(torn["covariance"]) < np.trace(fresh["covariance"])


def test_of_several_answers_the_user_gets_the_one_that_is_worth_most(tmp_path, monkeypatch):
    made = fitted("lowrank", tmp_path, rank=2, candidates=2)
    drawn = iter([[Completion(a, (1,), 1, "stop")] for a in ANSWERS * 2])
    monkeypatch.setattr(made.backbone, "generate", lambda prompts, sampling: next(drawn))
    request, profile = Request.of("new", "about music"), Profile(SPORTY)
    [answer] = made.answer_many([request], [profile], [Prompt(request.messages)], Sampling())
    assert answer.text == "kind music"
    assert list(made.stream(request, profile, Prompt(request.messages), Sampling())) == ["kind music"]


def test_an_untrained_one_takes_the_models_own_answer(monkeypatch):
    made = method("lowrank", candidates=4)
    asked = []
    real = made.backbone.generate
    monkeypatch.setattr(made.backbone, "generate", lambda p, s: asked.append(s) or real(p, s))
    [answer] = made.answer_many([FOOD], [Profile(ADA)], [Prompt(FOOD.messages)], Sampling())
    assert answer.text == "any food ?"
    assert len(asked) == 1


def test_a_text_method_may_write_the_prompt_and_a_wrong_one_is_refused():
    assert "Liked answer: kind food" in text(method("lowrank", text={"name": "icl", "k": 1}))
    with pytest.raises(ConfigError, match="expected one that only writes text"):
        method("lowrank", text={"name": "neighbours"})
    with pytest.raises(ConfigError, match="rank = 0"):
        method("lowrank", rank=0)


def test_of_a_requests_own_options_it_prefers_what_the_user_would_without_asking_the_model(tmp_path, monkeypatch):
    made = fitted("lowrank", tmp_path, rank=2)
    monkeypatch.setattr(made.backbone, "score", lambda *_: pytest.fail("the language model was asked"))
    request, options = Request.of("new", "which ?"), [*ANSWERS, "about music"]
    profiles = [Profile(SPORTY, made.prepare(SPORTY)), Profile(history("nobody"))]
    kind, nobody = made.score_options([request] * 2, profiles, [Prompt(request.messages)] * 2, [options] * 2)
    assert max(kind, key=lambda s: s.logprob) is kind[1]
    for scored in (kind, nobody):
        assert sum(np.exp(s.logprob) for s in scored) == pytest.approx(1)
    pair = made.score_options([request], profiles[:1], [Prompt(request.messages)], [ANSWERS])[0]
    assert kind[0].logprob - kind[1].logprob == pytest.approx(pair[0].logprob - pair[1].logprob)  # Luce's axiom


def test_an_untrained_one_leaves_options_to_the_model():
    made = method("lowrank")
    prompt = Prompt(Request.of("ada", "kind music ?").messages)
    scored = made.score_options([FOOD], [Profile(ADA)], [prompt], [ANSWERS])
    assert scored == [made.backbone.score([prompt] * 2, ANSWERS)]


# -- whoever says little, or one thing and its contrary ---------------------------------------------------------------

TORN = history(
    "new",
    pair_behavior("new", "1", "about sport", "kind sport", "rude sport"),
    pair_behavior("new", "2", "about sport", "rude sport", "kind sport"),
)


@pytest.mark.parametrize("own", [history("new"), SPORTY, TORN], ids=["nothing", "one pair", "contradictions"])
@pytest.mark.parametrize("name", ["icl", "neighbours", "lowrank"])
def test_any_feedback_gives_the_same_sane_prompt_and_scores_at_each_call(name, own, tmp_path):
    made = fitted(name, tmp_path) if name != "icl" else method(name)
    request, profile = Request.of("new", "about sport"), Profile(own, made.prepare(own))
    shown = text(made, request, profile)
    assert shown.endswith(request.query)
    assert shown == text(made, request, Profile(own))
    options = [["kind sport", "rude sport"]]
    [scored] = made.score_options([request], [profile], made.personalize_many([request], [profile]), options)
    assert all(np.isfinite(s.logprob) for s in scored)


def test_icl_without_feedback_asks_plainly_and_shows_contradictions_as_they_are():
    plain = Request.of("new", "about sport")
    assert text(method("icl"), plain, Profile(history("new"))) == "about sport"
    assert text(method("icl"), plain, Profile(SPORTY)).count("Liked answer") == 1
    both = text(method("icl", show="both"), plain, Profile(TORN))
    assert both.count("Liked answer: kind sport") == both.count("Disliked answer: kind sport") == 1


def test_a_user_of_contradictions_is_like_nobody_and_gets_the_nearest_of_everybody(tmp_path):
    made = fitted("neighbours", tmp_path, users=3, k=3, own=False)
    torn, nothing = (text(made, Request.of("new", "food"), Profile(h)) for h in (TORN, history("new")))
    assert torn == nothing


@pytest.mark.parametrize("name", ["icl", "neighbours"])
def test_where_all_prompts_are_the_same_answers_are_compared_with_the_request(name, tmp_path):
    same = history(
        "new", *(pair_behavior("new", t, "which ?", f"{t} yes", f"{t} no") for t in ("food", "music", "sport"))
    )
    asked = Request("new", Request.of("new", "which ?").messages, "music or sport")
    made = method(name, k=2, match="{output}")
    made.fit([Example("1", asked, same, "t")], [], TrainingConfig(), tmp_path)
    shown = text(made, asked, Profile(same))
    assert shown.count("Liked answer") == 2
    assert "food" not in shown


# -- beliefs ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(0, 30), st.integers(0, 99))
def test_a_belief_grows_surer_with_each_pair_whatever_their_order(rank, n, seed):
    rng = np.random.default_rng(seed)
    prior, pairs = Belief(rng.normal(size=rank), np.eye(rank)), rng.normal(size=(n, rank)) * 3
    found, turned = updated(prior, pairs), updated(prior, pairs[::-1])
    np.testing.assert_allclose(found.mean, turned.mean, atol=1e-6)
    eigenvalues = np.linalg.eigvalsh(found.covariance)
    assert eigenvalues.min() > 0
    assert eigenvalues.max() <= 1 + 1e-9
    chance = 1 / (1 + np.exp(pairs @ found.mean))
    np.testing.assert_allclose(
        pairs.T @ chance, found.mean - prior.mean, atol=1e-6
    )  # the maximum of a concave function


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 99))
def test_usefulness_is_how_much_the_variance_of_all_pairs_falls(rank, n, seed):
    rng = np.random.default_rng(seed)
    belief, pairs = Belief(rng.normal(size=rank), np.diag(rng.uniform(0.1, 3, rank))), rng.normal(size=(n, rank))
    chance = 1 / (1 + np.exp(-pairs @ belief.mean))
    falls = []
    for x, p in zip(pairs, chance, strict=True):
        after = np.linalg.inv(np.linalg.inv(belief.covariance) + p * (1 - p) * np.outer(x, x))
        falls.append(np.einsum("nr,rs,ns->n", pairs, belief.covariance - after, pairs).mean())
    np.testing.assert_allclose(usefulness(belief, pairs), falls, atol=1e-9)


def test_of_two_open_questions_the_one_that_settles_others_is_asked_first():
    belief = Belief(np.zeros(2), np.eye(2))
    assert next_pair(belief, np.array([[1.1, 0.0], [0.0, 1.0], [0.0, 0.9], [0.0, 0.8]])) == 1


def test_what_is_open_and_uncertain_is_asked_first():
    belief = Belief(np.array([0.0, 4.0]), np.diag([1.0, 0.01]))
    pairs = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert next_pair(belief, pairs) == 1
    assert usefulness(belief, pairs)[2] == 0
    with pytest.raises(ValueError, match="no pairs"):
        next_pair(belief, pairs[:0])


def test_a_user_is_asked_about_what_is_not_yet_known_of_them(tmp_path):
    made: Any = fitted("lowrank", tmp_path, rank=2)
    asked = made.ask(
        Profile(History("new")), ["p", "about food"], [["food", "food"], ["kind food", "rude food", "food"]]
    )
    assert asked[0] == 1
    assert {asked[1], asked[2]} == {0, 1}
