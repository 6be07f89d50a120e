"""Answering: one request or a chat, as whom, beside what, and why."""

from __future__ import annotations


def test_one_request_prints_the_answer_alone(run, store, echo):
    result = run("answer", echo, "hello there", "--user", "ada", "--store", store)
    assert result.stdout == "hello there\n"
    assert result.exit_code == 0


def test_what_is_decoded_may_be_set(run, store, echo):
    assert run("answer", echo, "a b c", "--user", "ada", "--store", store, "--max-tokens", 2).stdout == "a b\n"


def test_a_persona_strength_that_the_model_cannot_have_is_one_line(run, store, echo, plug):
    refused = run("answer", echo, "a b c", "--user", "ada", "--store", store, "--strength", 2)
    assert refused.exit_code == 2
    assert "strength = 2.0 needs the logits" in refused.stderr
    same = run("answer", plug, "a b c", "--user", "ada", "--store", store, "--strength", 1, "--max-tokens", 4)
    assert same.stdout == run("answer", plug, "a b c", "--user", "ada", "--store", store, "--max-tokens", 4).stdout


def test_without_a_user_it_is_the_unknown_user_and_says_so(run, store, echo):
    result = run("answer", echo, "hello", "--store", store)
    assert result.stdout == "hello\n"
    assert "unknown user" in result.stderr


def test_without_an_artifact_the_shipped_plug_answers_and_says_so(run, store, shipped):
    named = run("answer", shipped, "tell me more", "--user", "ada", "--store", store)
    result = run("answer", "tell me more", "--user", "ada", "--store", store)
    assert result.stdout == named.stdout
    assert "comes with this package" in result.stderr
    by_model = run("answer", "tiny", "tell me more", "--user", "ada", "--store", store)
    assert (by_model.stdout, "comes with" in by_model.stderr) == (named.stdout, False)
    assert run("answer", "--user", "ada", "--store", store, typed="tell me more\n").stdout == named.stdout


def test_a_method_that_needs_no_training_answers_on_the_shipped_plugs_model(run, store, shipped):
    assert run("answer", "recent", "tell me more", "--user", "ada", "--store", store).exit_code == 0
    refused = run("answer", "task_prompt", "tell me more", "--user", "ada", "--store", store)
    assert (refused.exit_code, "must be trained" in refused.stderr) == (2, True)


def test_vs_shows_both_answers_side_by_side(run, store, plug):
    result = run("answer", plug, "tell me more", "--user", "ada", "--store", store, "--vs", "none", "--vs", plug)
    header = next(line for line in result.stdout.splitlines() if "plug" in line)
    assert header.index("plug") < header.index("none") < header.rindex("plug")


def test_vs_refuses_what_it_cannot_build_before_a_model_is_loaded(run, store):
    untrained = run("answer", "no-artifact", "hello", "--store", store, "--vs", "task_prompt")
    assert untrained.exit_code == 2
    assert "must be trained" in untrained.stderr
    unknown = run("answer", "no-artifact", "hello", "--store", store, "--vs", "nonne")
    assert unknown.exit_code == 2
    assert "did you mean 'none'?" in unknown.stderr


def test_why_shows_the_behaviours_and_their_shares(run, store, plug):
    result = run("answer", plug, "tell me more", "--user", "ada", "--store", store, "--why")
    assert "2 of 2 behaviours" in result.stdout
    assert "favourite colour" in result.stdout
    assert "%" in result.stdout


def test_why_says_so_when_no_behaviour_was_looked_at(run, store, echo):
    result = run("answer", echo, "hello", "--user", "ada", "--store", store, "--why")
    assert "no behaviour carried" in result.stdout


def test_a_chat_answers_line_by_line_until_the_input_ends(run, store, echo):
    result = run("answer", echo, "--user", "ada", "--store", store, typed="one\n\ntwo\n")
    assert result.stdout == "one\ntwo\n"
    assert result.exit_code == 0


def test_a_chat_changes_users_and_stays_with_the_last_one_when_a_name_is_wrong(run, store, echo):
    result = run("answer", echo, "--user", "ada", "--store", store, typed="/user bobb\nhi\n/user bob\nhi\n/quit\nno\n")
    assert "did you mean 'bob'?" in result.stderr
    assert result.stdout == "hi\nhi\n"


