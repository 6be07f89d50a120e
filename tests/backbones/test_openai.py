"""Chat models behind OpenAI's protocol: text methods work, and what goes wrong is told in one line."""

from __future__ import annotations

import pytest

from personaplug.backbones.echo import EchoBackbone
from personaplug.bench.measure import measure
from personaplug.bench.submission import predict
from personaplug.core import registry
from personaplug.core.errors import BusyError, ConfigError, DataError, MismatchError, ModelError
from personaplug.core.types import Behavior, Example, History, Message, Profile, Prompt, Request, Sampling
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.pipeline.build import RunConfig, build_components
from personaplug.serve.runtime.loader import ModelLoader
from personaplug.tasks.base import TaskInfo
from remote import Reply, scripted
from serving import OPEN, listening, text_service


def built(url: str, **more):
    made = registry.build("backbone", "openai", {"model": "m", "base_url": url, "api_key_env": "", **more})
    made._remote.client.max_retries = 0
    return made


def said(text: str | None = "yes", finish: str = "stop", usage: bool = True) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    counted = {"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}} if usage else {}
    return Reply({**body, **counted})


def chunk(text: str) -> dict[str, object]:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    return {**head, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def failed(status: int, message: str) -> Reply:
    return Reply({"error": {"message": message, "type": "t", "param": None, "code": None}}, status)


def ask(text: str) -> Prompt:
    return Prompt((Message("system", "be brief"), Message("user", text)))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Our own server, as OpenAI's client sees any."""
    path = tmp_path_factory.mktemp("served") / "users.db"
    with listening(text_service(path, EchoBackbone(), OPEN, ("none",)), path) as live:
        yield built(f"{live.url}/v1", model="echo:none", parallel=4)


def test_answers_come_in_order_from_a_real_server(ours) -> None:
    prompts = [ask(f"number {i} of many") for i in range(20)]
    assert [a.text for a in ours.generate(prompts, Sampling())] == [f"number {i} of many" for i in range(20)]


def test_limits_and_streams_are_the_servers(ours) -> None:
    [answer] = ours.generate([ask("one two three")], Sampling(max_tokens=2))
    assert (answer.text, len(answer.tokens), answer.finish_reason) == ("one two", 2, "length")
    pieces = list(ours.stream(ask("one two three"), Sampling(max_tokens=2)))
    assert len(pieces) > 1
    assert "".join(pieces) == "one two"
    assert list(ours.stream(ask("one"), Sampling(max_tokens=0))) == []
    assert ours.generate([ask("one")], Sampling(max_tokens=0))[0].text == ""


def test_what_is_sent_is_the_conversation_and_how_to_decode_and_nobodys_name() -> None:
    with scripted(lambda *_: said()) as seen:
        made = built(seen.url)
        method = registry.build("method", "recent", {}, backbone=made, task=TaskInfo("chat", "text"))
        history = History("ada-the-user", (Behavior("ada-the-user", "1", "a", "red", at=0.0),))
        prompt = method.personalize(Request.of("ada-the-user", "why?"), Profile(history))
        made.generate([prompt], Sampling(max_tokens=5, temperature=0.5, top_p=0.9, stop=(".",), seed=3))
        [body] = seen.bodies
        assert "red" in str(body["messages"])
        assert "ada-the-user" not in str(body)
        assert {k: v for k, v in body.items() if k != "messages"} == {
            "model": "m", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "stop": ["."], "seed": 3,
        }  # fmt: skip


def test_what_a_model_refuses_is_left_out_and_the_limit_has_its_newer_name() -> None:
    with scripted(lambda *_: said()) as seen:
        made = built(seen.url, omit=["temperature", "top_p"], limit="max_completion_tokens")
        made.generate([ask("a")], Sampling(max_tokens=5))
        assert set(seen.bodies[0]) == {"model", "messages", "max_completion_tokens"}


def test_an_answer_without_words_or_usage_is_an_answer() -> None:
    with scripted(lambda *_: said(None, "length", usage=False)) as seen:
        [answer] = built(seen.url).generate([ask("a b c d e")], Sampling())
        assert (answer.text, answer.tokens, answer.finish_reason) == ("", (), "length")
        assert answer.prompt_tokens == 5  # eight and nine characters, at four a token


def test_the_key_is_read_from_the_environment_and_kept_nowhere(monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    with scripted(lambda *_: said()) as seen:
        made = built(seen.url, api_key_env="MY_KEY")
        built(seen.url).generate([ask("a")], Sampling())
        made.generate([ask("a")], Sampling())
        assert [h["authorization"] for h in seen.headers] == ["Bearer none", "Bearer sk-secret"]
        assert "sk-" not in f"{made.config} {made.key}"
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ConfigError, match="MY_KEY holds no key"):
        built(seen.url, api_key_env="MY_KEY")


@pytest.mark.parametrize(
    ("reply", "kind", "way_out"),
    [
        (failed(401, "bad key"), ModelError, "refuses requests without a key .401.; set api_key_env"),
        (failed(404, "no such model"), ModelError, "has no model 'm'.*correct model"),
        (failed(429, "slow\ndown"), BusyError, "429: .*slow down.*try again later"),
        (failed(400, "temperature is\nnot supported"), DataError, "temperature is not supported"),
        (failed(500, "oh"), ModelError, "failed .500"),
        (Reply("<html>hello</html>", kind="text/html"), ModelError, "usually ends with /v1"),
        (Reply("{half", kind="application/json"), ModelError, "usually ends with /v1"),
        (Reply({"choices": []}), ModelError, "usually ends with /v1"),
    ],
    ids=lambda v: str(v.status) if isinstance(v, Reply) else "",
)
def test_what_a_server_refuses_is_one_line_with_a_way_out(reply, kind, way_out) -> None:
    with scripted(lambda *_: reply) as seen:
        with pytest.raises(kind, match=way_out) as told:
            built(seen.url).generate([ask("a"), ask("b")], Sampling())
        assert (seen.url in str(told.value)) != (kind is DataError)  # which end users are told
        assert "\n" not in str(told.value)
        with pytest.raises(kind, match=way_out):
            list(built(seen.url).stream(ask("a"), Sampling()))


def test_a_server_that_is_not_there_is_named() -> None:
    with scripted(lambda *_: said()) as gone:
        pass
    with pytest.raises(ModelError, match=r"is not reached .*start it, or correct base_url"):
        built(gone.url).generate([ask("a")], Sampling())


def test_a_server_that_takes_too_long_is_named() -> None:
    from threading import Event

    late = Event()
    with scripted(lambda *_: (late.wait(5), said())[1]) as seen:
        with pytest.raises(BusyError, match=r"no answer within 0.05 s; try again"):
            built(seen.url, timeout=0.05).generate([ask("a")], Sampling())
        late.set()


def test_a_stream_that_breaks_off_says_so_after_what_came() -> None:
    with scripted(lambda *_: Reply([chunk("half")], broken=True)) as seen:
        stream = built(seen.url).stream(ask("a"), Sampling())
        assert next(stream) == "half"
        with pytest.raises(ModelError, match="is not reached"):
            next(stream)


def test_a_transient_failure_is_tried_again_by_the_library() -> None:
    replies = iter([failed(429, "wait"), failed(503, "wait"), said("at last")])
    with scripted(lambda *_: next(replies)) as seen:
        made = built(seen.url)
        made._remote.client.max_retries = 2
        assert made.generate([ask("a")], Sampling())[0].text == "at last"


@pytest.fixture
def recent(tmp_path, monkeypatch):
    """Our server in front of a closed model, with a method that writes the newest behaviour; what it answers ada."""
    monkeypatch.setenv("MY_KEY", "sk-secret")

    def answer(reply):
        info = TaskInfo("chat", "text", history_text="{input} {output}")
        with scripted(reply) as seen:
            section = {"name": "openai", "model": "m", "base_url": seen.url, "api_key_env": "MY_KEY"}
            run = RunConfig.parse(backbone=section, encoder={}, method={"name": "recent", "k": 1})
            build_components(run, info, None).save(tmp_path / "recent", {}, {})
            path = tmp_path / "users.db"
            loading = ModelLoader(registry.build("store", "sql", {"url": str(path)}), OPEN)
            loading.add(str(tmp_path / "recent"))
            with listening(loading.service(), path) as live, live.client() as client:
                added = client.post("/v1/users/ada/history", json={"id": "1", "input": "what", "output": "red"})
                added.raise_for_status()
                body = {"model": "m:recent", "user": "ada", "messages": [{"role": "user", "content": "and now?"}]}
                return client.post("/v1/chat/completions", json=body)

    return answer


def test_a_text_method_in_front_of_a_closed_model_is_kept_and_served_like_any_other(recent, tmp_path) -> None:
    reply = recent(lambda _, body: Reply([chunk(str(body["messages"]))]))
    text = reply.json()["choices"][0]["message"]["content"]
    assert "red" in text
    assert "and now?" in text
    assert "sk-secret" not in "".join(f.read_text("latin-1") for f in (tmp_path / "recent").iterdir())


@pytest.mark.parametrize(("theirs", "ours"), [(401, 503), (429, 503), (400, 400)])
def test_end_users_are_not_told_where_the_model_runs(recent, theirs, ours) -> None:
    reply = recent(lambda *_: failed(theirs, "because"))
    assert reply.status_code == ours
    assert "127.0.0.1" not in reply.text
    assert ("because" in reply.text) == (ours == 400)


def test_a_method_that_needs_more_than_text_is_refused_when_built() -> None:
    vectors = VectorCache(registry.build("encoder", "hashing", {"width": 16}))
    with pytest.raises(MismatchError, match=r"needs text\+prefix, but backbone 'openai:m@h' accepts only text"):
        registry.build("method", "plug", {}, backbone=built("http://h/v1"), vectors=vectors)


def test_measuring_likelihoods_is_refused_before_anything_is_asked() -> None:
    with scripted(lambda *_: said()) as seen:
        method = registry.build("method", "none", {}, backbone=built(seen.url))
        example = Example("1", Request.of("ada", "a"), History("ada"), "red")
        with pytest.raises(MismatchError, match=r"needs log-probabilities.*personaplug predict"):
            measure(method, TaskInfo("chat", "text"), [example])
        assert not seen.bodies
        assert predict(method, TaskInfo("chat", "text"), [example]) == ["yes"]  # the way out that the error names


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"base_url": "example.org"}, "is no address"),
        ({"model": ""}, "no model is named"),
        ({"parallel": 0}, "parallel = 0"),
        ({"omit": ["max_tokens"]}, "omit"),
    ],
)
def test_a_wrong_section_names_its_key(section, said) -> None:
    with pytest.raises(ConfigError, match=said):
        built(**{"url": "http://h/v1", **{"url" if k == "base_url" else k: v for k, v in section.items()}})


def test_budgets_are_counted_by_a_tokenizer_where_one_is_named(tiny_causal) -> None:
    rough, exact = built("http://h/v1"), built("http://h/v1", tokenizer=str(tiny_causal))
    text = "red blue green yes"
    assert (rough.count(text), exact.count(text)) == (5, 4)
    assert (rough.cut(text, 2), exact.cut(text, 2)) == ("red blue", "red blue")
    assert rough.cut(text, 99) == exact.cut(text, 99) == text
