"""The routes of models and embeddings, as OpenAI's clients know them."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote

import numpy as np
from fastapi import APIRouter

from personaplug.core.errors import did_you_mean
from personaplug.serve.openai.errors import ApiError
from personaplug.serve.openai.schemas import EmbeddingBody
from personaplug.serve.security.access import Access, CurrentAccess

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models")
async def models(access: CurrentAccess) -> dict[str, Any]:
    """Every method on every backbone, and the encoders."""
    access.authorize("read", {})
    return {"object": "list", "data": _models(access)}


@router.get("/models/{model:path}")
async def one_model(model: str, access: CurrentAccess) -> dict[str, Any]:
    """One of them."""
    access.authorize("read", {})
    model = unquote(model)
    served = {m["id"]: m for m in _models(access)}
    if model not in served:
        end = did_you_mean(model, served)
        raise ApiError(404, f"model {model!r} is not served; {end}", param="model", code="model_not_found")
    return served[model]


@router.post("/embeddings")
async def embeddings(body: EmbeddingBody, access: CurrentAccess) -> dict[str, Any]:
    """Vectors of texts, by the encoder that a method looks at histories with; nobody's history is touched."""
    access.authorize("read", {"user": body.user})
    service = access.service
    if body.model not in service.encoders:
        end = did_you_mean(body.model, service.encoders)
        raise ApiError(404, f"no encoder {body.model!r} is served; {end}", param="model", code="model_not_found")
    vectors = service.encoders[body.model]
    if body.dimensions not in (None, vectors.width):
        raise ApiError(
            400, f"dimensions is {body.dimensions}: {body.model} has {vectors.width}; leave it out", param="dimensions"
        )
    encoded = await service.in_thread(vectors.encode, body.texts)
    tokens = sum(len(text.split()) for text in body.texts)
    return {
        "object": "list",
        "model": body.model,
        "data": [
            {"object": "embedding", "index": i, "embedding": _as_json(vector, body.encoding_format)}
            for i, vector in enumerate(encoded)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _as_json(vector: Any, form: str | None) -> str | list[float]:
    if form == "base64":
        return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    return [float(x) for x in vector]


def _models(access: Access) -> list[dict[str, Any]]:
    served = [
        {
            "id": m.id,
            "object": "model",
            "created": m.created,
            "owned_by": "personaplug",
            "personaplug": {
                "method": m.personalizer.method.name,
                "personal": m.personalizer.method.personal,
                "task": m.personalizer.task.name,
                "options": list(m.personalizer.task.options),
                "encoder": m.encoder or None,
            },
        }
        for m in access.service.models.values()
    ]
    encoders = [
        {"id": id_, "object": "model", "created": 0, "owned_by": "personaplug", "personaplug": {"width": v.width}}
        for id_, v in access.service.encoders.items()
    ]
    return served + encoders
