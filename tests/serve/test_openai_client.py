"""OpenAI's own Python client works as it is, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openai
import pytest

from personaplug.core.types import Behavior, Sampling
from serving import Live

PLUG, NONE = "tiny-causal:plug", "tiny-causal:none"
ASK = [{"role": "user", "content": "what is your favourite colour"}]


@pytest.fixture(scope="module")
def client(listening_tiny_server: Live) -> Iterator[openai.OpenAI]:
    listening_tiny_server.service.store.add(
        [Behavior("ada", str(i), "tell me more", text, at=100.0 * i) for i, text in enumerate(("red", "blue please"))]
    )
    with openai.OpenAI(base_url=f"{listening_tiny_server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_naming_the_user_makes_the_answer_theirs_and_says_so(client) -> None:
    answer = client.chat.completions.create(model=PLUG, messages=ASK, user="ada", max_tokens=5)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    said = answer.model_extra["personaplug"]
    assert (said["user"], said["personalized"], said["method"]) == ("ada", True, "plug")
    assert said["persona"] == {"version": 1, "behaviors": 2}
    assert {b["id"] for b in said["behaviors"]} == {"0", "1"}
    assert sum(b["weight"] for b in said["behaviors"]) == pytest.approx(1, abs=1e-4)
    assert said["behaviors"][0]["age"] > 0
    assert {"overhead", "profile", "personalize", "queue", "first_token", "generate", "total"} <= set(said["timings"])


def test_an_answer_over_http_is_the_libraries_own(client, listening_tiny_server) -> None:
    model = listening_tiny_server.service.models[PLUG]
    own = model.personalizer.answer("ada", ASK[0]["content"], Sampling(max_tokens=6))
    assert (
        client.chat.completions.create(model=PLUG, messages=ASK, user="ada", max_tokens=6).choices[0].message.content
        == own
    )


def test_the_strength_of_a_persona_is_the_requests_to_choose(client, listening_tiny_server) -> None:
    def said(user: str | None, **own) -> str:
        extra = {"user": user} if user else {}
        answer = client.chat.completions.create(
            model=PLUG, messages=ASK, max_tokens=8, extra_body={"personaplug": own}, **extra
        )
        return answer.choices[0].message.content

    model = listening_tiny_server.service.models[PLUG]
    for strength in (0.0, 1.0, 3.0):
        own = model.personalizer.answer("ada", ASK[0]["content"], Sampling(max_tokens=8, strength=strength))
        assert said("ada", strength=strength) == own
    assert said("ada", strength=0.0) == said(None)
    assert said("ada", strength=1.0) == said("ada")
    words = said("ada", no_repeat_ngram=1).split()
    assert len(set(words)) == len(words)
    for wrong in ({"strength": -1}, {"strength": 99}, {"strengh": 1.0}):
        with pytest.raises(openai.BadRequestError, match=r"strength"):
            said("ada", **wrong)


@pytest.mark.parametrize("user", ["nobody knows", None])
def test_without_a_known_user_the_answer_is_anybodys_and_says_so(client, user) -> None:
    extra = {} if user is None else {"user": user}
    said = client.chat.completions.create(model=PLUG, messages=ASK, max_tokens=2, **extra).model_extra["personaplug"]
    assert said["user"] == user
    assert not said["personalized"]
    assert "anybody's" in said["note"]


@pytest.mark.parametrize("field", ["safety_identifier", "metadata"])
def test_the_user_may_be_named_in_each_of_the_fields_there_are(client, field) -> None:
    named = {"metadata": {"user_id": "ada"}} if field == "metadata" else {field: "ada"}
    answer = client.chat.completions.create(model=PLUG, messages=ASK, max_tokens=2, **named)
    assert answer.model_extra["personaplug"]["user"] == "ada"


def test_users_named_differently_are_refused(client) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="different users"):
        client.chat.completions.create(model=PLUG, messages=ASK, user="ada", safety_identifier="bob")


def test_a_stream_joins_to_the_answer_and_ends_with_usage_and_the_persona(client) -> None:
    whole = client.chat.completions.create(model=PLUG, messages=ASK, user="ada", max_tokens=8, temperature=1, seed=3)
    chunks = list(
        client.chat.completions.create(
            model=PLUG, messages=ASK, user="ada", max_tokens=8, temperature=1, seed=3, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    deltas = [c.choices[0] for c in chunks if c.choices]
    assert "".join(c.delta.content or "" for c in deltas) == whole.choices[0].message.content
    assert [c.finish_reason for c in deltas][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].model_extra["personaplug"]["user"] == "ada"


def test_several_answers_differ_and_are_the_same_again_by_their_seed(client) -> None:
    wanted = {"model": PLUG, "messages": ASK, "max_tokens": 12, "temperature": 2, "seed": 5, "n": 3}
    answers = [[c.message.content for c in client.chat.completions.create(**wanted).choices] for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == 3
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**wanted, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == answers[0]


def test_a_stop_ends_an_answer_and_is_not_shown(client) -> None:
    whole = client.chat.completions.create(model=NONE, messages=ASK, max_tokens=12).choices[0].message.content
    stop = whole.split(" ")[2]
    cut = client.chat.completions.create(model=NONE, messages=ASK, max_tokens=12, stop=[stop])
    assert cut.choices[0].message.content == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_log_probabilities_are_those_of_the_tokens_shown_streamed_or_not(client) -> None:
    wanted = {"model": NONE, "messages": ASK, "max_tokens": 6, "logprobs": True, "top_logprobs": 3}
    found = client.chat.completions.create(**wanted).choices[0].logprobs.content
    assert len(found) == 6
    for token in found:
        assert [t.logprob for t in token.top_logprobs] == sorted((t.logprob for t in token.top_logprobs), reverse=True)
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)  # greedy
    streamed = [
        t
        for chunk in client.chat.completions.create(**wanted, stream=True)
        for choice in chunk.choices
        for t in (choice.logprobs.content if choice.logprobs else [])
    ]
    assert [t.token for t in streamed] == [t.token for t in found]
    # A prompt that was read in other pieces rounds otherwise.
    assert [t.logprob for t in streamed] == pytest.approx([t.logprob for t in found], abs=1e-4)


def test_completions_read_each_prompt_as_a_message(client) -> None:
    asked = ["tell me more", "what is your favourite colour"]
    answer = client.completions.create(model=PLUG, prompt=asked, max_tokens=4, user="ada", logprobs=2, echo=True)
    for prompt, choice in zip(asked, answer.choices, strict=True):
        chat = client.chat.completions.create(
            model=PLUG, messages=[{"role": "user", "content": prompt}], max_tokens=4, user="ada"
        )
        assert choice.text == prompt + chat.choices[0].message.content
        assert 0 < len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) <= 4
        assert choice.logprobs.text_offset[0] == len(prompt)
    chunks = client.completions.create(model=PLUG, prompt=asked[0], max_tokens=4, user="ada", stream=True)
    assert asked[0] + "".join(c.choices[0].text for c in chunks) == answer.choices[0].text


def test_the_models_are_listed_and_a_wrong_name_gets_the_right_one(client) -> None:
    assert {PLUG, NONE, "tiny-causal:recent", "hashing"} == {m.id for m in client.models.list()}
    assert client.models.retrieve(PLUG).owned_by == "personaplug"
    with pytest.raises(openai.NotFoundError, match="did you mean 'tiny-causal:plug'"):
        client.chat.completions.create(model="tiny-causal:plugg", messages=ASK)


def test_embeddings_are_the_encoders_vectors(client, listening_tiny_server) -> None:
    texts = ["red blue", "yes"]
    found = client.embeddings.create(model="hashing", input=texts)
    own = listening_tiny_server.service.encoders["hashing"].encode(texts)
    np.testing.assert_allclose([row.embedding for row in found.data], own, rtol=1e-6)
    plain = client.embeddings.create(model="hashing", input=texts[0], encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, own[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": "warm"}, "temperature", "'warm'"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role", "'robot'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, None, "text"),
        ({"max_tokens": 10**6}, "max_tokens", "at most 4096"),
        ({"n": 100}, "n", "at most 16"),
        ({"extra_body": {"temprature": 1}}, "temprature", "did you mean 'temperature'"),
        ({"tools": [{"type": "function"}]}, "tools", "not supported"),
        ({"messages": [{"role": "user", "content": "a " * 400}]}, None, "at most 256"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_told_the_field_the_value_and_the_way_out(client, change, param, says) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": NONE, "messages": ASK} | change)
    assert says in caught.value.message
    assert "\n" not in caught.value.body["message"]
    if param:
        assert caught.value.param == param


def test_what_changes_nothing_is_taken(client) -> None:
    client.chat.completions.create(
        model=NONE, messages=ASK, max_tokens=1, presence_penalty=0, store=False, tools=[], service_tier="auto",
        response_format={"type": "text"},
    )  # fmt: skip
