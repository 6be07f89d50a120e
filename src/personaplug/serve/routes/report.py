"""The route of the bench report that the server was given."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from personaplug.serve.openai.errors import ApiError
from personaplug.serve.security.access import CurrentAccess

router = APIRouter(prefix="/v1", tags=["page"])


@router.get("/report", response_class=HTMLResponse, response_model=None)
async def report(access: CurrentAccess) -> HTMLResponse:
    """The report, as it is on disk now; it shows users' texts, so only keys that reach every user get it."""
    access.authorize("read", {})
    if access.caller.tenant or access.caller.users is not None:
        raise ApiError(403, "the report shows users of everybody; use a key of no tenant and all users", code="denied")
    path: Path | None = access.request.app.state.report
    if path is None:
        raise ApiError(404, "this server has no report; start it with --report FILE", code="no_report")
    try:
        return HTMLResponse(await access.service.in_thread(path.read_text, encoding="utf-8"))
    except OSError:
        raise ApiError(404, "the report is not there any more; write it again", code="no_report") from None
