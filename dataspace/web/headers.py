"""Headers that every answer has, whoever made it: what a browser may not do with it.

The node's answers are for programs; its pages bring what they need in their own headers, which
stand. Nothing here is loaded from elsewhere, framed, guessed at, or kept by a browser where it is
somebody's own. There is no CORS: no other site's script reads an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A year, as browsers ask for before they keep it.
HSTS: Final = "max-age=31536000"
ALWAYS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
# What is there is its owner's, a member's or a person's, and stays in no cache on the way.
NOT_STORED: Final = ("/api", "/me", "/dsp", "/compute", "/data", "/operator", "/claims")


class SecurityHeaders:
    """Gives every answer the headers it does not have yet. `secure`: the node is an https one."""

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        named = {**ALWAYS, **({"strict-transport-security": HSTS} if secure else {})}
        self._always = _encoded(named)
        self._private = _encoded({**named, "cache-control": "no-store"})
        self._names = frozenset(name for name, _ in self._private)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = self._private if scope["path"].startswith(NOT_STORED) else self._always

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                given = {name for name, _ in headers}
                # Most answers have none of these themselves.
                if given.isdisjoint(self._names):
                    headers += wanted
                else:
                    headers += [one for one in wanted if one[0] not in given]
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with)


def _encoded(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode()) for name, value in headers.items())
