"""Answers in pieces of bounded size, whatever they were packed with.

A peer's answer of 64 KiB can say that it is a gigabyte: the HTTP client unpacks every block of the
network whole before anybody can count. Here gzip is the one encoding asked for and taken, and a
block becomes pieces of `PIECE_BYTES` at most, so that whoever counts them can stop.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import httpx2

from dataspace.errors import ProtocolViolation

PIECE_BYTES: Final = 64 * 1024
ASKED: Final = "gzip"
_PLAIN: Final = ("", "identity")
_GZIP: Final = ("gzip", "x-gzip")


class Unpacking(httpx2.BaseTransport):
    """A transport whose answers are plain, in pieces of bounded size.

    Raises httpx2.DecodingError for an encoding that was not asked for and for a damaged one.
    """

    def __init__(self, inner: httpx2.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        # What a caller says itself stands; the client's own wish is for whatever it can unpack.
        if request.headers.get("accept-encoding") != "identity":
            request.headers["accept-encoding"] = ASKED
        response = self._inner.handle_request(request)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding in _PLAIN:
            return response
        stream = response.stream
        if encoding not in _GZIP or not isinstance(stream, httpx2.SyncByteStream):
            response.close()
            raise httpx2.DecodingError(
                "the server answers in an encoding nobody asked for", request=request
            )
        for name in ("content-encoding", "content-length"):
            response.headers.pop(name, None)
        response.stream = _Unzipped(stream, request)
        return response

    def close(self) -> None:
        self._inner.close()


class _Unzipped(httpx2.SyncByteStream):
    def __init__(self, packed: httpx2.SyncByteStream, request: httpx2.Request) -> None:
        self._packed, self._request = packed, request

    def __iter__(self) -> Iterator[bytes]:
        inflate = zlib.decompressobj(wbits=31)
        try:
            for block in self._packed:
                piece = inflate.decompress(block, PIECE_BYTES)
                while piece:
                    yield piece
                    piece = inflate.decompress(inflate.unconsumed_tail, PIECE_BYTES)
        except zlib.error as err:
            raise httpx2.DecodingError("a damaged gzip body", request=self._request) from err
        if not inflate.eof:
            raise httpx2.DecodingError("a gzip body that is cut off", request=self._request)

    def close(self) -> None:
        self._packed.close()


def read_within(response: httpx2.Response, most: int, what: str = "the answer") -> bytes:
    """The body of a streamed answer. Raises ProtocolViolation beyond `most` bytes of `what`."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > most:
            raise ProtocolViolation(f"{what} has more than {most} bytes")
    return bytes(body)
