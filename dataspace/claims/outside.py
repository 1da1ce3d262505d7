"""Calls of the claims protocol to other nodes and to what credentials name: bounded, guarded.

Addresses come from DID documents and credentials, so from anybody. The node's HTTP client judges
every address that a name means before it connects; here a scheme, a size and a time are bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import httpx2

from dataspace.answer import Answer
from dataspace.claims.messages import MAX_MESSAGE_BYTES, Message
from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.identity.tokens import Identity, issue_token
from dataspace.outbound import UNREACHABLE, ask

# A verifier waits for its holder while a caller waits for the verifier.
CALL_S: Final = 10.0
# A status list of the largest size that is read, in a signed credential.
MAX_DOCUMENT_BYTES: Final = 2 * 1024 * 1024
MAX_URL_LETTERS: Final = 2048
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Outside:
    """The node's client, as the parts of the claims protocol use it."""

    def __init__(
        self, client: httpx2.Client, identity: Callable[[], Identity], *, local: bool
    ) -> None:
        self._client = client
        self._identity = identity
        self._local = local

    def get(self, url: str) -> bytes:
        """What is served at `url`. Raises ProtocolViolation or Unavailable."""
        answer = self._call("GET", url, body=b"", headers={}, limit_bytes=MAX_DOCUMENT_BYTES)
        if answer.status != 200:
            raise Unavailable(f"{_host(url)} answered {answer.status} to what a credential names")
        return answer.body

    def post(self, url: str, message: Message, *, to: str, access: str | None) -> Answer:
        """Send a message to the participant `to` with a token of our own, which carries its access
        token back (§5.1.6, §6.1.7). Raises ProtocolViolation, or Unavailable where it cannot be
        reached or answers 429 or 5xx."""
        token = issue_token(
            self._identity(), audience=to, now=int(time.time()), membership=None, access=access
        )
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        answer = self._call(
            "POST", url, body=message.to_bytes(), headers=headers, limit_bytes=MAX_MESSAGE_BYTES
        )
        if answer.status == 429 or answer.status >= 500:
            raise Unavailable(f"{to} answered {answer.status}: {answer.reason()}")
        return answer

    def _call(
        self, method: str, url: str, *, body: bytes, headers: dict[str, str], limit_bytes: int
    ) -> Answer:
        verify_endpoint(url, local=self._local)
        try:
            return ask(
                self._client,
                method,
                url,
                most=limit_bytes,
                timeout_s=CALL_S,
                what=f"the answer of {_host(url)}",
                headers=headers,
                content=body,
            )
        except UNREACHABLE as err:
            raise Unavailable(
                f"{_host(url)} cannot be reached ({type(err).__name__})", remedy="try again later"
            ) from err


def verify_endpoint(url: str, *, local: bool) -> None:
    """An address that may be called: https with a host, and plain http to this machine in a local
    space (§4.5). Raises ProtocolViolation."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        usable = bool(host) and parts.port != 0 and not parts.username and not parts.password
    except ValueError:
        usable = False
    if not usable or len(url) > MAX_URL_LETTERS or not url.isprintable():
        raise ProtocolViolation("expected an address with a host and without a user")
    if parts.scheme == "https" or (parts.scheme == "http" and local and host in _LOOPBACK):
        return
    raise ProtocolViolation(
        "expected an https address", remedy="plain http is called in a local space only"
    )


def _host(url: str) -> str:
    return urlsplit(url).hostname or "the host"
