"""The backbone in front of a real vLLM; runs where PERSONAPLUG_TEST_VLLM is the base URL of one with smollm2-135m.

docs/server.md says how to start it, and with which answers these tests were seen to pass.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.backbones.local.tokens import with_prefix
from personaplug.backbones.vllm import packed
from personaplug.core import registry
from personaplug.core.errors import DataError, ModelError
from personaplug.core.types import Completion, Message, Prompt, Sampling
from personaplug.methods.plug import PlugMethod
from personaplug.pipeline.build import RunConfig, build_components
from personaplug.serve.runtime.loader import ModelLoader
from personaplug.serve.settings import Settings
from personaplug.tasks.base import TaskInfo
from serving import served

URL = os.environ.get("PERSONAPLUG_TEST_VLLM", "")
pytestmark = [pytest.mark.model, pytest.mark.skipif(not URL, reason="PERSONAPLUG_TEST_VLLM is not set")]

NAME = "smollm2-135m"
GREEDY = Sampling(max_tokens=24)
NEAR = 0.5  # nats by which a token that bfloat16 takes may be behind float32's best
ASKED = [
    "Name three colours.", "Where is Paris?", "Write one line about the sea.", "What is two and three?", "Say hello.",
    "Which animal barks?", "How do I boil an egg?", "Tell me a joke about cats.", "What should I read next?",
    "Give me a name for a dog.", "Is it going to rain?", "Summarise: the train was late, and we walked home.",
    "What do plants need?", "Recommend a film.", "Translate 'good morning' into French.", "Who wrote Hamlet?",
    "Why is the sky blue?", "Name a city in Spain.", "I am tired. What now?", "What is a prime number?",
    "Write a headline about football.", "Which is bigger, the sun or the moon?", "Be kind.", "Count to five.",
]  # fmt: skip
TALKS = [(Message("user", text),) for text in ASKED]


@pytest.fixture(scope="module")
def here() -> CausalBackbone:
    return CausalBackbone(CausalConfig(NAME, "float32", "cpu"))


@pytest.fixture(scope="module")
def there():
    return registry.build("backbone", "vllm", {"model": NAME, "base_url": URL})


def prefixes(backbone, count: int, k: int = 4) -> list[torch.Tensor]:
    """Random soft tokens, as long as a token's embedding and up to four times as long."""
    rows = torch.randn(count, k, backbone.width, generator=torch.Generator().manual_seed(1))
    longer = 4 ** torch.linspace(0, 1, count)[:, None, None]
    return list((longer * backbone.token_norm * rows / rows.norm(dim=-1, keepdim=True)).half().float())


def prompts_with(backbone, position: str | None) -> list[Prompt]:
    if position is None:
        return [Prompt(m) for m in TALKS]
    return [Prompt(m, p, position) for m, p in zip(TALKS, prefixes(backbone, len(TALKS)), strict=True)]


@torch.inference_mode()
def behind(here: CausalBackbone, prompt: Prompt, answer: Completion) -> float:
    """Nats by which the answer's worst token is behind the likeliest one of the model in this process."""
    left = here.embed(here.prompt_ids(prompt.messages))
    if prompt.prefix is not None:
        left = with_prefix(left, here.soft(prompt), prompt.position)
    rows = torch.cat([left, here.embed(answer.tokens)])[None]
    nats = here.model(inputs_embeds=rows).logits[0, len(left) - 1 : -1].log_softmax(-1)
    taken = nats.gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
    return float((nats.amax(-1) - taken).max())


def test_it_reads_the_length_and_refuses_a_name_that_is_not_served(here, there) -> None:
    assert (there.key, there.width) == (here.key, here.width)
    assert 512 <= there.context <= here.context
    with pytest.raises(ModelError, match=f"did you mean '{NAME}'"):
        registry.build("backbone", "vllm", {"model": NAME, "served": "smollm2-136m", "base_url": URL})


@pytest.mark.parametrize("position", [None, "first", "last"])
def test_its_greedy_answers_are_the_models_own_but_for_rounding(here, there, position) -> None:
    prompts = prompts_with(here, position)
    mine, its = here.generate(prompts, GREEDY), there.generate(prompts, GREEDY)
    whole = sum(a.text == b.text for a, b in zip(mine, its, strict=True))
    eight = sum(a.tokens[:8] == b.tokens[:8] for a, b in zip(mine, its, strict=True))
    worst = max(behind(here, p, a) for p, a in zip(prompts, its, strict=True) if a.tokens)
    print(f"{position}: {whole} of {len(prompts)} in whole, {eight} in 8 tokens, at most {worst:.3f} nats behind")  # noqa: T201
    assert worst < NEAR
    assert eight >= len(prompts) // 2
    assert [a.prompt_tokens for a in its] == [a.prompt_tokens for a in mine]
    assert all((a.finish_reason == "length") == (len(a.tokens) == GREEDY.max_tokens) for a in its)


