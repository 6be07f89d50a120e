"""What a persona costs a request: `plug` against `pplug` for a user of 1,000 behaviours.

    python benchmarks/persona_cost.py [--rounds 100] [--results benchmarks]

Timed is `personalize` of one request of a user whose state is prepared; the language model never runs. Both methods
read all 1,000 behaviours, whose vectors are made up; queries are messages of chitchat, joined to 4 to about 300 words,
encoded by minilm. `plug` runs with its defaults, whatever they are, and with two poolings by name. Three conditions:

    new request: every query is new, so it is encoded;
    same request: the query was asked before: its vector is at hand, unless a trained query encoder makes it each time;
    pooling alone: as before, but every query encoder is frozen.

All methods are timed in turn in one process, each round in another order, on the CPU; what is reported is the ratio of
medians, plug / pplug. Beside it: what is trained, soft tokens, and what is stored of the user. Needs the bundles
smollm2-135m and minilm and the data set chitchat.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from personaplug import data
from personaplug.bench.claims import Claim, record
from personaplug.core.files import write_json
from personaplug.core.types import Behavior, History, Profile, Request
from personaplug.encoders.base import TextRole, Vectors
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.encoders.sentence import SentenceConfig, SentenceEncoder
from personaplug.pipeline.build import build_backbone, build_method

HERE = Path(__file__).parent
BEHAVIORS = 1_000
ARMS: dict[str, dict[str, Any]] = {
    "plug": {"name": "plug"},
    "plug mean": {"name": "plug", "pooling": "mean"},
    "plug mean+nearest": {"name": "plug", "pooling": "mean+nearest"},
    "pplug": {"name": "pplug"},
}
CONDITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "new request": ({}, "whose query is encoded"),
    "same request": ({}, "whose query was asked before"),
    "pooling alone": ({"query_encoder": "frozen"}, "whose query's vector is at hand, query encoders frozen"),
}


class MadeUp(SentenceEncoder):
    """Real vectors of queries; of behaviours random ones, as full as real ones, at no cost."""

    @override
    def encode(
        self, texts: Sequence[str], role: TextRole = "history", progress: Callable[[int], None] | None = None
    ) -> Vectors:
        if role == "query":
            return super().encode(texts, role, progress)
        vectors = np.random.default_rng(len(texts)).standard_normal((len(texts), self.width), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--results", type=Path, default=HERE, help="folder of persona_cost.json")
    args = parser.parse_args()
    backbone = build_backbone({"name": "causal", "model": "smollm2-135m", "dtype": "float32", "device": "cpu"})
    encoder = MadeUp(SentenceConfig(device="cpu", dtype="float32"))
    texts = queries(args.rounds + 1)
    figures: dict[str, Any] = {"behaviors": BEHAVIORS, "rounds": args.rounds, "threads": torch.get_num_threads()}
    for condition, (more, _) in CONDITIONS.items():
        # Each its own cache: a query that one of them encoded must not be at hand for the next.
        sections = {arm: {**section, "max_history": BEHAVIORS, **more} for arm, section in ARMS.items()}
        methods = {arm: build_method(s, backbone, VectorCache(encoder), None) for arm, s in sections.items()}
        figures[condition] = timed(methods, texts, asked_before=condition != "new request")
        print(condition, figures[condition])
        if not more:
            figures["sizes"] = {arm: sizes(method) for arm, method in methods.items()}
    print("sizes", figures["sizes"])
    write_json(args.results / "persona_cost.json", figures)
    record(args.results, *claims(figures))


def queries(count: int) -> list[str]:
    """So many distinct texts: 1 to 16 messages of a real conversation, joined."""
    rng = np.random.default_rng(0)
    with (data.path("chitchat") / "behaviors.jsonl").open(encoding="utf-8") as lines:
        said = (json.loads(line)["output"] for line in lines)
        made = (" ".join(islice(said, int(rng.integers(1, 17)))) for _ in iter(int, 1))
        return list(islice(dict.fromkeys(islice(made, 2 * count)), count))


def history() -> History:
    """The user's, whose texts only need to differ."""
    return History("ada", tuple(Behavior("ada", str(i), "", f"text {i}", at=float(i)) for i in range(BEHAVIORS)))


def timed(methods: dict[str, Any], texts: list[str], asked_before: bool) -> dict[str, dict[str, float]]:
    """Median milliseconds of each method and its ratio to pplug's; the first text's round does not count."""
    past, rng = history(), np.random.default_rng(0)
    profiles = {arm: Profile(past, method.prepare(past)) for arm, method in methods.items()}
    times: dict[str, list[float]] = {arm: [] for arm in methods}
    gc.disable()
    for n, text in enumerate(texts):
        request = Request.of("ada", text)
        if asked_before:
            for arm, method in methods.items():
                method.personalize(request, profiles[arm])
        for arm in map(str, rng.permutation(list(methods))):
            start = time.perf_counter()
            methods[arm].personalize(request, profiles[arm])
            if n:
                times[arm].append(1e3 * (time.perf_counter() - start))
    gc.enable()
    medians = {arm: statistics.median(each) for arm, each in times.items()}
    return {arm: {"median_ms": round(m, 4), "ratio": round(m / medians["pplug"], 6)} for arm, m in medians.items()}


def sizes(method: Any) -> dict[str, int]:
    """Parameters that `fit` changes, soft tokens that carry the user, and bytes stored of them."""
    modules = [m for m in (method.plug, method.query_encoder) if m is not None]
    return {
        "trained_parameters": sum(p.numel() for m in modules for p in m.parameters() if p.requires_grad),
        "persona_tokens": method.config.persona_tokens,
        "user_bytes": sum(array.nbytes for array in (method.prepare(history()) or {}).values()),
    }


def claims(figures: dict[str, Any]) -> list[Claim]:
    """Those of the default plug."""
    made = []
    for condition, (_, words) in CONDITIONS.items():
        ratio = figures[condition]["plug"]["ratio"]
        made.append(Claim.now(f"persona-cost-{condition.replace(' ', '-')}",
                              f"making the persona of a user of 1,000 behaviours for a request {words}: plug in units "
                              "of pplug", [ratio], "<= 2"))  # fmt: skip
    plug, paper = figures["sizes"]["plug"], figures["sizes"]["pplug"]
    trained, most = plug["trained_parameters"], paper["trained_parameters"]
    return [
        *made,
        Claim.now("persona-cost-parameters", "parameters of plug that are trained in front of smollm2-135m; the goal "
                  "is pplug's, its query encoder minilm included", [trained], f"<= {most}"),
        Claim.now("persona-cost-tokens", "soft tokens of plug that carry the user", [plug["persona_tokens"]], "<= 8"),
        Claim.now("persona-cost-bytes", "bytes that plug stores of a user of 1,000 behaviours, with the encoder minilm",
                  [plug["user_bytes"]], "reported"),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
