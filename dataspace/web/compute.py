"""Routes of the compute plane: frames of running computations, between participants only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response

from dataspace.access.permissions import Caller
from dataspace.answer import Answer
from dataspace.computing.inbox import CHUNK_BYTES, Chunk
from dataspace.errors import ProtocolViolation
from dataspace.web.access import CurrentMember, CurrentNode, For

router = APIRouter(prefix="/compute", tags=["compute"], dependencies=[For(Caller.MEMBER)])


# Above the limit of a chunk by so much that it is this module that says it was passed.
SLACK = 1024 * 1024


async def chunk_body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > CHUNK_BYTES:
            raise ProtocolViolation(f"a chunk has at most {CHUNK_BYTES} bytes")
    return bytes(body)


@router.put("/{order}/{sender}/attempts/{attempt}", status_code=204)
def put_attempt(
    request: Request,
    node: CurrentNode,
    peer: CurrentMember,
    order: str,
    sender: str,
    attempt: int,
) -> Response:
    """A party came back from a restart and begins its role again; so does this one."""
    passed = node.forwarding.pass_on(
        order, request.url.path, peer=peer.did, headers=request.headers
    )
    if passed is not None:
        return _answer(passed)
    node.sessions.rejoin(order, peer.did, sender, attempt)
    return Response(status_code=204)


@router.put(
    "/{order}/{sender}/{sequence}/{number}", status_code=204, max_body_size=CHUNK_BYTES + SLACK
)
def put_chunk(
    request: Request,
    node: CurrentNode,
    peer: CurrentMember,
    order: str,
    sender: str,
    sequence: int,
    number: int,
    body: Annotated[bytes, Depends(chunk_body)],
    frame_name: Annotated[str, Header(max_length=64)],
    frame_chunks: Annotated[int, Header()],
    content_digest: Annotated[str, Header(max_length=128)],
    frame_attempt: Annotated[int, Header(ge=1)] = 1,
) -> Response:
    """One chunk of one frame. Idempotent: a repetition with the same digest changes nothing."""
    passed = node.forwarding.pass_on(
        order, request.url.path, peer=peer.did, body=body, headers=request.headers
    )
    if passed is not None:
        return _answer(passed)
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


def chunk_of(
    headers: Mapping[str, str], body: bytes, *, sender: str, sequence: int, number: int
) -> Chunk:
    """A chunk as another replica passes it on, which has parsed its headers once.

    Raises ProtocolViolation.
    """
    try:
        return Chunk(
            sender=sender,
            sequence=sequence,
            number=number,
            of=int(headers["frame-chunks"]),
            name=headers["frame-name"],
            digest=headers["content-digest"],
            body=body,
            attempt=int(headers.get("frame-attempt", "1")),
        )
    except (KeyError, ValueError) as err:
        raise ProtocolViolation("the frame's headers are not complete") from err


def _answer(passed: Answer) -> Response:
    """What another replica answered, as the peer is to have it."""
    kind = passed.headers.get("content-type")
    return Response(passed.body or None, status_code=passed.status, media_type=kind)
