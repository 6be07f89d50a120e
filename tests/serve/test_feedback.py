"""Feedback that a server was sent is what methods of likes and dislikes learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personaplug import registry
from personaplug.types import Profile
from serving import OPEN, Live, Parrot, served, text_service


@pytest.fixture
def live(tmp_path: Path):
    path = tmp_path / "users.db"
    with served(text_service(path, Parrot(), OPEN, methods=("icl",)), path) as found:
        yield found


def test_feedback_changes_the_prompt_of_icl_and_the_belief_of_lowrank(live: Live) -> None:
    ask = {"model": "echo:icl", "messages": [{"role": "user", "content": "more tea?"}], "user": "ada"}
    with live.client() as web:

        def said() -> str:
            return web.post("/v1/chat/completions", json=ask).json()["choices"][0]["message"]["content"]

        assert "Liked answer" not in said()
        better = {"input": "tea?", "output": "Certainly not.", "preferred": "oh yes please"}
        for body in (better, {"input": "cake?", "output": "Never.", "rating": 0}):
            assert web.post("/v1/users/ada/feedback", json=body).status_code == 201
        assert "User: tea?\nLiked answer: oh yes please" in said()
        assert "Never." not in said()  # liked answers alone are shown

    lowrank: Any = registry.build("method", "lowrank", backbone=Parrot(), vectors=live.service.encoders["hashing"])
    learnt = {"basis": np.eye(16), "mean": np.zeros(16), "covariance": np.eye(16)}
    lowrank.load_tensors({name: torch.from_numpy(array) for name, array in learnt.items()})
    worth = lowrank.worth(Profile(live.service.store.history("ada")), "", ["oh yes please", "Certainly not."])
    assert worth[0] > 0 > worth[1]
