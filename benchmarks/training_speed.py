"""How close a plug's training step comes to the frozen model's bare forward+backward on the same tokens.

    python benchmarks/training_speed.py [--batches 8] [--rounds 3]

Bare: the model's forward over the very same padded columns, cross-entropy over the very same target columns, and
backward to its input embeddings; no plug, no tokenizing, no histories, no optimizer. Ours: everything a step does.
Both are timed in turn in one process; what is reported is the median of ours / bare (1.0: the plug is free). For
`last`, bare is the same bare step over ALL columns, since that is what training at the front would cost. Its first
epoch reads each prompt and keeps its states, later ones find them: `last, two epochs` is the mean of both, which is
what the default two epochs cost.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from personaplug import data
from personaplug.assembly import RunConfig, assemble, build_task
from personaplug.bench.claims import Claim, record
from personaplug.bench.results import write_json
from personaplug.methods.soft.fitting import Fitting
from personaplug.training import TrainingConfig, plan

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    task = build_task({"name": "jsonl", "path": str(data.path("chitchat")), "max_users": 40, "min_history": 8,
                       "max_history": 64, "requests_per_user": 8})  # fmt: skip
    examples = task.examples("train")
    training = TrainingConfig(batch_size=16, epochs=1)
    claims, rows, backbone = [], [], None
    for position, epochs, goal in (("first", 1, "<= 1.05"), ("last", 1, "reported"), ("last", 2, "<= 0.6")):
        run = RunConfig(
            backbone={"name": "causal", "model": "smollm2-135m"}, method={"name": "plug", "position": position}
        )
        parts = assemble(run, task.info, None, backbone)
        backbone = parts.backbone
        backbone.forget_prompts()
        fitting = Fitting(parts.method, examples)
        name = f"{position}, two epochs" if epochs == 2 else position
        ratio, row = compare(parts.method, fitting, training, epochs, args)
        rows.append({"position": name, "ratio": ratio, **row})
        words = f"a training step of smollm2-135m with the persona {name}, in units of its bare forward+backward"
        claims.append(Claim.now(f"training-speed-{name.replace(', ', '-').replace(' ', '-')}", words, [ratio], goal))
        print(rows[-1])
    write_json(HERE / "training_speed.json", rows)
    record(HERE / "claims.json", *claims)


def compare(method, fitting, training, epochs, args) -> tuple[float, dict[str, float]]:
    """Ratio ours / bare over the same batches, timed in turn: the median over rounds of its mean over epochs."""
    draws = plan(fitting.lengths, training)[: args.batches * training.batch_size]
    batches = [draws[i : i + training.batch_size] for i in range(0, len(draws), training.batch_size)]
    optimizer = torch.optim.AdamW(fitting.parameters(), lr=1e-4)
    ratios, ours, bare = [], [], []
    for _ in range(args.rounds):
        method.backbone.forget_prompts()
        spent: dict[int, list[float]] = {i: [] for i in range(len(batches))}
        for _ in range(epochs):
            for i, batch in enumerate(batches):
                start = time.perf_counter()
                loss = fitting(**fitting.collate(batch)).mean()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(fitting.parameters(), 1.0)
                optimizer.step()
                ours.append(time.perf_counter() - start)
                bare.append(bare_step(method, [fitting.examples[d.index] for d in batch]))
                spent[i].append(ours[-1] / bare[-1])
        ratios += [statistics.mean(each) for each in spent.values()]
    return round(statistics.median(ratios), 3), {
        "ours_median_s": round(statistics.median(ours), 3),
        "bare_median_s": round(statistics.median(bare), 3),
        "steps": len(ours),
        "threads": torch.get_num_threads(),
    }


def bare_step(method, examples) -> float:
    """Seconds of the bare step on the same padded columns."""
    backbone, config = method.backbone, method.config
    prompts = [backbone.prompt_ids(e.request.messages) for e in examples]
    targets = [backbone.target_ids(e.target) for e in examples]
    columns = config.instruction_tokens + config.persona_tokens + max(map(len, prompts))
    width = max(map(len, targets))
    embeds = torch.randn(len(examples), columns + width - 1, backbone.width, dtype=backbone.dtype, requires_grad=True)
    labels = torch.randint(0, backbone.model.config.vocab_size, (len(examples), width))
    start = time.perf_counter()
    logits = backbone.model(inputs_embeds=embeds, logits_to_keep=width, use_cache=False).logits
    torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten()).backward()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
