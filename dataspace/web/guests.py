"""People at the door: access codes, the sessions of their browsers, and how often one may guess."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from dataspace.access.attempts import MINUTE_S, Attempts, Clock
from dataspace.errors import Denied, Unauthenticated
from dataspace.vaults import Guest
from dataspace.web.access import CurrentNode, PersonCredentials
from dataspace.web.limits import address_of

SESSION_S = 15 * 60.0
MAX_SESSIONS = 10_000


@dataclass
class Session:
    """A browser that has shown a code. The code itself is forgotten."""

    guest: Guest
    ends_at: float
    csrf: str


class Sessions:
    """Sessions in the node's memory: a restart ends them all, as leaving does one."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[bytes, Session] = {}

    def begin(self, guest: Guest) -> str:
        """A token that only this browser gets; only its digest is kept."""
        now, token = self._clock(), secrets.token_urlsafe(32)
        with self._lock:
            self._open = {name: one for name, one in self._open.items() if one.ends_at > now}
            if len(self._open) >= MAX_SESSIONS:
                self._open.pop(next(iter(self._open)))
            self._open[_name(token)] = Session(guest, now + SESSION_S, secrets.token_urlsafe(32))
        return token

    def of(self, token: str | None) -> Session | None:
        with self._lock:
            found = self._open.get(_name(token or ""))
        return found if found is not None and found.ends_at > self._clock() else None

    def end(self, token: str | None) -> None:
        with self._lock:
            self._open.pop(_name(token or ""), None)


class Door:
    """What one node remembers of the people who come to it."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.sessions = Sessions(clock)
        self.attempts = Attempts(clock)


def door_of(request: Request) -> Door:
    # Made with the application in one thread, before the first request.
    door = request.app.state.door
    assert isinstance(door, Door)
    return door


CurrentDoor = Annotated[Door, Depends(door_of)]


def admit(request: Request, node: CurrentNode, door: Door, code: str) -> Guest:
    """The person whose code this is. Raises Unauthenticated, or 429 after too many failures."""
    address = address_of(request.scope, node.home.settings.trusted_proxies)
    if not door.attempts.allow(address):
        raise HTTPException(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too many wrong access codes; wait a minute",
            {"retry-after": str(int(MINUTE_S))},
        )
    guest = node.vaults.guest(code)
    if guest is None:
        door.attempts.failed(address)
        raise Unauthenticated(
            "nobody's records here open with this access code",
            remedy="check the code; if it is lost, ask the trustee for a new one",
        )
    return guest


def guest(
    request: Request, node: CurrentNode, door: CurrentDoor, credentials: PersonCredentials
) -> Guest:
    """The person, by the access code as bearer token."""
    return admit(request, node, door, credentials.credentials if credentials else "")


CurrentGuest = Annotated[Guest, Depends(guest)]


def verify_own_site(request: Request) -> None:
    """A form must not come from another site, as far as the browser says so. Raises Denied."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise _stranger()


def verify_own_page(request: Request, session: Session, csrf: str) -> None:
    """A form must come from a page that we gave to this session. Raises Denied."""
    verify_own_site(request)
    if not hmac.compare_digest(csrf.encode(), session.csrf.encode()):
        raise _stranger()


def _stranger() -> Denied:
    return Denied(
        "this form does not come from the page you opened here",
        remedy="open the page again and repeat it there",
    )


def _name(token: str) -> bytes:
    return sha256(token.encode()).digest()
