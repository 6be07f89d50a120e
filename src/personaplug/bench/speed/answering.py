"""How close personal answers come to the frozen model's own: overhead, first token, shared prompts, many at once.

overhead  everything of a request but the language model (store, query's vector, pooling, projection) for a user
of 1,000 stored behaviours, in units of a 64-token answer; and the whole answer in units of `none`'s
pooling   comparing a query with 10,000 stored behaviours and summing their values, in units of one NumPy float32
matrix-vector product over as many keys; beside it all of `personalize`, projection included
first     time to the first token, in units of `bm25`'s with 8 behaviours in the prompt, the same requests
shared    time to the first token of a second user whose prompt begins with the same 1,500 tokens, in units of the
first user's; and whether the greedy answers are those without any cache (float32)
batch     tokens a second of 8 users at once through the scheduler, in units of one after the other; and the most
decode steps between a late-comer's admission and its first token
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from personaplug.backbones.local.scheduler import Scheduler
from personaplug.bench.speed.bench import Bench, Ratio, timed
from personaplug.core.types import Message, Prompt, Sampling
from personaplug.pipeline.build import build_backbone

ANSWER = Sampling(max_tokens=64)


def overhead(bench: Bench) -> list[Ratio]:
    """What a request costs beside the language model, and all of it beside `none`."""
    plug = bench.personalizer({"name": "plug", "max_history": 1000}, 1000)
    none = bench.personalizer({"name": "none"}, 1)
    generate = bench.backbone.generate
    medians = timed(
        {
            "persona": lambda n: plug.prompts([bench.question(2 * n)]),
            "plug": lambda n: plug.answer_many([bench.question(2 * n + 1)], ANSWER),
            "none": lambda n: generate(none.prompts([bench.question(2 * n + 1)]), ANSWER),
        },
        bench.rounds,
    )
    share, whole = medians["persona"] / medians["plug"], medians["plug"] / medians["none"]
    user = "for a user of 1,000 stored behaviours"
    rest = f"a request but for the language model {user}, in units of a 64-token answer"
    all_of_it = f"a 64-token answer {user}, in units of none's"
    return [
        Ratio.of("answering-overhead", share, "<= 0.02", rest, medians),
        Ratio.of("answering-end-to-end", whole, "<= 1.03", all_of_it, medians),
    ]


def pooling(bench: Bench) -> list[Ratio]:
    """Pooling over a long history."""
    plug = bench.personalizer({"name": "plug", "max_history": 10_000}, 10_000)
    request, profile = bench.question(0), plug.profile("ada")
    keys = np.ascontiguousarray(np.asarray(profile.state["keys"], np.float32))  # type: ignore[index]
    query = np.random.default_rng(0).standard_normal(keys.shape[1], np.float32)
    plug_, state = plug.method.plug, profile.state  # type: ignore[attr-defined]
    assert state is not None
    stored = {name: torch.as_tensor(part)[None] for name, part in state.items()}
    everybody, asked = torch.ones(stored["keys"].shape[:2], dtype=torch.bool), torch.as_tensor(query)[None]

    @torch.inference_mode()
    def pool(_: int) -> None:
        plug_.pooled(stored["values"], plug_.weights(stored["keys"], everybody, asked, plug_.asked))

    medians = timed(
        {
            "pool": pool,
            "personalize": lambda _: plug.method.personalize(request, profile),
            "product": lambda _: keys @ query,
        },
        10 * bench.rounds,
    )
    units = "over 10,000 behaviours, in units of one matrix-vector product over their keys"
    return [Ratio.of("answering-pooling", medians["pool"] / medians["product"], "<= 3", f"pooling {units}", medians)]


def first(bench: Bench) -> list[Ratio]:
    """Time to the first token."""
    plug = bench.personalizer({"name": "plug", "max_history": 1000}, 1000)
    bm25 = bench.personalizer({"name": "bm25", "k": 8}, 1000)
    medians = timed(
        {
            "plug": lambda n: next(plug.stream("ada", bench.question(n), ANSWER)),
            "bm25": lambda n: next(bm25.stream("ada", bench.question(n), ANSWER)),
        },
        2 * bench.rounds,
    )
    words = "time to the first token of plug, in units of bm25's with 8 behaviours"
    return [Ratio.of("answering-first", medians["plug"] / medians["bm25"], "<= 0.5", words, medians)]


def shared(bench: Bench) -> list[Ratio]:
    """What a second user saves whose prompt begins alike."""
    backbone: Any = build_backbone(bench.section)
    width = backbone.width
    document = backbone.cut(" ".join(bench.messages), 1500 * (bench.rounds + 2))

    def prompt(n: int, user: int, position: Any = "last") -> Prompt:
        piece = document[n * len(document) // (bench.rounds + 2) :]
        rng = torch.Generator().manual_seed(100 * n + user)
        soft = backbone.token_norm / width**0.5 * torch.randn(5, width, generator=rng)
        text = backbone.cut(piece, 1500)
        return Prompt((Message("system", text), Message("user", bench.messages[-n - user - 1])), soft, position)

    once = Sampling(max_tokens=1)
    medians = timed(
        {
            "first user": lambda n: backbone.generate([prompt(n, 0)], once),
            "second user": lambda n: backbone.generate([prompt(n, 1)], once),
        },
        bench.rounds,
    )
    ratio = medians["first user"] / medians["second user"]
    cached: Any = build_backbone({**bench.section, "dtype": "float32"})
    plain: Any = build_backbone({**bench.section, "dtype": "float32", "prompt_cache": 0})
    prompts = [prompt(0, user) for user in range(3)]
    answers = [cached.generate([p], Sampling(max_tokens=24))[0].tokens for p in prompts]
    same = sum(
        plain.generate([p], Sampling(max_tokens=24))[0].tokens == a for p, a in zip(prompts, answers, strict=True)
    )
    alike = "share of greedy answers after a shared beginning that equal those without a cache, float32"
    words = "prefill of a first user in units of a second one's whose prompt begins with the same 1,500 tokens"
    return [
        Ratio.of("answering-shared", ratio, ">= 5", words, medians),
        Ratio.of("answering-shared-same", same / len(prompts), ">= 1", alike, {}),
    ]


def batch(bench: Bench) -> list[Ratio]:
    """Many users at once."""
    backbone = bench.backbone
    plug = bench.personalizer({"name": "plug"}, 200)

    def prompts(n: int) -> list[Prompt]:
        return plug.prompts([bench.question(8 * n + i) for i in range(8)])

    def one_by_one(n: int) -> None:
        for prompt in prompts(2 * n):
            backbone.generate([prompt], ANSWER)

    def together(n: int) -> None:
        with Scheduler(backbone) as scheduler:
            for answer in [scheduler.submit(p, ANSWER) for p in prompts(2 * n + 1)]:
                answer.completion()

    medians = timed({"one by one": one_by_one, "together": together}, max(3, bench.rounds // 2))
    words = "tokens a second of 8 users at once, in units of one after the other, 64 tokens each"
    steps = "most decode steps of the others from a late-comer's admission to its first token"
    return [
        Ratio.of("answering-batch", medians["one by one"] / medians["together"], ">= 2.5", words, medians),
        Ratio.of("answering-late-comer", late(bench, prompts(99)), "<= 2", steps, {}),
    ]


def late(bench: Bench, prompts: list[Prompt]) -> int:
    """Most steps of a running batch between a late-comer's admission and its first token, over all but one prompts."""
    running, backbone = bench.backbone.running(), bench.backbone
    choices = [backbone.choice(ANSWER)]
    running.admit(prompts[:1], choices)
    worst = 0
    for prompt in prompts[1:]:
        running.step()
        before, choice = len(choices[0].tokens), backbone.choice(ANSWER)
        running.admit([prompt], [choice])
        while not choice.tokens:
            running.step()
        worst = max(worst, len(choices[0].tokens) - before)
    return worst


PARTS: dict[str, Callable[[Bench], list[Ratio]]] = {
    "overhead": overhead,
    "pooling": pooling,
    "first": first,
    "shared": shared,
    "batch": batch,
}
