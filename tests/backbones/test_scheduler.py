"""Continuous batching: who joins and leaves changes nobody's answer, and nobody waits for another's long one."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.backbones.local.generation import Choice
from personaplug.backbones.local.scheduler import Answer, Scheduler
from personaplug.backbones.seq2seq import Seq2SeqBackbone, Seq2SeqConfig
from personaplug.core.errors import BusyError, DataError
from personaplug.core.types import Message, Prompt, Sampling, TextDelta

D = 32


@pytest.fixture(scope="module", params=["causal", "no-cache", "gemma3", "seq2seq"])
def backbone(request, tiny_causal: Path, tiny_t5: Path, tmp_path_factory):
    if request.param == "seq2seq":
        return Seq2SeqBackbone(Seq2SeqConfig(str(tiny_t5), "float32", "cpu"))
    folder = tiny_causal
    if request.param == "gemma3":
        folder = tiny.save_causal(tmp_path_factory.mktemp("models") / "tiny-gemma3", family="gemma3", chat=False)
    cache = 0 if request.param == "no-cache" else 1 << 20
    return CausalBackbone(CausalConfig(str(folder), "float32", "cpu", prompt_cache=cache))


def prompts_of(backbone, count: int = 6) -> list[Prompt]:
    g = torch.Generator().manual_seed(5)
    places = ["first"] if isinstance(backbone, Seq2SeqBackbone) else ["last", "first", "last"]
    return [
        Prompt(
            (Message("user", " ".join(tiny.WORDS[: 1 + 4 * i])),),
            torch.randn(1 + i % 3, D, generator=g) if i % 4 else None,
            places[i % len(places)],
        )
        for i in range(count)
    ]


def sampling_of(i: int) -> Sampling:
    return Sampling(max_tokens=3 + 5 * (i % 3), temperature=float(i % 2), seed=i, stop=("red",) if i % 3 == 2 else ())


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals=st.lists(st.integers(0, 6), min_size=6, max_size=6))
def test_each_answer_is_what_it_is_alone_whenever_the_others_come_and_go(backbone, arrivals) -> None:
    prompts, running = prompts_of(backbone), backbone.running()
    choices = [backbone.choice(sampling_of(i)) for i in range(len(prompts))]
    for moment in range(7):
        now = [i for i, at in enumerate(arrivals) if at == moment]
        if now and (backbone.supports_batching or all(choice.done for choice in running.choices)):
            running.admit([prompts[i] for i in now], [choices[i] for i in now])
        running.step()
    while not all(choice.done for choice in running.choices):
        running.step()
    for i, (prompt, choice) in enumerate(zip(prompts, choices, strict=True)):
        if choice.tokens:
            assert backbone.completion(prompt, choice) == backbone.generate([prompt], sampling_of(i))[0]


def test_many_threads_get_their_own_answers_piece_by_piece(backbone) -> None:
    prompts = prompts_of(backbone)
    found: dict[int, tuple[str, str]] = {}

    def ask(i: int) -> None:
        answer = scheduler.submit(prompts[i], sampling_of(i))
        found[i] = "".join(answer), answer.completion().text

    with Scheduler(backbone, rows=3, piece=16) as scheduler:
        threads = [Thread(target=ask, args=(i,)) for i in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for i, prompt in enumerate(prompts):
        alone = backbone.generate([prompt], sampling_of(i))[0].text
        assert found[i] == (alone, alone)


def test_a_late_comer_has_its_first_token_within_two_steps_while_others_run(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    running, long = backbone.running(), Choice(Sampling(max_tokens=60), ends=())
    running.admit([Prompt((Message("user", "a b"),))], [long])
    for _ in range(5):
        running.step()
    before, late = len(long.tokens), backbone.choice(Sampling(max_tokens=2))
    running.admit([Prompt((Message("user", "c d e"),))], [late])
    assert len(late.tokens) == 1
    running.step()
    assert late.done
    assert len(long.tokens) == before + 1


def test_a_long_prompt_is_read_in_pieces_while_short_requests_pass_it(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    columns: list[int] = []
    backbone.model.base_model.register_forward_pre_hook(
        lambda _m, _a, kw: columns.append(1 if kw.get("inputs_embeds") is None else kw["inputs_embeds"].shape[1]),
        with_kwargs=True,
    )
    long = Prompt((Message("user", " ".join(tiny.WORDS * 4)[:500]),))
    size = backbone.left_length(long)
    assert size > 64
    with Scheduler(backbone, piece=32) as scheduler:
        answers = [scheduler.submit(p, Sampling(max_tokens=3)) for p in (long, Prompt((Message("user", "a b"),)))]
        found = [answer.completion() for answer in answers]
    assert max(columns) <= 32 + 16
    fresh = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu", prompt_cache=0))
    assert found[0] == fresh.generate([long], Sampling(max_tokens=3))[0]


def test_a_cache_too_small_for_a_prompt_does_not_keep_it_waiting(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu", prompt_cache=1))
    long = Prompt((Message("user", " ".join(tiny.WORDS * 4)[:500]),))
    with Scheduler(backbone, piece=32) as scheduler:
        assert scheduler.submit(long, Sampling(max_tokens=3)).completion().tokens


def test_a_request_that_fails_says_so_and_harms_nobody_else(backbone) -> None:
    good = prompts_of(backbone)[1]
    bad = Prompt(good.messages, torch.zeros(2, D + 1))
    with Scheduler(backbone) as scheduler:
        answers = [scheduler.submit(p, Sampling(max_tokens=4)) for p in (good, bad, good)]
        with pytest.raises(DataError, match="prefix"):
            answers[1].completion()
        alone = backbone.generate([good], Sampling(max_tokens=4))[0]
        assert [answers[0].completion(), answers[2].completion()] == [alone, alone]


def test_what_nobody_waits_for_any_longer_ends_early(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    with Scheduler(backbone) as scheduler:
        answer = scheduler.submit(Prompt((Message("user", "a"),)), Sampling(max_tokens=10_000, temperature=1.0, seed=1))
        next(iter(answer))
        answer.cancel()
        assert len(answer.completion().tokens) < 10_000
        assert scheduler.load() == (0, 0)


def test_what_is_cancelled_while_it_waits_is_never_read(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    with Scheduler(backbone, rows=1) as scheduler:
        first = scheduler.submit(Prompt((Message("user", "a"),)), Sampling(max_tokens=200, temperature=1.0, seed=1))
        # A prompt that cannot be read would fail.
        waiting = scheduler.submit(Prompt((Message("user", "b"),), torch.zeros(1, D + 1)), Sampling(max_tokens=5))
        waiting.cancel()
        assert waiting.completion().tokens == ()
        first.cancel()


def test_a_full_queue_and_a_closed_scheduler_refuse_and_what_was_taken_is_finished(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    prompt, sampling = Prompt((Message("user", "a"),)), Sampling(max_tokens=30, temperature=1.0, seed=1)
    scheduler = Scheduler(backbone, rows=1, waiting=2)
    answers: list[Answer] = []
    with pytest.raises(BusyError, match="2 requests wait"):
        answers.extend(scheduler.submit(prompt, sampling) for _ in range(50))
    scheduler.close()
    alone = backbone.generate([prompt], sampling)[0]
    assert [a.completion() for a in answers] == [alone] * len(answers)
    with pytest.raises(BusyError, match="closed"):
        scheduler.submit(prompt, sampling)


def test_a_place_is_kept_for_a_prompt_that_is_still_being_made(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    prompt, sampling = Prompt((Message("user", "a"),)), Sampling(max_tokens=5)
    with Scheduler(backbone, rows=2, waiting=1) as scheduler:
        made: Future[Prompt] = Future()
        answer = scheduler.submit(made, sampling)
        with pytest.raises(BusyError):
            scheduler.submit(prompt, sampling)  # the one place is taken
        made.set_result(prompt)
        assert answer.completion() == backbone.generate([prompt], sampling)[0]
        assert answer.ready_at <= answer.started_at  # it could have begun at once


def test_whoever_is_ready_goes_before_a_place_without_a_prompt(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    prompt, sampling = Prompt((Message("user", "a"),)), Sampling(max_tokens=5)
    scheduler = Scheduler(backbone, rows=1)
    made: Future[Prompt] = Future()
    later = scheduler.submit(made, sampling)
    ready = scheduler.submit(prompt, sampling)
    assert ready.completion().tokens
    assert ready.ready_at is None
    closing = Thread(target=scheduler.close)
    closing.start()
    made.set_result(prompt)  # what was taken is finished, also this
    assert later.completion().tokens
    closing.join(10)
    assert not closing.is_alive()


def test_a_place_without_a_prompt_can_be_given_up(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    with Scheduler(backbone, waiting=1) as scheduler:
        answer = scheduler.submit(Future(), Sampling(max_tokens=5))
        answer.cancel()
        with pytest.raises(CancelledError):
            answer.completion()
        assert scheduler.submit(Prompt((Message("user", "a"),)), Sampling(max_tokens=2)).completion().tokens


def test_a_prompt_that_cannot_be_made_ends_its_answer_with_the_reason(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    failed, given_up = Future(), Future()
    with Scheduler(backbone) as scheduler:
        answers = [scheduler.submit(future, Sampling(max_tokens=5)) for future in (failed, given_up)]
        failed.set_exception(DataError("the store is away"))
        given_up.cancel()
        with pytest.raises(DataError, match="the store is away"):
            answers[0].completion()
        with pytest.raises(CancelledError):
            answers[1].completion()
        assert scheduler.load() == (0, 0)


def test_a_sink_is_handed_the_pieces_then_the_end(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    prompt, found = Prompt((Message("user", "a b"),)), []
    with Scheduler(backbone) as scheduler:
        answer = scheduler.submit(prompt, Sampling(max_tokens=5), sink=found.append)
    *pieces, end = found
    assert "".join(piece.text for piece in pieces) == end.text
    assert end == backbone.generate([prompt], Sampling(max_tokens=5))[0]
    assert answer.started_at is not None


@pytest.mark.parametrize("stop", [(), ("green",)])
def test_log_probabilities_are_the_models_and_of_the_text_that_is_shown(tiny_causal: Path, stop) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    prompt, found = Prompt((Message("user", "what is your favourite"),)), []
    with Scheduler(backbone) as scheduler:
        scheduler.submit(prompt, Sampling(max_tokens=8, stop=stop), sink=found.append, top=3)
    *pieces, end = found
    noted = [n for piece in pieces for n in piece.logprobs]
    assert "".join(n.token for n in noted).replace(" ", "") in end.text.replace(" ", "")
    assert all(n.top[0] == (n.token, n.logprob) and len(n.top) == 3 for n in noted)  # greedy
    total = sum(n.logprob for n in noted)
    if end.text:
        assert total == pytest.approx(backbone.score([prompt], [end.text.strip()])[0].logprob, abs=1e-3)


def test_the_running_batch_holds_no_more_tokens_than_it_may(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    backbone._ends = set()
    prompts = prompts_of(backbone)
    how = [Sampling(max_tokens=60 if i == 3 else 12) for i in range(len(prompts))]
    long = backbone.left_length(prompts[3]) + 60
    room = long - 1  # the long answer alone is more than may be held; two of the others are less
    seen: list[list[int]] = []
    ends: dict[int, object] = {}

    def watched(i: int, event: object) -> None:
        seen.append([a.length for a in scheduler._running])
        ends[i] = event

    with Scheduler(backbone, rows=6, tokens=room) as scheduler:
        for i, (prompt, sampling) in enumerate(zip(prompts, how, strict=True)):
            scheduler.submit(prompt, sampling, partial(watched, i))
    assert [ends[i] for i in range(len(prompts))] == [
        backbone.generate([p], s)[0] for p, s in zip(prompts, how, strict=True)
    ]
    assert max(len(lengths) for lengths in seen) > 1
    assert [long] in seen
    assert all(len(lengths) * max(lengths) <= room for lengths in seen if len(lengths) > 1)


def test_a_long_answer_that_is_cancelled_while_it_waits_for_room_holds_nobody_up(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    backbone._ends = set()
    prompt = Prompt((Message("user", "a"),))
    ended: list[str] = []
    later: list[Answer] = []
    submitted = Event()

    def watched(name: str, event: object) -> None:
        if not isinstance(event, TextDelta):
            ended.append(name)
        elif name == "running" and not later:  # from here on it runs, and the others wait
            later.append(scheduler.submit(prompt, Sampling(max_tokens=60), partial(watched, "too long")))
            later[0].cancel()
            later.append(scheduler.submit(prompt, Sampling(max_tokens=2), partial(watched, "after")))
            submitted.set()

    with Scheduler(backbone, tokens=2 * (backbone.left_length(prompt) + 40)) as scheduler:
        scheduler.submit(prompt, Sampling(max_tokens=40), partial(watched, "running"))
        assert submitted.wait(20)
    assert sorted(ended[:2]) == ["after", "too long"]
    assert ended[2] == "running"


def test_an_answer_ends_where_the_context_does(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    backbone._ends = set()
    prompt = Prompt((Message("user", "a b c"),))
    with Scheduler(backbone) as scheduler:
        tokens = scheduler.submit(prompt, Sampling(max_tokens=10_000)).completion().tokens
    assert len(tokens) + backbone.left_length(prompt) == backbone.context


def test_while_a_scheduler_runs_a_model_its_own_answers_come_from_there(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    prompts = prompts_of(backbone)
    alone = backbone.generate(prompts, Sampling(max_tokens=5))
    with Scheduler(backbone) as scheduler:
        assert backbone.generate(prompts, Sampling(max_tokens=5)) == alone
        assert scheduler.drawn >= scheduler.steps > 0
    assert backbone.generate(prompts, Sampling(max_tokens=5)) == alone
