"""Connections that end: heads and bodies have a size and a time, readers have to read.

uvicorn waits for ever for the rest of a head, and its parser keeps whatever has come of one. Here
a connection that has not said in time what it wants, or does not take what it asked for, is closed;
so is one of an address that has too many. The bounds hold before anything of ours has run.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dataspace.identity.addresses import is_loopback
from dataspace.rates import network_of
from dataspace.settings import Settings
from dataspace.web.limits import Network, is_in

# A token with its membership credential has 8 KiB at most, a form's cookie little.
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
# A process's name has 2,048 letters at most, each three bytes in an address.
MAX_TARGET_BYTES: Final = 8 * 1024
# From the connection, or the first byte of a further request, to the end of its head.
HEAD_S: Final = 10.0
# From there to the end of its body: 9 MiB at 150 KB/s.
BODY_S: Final = 60.0
# Rows that are pushed may be many; the route ends them itself a little earlier, and says why.
ROWS: Final = b"/data/inbox/"
ROWS_S: Final = 130.0
# How long a reader may leave the 64 KiB untouched that wait for it.
STALLED_S: Final = 60.0
# How long a node that stops waits for the farewell of those it has no request of.
FAREWELL_S: Final = 0.2
# Of all connections, one address may have this part.
PART_OF_ONE: Final = 0.5


class _Refused(Exception):
    """A head past its bounds; raised into the parser, which then stops."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with bounds on what comes in, and on who does not take what goes out."""

    # Set for one server by `bounded_protocol`.
    most_of_one: ClassVar[int] = 500
    many: ClassVar[tuple[Network, ...]] = ()
    by_address: ClassVar[Counter[str]] = Counter()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._refusal: HTTPStatus | None = None
        self._caller = ""
        # Which request of this connection is coming in, whether its head is still, and what has
        # come of that in pieces that were not whole.
        self._number = 0
        self._phase: str | None = "head"
        self._head_bytes = 0
        self._timed: tuple[int, str | None] = (0, None)
        self._incoming: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if address and not (is_loopback(address) or is_in(address, self.many)):
            self._caller = network_of(address)
            self.by_address[self._caller] += 1
            if self.by_address[self._caller] > self.most_of_one:
                transport.abort()
                return
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._incoming, self._stalled):
            if timer is not None:
                timer.cancel()
        if self._caller:
            self.by_address[self._caller] -= 1
            if self.by_address[self._caller] <= 0:
                del self.by_address[self._caller]
            self._caller = ""

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None or self.transport.is_closing():
            return
        super().data_received(data)
        if self._phase == "head":
            # The parser calls us for whole headers only: an endless one is counted as it comes.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                self.send_400_response("")
        self._look()

    # ---- the parser's calls -----------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._number += 1
        self._phase, self._head_bytes = "head", 0

    def on_headers_complete(self) -> None:
        # What came in one piece is looked at here, once; a piece is 256 KiB at most.
        if len(self.url) > MAX_TARGET_BYTES:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
        size = sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._phase = "body"
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._phase = None
        super().on_message_complete()

    # ---- bounds -----------------------------------------------------------------------------

    def _refuse(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise _Refused(status.phrase)

    def send_400_response(self, msg: str) -> None:
        status = self._refusal or HTTPStatus.BAD_REQUEST
        sentence = msg if self._refusal is None else _SENTENCES[status]
        problem = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": sentence,
        }
        body = json.dumps(problem).encode()
        head = (
            b"content-type: application/problem+json\r\n"
            b"x-content-type-options: nosniff\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        )
        self._refusal = status
        # Where an answer has begun, a second one in its midst would only be taken for a part of it.
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(STATUS_LINE[status.value] + head + body)
        self.transport.close()

    def _look(self) -> None:
        """Keep the timer of what is coming in: one for a head, one for a body, none between."""
        if self._timed == (self._number, self._phase):
            return
        self._timed = (self._number, self._phase)
        if self._incoming is not None:
            self._incoming.cancel()
            self._incoming = None
        if self._phase is not None and not self.transport.is_closing():
            rows = self._phase == "body" and self.url.startswith(ROWS)
            seconds = HEAD_S if self._phase == "head" else (ROWS_S if rows else BODY_S)
            self._incoming = self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self.transport.is_closing():
            return
        if self._number == 0:
            # Nothing was asked, so nothing is answered.
            self.transport.abort()
            return
        self._refusal = HTTPStatus.REQUEST_TIMEOUT
        self.send_400_response("")

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            # Under TLS a peer that keeps its connection for later does not see our farewell, and
            # the node would wait for its answer.
            self.loop.call_later(FAREWELL_S, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


_SENTENCES: Final = {
    HTTPStatus.REQUEST_TIMEOUT: "the request did not come in time",
    HTTPStatus.REQUEST_URI_TOO_LONG: f"the address has more than {MAX_TARGET_BYTES} bytes",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"the head has more than {MAX_HEAD_BYTES} bytes "
    f"or {MAX_HEADERS} headers",
}


def bounded_protocol(settings: Settings) -> type[BoundedProtocol]:
    """The protocol for one server. Trusted proxies may have all connections: they bring many."""
    trusted: Sequence[Network] = settings.trusted_proxies

    class OfThisNode(BoundedProtocol):
        most_of_one = max(1, int(settings.max_connections * PART_OF_ONE))
        many = tuple(trusted)
        by_address: ClassVar[Counter[str]] = Counter()

    return OfThisNode
