"""How close a plug's training step comes to the frozen model's bare forward+backward on the same tokens.

Bare: the model's forward over the very same padded columns, cross-entropy over the very same target columns, and
backward to its input embeddings; no plug, no tokenizing, no histories, no optimizer. Ours: everything a step does.
Both are timed in turn, on a CPU in processor time, which others on the machine disturb least; what is reported is the
median of ours / bare (1.0: the plug is free). For a persona that stands last, bare is the same bare step over ALL
columns, since that is what training at the front would cost. Its first epoch reads each prompt and keeps its states,
later ones find them: over two epochs, the default, it is the mean of both. Prompts are a message, or (long) what was
said in the four before it too. Memory is the most that a step allocates beyond what is there before it (weights,
optimizer), in units of the bare step's.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from personaplug import data
from personaplug.bench.speed.bench import Bench, Ratio
from personaplug.core.types import Example, Message
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.pipeline.build import build_backbone, build_method, build_task
from personaplug.training.config import TrainingConfig
from personaplug.training.trainer import SampledExample, schedule

BATCH, BATCHES = 16, 4
TURNS = 4  # messages in front of a long prompt's last
RUNS = (
    ("first", "first", 1, False, "<= 1.05"),
    ("last", "last in a first epoch", 1, False, "reported"),
    ("last-two-epochs", "last over two epochs", 2, False, "<= 0.6"),
    ("last-long", "last over two epochs, long prompts", 2, True, "<= 0.6"),
)


def training(bench: Bench) -> list[Ratio]:
    """A ratio of time and one of memory for each place of the persona."""
    task = build_task(
        {"name": "jsonl", "path": str(data.path("chitchat")), "max_users": 20, "min_history": 8, "max_history": 64,
         "requests_per_user": 8}
    )  # fmt: skip
    short = task.examples("train")
    ratios, vectors = [], VectorCache(bench.encoder)
    backbone: Any = build_backbone(bench.section)
    for name, place, epochs, is_long, goal in RUNS:
        method = {"name": "plug", "position": name.split("-")[0]}
        examples = lengthened(short, bench.messages) if is_long else short
        step = Step(build_method(method, backbone, vectors, task.info), examples)
        ratio, medians = compare(step, epochs, bench.rounds)
        words = f"a training step with the persona {place}, in units of the model's bare forward+backward"
        ratios.append(Ratio.of(f"training-{name}", ratio, goal, words, medians))
        if epochs == 1:
            words = f"the most memory that a training step with the persona {place} takes, in units of the bare step's"
            ratios.append(Ratio.of(f"training-memory-{name}", memory(step), "<= 1.3", words, {}))
    return ratios


class Step:
    """A plug's training step on batches of its examples, and the bare one of its model."""

    def __init__(self, method: Any, examples: Sequence[Example]) -> None:
        self.method = method
        self.module = method.training_module(examples, examples)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-4)
        samples = schedule(self.module.targets.lengths(), TrainingConfig(batch_size=BATCH, epochs=1))[: BATCHES * BATCH]
        self.clock = time.process_time if method.backbone.device.type == "cpu" else time.perf_counter
        self.batches = [samples[i : i + BATCH] for i in range(0, len(samples), BATCH)]

    def ours(self, batch: list[SampledExample]) -> float:
        """Seconds of all that a step does."""
        start = self.clock()
        loss = self.module(**self.module.collate(batch)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        return self.clock() - start

    def bare(self, batch: list[SampledExample]) -> float:
        """Seconds of the model's forward and backward on the same padded columns."""
        backbone, config = self.method.backbone, self.method.config
        examples = [self.module.targets.examples[sample.index] for sample in batch]
        prompts = [backbone.prompt_ids(e.request.messages) for e in examples]
        targets = [backbone.target_ids(e.target) for e in examples]
        columns = config.instruction_tokens + config.persona_tokens + max(map(len, prompts))
        width = max(map(len, targets))
        shape = (len(examples), columns + width - 1, backbone.width)
        embeds = torch.randn(shape, dtype=backbone.dtype, device=backbone.device, requires_grad=True)
        labels = torch.randint(0, backbone.model.config.vocab_size, (len(examples), width), device=backbone.device)
        start = self.clock()
        logits = backbone.model(inputs_embeds=embeds, logits_to_keep=width, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten()).backward()
        return self.clock() - start


def lengthened(examples: Sequence[Example], messages: Sequence[str]) -> list[Example]:
    """The same requests after four messages more each."""
    made = []
    for n, example in enumerate(examples):
        before = (Message("user", "\n".join(messages[n * TURNS : (n + 1) * TURNS])), Message("assistant", "ok"))
        request = dataclasses.replace(example.request, messages=(*before, *example.request.messages))
        made.append(dataclasses.replace(example, request=request))
    return made


def compare(step: Step, epochs: int, rounds: int) -> tuple[float, dict[str, float]]:
    """Ratio ours / bare over the same batches: the median over batches and rounds of its mean over epochs."""
    ratios, ours, bare = [], [], []
    for _ in range(rounds):
        step.method.backbone.forget_prompts()
        spent: dict[int, list[float]] = {i: [] for i in range(len(step.batches))}
        for _ in range(epochs):
            for i, batch in enumerate(step.batches):
                ours.append(step.ours(batch))
                bare.append(step.bare(batch))
                spent[i].append(ours[-1] / bare[-1])
        ratios += [statistics.mean(each) for each in spent.values()]
    return statistics.median(ratios), {"ours": statistics.median(ours), "bare": statistics.median(bare)}


def memory(step: Step) -> float:
    """The most bytes at once of our step in units of the bare step's; prompts have run before, as in later epochs."""
    batch = step.batches[0]
    return peak(lambda: step.ours(batch)) / peak(lambda: step.bare(batch))


def peak(work: Callable[[], Any]) -> int:
    """The most bytes at once that the work allocates in this process's memory, beyond what is there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        work()
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return int(np.cumsum([size for _, size in changes]).max())
