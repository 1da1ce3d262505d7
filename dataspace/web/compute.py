"""Routes of the compute plane: frames of running computations, between participants only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response

from dataspace.access.permissions import Caller
from dataspace.computing.inbox import CHUNK_BYTES, Chunk
from dataspace.errors import ProtocolViolation
from dataspace.web.access import CurrentMember, CurrentNode, For

router = APIRouter(prefix="/compute", tags=["compute"], dependencies=[For(Caller.MEMBER)])


async def _chunk_body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > CHUNK_BYTES:
            raise ProtocolViolation(f"a chunk has at most {CHUNK_BYTES} bytes")
    return bytes(body)


@router.put("/{order}/{sender}/attempts/{attempt}", status_code=204)
def put_attempt(
    node: CurrentNode, peer: CurrentMember, order: str, sender: str, attempt: int
) -> Response:
    """A party came back from a restart and begins its role again; so does this one."""
    node.sessions.rejoin(order, peer.did, sender, attempt)
    return Response(status_code=204)


@router.put("/{order}/{sender}/{sequence}/{number}", status_code=204)
def put_chunk(
    node: CurrentNode,
    peer: CurrentMember,
    order: str,
    sender: str,
    sequence: int,
    number: int,
    body: Annotated[bytes, Depends(_chunk_body)],
    frame_name: Annotated[str, Header(max_length=64)],
    frame_chunks: Annotated[int, Header()],
    content_digest: Annotated[str, Header(max_length=128)],
    frame_attempt: Annotated[int, Header(ge=1)] = 1,
) -> Response:
    """One chunk of one frame. Idempotent: a repetition with the same digest changes nothing."""
    chunk = Chunk(
        sender=sender,
        sequence=sequence,
        number=number,
        of=frame_chunks,
        name=frame_name,
        digest=content_digest,
        body=body,
        attempt=frame_attempt,
    )
    node.sessions.receive(order, peer.did, chunk)
    return Response(status_code=204)
