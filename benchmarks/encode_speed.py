"""How fast encoders are on real texts, in units of sentence-transformers' own loop at its defaults.

    python benchmarks/encode_speed.py [--rounds 5] [--texts FILE ...] [--results benchmarks]

The unit is `SentenceTransformer("minilm").encode(texts)`: float32, batches of 32. Against it stand `sentence` at its
defaults, in bfloat16, with OpenVINO in float32 and in bfloat16, and `static`, distilled from the same model. Each round
draws fresh texts, which every arm encodes once, in a random order: passages of chitchat of 1, 2, 4 or 8 messages, and
in equal number the lines of each file named (of a .jsonl file the field `input`). Reported are medians of the rounds'
ratios (of texts a second, and of `sentence` in float32 for `static`), and how well the vectors agree with the unit's
over the texts of all rounds:

    cosine: of an arm's vector and the unit's of the same text, the mean and the smallest;
    top-10 overlap: each text is a query to all the others; the mean share of the unit's ten nearest that are an arm's;
    same top-10: the share of queries whose ten nearest are the same ten.

Then the vector cache, for each of two encoders: a first run over a user's behaviours, and a second one as a new process
sees them: a store that knows the vectors, and nothing in memory. At last one behaviour is added, and the texts that
reach the encoder are counted. Needs the bundle minilm, the data set chitchat, openvino and model2vec; the first time, a
static model is distilled (about half a minute).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from personaplug import data
from personaplug.bench.claims import Claim, record
from personaplug.core.files import write_json
from personaplug.core.types import Behavior
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.encoders.sentence import SentenceConfig, SentenceEncoder
from personaplug.encoders.static import StaticConfig, StaticEncoder
from personaplug.models import resolve
from personaplug.stores.sql import SqlConfig, SqlStore

HERE = Path(__file__).parent
UNIT = "sentence-transformers"
ARMS: dict[str, dict[str, Any]] = {
    "sentence": {},
    "sentence bfloat16": {"dtype": "bfloat16"},
    "sentence openvino": {"backend": "openvino"},
    "sentence openvino bfloat16": {"backend": "openvino", "dtype": "bfloat16"},
}
CACHED = ("sentence", "sentence openvino bfloat16")
LIBRARIES = ("sentence-transformers", "transformers", "torch", "openvino", "model2vec")


class Counting(SentenceEncoder):
    """Counts the texts that it encodes."""

    count = 0

    @override
    def encode(self, texts, role="history", progress=None):
        self.count += len(texts)
        return super().encode(texts, role, progress)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=256, help="texts of a round")
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="files of one text a line, or .jsonl")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=HERE, help="folder of encode_speed.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rounds = drawn([passages(), *map(lines, args.texts)], args.rounds + 1, args.size)
    encoders = {arm: Counting(SentenceConfig(device="cpu", **config)) for arm, config in ARMS.items()}
    unit = SentenceTransformer(resolve("minilm").location, device="cpu")
    static = StaticEncoder(StaticConfig())
    run: dict[str, Callable[[list[str]], Any]] = {UNIT: unit.encode, "static": static.encode}
    run |= {arm: encoder.encode for arm, encoder in encoders.items()}
    seconds, vectors = timed(run, rounds)
    figures: dict[str, Any] = {
        "rounds": args.rounds,
        "texts": args.size,
        "threads": args.threads,
        "tokens": spread([len(row) for texts in rounds for row in unit.tokenizer(texts, verbose=False)["input_ids"]]),
        "versions": {name: version(name) for name in LIBRARIES},
        "arms": {arm: speed(arm, seconds, args.size) | agreement(vectors[arm], vectors[UNIT]) for arm in run},
        "cache": {arm: cached(encoders[arm], rounds[1], rounds[0][0]) for arm in CACHED},
    }
    for part in (*figures["arms"].items(), *figures["cache"].items()):
        print(*part)
    write_json(args.results / "encode_speed.json", figures)
    record(args.results, *claims(figures))


def passages() -> list[str]:
    """Distinct texts of 1, 2, 4 or 8 messages of a conversation."""
    rng = np.random.default_rng(0)
    with (data.path("chitchat") / "behaviors.jsonl").open(encoding="utf-8") as rows:
        said = (json.loads(row)["output"] for row in rows)
        made = iter(lambda: "\n".join(islice(said, int(rng.choice([1, 2, 4, 8])))), "")
        return list(dict.fromkeys(made))


def lines(path: Path) -> list[str]:
    """The distinct texts of a file."""
    rows = path.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(row)["input"] for row in rows] if path.suffix == ".jsonl" else rows
    return list(dict.fromkeys(text for text in texts if text.strip()))


def drawn(sources: list[list[str]], rounds: int, size: int) -> list[list[str]]:
    """Texts for each round, as many of each source, none twice; the first round is for warming up."""
    rng = np.random.default_rng(0)
    each = -(-rounds * size // len(sources))
    picked = [source[i] for source in sources for i in rng.choice(len(source), each, replace=False)]
    mixed = [picked[i] for i in rng.permutation(len(picked))]
    return [mixed[n * size : (n + 1) * size] for n in range(rounds)]


def timed(
    run: dict[str, Callable[[list[str]], Any]], rounds: list[list[str]]
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each arm in each round, and its vectors of all texts; the first round does not count."""
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {arm: [] for arm in run}
    vectors: dict[str, list[Any]] = {arm: [] for arm in run}
    gc.disable()
    for n, texts in enumerate(rounds):
        for arm in map(str, rng.permutation(list(run))):
            start = time.perf_counter()
            encoded = run[arm](texts)
            if n:
                seconds[arm].append(time.perf_counter() - start)
                vectors[arm].append(encoded)
    gc.enable()
    return seconds, {arm: np.concatenate(each) for arm, each in vectors.items()}


