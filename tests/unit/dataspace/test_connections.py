"""A connection that does not come to its point is closed, and others do not wait for it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from dataspace.settings import Settings
from dataspace.web import connections
from dataspace.web.connections import BoundedProtocol, bounded_protocol

SHORT_S = 0.15
FLOOD_BYTES = 64 * 2**20
flood_over = threading.Event()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body; /flood with more than anybody's buffers hold."""
    if scope["path"] == "/flood":
        length = FLOOD_BYTES
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", str(length).encode())]})
        for at in range(0, length, 2**20):
            more = at + 2**20 < length
            await send({"type": "http.response.body", "body": bytes(2**20), "more_body": more})
        flood_over.set()
        return
    try:
        body = await Request(scope, receive).body()
    except ClientDisconnect:
        return
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@contextmanager
def serving(protocol: type[BoundedProtocol]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            echo, http=protocol, ws="none", lifespan="off", log_config=None, loop="asyncio"
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
        )
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = server.force_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    settings = Settings(name="n", kind="consumer")
    with serving(bounded_protocol(settings)) as served:
        yield served


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_S", "BODY_S", "ROWS_S", "STALLED_S"):
        monkeypatch.setattr(connections, name, SHORT_S)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def rest(raw: socket.socket) -> bytes:
    """Everything until the server closes; a test that waits for that in vain fails by timeout."""
    found = bytearray()
    try:
        while piece := raw.recv(2**20):
            found += piece
    except ConnectionResetError:
        pass
    return bytes(found)


def said(port: int, *pieces: bytes) -> tuple[int, Any]:
    """The status and problem with which a connection that says this ends."""
    with connected(port) as raw:
        try:
            for piece in pieces:
                raw.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        head, _, body = rest(raw).partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)


def test_an_ordinary_request_is_answered(port: int) -> None:
    with connected(port) as raw:
        for size in (0, 5, 300_000):
            raw.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
            raw.sendall(bytes(size))
            answer = b""
            while not answer.endswith(str(size).encode()):
                answer += raw.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("short")
def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    with connected(port) as raw:
        assert rest(raw) == b""


@pytest.mark.usefixtures("short")
def test_a_head_that_does_not_end_is_answered_and_closed(port: int) -> None:
    status, problem = said(port, b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ")
    assert (status, problem["detail"]) == (408, "the request did not come in time")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("path", [b"/", b"/data/inbox/urn:uuid:1"])
def test_a_body_that_does_not_end_is_answered_and_closed(port: int, path: bytes) -> None:
    status, _ = said(
        port, b"PUT %s HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nsome of it" % path
    )
    assert status == 408


@pytest.mark.usefixtures("short")
def test_a_second_request_on_a_connection_has_its_own_time(port: int) -> None:
    with connected(port) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nx")
        answers = rest(raw)
    assert answers.count(b"HTTP/1.1 200") == 1
    assert answers.count(b"HTTP/1.1 408") == 1


@pytest.mark.usefixtures("short")
def test_who_does_not_read_its_answer_is_let_go(port: int) -> None:
    with connected(port) as raw:
        flood_over.clear()
        raw.sendall(b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n")
        # Nothing is read until the application could go on because the reader was let go.
        assert flood_over.wait(10)
        assert len(rest(raw)) < FLOOD_BYTES


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",), 414),
        ((b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",), 431),
        ((b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n",), 431),
        # A value without an end, of which the parser tells nobody.
        ((b"GET / HTTP/1.1\r\nx: ", *([b"y" * 8192] * 64)), 431),
        ((b"no http at all\r\n\r\n",), 400),
        ((b"GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",), 400),
    ],
)
def test_a_head_past_its_bounds_is_refused(
    port: int, pieces: tuple[bytes, ...], status: int
) -> None:
    found, problem = said(port, *pieces)
    assert (found, problem["status"]) == (status, status)


def test_one_address_has_a_part_of_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests have one address, which is spared as a proxy's would be.
    monkeypatch.setattr(connections, "is_loopback", lambda _: False)
    protocol = bounded_protocol(Settings(name="n", kind="consumer", max_connections=10))
    ask = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    with serving(protocol) as port:
        held = [connected(port) for _ in range(5)]
        try:
            for raw in held:
                raw.sendall(ask)
                assert raw.recv(65536).startswith(b"HTTP/1.1 200")
            with connected(port) as sixth:
                assert rest(sixth) == b""
        finally:
            for raw in held:
                raw.close()
        # Whoever left has made room.
        with connected(port) as again:
            again.sendall(ask)
            again.recv(65536)
    assert not protocol.by_address


def test_the_route_of_rows_ends_a_slow_push_before_the_connection_does() -> None:
    from dataspace.protocol.data_plane import MOVE_S

    assert connections.ROWS_S > MOVE_S
