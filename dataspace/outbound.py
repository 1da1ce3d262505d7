"""The HTTP client for everything outside: a request has a total deadline, not one for each read.

A peer that sends one byte now and then never lets a read time out. Here every read and write of a
request gets what is left of its deadline, headers included.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2

from connectors.deadlines import ending_transport
from dataspace.answer import Answer
from dataspace.identity.addresses import AddressPolicy, addresses_of
from dataspace.operations.tracing import TRACEPARENT, outgoing
from dataspace.tls import client_trust
from dataspace.unpacking import Unpacking, read_within

CONNECT_S = 5.0
# Nobody answers there, or not in time, or not in HTTP; or the address is none.
UNREACHABLE = (httpx2.HTTPError, httpx2.InvalidURL)

_current = threading.local()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Requests made by this thread in the block end in `seconds` altogether, or raise a timeout."""
    before = getattr(_current, "until", None)
    until = time.monotonic() + seconds
    _current.until = until if before is None else min(before, until)
    try:
        yield
    finally:
        _current.until = before


def outbound_client(
    ca: Path | None = None,
    addresses: AddressPolicy | None = None,
    *,
    heard: Callable[[httpx2.Response], None] | None = None,
) -> httpx2.Client:
    """A client that follows no redirect, reads no proxy settings, and keeps to `within`.

    Servers are known by the authorities in `ca`, else by the machine's. With `addresses` it calls
    only what that allows, at the very address that was judged, and raises ProtocolViolation or
    Unavailable otherwise; without, whatever whoever uses it names. `heard` is told of every answer.
    Bodies come unpacked, in pieces of bounded size (`dataspace.unpacking`).
    """
    transport = ending_transport(
        lambda: getattr(_current, "until", None),
        connect_s=CONNECT_S,
        trust=client_trust(ca),
        find=None if addresses is None else lambda host: addresses_of(host, addresses),
    )
    return httpx2.Client(
        transport=Unpacking(transport),
        trust_env=False,
        follow_redirects=False,
        event_hooks={"request": [_say_the_trace], "response": [] if heard is None else [heard]},
    )


def ask(
    http: httpx2.Client,
    method: str,
    url: str,
    *,
    most: int,
    timeout_s: float,
    what: str = "the answer",
    headers: Mapping[str, str] | None = None,
    content: bytes = b"",
) -> Answer:
    """What is answered at `url`, within `timeout_s` altogether.

    Raises ProtocolViolation where `what` came has more than `most` bytes, and `UNREACHABLE`.
    """
    with (
        within(timeout_s),
        http.stream(method, url, headers=headers, content=content, timeout=timeout_s) as response,
    ):
        body = read_within(response, most, what)
    return Answer(response.status_code, dict(response.headers), body)


def _say_the_trace(request: httpx2.Request) -> None:
    """Let the other side's log lines be found by the trace that ours have (W3C Trace Context)."""
    header = outgoing()
    if header is not None:
        request.headers[TRACEPARENT] = header
