"""For whoever runs the node: is it well, what does it do, and why does something wait."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from dataspace.access.permissions import Caller, Permission
from dataspace.operations.why import why
from dataspace.web.access import CurrentNode, For, Needs

router = APIRouter()
# Longer than any id of a node: a transfer's is a URN, an agreement's an address of its provider.
ProcessId = Annotated[str, Path(min_length=1, max_length=512)]


NOT_NOW: dict[int | str, dict[str, Any]] = {
    503: {"description": "not now", "model": dict[str, Any]}
}


@router.get("/health", tags=["discovery"], responses=NOT_NOW, dependencies=[For(Caller.ANYBODY)])
async def health(node: CurrentNode) -> JSONResponse:
    """Whether the node lives: it answers and its workers work. 503 where it should be started
    again."""
    live = node.condition.live()
    body = {"status": "ok" if live else "workers have stopped", "did": node.did}
    return JSONResponse(body, 200 if live else 503)


@router.get("/ready", tags=["discovery"], responses=NOT_NOW, dependencies=[For(Caller.ANYBODY)])
def ready(node: CurrentNode) -> JSONResponse:
    """Whether the node should be given work: 200 or 503. Why not is told at /api/readiness."""
    is_ready = not node.condition.unready()
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/api/readiness", tags=["owner's API"], dependencies=[Needs(Permission.STATUS_READ)])
def readiness(node: CurrentNode) -> dict[str, Any]:
    """What keeps the node from being ready, each with what would change it."""
    reasons = node.condition.unready()
    return {
        "ready": not reasons,
        "reasons": [
            {"part": one.part, "sentence": one.sentence, "remedy": one.remedy} for one in reasons
        ],
    }


@router.get(
    "/metrics",
    tags=["owner's API"],
    response_class=PlainTextResponse,
    responses={200: {"content": {"application/openmetrics-text": {}}}},
    dependencies=[Needs(Permission.METRICS_READ)],
)
def metrics(node: CurrentNode, request: Request) -> Response:
    """The node's metrics, in Prometheus' text format or as OpenMetrics. A scraper that should have
    no key of the node uses the port of its own (`metrics_port`)."""
    body, content_type = node.metrics.render(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


@router.get(
    "/api/why/{id:path}", tags=["owner's API"], dependencies=[Needs(Permission.STATUS_READ)]
)
def why_it_waits(node: CurrentNode, id: ProcessId) -> dict[str, Any]:
    """What a negotiation, transfer, computation, return, agreement or durable process waits for,
    since when, on whom, and what would move it; or why it ended."""
    with node.store.look() as tx:
        return why(tx, id, step_of=node.sessions.step_of).to_json()
