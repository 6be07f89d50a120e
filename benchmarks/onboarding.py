"""What making a new user personal costs, in units of training a LoRA for that user on the same backbone.

    python benchmarks/onboarding.py

Writes onboarding.json and its claims. The user is a real one with 100 behaviours. Ours: `observe` all of them, encode
and prepare (`profile`), with an untrained plug, whose arithmetic is a trained one's; store and cache are empty before.
LoRA: peft at its defaults for the backbone with rank 8, the same behaviours as (input, output) pairs, two epochs in
batches of 8 of like length, AdamW, loss on the outputs alone; one epoch is measured and counted twice. The epoch is cut
in pieces, and between two of them a user is onboarded with each encoder: both meet the same machine. Times: the median
onboarding and the whole training, without loading models.

Bytes of ours are what is stored of the user: the prepared state, and beside it the vectors, which only save encoding
again, and the texts, which any system that learns from them keeps; of LoRA, the adapter's file. Needs the bundles
smollm2-135m and minilm, the data set chitchat, peft and OpenVINO.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from personaplug import data
from personaplug.bench.claims import Claim, record
from personaplug.core.files import write_json
from personaplug.core.types import Behavior
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.models import resolve
from personaplug.pipeline.build import build_backbone, build_encoder, build_method
from personaplug.pipeline.personalizer import Personalizer
from personaplug.stores.sql import SqlConfig, SqlStore

HERE = Path(__file__).parent
MODEL = "smollm2-135m"
BEHAVIORS, EPOCHS, BATCH = 100, 2, 8
ENCODERS: dict[str, dict[str, Any]] = {
    "minilm": {"name": "sentence", "model": "minilm"},
    "minilm openvino": {"name": "sentence", "model": "minilm", "backend": "openvino"},
    "hidden": {"name": "hidden"},
}
PLUGS: dict[str, dict[str, Any]] = {
    "plug": {"name": "plug"},
    "plug mean": {"name": "plug", "pooling": "mean"},
    "plug mean, one token": {"name": "plug", "pooling": "mean", "persona_tokens": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pieces of the epoch, and onboardings with each encoder")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of onboarding.json")
    args = parser.parse_args()
    past = behaviors()
    backbone = build_backbone({"name": "causal", "model": MODEL, "dtype": "float32", "device": "cpu"})
    encoders = {name: build_encoder(section, backbone) for name, section in ENCODERS.items()}
    lora = Lora(past)
    for encoder in encoders.values():
        onboard(backbone, encoder, past[:5])
    epoch, times = 0.0, {name: [] for name in encoders}
    for piece in np.array_split(np.arange(len(lora.batches)), args.rounds):
        for name, encoder in encoders.items():
            times[name].append(onboard(backbone, encoder, past))
        epoch += lora.train(piece.tolist())
    figures: dict[str, Any] = {
        "behaviors": BEHAVIORS,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "peft": peft.__version__},
        "lora": {"seconds": round(EPOCHS * epoch, 3), "bytes": lora.size(), "bytes_all_linear": Lora.largest()},
    }
    figures["seconds"] = {name: round(statistics.median(each), 4) for name, each in times.items()}
    figures["time_ratio"] = {name: round(s / figures["lora"]["seconds"], 6) for name, s in figures["seconds"].items()}
    figures["bytes"] = {arm: sizes(section, backbone, encoders["minilm"], past) for arm, section in PLUGS.items()}
    for each in figures["bytes"].values():
        each["ratio"] = {part: round(each[part] / figures["lora"]["bytes"], 6) for part in ("state", "with_vectors")}
    print(figures)
    write_json(args.results / "onboarding.json", figures)
    record(args.results, *claims(figures))


def behaviors() -> list[Behavior]:
    """The first so many of the first user of the data set who has as many and said something in answer each time."""
    users: dict[str, list[Behavior]] = {}
    with (data.path("chitchat") / "behaviors.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["input"] and row["output"]:
                own = users.setdefault(row["user"], [])
                own.append(Behavior(row["user"], row["id"], row["input"], row["output"], row["at"]))
                if len(own) == BEHAVIORS:
                    return own
    raise SystemExit(f"no user of chitchat has {BEHAVIORS} behaviours")


def onboard(backbone: Any, encoder: Any, past: list[Behavior]) -> float:
    """Seconds from behaviours that nobody has seen to a prepared state on disk."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqlStore(SqlConfig(f"{folder}/users.db"))
        me = Personalizer(build_method(PLUGS["plug"], backbone, VectorCache(encoder, store), None), store)
        _ = me.method.key  # the digest of the weights, made once for all users
        start = time.perf_counter()
        me.observe(*past)
        profile = me.profile(past[0].user)
        seconds = time.perf_counter() - start
        assert profile.state is not None
        me.close()
    return seconds


