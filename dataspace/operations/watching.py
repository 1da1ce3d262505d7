"""Around every request: its place in a trace, and what is counted of it.

An ASGI wrapper of its own and no middleware of the framework, whose cost per request would be ten
times this one's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import structlog

from dataspace.operations.figures import Figures
from dataspace.operations.tracing import (
    TRACEPARENT,
    Spans,
    Trace,
    current,
    enter,
    new_parent,
    parse_traceparent,
)

log = structlog.get_logger("dataspace.requests")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TRACEPARENT = TRACEPARENT.encode()
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The faces of a node whose bytes are worth telling apart; the rest is "other".
FACES = frozenset({"api", "dsp", "compute", "data", "tlog", "operator", "chain", "me"})
# Frames come by the thousand, and probes for ever: their sessions are measured, not each of them.
UNTRACED = ("/compute/", "/health", "/ready", "/metrics")
# What no route answers for; the path itself is the caller's text.
NO_ROUTE = "(none)"


class Watching:
    """The node's application, watched."""

    def __init__(
        self,
        app: App,
        *,
        figures: Figures,
        spans: Spans | None,
        fields: Mapping[str, str],
        telling: bool = False,
    ) -> None:
        """`fields` are in every log line of a request: which node this is, and which replica.
        `telling`: every request is a line of its own, at the level debug."""
        self._app = app
        self._figures = figures
        self._spans = spans
        self._fields = fields
        self._telling = telling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        parent = parse_traceparent(_header(scope, _TRACEPARENT))
        opened = None
        if self._spans is not None and not scope["path"].startswith(UNTRACED):
            opened = self._spans.begin(scope["method"], parent, {}, remote=True)
            parent = opened.parent
        # Not left again: what is logged of an error that comes out of here belongs to it.
        enter(Trace(parent or new_parent(), self._spans, self._fields))
        status, received, sent = 500, 0, 0

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counted_receive, counted_send)
        finally:
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            took_s = time.perf_counter() - began
            self._count(scope, route, status, took_s, received, sent)
            if opened is not None:
                opened.note(
                    **{"http.request.method": _method(scope), "http.route": route},
                    **{"http.response.status_code": status},
                )
                opened.end(error="server error" if status >= 500 else None)

    def _count(
        self, scope: Scope, route: str, status: int, took_s: float, received: int, sent: int
    ) -> None:
        figures, method = self._figures, _method(scope)
        figures.requests.add((method, route, str(status)))
        figures.request_s.add((route,), took_s)
        face = scope["path"].split("/", 2)[1]
        face = face if face in FACES else "other"
        if received:
            figures.carried_bytes.add((face, "in"), received)
        if sent:
            figures.carried_bytes.add((face, "out"), sent)
        if self._telling:
            log.debug("request", method=method, route=route, status=status, took_s=round(took_s, 4))


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"


def _header(scope: Scope, name: bytes) -> str | None:
    """The header of that name; None where it came more than once: nobody can say which counts."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None


def trace_id() -> str | None:
    """The trace of the request being answered, to be told to whoever asks about it."""
    trace = current()
    return None if trace is None else trace.parent.trace_id