@pytest.mark.parametrize("position", ["first", "last"])
def test_a_persona_is_seen_and_never_anothers_though_the_server_caches_what_it_read(here, there, position) -> None:
    """Prompts of several of the server's cache blocks, alike but for the persona, or for a word in their middle."""
    text = "We met {} at the station and talked for a while about the weather and the news. " * 16
    talks = [(Message("user", text.format(*[who] * 16) + "Whom did we meet?"),) for who in ("Anna", "Peter")]
    personas = prefixes(here, 8)[4:6]
    prompts = [Prompt(m, p, position) for m in talks for p in personas] + [Prompt(m) for m in talks]
    first, again = there.generate(prompts, GREEDY), there.generate(prompts[::-1], GREEDY)[::-1]
    assert all(len(there.prompt_ids(m)) > 256 for m in talks)
    assert len({a.text for a in first}) > 3
    assert max(behind(here, p, a) for p, a in zip(prompts, again, strict=True)) < NEAR


def test_a_stream_says_what_the_whole_answer_does(there) -> None:
    prompts = prompts_with(there, None)[:2] + prompts_with(there, "first")[2:4] + prompts_with(there, "last")[4:6]
    streamed = [list(there.follow(p, GREEDY)) for p in prompts]
    assert [said[-1] for said in streamed] == [there.generate([p], GREEDY)[0] for p in prompts]
    assert all("".join(said[:-1]) == said[-1].text for said in streamed)
    assert max(len(said) for said in streamed) > 8


def test_a_stop_string_ends_an_answer_and_is_not_in_it(there) -> None:
    for prompt in (prompts_with(there, None)[0], prompts_with(there, "first")[0]):
        whole = there.generate([prompt], GREEDY)[0].text
        stop = whole.split()[3]
        sampling = Sampling(24, stop=(stop,))
        [answer] = there.generate([prompt], sampling)
        assert answer.text == whole.split(stop)[0] == "".join(there.stream(prompt, sampling))
        assert answer.finish_reason == "stop"
        assert list(there.follow(prompt, sampling))[-1] == answer


@pytest.mark.parametrize("position", [None, "last"])
def test_a_seed_repeats_a_draw_and_another_draws_another(here, there, position) -> None:
    prompt = prompts_with(there, position)[2]

    def drawn(**how) -> Completion:
        return there.generate([prompt], Sampling(24, temperature=1.0, **how))[0]

    assert drawn(seed=1) == drawn(seed=1) != drawn(seed=2)
    assert len({drawn() for _ in range(4)}) > 1
    assert behind(here, prompt, drawn(top_p=1e-4)) < NEAR  # a tie may fall the other way than at temperature 0


def test_an_answer_may_be_asked_to_be_longer_than_what_the_server_reads(there) -> None:
    for prompt in (prompts_with(there, None)[1], prompts_with(there, "first")[1]):
        [answer] = there.generate([prompt], Sampling(10 * there.context, stop=(".", "\n")))
        assert answer.text
    with pytest.raises(DataError, match=f"at most {there.context}"):
        there.generate([Prompt((Message("user", "long " * there.context),))], GREEDY)


def test_a_stream_that_nobody_reads_on_ends_at_the_server(there) -> None:
    written = metric("generation_tokens_total")
    # So hot that hardly any draw ends it.
    stream = there.follow(prompts_with(there, "first")[16], Sampling(there.context, temperature=2.0))
    next(stream)
    assert metric("num_requests_running") == 1
    stream.close()
    until = time.monotonic() + 30
    while metric("num_requests_running") and time.monotonic() < until:
        time.sleep(0.1)
    assert metric("generation_tokens_total") - written < there.context // 2


