"""How close personal answers come to the frozen model's own: overhead, first token, shared prompts, many users at once.

    python benchmarks/answering.py [--rounds 7] [--only overhead pooling first shared batch] [--results benchmarks]

All on smollm2-135m with the default plug (untrained: the arithmetic is the same) and real messages of chitchat.
What is compared is timed in turn in one process; reported are ratios of medians.

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

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from personaplug import data
from personaplug.assembly import build_backbone, build_encoder, build_method, build_store
from personaplug.bench.claims import Claim, record
from personaplug.bench.results import write_json
from personaplug.personalizer import Personalizer
from personaplug.scheduler import Scheduler
from personaplug.types import Behavior, Message, Prompt, Request, Sampling
from personaplug.vectors import VectorCache

HERE = Path(__file__).parent
ANSWER = Sampling(max_tokens=64)
MODEL = {"name": "causal", "model": "smollm2-135m", "device": "cpu"}
Row = dict[str, Any]


class Bench:
    """What the parts share: models, stored users, real messages."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        # No prompt is kept: what one method has read must not help the next.
        self.backbone: Any = build_backbone({**MODEL, "prompt_cache": 0})
        # Answers of full length: every method decodes as many tokens.
        self.backbone._ends = set()
        self.encoder = build_encoder({"name": "sentence", "model": "minilm", "device": "cpu"}, self.backbone)
        with (data.path("chitchat") / "behaviors.jsonl").open(encoding="utf-8") as lines:
            self.messages = list(dict.fromkeys(json.loads(line)["output"] for line in islice(lines, 60_000)))

    def personalizer(self, section: Mapping[str, Any], behaviors: int) -> Personalizer:
        """A method with one user, `ada`, of that many behaviours, stored and prepared."""
        store = build_store({"name": "sql", "url": str(Path(tempfile.mkdtemp()) / "users.db")})
        method = build_method(section, self.backbone, VectorCache(self.encoder, store), None)
        personalizer = Personalizer(method, store)
        pairs = zip(self.messages[:behaviors], self.messages[1:], strict=False)
        personalizer.observe(*(Behavior("ada", str(i), a, b, at=float(i)) for i, (a, b) in enumerate(pairs)))
        personalizer.refresh()
        return personalizer

    def question(self, n: int) -> Request:
        """The n-th of requests that nobody asked before."""
        return Request.of("ada", " ".join(self.messages[-4 * n - 4 :][:4]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--results", type=Path, default=HERE, help="folder of answering.json and claims.json")
    args = parser.parse_args()
    bench, file = Bench(args.rounds), args.results / "answering.json"
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for name in args.only:
        rows = PARTS[name](bench)
        for each in rows:
            print(each)
            claim = Claim.now(f"answering-{each['id']}", each.pop("words"), [each["value"]], each["goal"])
            record(args.results / "claims.json", claim)
        found[name] = {"threads": torch.get_num_threads(), "rounds": args.rounds, "rows": rows}
    write_json(file, found)


def timed(works: Mapping[str, Callable[[int], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, in turn; the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    gc.disable()
    for n in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work(n)
            if n:
                times[name].append(time.perf_counter() - start)
    gc.enable()
    return {name: statistics.median(each) for name, each in times.items()}


def overhead(bench: Bench) -> list[Row]:
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
    return [
        row("overhead", share, "<= 0.02", f"a request but for the language model {user}, in units of a 64-token answer",
            medians),
        row("end-to-end", whole, "<= 1.03", f"a 64-token answer {user}, in units of none's", medians),
    ]  # fmt: skip


def pooling(bench: Bench) -> list[Row]:
    plug = bench.personalizer({"name": "plug", "max_history": 10_000}, 10_000)
    request, profile = bench.question(0), plug.profile("ada")
    keys = np.ascontiguousarray(np.asarray(profile.state["keys"], np.float32))  # type: ignore[index]
    query = np.random.default_rng(0).standard_normal(keys.shape[1], np.float32)
    plug_, state = plug.method.plug, profile.state  # type: ignore[attr-defined]
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
    return [row("pooling", medians["pool"] / medians["product"], "<= 3", f"pooling {units}", medians)]


def first(bench: Bench) -> list[Row]:
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
    return [row("first", medians["plug"] / medians["bm25"], "<= 0.5", words, medians)]


def shared(bench: Bench) -> list[Row]:
    backbone: Any = build_backbone(MODEL)
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
    cached: Any = build_backbone({**MODEL, "dtype": "float32"})
    plain: Any = build_backbone({**MODEL, "dtype": "float32", "prompt_cache": 0})
    prompts = [prompt(0, user) for user in range(3)]
    answers = [cached.generate([p], Sampling(max_tokens=24))[0].tokens for p in prompts]
    same = sum(
        plain.generate([p], Sampling(max_tokens=24))[0].tokens == a for p, a in zip(prompts, answers, strict=True)
    )
    words = "prefill of a first user in units of a second one's whose prompt begins with the same 1,500 tokens"
    return [
        row("shared", ratio, ">= 5", words, medians),
        row("shared-same", same / len(prompts), ">= 1", "share of greedy answers after a shared beginning that equal "
            "those without a cache, float32", {}),
    ]  # fmt: skip


def batch(bench: Bench) -> list[Row]:
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
    return [
        row("batch", medians["one by one"] / medians["together"], ">= 2.5", words, medians),
        row("late-comer", late(bench, prompts(99)), "<= 2", "most decode steps of the others from a "
            "late-comer's admission to its first token", {}),
    ]  # fmt: skip


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


def row(name: str, value: float, goal: str, words: str, medians: Mapping[str, float]) -> Row:
    """One line of the table; medians in milliseconds, for reference."""
    milliseconds = {k: round(1e3 * v, 3) for k, v in medians.items()}
    return {"id": name, "value": round(value, 4), "goal": goal, "words": words, "median_ms": milliseconds}


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "overhead": overhead,
    "pooling": pooling,
    "first": first,
    "shared": shared,
    "batch": batch,
}


if __name__ == "__main__":
    main()
