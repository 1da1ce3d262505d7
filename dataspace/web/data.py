"""Where rows are fetched from and sent to, with the token of a transfer and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Send

from dataspace.errors import NotFound, Unavailable
from dataspace.protocol.data_plane import CSV_TYPE, MOVE_S
from dataspace.protocol.transit import CHUNK_BYTES, MAX_BYTES
from dataspace.web.access import Credentials, CurrentNode

log = structlog.get_logger("dataspace.data")

router = APIRouter(prefix="/data", tags=["data plane"])


class _Rows(StreamingResponse):
    """Rows under way, which a suspension breaks off: the framework has no other place for that."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except Unavailable as err:
            # The answer has begun, so its length, which it will not reach, is all that can tell.
            log.info("rows were broken off", reason=err.sentence)


@router.get("/{pid}")
def fetch(node: CurrentNode, pid: str, credentials: Credentials) -> Response:
    """The rows of a pull transfer, whole, as CSV with a `Content-Digest`."""
    outgoing = node.data_plane.serve(pid, _token(credentials))
    headers = {"content-digest": outgoing.digest, "content-length": str(outgoing.size)}
    return _Rows(outgoing.chunks, media_type=CSV_TYPE, headers=headers)


@router.put("/inbox/{pid}", status_code=204, max_body_size=MAX_BYTES)
async def receive(
    node: CurrentNode,
    pid: str,
    request: Request,
    credentials: Credentials,
    content_digest: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """The rows of a push transfer; kept only if they have the digest they were sent with."""
    token = _token(credentials)
    with ExitStack() as stack:
        incoming = await run_in_threadpool(
            stack.enter_context, node.data_plane.take_in(pid, token, content_digest)
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


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces worth a thread's while; the server hands it out in much smaller ones."""
    piece = bytearray()
    async for chunk in request.stream():
        piece += chunk
        if len(piece) >= CHUNK_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _token(credentials: Credentials) -> str:
    if credentials is None:
        raise NotFound("there is nothing to fetch or send here without a token")
    return credentials.credentials
