"""The route of a user's map: their behaviours in two dimensions. n: behaviours, e: the width of their vectors."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray

from personaplug.core.types import History
from personaplug.serve.openai.errors import ApiError
from personaplug.serve.routes.history import shown_behavior
from personaplug.serve.runtime.service import Served
from personaplug.serve.security.access import Access, CurrentAccess, PathUser

router = APIRouter(prefix="/v1/users/{user}", tags=["page"])

_LONGEST = 160  # characters of a text on the map; the behaviour itself has all of it


@router.get("/map")
async def behavior_map(
    user: PathUser,
    access: CurrentAccess,
    model: Annotated[str | None, Query(max_length=1024, description="Whose view; by default the first one's.")] = None,
    limit: Annotated[int, Query(ge=1, le=2000, description="The newest so many.")] = 500,
) -> dict[str, Any]:
    """A user's newest behaviours, oldest first, each at a point in [-1, 1]²: near where the method sees them alike."""
    access.authorize("read", {"user": user})
    served = _seeing(access, model)

    def work() -> tuple[History, NDArray[np.float32], list[float]]:
        whole = access.service.store.history(access.caller.stored(user))
        history = whole.last(limit)
        method = served.personalizer.method
        templates = method.history_templates or (served.personalizer.task.history_text,)
        return history, *project(method.needed_vectors().embed(history, *templates))

    history, points, explained = await access.service.in_thread(work)
    data = []
    for behavior, (x, y) in zip(history, points, strict=True):
        shown = shown_behavior(behavior)
        short = {key: shown[key][:_LONGEST] for key in ("input", "output")}
        data.append({**shown, **short, "x": round(float(x), 4), "y": round(float(y), 4)})
    return {"object": "map", "model": served.id, "explained": [round(e, 4) for e in explained], "data": data}


def _seeing(access: Access, model: str | None) -> Served:
    """The model whose vectors are shown."""
    service = access.service
    models = [service.model(model)] if model is not None else list(service.models.values())
    seeing = next((m for m in models if m.personalizer.method.vectors is not None), None)
    if seeing is None:
        raise ApiError(404, "no model here looks at vectors; serve a trained plug to see a map", code="no_map")
    return seeing


def project(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[float]]:
    """Vectors [n, e] as points [n, 2] within [-1, 1] along their two principal axes, and the axes' shares of variance.

    The same vectors give the same points: each axis points to where its largest loading is positive.
    """
    points = np.zeros((len(vectors), 2), np.float32)
    if len(vectors) < 2:
        return points, [0.0, 0.0]
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    total = float((sizes**2).sum())
    if total == 0.0:
        return points, [0.0, 0.0]
    axes = axes[:2]
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    projected = centred @ (axes * np.sign(largest)[:, None]).T
    points[:, : projected.shape[1]] = projected / np.abs(projected).max()
    shares = [float(s) for s in sizes[:2] ** 2 / total]
    return points, [*shares, 0.0][:2]