def test_a_chat_remembers_its_turns_and_new_forgets_them(run, store, echo, monkeypatch):
    from personaplug.backbones.echo import EchoBackbone

    seen: list[int] = []
    stream = EchoBackbone.stream

    def counting(self, prompt, sampling):
        seen.append(len(prompt.messages))
        return stream(self, prompt, sampling)

    monkeypatch.setattr(EchoBackbone, "stream", counting)
    run("answer", echo, "--user", "ada", "--store", store, typed="one\ntwo\n/new\nthree\n")
    assert seen == [1, 3, 1]


def test_a_chat_compares_and_explains_on_command(run, store, plug):
    typed = "/why\nhello\n/why\n/vs none\nhello\n/vs\nhello\n/anything\n"
    result = run("answer", plug, "--user", "ada", "--store", store, typed=typed)
    assert "nothing was asked yet" in result.stdout
    assert "2 of 2 behaviours" in result.stdout
    assert "none" in result.stdout
    assert "/user NAME" in result.stdout


def test_an_empty_request_is_an_error(run, store, echo):
    result = run("answer", echo, " ", "--user", "ada", "--store", store)
    assert result.exit_code == 2
    assert "empty" in result.stderr


def test_a_chat_keeps_what_its_user_liked_and_disliked_once_each(run, store, echo):
    from personaplug.cli.console import open_store
    from personaplug.data.feedback import preference

    result = run("answer", echo, "--user", "ada", "--store", store, typed="/up\none\n/up\n/up\ntwo\n/down\n")
    assert result.stderr.count("there is no answer to a known user to judge") == 2
    opened = open_store(str(store))
    kept = [preference(b) for b in opened.history("ada") if b.id.startswith("thumb-")]
    opened.close()
    assert [(p.prompt, p.liked, p.disliked) for p in kept] == [("one", "one", None), ("two", None, "two")]


def test_what_a_chat_keeps_changes_the_prompt_of_icl(run, store, tmp_path):
    from personaplug.pipeline.artifacts import ArtifactInfo, ComponentSpec, save_pretrained
    from personaplug.tasks.base import TaskInfo

    folder = tmp_path / "icl"
    parts = {
        "backbone": ComponentSpec("echo", "echo"),
        "encoder": ComponentSpec("hashing", "hashing:16", 16, {"width": 16}),
    }
    save_pretrained(folder, ArtifactInfo("icl", {"show": "both"}, **parts, task=TaskInfo("chat", "text")), {})
    asked = "good evening\n/new\ngood night\n"
    before = run("answer", folder, "--user", "bob", "--store", store, typed=asked).stdout
    assert "Disliked answer" not in before
    judged = "good evening\n/down\n/new\ngood night\n"
    after = run("answer", folder, "--user", "bob", "--store", store, typed=judged).stdout
    assert "User: good evening\nDisliked answer: " in after


def test_what_a_chat_keeps_moves_the_belief_of_lowrank(run, store, echo):
    import numpy as np
    import torch

    from personaplug.cli.console import open_store
    from personaplug.core import registry
    from personaplug.core.types import Profile
    from personaplug.encoders.cache.embeddings import VectorCache
    from personaplug.methods.preference.bradley_terry import Belief

    encoder = registry.build("encoder", "hashing", {"width": 16})
    method = registry.build(
        "method", "lowrank", backbone=registry.build("backbone", "echo"), vectors=VectorCache(encoder)
    )
    prior = Belief(np.zeros(16), np.eye(16))
    learned = {"basis": np.eye(16), "mean": prior.mean, "covariance": prior.covariance}
    method.load_tensors({name: torch.from_numpy(array) for name, array in learned.items()})
    typed = "such fine words\n/up\nugly noise\n/down\n"
    run("answer", echo, "--user", "ada", "--store", store, typed=typed)
    opened = open_store(str(store))
    profile = Profile(opened.history("ada"))
    opened.close()
    assert np.abs(method.belief(profile).mean).max() > 0
    liked, disliked = method.worth(profile, "", ["such fine words", "ugly noise"])
    assert liked > 0 > disliked
