"""In-process backbones on tiny real models: batching, scoring, decoding, gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.backbones.seq2seq import Seq2SeqBackbone, Seq2SeqConfig
from personaplug.core.errors import DataError, MismatchError, ModelError
from personaplug.core.types import Message, Prompt, Sampling

D = 32


@pytest.fixture(scope="module", params=["first", "last", "seq2seq", "gemma3-last", "no-cache-last"])
def case(request, tiny_causal: Path, tiny_t5: Path, tmp_path_factory):
    if request.param == "seq2seq":
        return Seq2SeqBackbone(Seq2SeqConfig(str(tiny_t5), "float32", "cpu")), "first"
    folder = tiny_causal
    if request.param.startswith("gemma3"):
        folder = tiny.save_causal(tmp_path_factory.mktemp("models") / "tiny-gemma3", family="gemma3", chat=False)
    cache = 0 if request.param.startswith("no-cache") else 1 << 20
    config = CausalConfig(str(folder), "float32", "cpu", batch_tokens=64, prompt_cache=cache)
    return CausalBackbone(config), request.param.rsplit("-", 1)[-1]


def prompts_of(position: str, count: int = 10) -> list[Prompt]:
    g = torch.Generator().manual_seed(5)
    return [
        Prompt(
            (Message("user", " ".join(tiny.WORDS[: 1 + i])),),
            torch.randn(1 + i % 3, D, generator=g) if i % 4 else None,
            position,
        )
        for i in range(count)
    ]


def test_ten_users_in_one_batch_get_what_each_gets_alone(case) -> None:
    backbone, position = case
    prompts, sampling = prompts_of(position), Sampling(max_tokens=12)
    together = backbone.generate(prompts, sampling)
    assert together == [backbone.generate([p], sampling)[0] for p in prompts]
    assert len({c.tokens for c in together}) > 1


def test_sampled_answers_do_not_depend_on_the_batch_either(case) -> None:
    backbone, position = case
    prompts, sampling = prompts_of(position, 5), Sampling(max_tokens=8, temperature=1.0, top_p=0.9, seed=3)
    assert backbone.generate(prompts, sampling) == [backbone.generate([p], sampling)[0] for p in prompts]


def test_the_pieces_of_a_stream_join_to_the_answer(case) -> None:
    backbone, position = case
    for prompt in prompts_of(position, 4):
        for sampling in (Sampling(max_tokens=9), Sampling(max_tokens=9, temperature=1.0, seed=1, stop=("red", "a b"))):
            assert "".join(backbone.stream(prompt, sampling)) == backbone.generate([prompt], sampling)[0].text


def test_greedy_decoding_takes_the_likeliest_continuation(case) -> None:
    backbone, position = case
    prompt = prompts_of(position, 2)[1]
    words = list(tiny.WORDS)
    scores = [s.logprob for s in backbone.score([prompt] * len(words), words)]
    answer = backbone.generate([prompt], Sampling(max_tokens=1)).pop()
    if answer.text in words:
        assert words[max(range(len(words)), key=scores.__getitem__)] == answer.text


def test_scores_do_not_depend_on_the_batch_and_shared_prompts_run_once(case) -> None:
    backbone, position = case
    prompts = prompts_of(position, 6)
    pairs = [(p, c) for p in prompts for c in ("yes", "no please", "tell me more a b c")]
    together = backbone.score([p for p, _ in pairs], [c for _, c in pairs])
    for (prompt, text), scored in zip(pairs, together, strict=True):
        [alone] = backbone.score([prompt], [text])
        assert scored.tokens == alone.tokens == len(text.split())
        assert scored.logprob == pytest.approx(alone.logprob, abs=1e-3)


def test_the_loss_is_the_mean_of_the_scores_with_the_end_token(case) -> None:
    backbone, position = case
    prompts = [p for p in prompts_of(position) if p.prefix is not None]
    targets = ["yes please", "no", "a b c d e", "blue", "red red", "what is", "me"][: len(prompts)]
    losses = backbone.loss(prompts, targets)
    logprobs, counts = backbone.token_logprobs(prompts, targets)
    for row, (loss, scored) in enumerate(zip(losses.tolist(), backbone.score(prompts, targets), strict=True)):
        count = int(counts[row])
        assert count == scored.tokens + 1
        assert loss * count == pytest.approx(-scored.logprob - logprobs[row, count - 1].item(), abs=1e-3)


def test_token_logprobs_are_the_loss_token_by_token_and_zero_beyond_an_answer(case) -> None:
    backbone, position = case
    prompts, targets = prompts_of(position, 4), ["yes please", "no", "a b c d e", "blue"]
    logprobs, counts = backbone.token_logprobs(prompts, targets)
    assert counts.tolist() == [len(t.split()) + 1 for t in targets]
    assert logprobs.shape == (4, 6)
    for row, (count, loss) in enumerate(zip(counts.tolist(), backbone.loss(prompts, targets).tolist(), strict=True)):
        assert (logprobs[row, :count] < 0).all()
        assert (logprobs[row, count:] == 0).all()
        assert -logprobs[row].sum().item() / count == pytest.approx(loss, abs=1e-5)
        # The end-of-turn token is the last: without it, what `score` says.
        [scored] = backbone.score(prompts[row : row + 1], targets[row : row + 1])
        assert logprobs[row, : count - 1].sum().item() == pytest.approx(scored.logprob, abs=1e-4)


def test_words_are_the_models_own_embeddings_without_special_tokens(case) -> None:
    backbone, _ = case
    embeds = backbone.words("red blue red")
    assert embeds.shape == (3, D)
    assert torch.equal(embeds[0], embeds[2])
    assert torch.equal(embeds, backbone.embed(backbone.tokenizer.convert_tokens_to_ids(["red", "blue", "red"])))


def test_lengths_count_every_token_that_runs(case) -> None:
    backbone, position = case
    messages, prefix = (Message("user", "a b c"),), torch.zeros(2, D)
    plain, soft = backbone.lengths([Prompt(messages), Prompt(messages, prefix, position)], ["yes"] * 2)
    assert soft - plain == 2


def test_gradients_reach_the_prefix_and_only_the_prefix(case) -> None:
    backbone, position = case
    before = {k: v.clone() for k, v in backbone.model.state_dict().items()}
    prefix = torch.randn(2, D, requires_grad=True)
    backbone.generate([Prompt((Message("user", "a b"),), prefix.detach(), position)], Sampling(max_tokens=2))
    backbone.loss([Prompt((Message("user", "a b"),), prefix, position)], ["yes"]).sum().backward()
    assert prefix.grad is not None
    assert prefix.grad.abs().sum() > 0
    assert all(p.grad is None for p in backbone.model.parameters())
    assert all(torch.equal(before[k], v) for k, v in backbone.model.state_dict().items())


def test_a_prompt_that_is_too_long_is_an_error_that_says_so(case) -> None:
    backbone, _ = case
    backbone = backbone if backbone.context < 10_000 else None
    if backbone is None:
        pytest.skip("this model reads prompts of any length")
    with pytest.raises(DataError, match="reads at most 256"):
        backbone.generate([Prompt((Message("user", "a " * 300),))], Sampling(max_tokens=1))


def test_a_prefix_of_another_width_is_refused(case) -> None:
    backbone, position = case
    with pytest.raises(DataError, match=r"\[k, 32\]"):
        backbone.loss([Prompt((Message("user", "a"),), torch.zeros(1, 7), position)], ["yes"])


def test_an_empty_continuation_is_refused(case) -> None:
    with pytest.raises(DataError, match="has no token"):
        case[0].score([Prompt((Message("user", "a"),))], [""])


def test_nothing_to_generate_is_an_empty_answer(case) -> None:
    [answer] = case[0].generate([Prompt((Message("user", "a"),))], Sampling(max_tokens=0))
    assert answer.text == ""
    assert answer.finish_reason == "length"


@torch.no_grad()
def by_hand(backbone: CausalBackbone, *pieces: torch.Tensor, target: str) -> torch.Tensor:
    """Log-probabilities [s, v] where an answer's tokens are predicted, by one plain run of the model."""
    ids = backbone.target_ids(target)
    columns = torch.cat([*pieces, backbone.embed(ids[:-1])])
    return backbone.model(inputs_embeds=columns[None]).logits[0, -len(ids) :].log_softmax(-1)


