"""A small answer that says it is a huge one is counted as it is unpacked, piece by piece."""

from __future__ import annotations

import gzip
from contextlib import suppress

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataspace.errors import ProtocolViolation
from dataspace.outbound import outbound_client
from dataspace.unpacking import PIECE_BYTES, Unpacking, read_within
from tests.servers_web import Asked, Told, web_server

# A thousand times as much as it is on the wire.
BOMB = gzip.compress(bytes(64 * 2**20))
ZSTD = bytes.fromhex("28b52ffd") + b"\x00" * 20


def answer(request: Asked) -> Told:
    if request.path == "/bomb":
        return Told(BOMB, headers={"content-encoding": "gzip"})
    if request.path == "/plain":
        return Told(request.headers["accept-encoding"].encode())
    if request.path == "/cut":
        return Told(gzip.compress(b"a" * 1000)[:-4], headers={"content-encoding": "gzip"})
    if request.path == "/damaged":
        return Told(b"\x1f\x8b" + b"\xff" * 100, headers={"content-encoding": "x-gzip"})
    return Told(ZSTD, headers={"content-encoding": request.path.removeprefix("/")})


def test_a_bomb_comes_in_pieces_and_stops_at_the_limit() -> None:
    assert len(BOMB) < 2**20
    with web_server(answer) as served, outbound_client() as http:
        url = f"http://{served.netloc}/bomb"
        with http.stream("GET", url) as response:
            pieces = response.iter_bytes()
            assert max(len(next(pieces)) for _ in range(50)) <= PIECE_BYTES
        with (
            http.stream("GET", url) as response,
            pytest.raises(ProtocolViolation, match="more than 1048576 bytes"),
        ):
            read_within(response, 2**20)


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "made-up"])
def test_an_encoding_nobody_asked_for_is_not_unpacked(encoding: str) -> None:
    with (
        web_server(answer) as served,
        outbound_client() as http,
        pytest.raises(httpx2.DecodingError, match="nobody asked for"),
    ):
        http.get(f"http://{served.netloc}/{encoding}")


@pytest.mark.parametrize("path", ["cut", "damaged"])
def test_a_body_that_cannot_be_unpacked_is_an_error_of_the_call(path: str) -> None:
    with (
        web_server(answer) as served,
        outbound_client() as http,
        pytest.raises(httpx2.DecodingError),
    ):
        http.get(f"http://{served.netloc}/{path}")


def test_gzip_alone_is_asked_for_unless_the_caller_wants_it_plain() -> None:
    with web_server(answer) as served, outbound_client() as http:
        url = f"http://{served.netloc}/plain"
        assert http.get(url).text == "gzip"
        assert http.get(url, headers={"accept-encoding": "identity"}).text == "identity"


@given(st.binary(max_size=5000), st.integers(1, 700), st.integers(0, 9))
def test_what_was_packed_comes_out_whatever_blocks_it_came_in(
    body: bytes, block: int, level: int
) -> None:
    packed = gzip.compress(body * 40, compresslevel=level)

    class Packed(httpx2.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield from (packed[at : at + block] for at in range(0, len(packed), block))

    def handle(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-encoding": "gzip"}, stream=Packed())

    with httpx2.Client(transport=Unpacking(httpx2.MockTransport(handle))) as http:
        assert http.get("http://peer/").content == body * 40


@given(st.binary(max_size=300))
def test_bytes_that_are_no_gzip_never_do_more_than_fail_the_call(junk: bytes) -> None:
    def handle(_: httpx2.Request) -> httpx2.Response:
        stream = httpx2.ByteStream(b"\x1f\x8b\x08" + junk)
        return httpx2.Response(200, headers={"content-encoding": "gzip"}, stream=stream)

    transport = Unpacking(httpx2.MockTransport(handle))
    with httpx2.Client(transport=transport) as http, suppress(httpx2.DecodingError):
        http.get("http://peer/")