def sizes(section: dict[str, Any], backbone: Any, encoder: Any, past: list[Behavior]) -> dict[str, Any]:
    """Bytes stored of the user: the state alone, with vectors, and with texts too."""
    cache = VectorCache(encoder)
    method = build_method(section, backbone, cache, None)
    with tempfile.TemporaryDirectory() as folder:
        store = SqlStore(SqlConfig(f"{folder}/users.db"))
        store.add(past)
        state = method.prepare(store.history(past[0].user)) or {}
        store.close()
    arrays = {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in state.items()}
    own = sum(array.nbytes for array in state.values())
    texts = [t for b in past for t in (b.input, b.output)]
    vectors = len(set(texts)) * 2 * encoder.width
    return {
        "state": own,
        "with_vectors": own + vectors,
        "with_texts_too": own + vectors + sum(len(t.encode()) for t in texts),
        "arrays": arrays,
    }


class Lora:
    """One user's LoRA of rank 8, as peft makes it, and its training."""

    def __init__(self, past: list[Behavior]) -> None:
        folder = resolve(MODEL).location
        torch.manual_seed(0)
        self.model = peft.get_peft_model(
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), self.config()
        )
        self.model.train()
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=2e-4)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        rows = sorted((self.tokens(tokenizer, b) for b in past), key=lambda row: len(row[0]))
        self.batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        np.random.default_rng(0).shuffle(self.batches)

    @staticmethod
    def config(**more: Any) -> peft.LoraConfig:
        """Rank 8, everything else as peft has it."""
        return peft.LoraConfig(r=8, task_type="CAUSAL_LM", **more)

    @staticmethod
    def tokens(tokenizer: Any, behavior: Behavior) -> tuple[list[int], list[int]]:
        """Token ids of the conversation, and the labels: its answer's alone."""
        asked = [{"role": "user", "content": behavior.input}]
        said = [*asked, {"role": "assistant", "content": behavior.output}]
        whole = tokenizer.apply_chat_template(said, tokenize=False)
        prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        given = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        return ids, [-100] * given + ids[given:]

    def train(self, batches: list[int]) -> float:
        """Seconds of a step on each of these batches."""
        start = time.perf_counter()
        for rows in (self.batches[i] for i in batches):
            width = max(len(ids) for ids, _ in rows)
            ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows])
            labels = torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in rows])
            mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows])
            self.model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return time.perf_counter() - start

    def size(self) -> int:
        """Bytes of the adapter's file."""
        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder)
            return (Path(folder) / "adapter_model.safetensors").stat().st_size

    @classmethod
    def largest(cls) -> int:
        """The same with adapters on all linear layers."""
        model = AutoModelForCausalLM.from_pretrained(resolve(MODEL).location, dtype=torch.float32)
        with tempfile.TemporaryDirectory() as folder:
            peft.get_peft_model(model, cls.config(target_modules="all-linear")).save_pretrained(folder)
            return (Path(folder) / "adapter_model.safetensors").stat().st_size


def claims(figures: dict[str, Any]) -> list[Claim]:
    time_ratio, sizes_ = figures["time_ratio"], figures["bytes"]
    fastest = time_ratio["minilm openvino"]
    stored = {arm: each["ratio"]["with_vectors"] for arm, each in sizes_.items()}
    state = {arm: each["ratio"]["state"] for arm, each in sizes_.items()}
    words = f"a new user of {BEHAVIORS} behaviours, in units of training a LoRA for them (rank 8, two epochs)"
    small = "plug mean, one token"
    return [
        Claim.now("onboarding-time", f"making personal {words}: time, encoder minilm by OpenVINO", [fastest],
                  "<= 0.01"),
        Claim.now("onboarding-time-torch", "the same with minilm by torch", [time_ratio["minilm"]], "reported"),
        Claim.now("onboarding-time-hidden", "the same with the backbone's own hidden states as the encoder",
                  [time_ratio["hidden"]], "reported"),
        Claim.now("onboarding-bytes", f"making personal {words}: bytes of state and vectors of the default plug; LoRA: "
                  "the adapter's file", [stored["plug"]], "<= 0.001"),
        Claim.now("onboarding-bytes-state", "the same, the default plug's state alone", [state["plug"]], "<= 0.001"),
        Claim.now("onboarding-bytes-smallest", "the same, the state alone of a plug that pools by mean into one token",
                  [state[small]], "<= 0.001"),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
