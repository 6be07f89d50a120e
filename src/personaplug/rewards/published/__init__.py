"""The ten reward models of PersonalLLM with the statistics that it standardises their scores by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishedReward:
    """A reward model by its name on the hub.

    Attributes:
        model: on the hub.
        mean: of its scores on the published answers.
        deviation: their standard deviation.
        form: how the released code put a prompt and an answer to it, and so what the statistics are of (see
            `rewards.hf.HfConfig`). Some of the models' own cards ask for another: docs/personalllm.md.
        own_class: whose class its scoring head is of, where transformers has none for it.
    """

    model: str
    mean: float
    deviation: float
    form: str = "chat"
    own_class: str = ""


# What data/gen_rewards.py writes for a tokenizer without a chat template: the form that eval/constants.py names for
# beaver_7b (pku-align) is read, and never reaches the function that writes (namkoong-lab/PersonalLLM, commit 2f8a956).
_PLAIN = "User: {prompt}\nAssistant: {answer}"
_OASST = "Open-Assistant's GPTNeoXRewardModel"  # the model's card; gpt_neox_reward_model is no type of transformers

# Means and deviations: eval/constants.py (commit fdad05c).
PUBLISHED: Mapping[str, PublishedReward] = {
    # It says what an answer costs; the scores are minus that (BeaverCostPipeline in allenai/reward-bench), as a mean
    # above 0 for harmless answers agrees with.
    "beaver_7b": PublishedReward(
        "PKU-Alignment/beaver-7b-v1.0-cost", 6.2335, 3.0126, _PLAIN, "safe-rlhf's LlamaForScore"
    ),
    "gemma_2b": PublishedReward("weqweasdas/RM-Gemma-2B", 4.3304, 2.0386),
    "gemma_7b": PublishedReward("weqweasdas/RM-Gemma-7B", 1.6260, 2.6097),
    "llama3_sfairx": PublishedReward("sfairXC/FsfairX-LLaMA3-RM-v0.1", 1.0638, 2.9530),
    "mistral_raft": PublishedReward("hendrydong/Mistral-RM-for-RAFT-GSHF-v0", 8.3092, 3.0728),
    "mistral_ray": PublishedReward("Ray2333/reward-model-Mistral-7B-instruct-Unified-Feedback", 3.0136, 1.6903),
    "mistral_weqweasdas": PublishedReward("weqweasdas/RM-Mistral-7B", 7.0711, 2.5786),
    "oasst_deberta_v3": PublishedReward("OpenAssistant/reward-model-deberta-v3-large-v2", 2.8977, 1.7208, _PLAIN),
    "oasst_pythia_1b": PublishedReward(
        "OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5", 4.2939, 2.3018, _PLAIN, _OASST
    ),
    "oasst_pythia_7b": PublishedReward("OpenAssistant/oasst-rm-2-pythia-6.9b-epoch-1", 4.7064, 1.3659, _PLAIN, _OASST),
}
"""Alias -> model. The aliases' alphabetical order is the order of the published users' weights (arXiv 2409.20296)."""
