"""Where rows are fetched from and sent to, with the token of a transfer and nothing else.

GET, HEAD  /data/PID         the rows of a pull; Range: bytes=N- with If-Range goes on
POST       /data/PID/token   a new token, for the transfer's consumer
PUT        /data/inbox/PID   the rows of a push; Content-Range goes on
HEAD       /data/inbox/PID   how much of them has come
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Send

from dataspace.access.permissions import Caller
from dataspace.errors import NotFound, ProtocolViolation, Unavailable
from dataspace.protocol.data_plane import MOVE_S
from dataspace.protocol.rows_in import Delivery, Sending
from dataspace.protocol.rows_moving import CSV_TYPE, UPLOAD_COMPLETE, UPLOAD_OFFSET
from dataspace.protocol.transit import CHUNK_BYTES, MAX_BYTES
from dataspace.web.access import CurrentMember, CurrentNode, For, TransferCredentials

log = structlog.get_logger("dataspace.data")

router = APIRouter(prefix="/data", tags=["data plane"])

# Only what goes on to the end: whoever broke off wants the rest.
_RANGE = re.compile(r"bytes=([0-9]{1,15})-")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")
_LENGTH = re.compile(r"[0-9]{1,15}")
_DIGEST = Header(max_length=1000)


class _Rows(StreamingResponse):
    """Rows under way, which a suspension breaks off: the framework has no other place for that."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except Unavailable as err:
            # The answer has begun, so its length, which it will not reach, is all that can tell.
            log.info("rows were broken off", reason=err.sentence)


@router.get("/{pid}", dependencies=[For(Caller.TRANSFER)])
@router.head("/{pid}", dependencies=[For(Caller.TRANSFER)])
def fetch(
    node: CurrentNode,
    pid: str,
    request: Request,
    credentials: TransferCredentials,
    range_: Annotated[str | None, Header(alias="range", max_length=100)] = None,
    if_range: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """The rows of a pull transfer as CSV, with digest and entity tag: whole, or from a byte on
    where the tag is still the one given (RFC 9110, 14.2)."""
    outgoing = node.data_plane.serve(pid, _token(credentials))
    written = outgoing.written
    wanted = _RANGE.fullmatch(range_ or "") if if_range in (None, written.etag) else None
    begin_at = int(wanted[1]) if wanted else 0
    headers = {
        "accept-ranges": "bytes",
        "etag": written.etag,
        "repr-digest": written.digest,
        "content-length": str(written.size - begin_at),
    }
    if wanted and begin_at >= written.size:
        outgoing.close()
        return Response(status_code=416, headers={"content-range": f"bytes */{written.size}"})
    if wanted:
        headers["content-range"] = f"bytes {begin_at}-{written.size - 1}/{written.size}"
    else:
        headers["content-digest"] = written.digest
    status = 206 if wanted else 200
    if request.method == "HEAD":
        outgoing.close()
        return Response(status_code=status, headers=headers, media_type=CSV_TYPE)
    return _Rows(outgoing.chunks(begin_at), status, headers=headers, media_type=CSV_TYPE)


@router.post("/{pid}/token", dependencies=[For(Caller.MEMBER)])
def renew(node: CurrentNode, pid: str, caller: CurrentMember) -> dict[str, Any]:
    """The data address of a pull with a new token; the earlier one ends at once."""
    return node.data_plane.renew(pid, caller).to_json()


def _delivery(
    delivery_number: Annotated[int | None, Header(ge=1, le=10**9)] = None,
    delivery_due: Annotated[datetime | None, Header()] = None,
) -> Delivery | None:
    """Which delivery of a return the rows are, where they are one."""
    if delivery_number is None:
        return None
    if delivery_due is None or delivery_due.tzinfo is None:
        raise ProtocolViolation("delivery-due: expected when this delivery was due, with its zone")
    return Delivery(delivery_number, delivery_due.timestamp())


CurrentDelivery = Annotated[Delivery | None, Depends(_delivery)]


@router.head("/inbox/{pid}", status_code=204, dependencies=[For(Caller.TRANSFER)])
def received(
    node: CurrentNode, pid: str, credentials: TransferCredentials, delivery: CurrentDelivery
) -> Response:
    """How much has come of the rows of a push, so that the rest can follow."""
    found = node.data_plane.received(pid, _token(credentials), delivery)
    headers = {
        UPLOAD_OFFSET: str(found.there),
        UPLOAD_COMPLETE: "?1" if found.complete else "?0",
        **({"repr-digest": found.digest} if found.digest else {}),
    }
    return Response(status_code=204, headers=headers)


@router.put(
    "/inbox/{pid}",
    status_code=204,
    max_body_size=MAX_BYTES,
    dependencies=[For(Caller.TRANSFER)],
)
async def receive(
    node: CurrentNode,
    pid: str,
    request: Request,
    credentials: TransferCredentials,
    delivery: CurrentDelivery,
    content_digest: Annotated[str | None, _DIGEST] = None,
    repr_digest: Annotated[str | None, _DIGEST] = None,
) -> Response:
    """The rows of a push transfer, or what follows those that are there; kept only if they have
    the digest they were sent with."""
    token = _token(credentials)
    sending = _sending(request, delivery, content_digest, repr_digest)
    with ExitStack() as stack:
        incoming = await run_in_threadpool(
            stack.enter_context, node.data_plane.take_in(pid, token, sending)
        )
        try:
            # As long as a sender of ours tries: who drips its bytes must not keep a file open.
            async with asyncio.timeout(MOVE_S):
                async for piece in _pieces(request):
                    await run_in_threadpool(incoming.write, piece)
        except TimeoutError as err:
            raise Unavailable(f"the rows did not come within {MOVE_S:.0f} seconds") from err
        except ClientDisconnect as err:
            raise Unavailable("the sender broke off before all rows had come") from err
        await run_in_threadpool(stack.pop_all().close)
    return Response(status_code=204)


def _sending(
    request: Request,
    delivery: Delivery | None,
    content_digest: str | None,
    repr_digest: str | None,
) -> Sending:
    """What the sender says of its rows. Raises ProtocolViolation for a piece without its digest."""
    content_range = request.headers.get("content-range")
    if content_range is None:
        length = request.headers.get("content-length", "")
        size = int(length) if _LENGTH.fullmatch(length) else None
        return Sending(repr_digest or content_digest, size=size, delivery=delivery)
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None or repr_digest is None or int(match[2]) + 1 != int(match[3]):
        raise ProtocolViolation(
            "content-range: expected all that follows, with the repr-digest of the whole",
            remedy="ask with HEAD what is there, or send all of it",
        )
    return Sending(repr_digest, int(match[1]), int(match[3]), delivery)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces worth a thread's while; the server hands it out in much smaller ones.

    Where the sender breaks off, what had come before that.
    """
    piece = bytearray()
    try:
        async for chunk in request.stream():
            piece += chunk
            if len(piece) >= CHUNK_BYTES:
                yield bytes(piece)
                piece.clear()
    except ClientDisconnect:
        yield bytes(piece)
        raise
    yield bytes(piece)


def _token(credentials: TransferCredentials) -> str:
    if credentials is None:
        raise NotFound("there is nothing to fetch or send here without a token")
    return credentials.credentials
