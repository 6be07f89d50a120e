"""The small real model behind the server: personal, streamed, and the library's own answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import openai
import pytest

from personaplug.core import registry
from personaplug.core.types import Behavior, Sampling
from personaplug.serve.runtime.loader import ModelLoader
from personaplug.tasks.base import TaskInfo
from serving import OPEN, listening

ASK = [{"role": "user", "content": "Any plans for tonight?"}]


@pytest.mark.model
def test_a_plug_of_the_small_model_is_served(tmp_path: Path) -> None:
    from personaplug.pipeline.build import RunConfig, build_components

    run = RunConfig.parse(
        backbone={"name": "causal", "model": "smollm2-135m", "dtype": "float32", "device": "cpu"},
        encoder={"name": "sentence", "model": "minilm", "device": "cpu"},
    )
    info = TaskInfo("chat", "text", history_text="{output}")
    build_components(run, info, None).save(tmp_path / "plug", {}, {})
    store = registry.build("store", "sql", {"url": str(tmp_path / "users.db")})
    store.add([Behavior("ada", str(i), "How are you?", text) for i, text in enumerate(("grand!!", "so tired"))])
    loading = ModelLoader(store, replace(OPEN, openvino=True))
    loading.add(str(tmp_path / "plug"))
    loading.add_untrained(loading.models["smollm2-135m:plug"], "bm25")
    with listening(loading.service(), tmp_path / "users.db") as live:
        own = live.service.models["smollm2-135m:plug"].personalizer
        alone = own.answer("ada", ASK[0]["content"], Sampling(max_tokens=8))
        with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
            assert {"smollm2-135m:plug", "smollm2-135m:none", "smollm2-135m:bm25", "minilm:sentence"} == {
                m.id for m in client.models.list()
            }
            whole = client.chat.completions.create(model="smollm2-135m:plug", messages=ASK, user="ada", max_tokens=8)
            assert whole.choices[0].message.content == alone
            chunks = client.chat.completions.create(
                model="smollm2-135m:plug", messages=ASK, user="ada", max_tokens=8, stream=True
            )
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == alone
            shown = client.chat.completions.create(model="smollm2-135m:bm25", messages=ASK, user="ada", max_tokens=4)
            assert shown.model_extra["personaplug"]["personalized"]
            assert len(client.embeddings.create(model="minilm:sentence", input="hello").data[0].embedding) == 384
