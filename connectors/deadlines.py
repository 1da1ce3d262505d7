"""HTTP requests that end at a point in time, whatever the server does.

A server that sends one byte now and then never lets a single read time out. Here every read and
write of a request, headers included, gets what is left until its end.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import httpcore2
import httpx2

CONNECT_S: Final = 10.0
# Between two pieces of one body.
SILENCE_S: Final = 60.0

# When the request that is being made has to have ended, as `time.monotonic()` counts; None: never.
End = Callable[[], float | None]
# The addresses of a host that may be connected to, in order; raises where it must not be called.
Find = Callable[[str], Sequence[str]]


def client_within(
    trust: ssl.SSLContext,
) -> tuple[httpx2.Client, Callable[[float | None], None]]:
    """A client that follows no redirect and reads no settings of the environment, and what sets
    the end of the requests to come, as `time.monotonic()` counts (None for none)."""
    end: list[float | None] = [None]

    def set_end(until: float | None) -> None:
        end[0] = until

    transport = ending_transport(lambda: end[0], connect_s=CONNECT_S, trust=trust)
    client = httpx2.Client(
        transport=transport, trust_env=False, follow_redirects=False, timeout=SILENCE_S
    )
    return client, set_end


def ending_transport(
    end: End, *, connect_s: float, trust: ssl.SSLContext | bool = True, find: Find | None = None
) -> httpx2.HTTPTransport:
    """A transport whose every read and write gets what is left until `end`, and whose connections
    are made within `connect_s` seconds; past the end they raise a timeout.

    With `find`, connections are made to the addresses it returns and to no other: the name is not
    looked up again. What it raises passes through. TLS still verifies the name.
    """
    transport = httpx2.HTTPTransport(verify=trust, trust_env=False)
    # httpcore takes a network backend as an argument; httpx does not pass one on.
    pool: httpcore2.ConnectionPool = transport._pool
    pool._network_backend = _Backend(httpcore2.SyncBackend(), end, connect_s, find)
    return transport


def _left(end: End, timeout: float | None, error: type[Exception]) -> float | None:
    until = end()
    if until is None:
        return timeout
    left = until - time.monotonic()
    if left <= 0:
        raise error("the request's end has come")
    return left if timeout is None else min(timeout, left)


class _Backend(httpcore2.NetworkBackend):
    def __init__(
        self, inner: httpcore2.NetworkBackend, end: End, connect_s: float, find: Find | None
    ) -> None:
        self._inner, self._end, self._connect_s, self._find = inner, end, connect_s, find

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        most = self._connect_s if timeout is None else min(timeout, self._connect_s)
        # All addresses together get the time that one connection may take.
        until = time.monotonic() + most
        addresses = [host] if self._find is None else list(self._find(host))
        for number, address in enumerate(addresses, 1):
            left = _left(self._end, max(0.0, until - time.monotonic()), httpcore2.ConnectTimeout)
            try:
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if number == len(addresses):
                    raise
                continue
            return _Stream(stream, self._end)
        raise httpcore2.ConnectError("the host has no address")

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream, end: End) -> None:
        self._inner, self._end = inner, end

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(self._end, timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(self._end, timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = _left(self._end, timeout, httpcore2.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._end)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
