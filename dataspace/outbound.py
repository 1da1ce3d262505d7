"""The HTTP client for everything outside: a request has a total deadline, not one for each read.

A peer that sends one byte now and then never lets a read time out. Here every read and write of a
request gets what is left of its deadline, headers included.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from connectors.deadlines import ending_transport

CONNECT_S = 5.0

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


def outbound_client() -> httpx2.Client:
    """A client that follows no redirect, reads no proxy settings, and keeps to `within`."""
    transport = ending_transport(lambda: getattr(_current, "until", None), connect_s=CONNECT_S)
    return httpx2.Client(transport=transport, trust_env=False, follow_redirects=False)
