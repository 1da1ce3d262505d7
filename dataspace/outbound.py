"""The HTTP client for everything outside: a request has a total deadline, not one for each read.

A peer that sends one byte now and then never lets a read time out. Here every read and write of a
request gets what is left of its deadline, headers included.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore2
import httpx2

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
    transport = httpx2.HTTPTransport(trust_env=False)
    # httpcore takes a network backend as an argument; httpx does not pass one on.
    pool: httpcore2.ConnectionPool = transport._pool
    pool._network_backend = _DeadlineBackend(httpcore2.SyncBackend())
    return httpx2.Client(transport=transport, trust_env=False, follow_redirects=False)


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    until = getattr(_current, "until", None)
    if until is None:
        return timeout
    left = float(until) - time.monotonic()
    if left <= 0:
        raise error("the request's deadline has passed")
    return left if timeout is None else min(timeout, left)


class _DeadlineBackend(httpcore2.NetworkBackend):
    def __init__(self, inner: httpcore2.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        timeout = _left(min(timeout or CONNECT_S, CONNECT_S), httpcore2.ConnectTimeout)
        return _DeadlineStream(
            self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: Any,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        timeout = _left(timeout, httpcore2.ConnectTimeout)
        return _DeadlineStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
