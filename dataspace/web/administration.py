"""Routes about who may use this node: keys, acts, and what waits for a second person."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.types import Message

from dataspace.access.acts import MAX_ACTS_A_PAGE
from dataspace.access.holding import Approved
from dataspace.access.holding import shown as request_json
from dataspace.access.permissions import HOLDABLE, RULES, Permission, Role, may
from dataspace.access.registry import shown as key_json
from dataspace.web.access import APPROVED, CurrentNode, CurrentPrincipal, Needs

router = APIRouter(prefix="/api/access", tags=["access"])

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class NewKeyAsked(BaseModel):
    """Whose key it is to be, and what it may. `person` is who answers for what is done with it: an
    approval needs two persons, not two keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    person: Name
    role: Role
    expires_in_days: float | None = Field(default=None, gt=0, le=3650, allow_inf_nan=False)


@router.get("/self", dependencies=[Needs(Permission.SELF_READ)])
def who(principal: CurrentPrincipal) -> dict[str, Any]:
    """Who is calling, and what they may do here."""
    return {
        "person": principal.person,
        "credential": principal.credential,
        "roles": sorted(principal.roles),
        "permissions": sorted(one for one in Permission if may(principal.roles, one)),
    }


@router.get("/permissions", dependencies=[Needs(Permission.SELF_READ)])
def permissions(node: CurrentNode) -> list[dict[str, Any]]:
    """Every permission: which roles have it, what using it is, and how many persons it takes."""
    return [
        {
            "permission": one,
            "roles": sorted(rule.roles),
            "nature": rule.nature,
            "can_be_held": one in HOLDABLE,
            "persons": 2 if one in node.access.two_persons else 1,
        }
        for one, rule in RULES.items()
    ]


@router.get("/keys", dependencies=[Needs(Permission.ACCESS_READ)])
def keys(node: CurrentNode) -> list[dict[str, Any]]:
    """Every key there has been, the newest first; never a key itself."""
    now = time.time()
    return [key_json(row, now) for row in node.access.keys.all()]


@router.post("/keys", status_code=201, dependencies=[Needs(Permission.ACCESS_GRANT)])
def add_key(node: CurrentNode, by: CurrentPrincipal, asked: NewKeyAsked) -> dict[str, Any]:
    """A new key. It is in this answer and nowhere else."""
    row, key = node.access.keys.add(
        name=asked.name, person=asked.person, role=asked.role, days=asked.expires_in_days, by=by
    )
    return {**key_json(row, time.time()), "key": key}


@router.post("/keys/{key_id}/revocation", dependencies=[Needs(Permission.ACCESS_REVOKE)])
def revoke_key(node: CurrentNode, by: CurrentPrincipal, key_id: str) -> dict[str, Any]:
    """End a key at once."""
    return key_json(node.access.keys.revoke(key_id, by=by), time.time())


@router.get("/acts", dependencies=[Needs(Permission.ACT_READ)])
def acts(
    node: CurrentNode,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ACTS_A_PAGE)] = 100,
) -> list[dict[str, Any]]:
    """Who did what to this node, the newest first; each is held against its entry in the log."""
    return node.access.acts.page(before=before, limit=limit)


@router.get("/requests", dependencies=[Needs(Permission.REQUEST_READ)])
def requests(node: CurrentNode) -> list[dict[str, Any]]:
    """What waits, or waited, for a second person; the newest first."""
    return [request_json(row) for row in node.access.requests.all()]


@router.post("/requests/{request_id}/approval", dependencies=[Needs(Permission.REQUEST_DECIDE)])
async def approve(
    node: CurrentNode, by: CurrentPrincipal, request: Request, request_id: str
) -> Response:
    """Approve what another person asked for; it is done at once, and answered as it is."""
    approved = await run_in_threadpool(node.access.requests.approve, request_id, by=by)
    return await _carried_out(request, approved)


@router.post("/requests/{request_id}/refusal", dependencies=[Needs(Permission.REQUEST_DECLINE)])
def decline(node: CurrentNode, by: CurrentPrincipal, request_id: str) -> dict[str, Any]:
    """Decline what somebody asked for; it ends."""
    return request_json(node.access.requests.decline(request_id, by=by))


async def _carried_out(request: Request, approved: Approved) -> Response:
    """The answer of this application to a request that was held, as whoever asked for it."""
    asked = approved.asked
    headers = [
        (b"host", request.headers.get("host", "").encode("latin-1")),
        (b"content-type", asked.content_type.encode("latin-1")),
        (b"content-length", str(len(asked.body)).encode()),
    ]
    # What the server tells of the connection; everything else is the held request's own.
    kept = ("type", "asgi", "http_version", "server", "client", "scheme", "root_path")
    scope = {name: request.scope[name] for name in kept if name in request.scope}
    scope |= {
        "method": asked.method,
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": asked.query.encode("latin-1"),
        "headers": headers,
        APPROVED: approved,
    }
    body = iter([{"type": "http.request", "body": asked.body}])
    status, answered, content = 500, [], bytearray()

    async def receive() -> Message:
        return next(body, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        nonlocal status, answered
        if message["type"] == "http.response.start":
            status, answered = message["status"], message.get("headers", [])
        elif message["type"] == "http.response.body":
            content.extend(message.get("body", b""))

    await request.app(scope, receive, send)
    media_type = next((v.decode() for n, v in answered if n == b"content-type"), None)
    return Response(bytes(content), status, media_type=media_type)
