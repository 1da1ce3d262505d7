"""An HTTP client whose requests end at a point in time, whatever the server does.

A server that sends one byte now and then never lets a single read time out. Here every read and
write of a request, headers included, gets what is left until its end.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore2
import httpx2

CONNECT_S: Final = 10.0
# Between two pieces of one body.
SILENCE_S: Final = 60.0


def client_within(
    trust: ssl.SSLContext,
) -> tuple[httpx2.Client, Callable[[float | None], None]]:
    """A client that follows no redirect and reads no settings of the environment, and what sets
    the end of the requests to come, as `time.monotonic()` counts (None for none)."""
    transport = httpx2.HTTPTransport(verify=trust, trust_env=False)
    clock = _Clock()
    # httpcore takes a network backend as an argument; httpx does not pass one on.
    pool: httpcore2.ConnectionPool = transport._pool
    pool._network_backend = _Backend(httpcore2.SyncBackend(), clock)
    client = httpx2.Client(
        transport=transport, trust_env=False, follow_redirects=False, timeout=SILENCE_S
    )
    return client, clock.set


class _Clock:
    def __init__(self) -> None:
        self._until: float | None = None

    def set(self, until: float | None) -> None:
        self._until = until

    def left(self, timeout: float | None, error: type[Exception]) -> float | None:
        if self._until is None:
            return timeout
        left = self._until - time.monotonic()
        if left <= 0:
            raise error("the request's end has come")
        return left if timeout is None else min(timeout, left)


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, inner: httpcore2.NetworkBackend, clock: _Clock) -> None:
        self._inner, self._clock = inner, clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        left = self._clock.left(CONNECT_S, httpcore2.ConnectTimeout)
        stream = self._inner.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(stream, self._clock)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream, clock: _Clock) -> None:
        self._inner, self._clock = inner, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._clock.left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._clock.left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = self._clock.left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