def metric(name: str) -> float:
    """What the server counts."""
    said = httpx.get(URL.removesuffix("/").removesuffix("/v1") + "/metrics", timeout=30).text
    return sum(float(line.split()[-1]) for line in said.splitlines() if line.startswith(f"vllm:{name}{{"))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(torch.ones(3, 575), id="width"),
        pytest.param(torch.ones(576), id="one row"),
        pytest.param(torch.ones(0, 576), id="no row"),
        pytest.param(torch.ones(3, 576, dtype=torch.long), id="integers"),
    ],
)
def test_what_it_refuses_is_told_in_one_line_and_harms_nobody(there, monkeypatch, rows) -> None:
    prompt = prompts_with(there, "first")[0]
    before = there.generate([prompt], GREEDY)
    with monkeypatch.context() as unchecked:
        unchecked.setattr(there, "rows", lambda _: rows)
        with pytest.raises((DataError, ModelError)) as error:
            there.generate([prompt], GREEDY)
    assert "\n" not in str(error.value)
    assert there.generate([prompt], GREEDY) == before


def test_any_real_dtype_of_rows_is_read_alike(there) -> None:
    """We send float16; a server reads it into whatever it computes in."""
    prompt = prompts_with(there, "first")[3]
    body = there._body(prompt, GREEDY)
    said = set()
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        body["extra_body"]["prompt_embeds"] = packed(there.rows(prompt).to(torch.bfloat16).to(dtype))
        said.add(there._remote.client.completions.create(**body).choices[0].text)
    assert len(said) == 1


def test_text_and_personas_are_answered_side_by_side_as_they_are_alone(here, there) -> None:
    prompts = [p for position in (None, "first", "last") for p in prompts_with(there, position)[:8]]
    assert max(behind(here, p, a) for p, a in zip(prompts, there.generate(prompts, GREEDY), strict=True)) < NEAR


@pytest.fixture
def plug(here, tmp_path):
    """The folder of a plug whose random weights are large enough for users to hear of them."""
    run = RunConfig.parse(
        backbone={"name": "causal", "model": NAME, "dtype": "float32", "device": "cpu"},
        encoder={"name": "hashing", "width": 256},
        method={"name": "plug", "position": "last"},
    )
    personalizer = build_components(run, TaskInfo("chat", "text", history_text="{input} {output}"), None, here)
    assert isinstance(personalizer.method, PlugMethod)
    torch.nn.init.normal_(personalizer.method.plug.outer.weight, generator=torch.Generator().manual_seed(1))
    personalizer.save(tmp_path / "plug", {}, {})
    return tmp_path / "plug"


def test_a_server_of_ours_gives_each_user_their_own_answers(plug, tmp_path) -> None:
    settings = Settings(open_locally=True, rate=0, user_rate=0, backbone={"name": "vllm", "base_url": URL})
    path = tmp_path / "users.db"
    loading = ModelLoader(registry.build("store", "sql", {"url": str(path)}), settings)
    loading.add(str(plug))
    asked = {"model": f"{NAME}:plug", "messages": [{"role": "user", "content": "What should I do tonight?"}]}
    with served(loading.service(), path) as live, live.client() as client:
        for user, liked in (("ada", "red roses and old poems"), ("bob", "football, beer and loud guitars")):
            behavior = {"id": "1", "input": "likes", "output": liked}
            client.post(f"/v1/users/{user}/history", json=behavior).raise_for_status()

        def ask(user: str, **more) -> httpx.Response:
            body = {**asked, "max_tokens": 16, **({"user": user} if user else {}), **more}
            return client.post("/v1/chat/completions", json=body).raise_for_status()

        users = ["ada", "bob", ""] * 4
        with ThreadPoolExecutor(len(users)) as pool:
            replies = [r.json() for r in pool.map(ask, users)]
        heard = {(u, r["choices"][0]["message"]["content"]) for u, r in zip(users, replies, strict=True)}
        assert len({text for _, text in heard}) >= 3
        assert not {text for u, text in heard if u == "ada"} & {text for u, text in heard if u == "bob"}
        assert replies[0]["personaplug"]["personalized"]
        assert not replies[2]["personaplug"]["personalized"]
        assert all((r["choices"][0]["finish_reason"] == "length") == (r["usage"]["completion_tokens"] == 16)
                   for r in replies)  # fmt: skip
        assert replies[0]["usage"]["prompt_tokens"] > 30  # the template and the persona count
        assert ask("ada", stream=True).text.rstrip().endswith("[DONE]")
        drawn = ask("ada", n=2, temperature=1.0, seed=3).json()["choices"]
        assert len({c["message"]["content"] for c in drawn}) == 2
