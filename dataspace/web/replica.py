"""Routes between the replicas of this node: what peers and the owner asked of another of them.

Every request carries a tag that only a replica can make (`dataspace.computing.forwarding`); to
everybody else there is nothing here.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from dataspace.access.permissions import Caller
from dataspace.computing.forwarding import PREFIX
from dataspace.computing.inbox import CHUNK_BYTES
from dataspace.web.access import CurrentNode, For
from dataspace.web.compute import SLACK, chunk_body, chunk_of

router = APIRouter(prefix=PREFIX, tags=["replicas"], dependencies=[For(Caller.REPLICA)])


def _path(request: Request) -> str:
    return request.url.path.removeprefix(PREFIX)


@router.put("/compute/{order}/{sender}/attempts/{attempt}", status_code=204)
def put_attempt(
    request: Request, node: CurrentNode, order: str, sender: str, attempt: int
) -> Response:
    """A peer's notice that it begins its role again."""
    peer = node.forwarding.verify("PUT", _path(request), headers=request.headers)
    node.sessions.rejoin(order, peer, sender, attempt)
    return Response(status_code=204)


@router.put(
    "/compute/{order}/{sender}/{sequence}/{number}",
    status_code=204,
    max_body_size=CHUNK_BYTES + SLACK,
)
def put_chunk(
    request: Request,
    node: CurrentNode,
    order: str,
    sender: str,
    sequence: int,
    number: int,
    body: Annotated[bytes, Depends(chunk_body)],
) -> Response:
    """One chunk of one frame of a peer."""
    peer = node.forwarding.verify("PUT", _path(request), headers=request.headers, body=body)
    chunk = chunk_of(request.headers, body, sender=sender, sequence=sequence, number=number)
    node.sessions.receive(order, peer, chunk)
    return Response(status_code=204)


@router.get("/computations/{order}/progress")
def get_progress(request: Request, node: CurrentNode, order: str) -> dict[str, Any]:
    """Where a computation is that runs here."""
    node.forwarding.verify("GET", _path(request), headers=request.headers)
    return node.computations.progress(node.computations.get(order))