def speed(arm: str, seconds: dict[str, list[float]], size: int) -> dict[str, Any]:
    """Texts a second, and how many times the unit's and the default encoder's that is, in the median round."""
    ratios = [unit / ours for unit, ours in zip(seconds[UNIT], seconds[arm], strict=True)]
    defaults = [ours / default for ours, default in zip(seconds["sentence"], seconds[arm], strict=True)]
    return {
        "texts_per_second": round(size / statistics.median(seconds[arm]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_to_sentence": round(statistics.median(defaults), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def agreement(ours: Any, unit: Any) -> dict[str, float]:
    """How close vectors [n, e] are to the unit's; no cosine where the widths differ."""
    near, nearest = neighbours(ours), neighbours(unit)
    overlaps = np.array([len(set(a) & set(b)) / 10 for a, b in zip(near, nearest, strict=True)])
    figures = {"top10_overlap": round(float(overlaps.mean()), 4), "same_top10": round(float((overlaps == 1).mean()), 4)}
    if ours.shape == unit.shape:
        cosines = (ours * unit).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(unit, axis=-1)
        figures |= {"cosine": round(float(cosines.mean()), 6), "smallest_cosine": round(float(cosines.min()), 6)}
    return figures


def neighbours(vectors: Any) -> Any:
    """The ten texts nearest to each [n, 10], itself not among them."""
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    return np.argsort(-likeness, axis=1)[:, :10]


def cached(encoder: Counting, texts: list[str], fresh: str) -> dict[str, Any]:
    """A first and a second run over the same behaviours, and the texts encoded after one more is there."""
    behaviors = [Behavior("ada", str(n), "", text) for n, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        store = SqlStore(SqlConfig(str(Path(folder) / "store.db")))
        store.add(behaviors)
        times = []
        for again in range(6):
            vectors = VectorCache(encoder, store)  # nothing in memory, as in a new process
            start = time.perf_counter()
            encoded = vectors.precompute(behaviors, "{output}")
            times.append(time.perf_counter() - start)
            assert encoded == (0 if again else len(texts))
        more = [*behaviors, Behavior("ada", "one more", "", fresh)]
        store.add(more)
        before = encoder.count
        VectorCache(encoder, store).precompute(more, "{output}")
        store.close()
    first, second = times[0], statistics.median(times[1:])
    return {
        "first_seconds": round(first, 3),
        "second_seconds": round(second, 5),
        "ratio": round(first / second, 1),
        "encoded_after_one_more": encoder.count - before,
    }


def spread(lengths: list[int]) -> dict[str, float]:
    """The quartiles of the texts' lengths in tokens, and the longest."""
    return {f"{at:.0%}": float(np.quantile(lengths, at)) for at in (0.25, 0.5, 0.75, 1)}


def claims(figures: dict[str, Any]) -> list[Claim]:
    """Those of the fast settings, the static tier and the cache."""
    arms, unit = figures["arms"], "in units of SentenceTransformer.encode at its defaults"
    made = []
    for arm in ("sentence bfloat16", "sentence openvino", "sentence openvino bfloat16"):
        row, id_ = arms[arm], f"encode-speed-{arm.replace(' ', '-')}"
        made += [
            Claim.now(id_, f"texts a second of {arm}, {unit}", [row["ratio"]], ">= 2.5"),
            Claim.now(f"{id_}-cosine", f"mean cosine of {arm} to them", [row["cosine"]], ">= 0.998"),
            Claim.now(f"{id_}-top10", f"mean share of their ten nearest texts that are {arm}'s too",
                      [row["top10_overlap"]], ">= 0.97"),
        ]  # fmt: skip
    default, static = arms["sentence"], arms["static"]
    cache = figures["cache"]["sentence"]
    return [
        *made,
        Claim.now("encode-speed-sentence", f"texts a second of sentence at its defaults, {unit}", [default["ratio"]],
                  "reported"),
        Claim.now("encode-speed-static", "texts a second of static, in units of sentence at its defaults",
                  [static["ratio_to_sentence"]], ">= 50"),
        Claim.now("encode-speed-static-top10", "mean share of minilm's ten nearest texts that are static's too",
                  [static["top10_overlap"]], "reported"),
        Claim.now("encode-speed-second-run", f"a first run of sentence over {figures['texts']} texts, in units of a "
                  "second one that finds their vectors in the store", [cache["ratio"]], ">= 100"),
        Claim.now("encode-speed-one-more", "texts encoded after one behaviour was added",
                  [cache["encoded_after_one_more"]], "<= 1"),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