def test_each_position_is_where_it_says(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    messages, soft = (Message("user", "a b c"),), torch.randn(2, D, generator=torch.Generator().manual_seed(0))
    text = backbone.embed(backbone.prompt_ids(messages))
    layouts = {"first": (soft, text), "last": (text, soft)}
    found = set()
    for position, pieces in layouts.items():
        [logprobs], _ = backbone.token_logprobs([Prompt(messages, soft, position)], ["yes please"])  # type: ignore[arg-type]
        expected = by_hand(backbone, *pieces, target="yes please")
        picked = expected[range(3), backbone.target_ids("yes please")]
        torch.testing.assert_close(logprobs, picked, atol=1e-4, rtol=1e-4)
        found.add(round(logprobs.sum().item(), 3))
    [without], _ = backbone.token_logprobs([Prompt(messages)], ["yes please"])
    assert len(found | {round(without.sum().item(), 3)}) == 3


def test_a_prompt_runs_once_for_all_users_with_a_late_persona(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    runs: list[int] = []
    backbone.model.base_model.register_forward_pre_hook(
        lambda _m, _a, kw: runs.append(kw["inputs_embeds"].shape[1]), with_kwargs=True
    )
    messages = (Message("user", "a b c d e f g"),)
    for seed in range(3):
        prefix = torch.randn(2, D, generator=torch.Generator().manual_seed(seed))
        backbone.loss([Prompt(messages, prefix, "last")], ["yes"])
    assert runs == [10, 3, 3, 3]  # the prompt once, then two soft tokens and the target for each user


def test_a_full_prompt_cache_drops_the_oldest_and_stays_right(tiny_causal: Path) -> None:
    small = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu", prompt_cache=4000))
    none = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu", prompt_cache=0))
    for _ in range(2):
        for prompt in [p for p in prompts_of("last") if p.prefix is not None]:
            torch.testing.assert_close(small.loss([prompt], ["yes"]), none.loss([prompt], ["yes"]))
    assert small._model.prompts.bytes <= 4000


def test_an_encoder_decoder_model_has_the_first_position_alone(tiny_t5: Path) -> None:
    backbone = Seq2SeqBackbone(Seq2SeqConfig(str(tiny_t5), "float32", "cpu"))
    with pytest.raises(MismatchError, match="position = 'first'"):
        backbone.loss([Prompt((Message("user", "a"),), torch.zeros(1, D), "last")], ["yes"])


def test_a_model_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        CausalBackbone(CausalConfig(str(tmp_path / "nothing")))
    assert "\n" not in str(caught.value)


def test_the_same_text_asked_by_many_is_run_once(tiny_causal: Path, monkeypatch) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu", batch_tokens=64))
    ran: list[int] = []
    continued = backbone._continue

    def counted(prompts, rows, targets):
        ran.append(len(prompts))
        return continued(prompts, rows, targets)

    monkeypatch.setattr(backbone, "_continue", counted)
    alike = [Prompt((Message("user", "what is your favourite colour"),)) for _ in range(40)]
    scored = backbone.score(alike, ["red", "blue"] * 20)
    assert sum(ran) <= 2
    assert scored[0] == scored[2]
    assert scored[:2] == backbone.score(alike[:2], ["red", "blue"])


@pytest.fixture(scope="module")
def tiny_gpt2(tmp_path_factory) -> CausalBackbone:
    """A model with 32 learned positions."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder, tok = tmp_path_factory.mktemp("models") / "tiny-gpt2", tiny.tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tok), n_embd=D, n_layer=2, n_head=4, n_positions=32, eos_token_id=None)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return CausalBackbone(CausalConfig(str(folder), "float32", "cpu"))


def test_an_answer_ends_where_the_learned_positions_do(tiny_gpt2: CausalBackbone) -> None:
    prompt = Prompt((Message("user", "red " * 20),))
    [answer] = tiny_gpt2.generate([prompt], Sampling(max_tokens=40))
    assert answer.finish_reason == "length"
    assert answer.prompt_tokens + len(answer.tokens) == 32
    assert "".join(tiny_gpt2.stream(prompt, Sampling(max_tokens=40))) == answer.text


def test_a_prompt_that_fits_only_without_its_prefix_is_one_line_with_both_lengths(tiny_gpt2: CausalBackbone) -> None:
    prompt = Prompt((Message("user", "red " * 26),), torch.zeros(4, D), "last")
    for run in (
        lambda: tiny_gpt2.generate([prompt], Sampling(4)),
        lambda: tiny_gpt2.score([prompt], ["red"]),
        lambda: tiny_gpt2.loss([prompt], ["red"]),
    ):
        with pytest.raises(DataError, match=r"29 tokens with 4 soft tokens.*32 tokens; shorten it"):
            run()


def test_a_target_beyond_the_learned_positions_is_refused(tiny_gpt2: CausalBackbone) -> None:
    prompt = Prompt((Message("user", "red " * 20),))
    with pytest.raises(DataError, match="an answer of 13"):
        tiny_gpt2.loss([prompt], ["blue " * 12])
