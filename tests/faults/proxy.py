"""The network between the nodes: every node's address is a port of this proxy.

It speaks enough HTTP/1.1 to tell requests apart, and does to each what `requests.fate` says. Every
request gets a connection of its own to the node; answers close the line.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.faults.requests import Fate, Fates, Mishap, named

# Rows pushed by the load are small; anything larger is a mistake of the harness.
MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_HEAD_BYTES = 64 * 1024
# As long as a partition may last and a little more: a node that does not answer is the caller's
# business, who has deadlines.
UPSTREAM_S = 60.0
REMEMBERED = 400


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    head: bytes
    body: bytes


@dataclass
class Proxy:
    """Runs in a thread of its own; `add` gives a node its public port."""

    fates: Fates
    active: bool = False
    counted: Counter[Mishap] = field(default_factory=Counter)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._passed: dict[str, asyncio.Event] = {}
        self._servers: list[asyncio.Server] = []
        self._later: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def add(
        self, node: str, port: int, upstream: tuple[str, int], also_at: Sequence[str] = ()
    ) -> None:
        """Serve `node`, which listens at `upstream`, on this port of the loopback address and of
        the addresses `also_at`."""

        async def begin() -> None:
            self._passed[node] = asyncio.Event()

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._serve(node, upstream, reader, writer)

            hosts = ["127.0.0.1", *also_at]
            self._servers.append(
                await asyncio.start_server(
                    connected, hosts, port, limit=MAX_HEAD_BYTES, backlog=512
                )
            )

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(10.0)

    def close(self) -> None:
        async def end() -> None:
            for server in self._servers:
                server.close()
            under_way = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    async def _serve(
        self,
        node: str,
        upstream: tuple[str, int],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            request = await _read(reader, writer)
            if request is None:
                return
            found = Fate(Mishap.NONE)
            if self.active:
                found = self.fates.draw(node, request.method, request.target)
                self.counted[found.mishap] += 1
                if found.mishap is not Mishap.NONE:
                    name = named(request.method, request.target)
                    self.recent.append(f"{found.mishap} to {node}: {name}")
            await self._meet(node, upstream, request, found, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            # Whatever one side did to its line, the other finds its own closed.
            pass
        finally:
            with suppress(OSError, RuntimeError):
                writer.close()

    async def _meet(
        self,
        node: str,
        upstream: tuple[str, int],
        request: _Request,
        found: Fate,
        writer: asyncio.StreamWriter,
    ) -> None:
        mishap = found.mishap
        if mishap is Mishap.DELAYED:
            await asyncio.sleep(found.seconds)
        elif mishap is Mishap.OVERTAKEN:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._passed[node].wait(), found.seconds)
        elif mishap is Mishap.DROPPED:
            return
        elif mishap is Mishap.CUT:
            await self._cut(upstream, request)
            _reset(writer)
            return
        elif mishap is Mishap.BAD_GATEWAY:
            await _answer(writer, _gateway(502))
            return
        elif mishap is Mishap.UNAVAILABLE:
            await _answer(writer, _gateway(503))
            return
        elif mishap is Mishap.AGAIN_LATER:
            task = asyncio.ensure_future(self._again(upstream, request, found.seconds))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
        if mishap is Mishap.NONE:
            await self._pass_through(upstream, request, writer)
        else:
            answer = await self._exchange(upstream, request)
            if mishap is Mishap.TWICE:
                await self._exchange(upstream, request)
            elif mishap is Mishap.TWICE_SECOND:
                answer = await self._exchange(upstream, request)
            await self._give(writer, answer, mishap)
        self._passed[node].set()
        self._passed[node] = asyncio.Event()

    async def _give(self, writer: asyncio.StreamWriter, answer: bytes, mishap: Mishap) -> None:
        if mishap is Mishap.ANSWER_LOST:
            return
        if mishap is Mishap.UNAVAILABLE_AFTER:
            await _answer(writer, _gateway(503))
        elif mishap is Mishap.ANSWER_TRUNCATED:
            await _answer(writer, answer[: max(1, len(answer) * 2 // 3)])
            _reset(writer)
        else:
            await _answer(writer, answer)

    async def _pass_through(
        self, upstream: tuple[str, int], request: _Request, writer: asyncio.StreamWriter
    ) -> None:
        """An untouched exchange, piece by piece: streams of events have no end to wait for."""
        reader, out = await asyncio.open_connection(*upstream)
        try:
            out.write(request.head + request.body)
            await out.drain()
            while piece := await asyncio.wait_for(reader.read(65536), UPSTREAM_S):
                writer.write(piece)
                await writer.drain()
        finally:
            out.close()

    async def _exchange(self, upstream: tuple[str, int], request: _Request) -> bytes:
        reader, out = await asyncio.open_connection(*upstream)
        try:
            out.write(request.head + request.body)
            await out.drain()
            return await asyncio.wait_for(reader.read(-1), UPSTREAM_S)
        finally:
            out.close()

    async def _again(self, upstream: tuple[str, int], request: _Request, after_s: float) -> None:
        await asyncio.sleep(after_s)
        with suppress(OSError, TimeoutError):
            await self._exchange(upstream, request)

    async def _cut(self, upstream: tuple[str, int], request: _Request) -> None:
        _, out = await asyncio.open_connection(*upstream)
        whole = request.head + request.body
        out.write(whole[: max(1, len(whole) * 2 // 3)])
        await out.drain()
        _reset(out)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Request | None:
    """The next request with its whole body; its head asks the node to close the line after it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:] if line)
    }
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _chunked(reader)
    elif length := int(headers.get("content-length", "0")):
        if length > MAX_BODY_BYTES:
            return None
        body = await reader.readexactly(length)
    kept = [
        line
        for line in lines[1:]
        if line and line.partition(":")[0].strip().lower() not in ("connection", "expect")
    ]
    rebuilt = "\r\n".join([lines[0], *kept, "Connection: close", "", ""])
    return _Request(method, target, rebuilt.encode("latin-1"), body)


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    """A chunked body as it came, its framing included."""
    whole = bytearray()
    while len(whole) <= MAX_BODY_BYTES:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        whole += line + await reader.readexactly(size + 2)
        if size == 0:
            return bytes(whole)
    raise TimeoutError("a body without end")


async def _answer(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(answer)
    await writer.drain()


def _gateway(status: int) -> bytes:
    body = b"<html><body>the gateway has no answer from behind it</body></html>"
    head = f"HTTP/1.1 {status} Gateway\r\ncontent-type: text/html\r\nconnection: close\r\n"
    return head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close the line so that the other end sees it broken, not ended."""
    line = writer.get_extra_info("socket")
    if line is not None:
        with suppress(OSError):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
