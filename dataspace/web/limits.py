"""What is refused of a request before anybody looks at what it asks for.

Its length and speed are bounded where bytes come in (`dataspace.web.connections`), and its body by
the route (`max_body_size`). Here it is: whether the name it was sent to is ours, whether its body
is encoded, and how often its address asks.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dataspace.identity.addresses import REMEMBERED, is_loopback
from dataspace.rates import LONGEST_WAIT_S, Limit, Rates, network_of
from dataspace.settings import Settings

ADDRESS: Final = "requests"
# More proxies than this are before no node; what stands before them was written by anybody.
MAX_HOPS: Final = 16
# By these names a node is called on its own machine, and by a proxy there.
OF_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# Work that is paid for in bytes, within the bounds of what a run may keep in hand.
FRAMES: Final = "/compute/"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Makes the answer to a request that is refused: status, sentence, remedy, headers.
Refuse = Callable[[Request, HTTPStatus, str, str, dict[str, str]], Response]


def address_of(scope: Scope, trusted: Sequence[Network]) -> str:
    """The address of who asks: of the connection, or what the nearest proxy that is not ours said.

    Each proxy appends whom it saw, so X-Forwarded-For is read from its end, and only as far as the
    proxies are the owner's own: whatever stands further left may be the caller's invention.
    """
    client = scope.get("client")
    address = str(client[0]) if client else ""
    if not trusted or not is_in(address, trusted):
        return address
    lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    hops = b",".join(lines).decode("latin-1").split(",")
    for hop in reversed(hops[-MAX_HOPS:]):
        named = hop.strip()
        if not _is_address(named):
            break
        address = named
        if not is_in(address, trusted):
            break
    return address


class Limits:
    """Refuses what comes too often from one address, for another host, or with an encoded body."""

    def __init__(self, app: ASGIApp, *, settings: Settings, refuse: Refuse) -> None:
        self._app = app
        self._refuse = refuse
        self._trusted: tuple[Network, ...] = settings.trusted_proxies
        # In a space on one machine all peers, and the owner, have the same address.
        self._spared = settings.local
        self._rates = Rates([Limit.of(ADDRESS, settings.rate_per_address)])
        self._per_s = settings.rate_per_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._encoded(scope) or self._too_often(scope)
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await refused(scope, receive, send)

    def _encoded(self, scope: Scope) -> Response | None:
        for name, value in scope["headers"]:
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                return self._refuse(
                    Request(scope),
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    "the body is encoded (content-encoding), and nothing is unpacked here",
                    "send it as it is",
                    {"accept-encoding": "identity"},
                )
        return None

    def _too_often(self, scope: Scope) -> Response | None:
        if scope["path"].startswith(FRAMES):
            return None
        address = address_of(scope, self._trusted)
        if self._spared and is_loopback(address):
            return None
        wait_s = self._rates.wait_s(ADDRESS, _caller_of(address))
        if wait_s <= 0.0:
            return None
        return self._refuse(
            Request(scope),
            HTTPStatus.TOO_MANY_REQUESTS,
            f"too many {ADDRESS} from your address: more than {self._per_s:g} a second",
            "wait as long as Retry-After says, then send again",
            {"retry-after": str(math.ceil(min(wait_s, LONGEST_WAIT_S)))},
        )


class OwnHosts:
    """Answers only what was sent to a name of this node's.

    A page of another site whose name is made to lead here is a stranger, and says so by the name.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, refuse: Refuse) -> None:
        self._app = app
        self._refuse = refuse
        own = urlsplit(settings.url or "").hostname
        named = {name.lower() for name in settings.allowed_hosts}
        self._own = OF_THIS_MACHINE | named | {settings.host} | ({own} if own else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_ours(scope):
            await self._app(scope, receive, send)
            return
        refused = self._refuse(
            Request(scope),
            HTTPStatus.MISDIRECTED_REQUEST,
            "this node is not the host that the request names",
            "use the node's own address; its owner can allow more names with allowed_hosts",
            {},
        )
        await refused(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        named: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"host":
                if named is not None:
                    return False
                named = value
        return named is not None and _host_of(named) in self._own


@lru_cache(maxsize=REMEMBERED)
def _host_of(header: bytes) -> str | None:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{header.decode('latin-1')}").hostname
    except ValueError:
        return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=REMEMBERED)
def _caller_of(address: str) -> str:
    return network_of(address)


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Whether this address, where it is one, is in one of the networks."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
