"""Frames from peers are hostile until they have been counted, measured and digested."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataspace.computing.inbox import (
    CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_FRAMES_A_SENDER,
    Chunk,
    Inbox,
    content_digest,
)
from dataspace.errors import ProtocolViolation, SessionClosed, Unavailable
from privacy.role import Receive

SOON = 10.0


def chunk(
    body: bytes,
    *,
    sender: str = "left",
    sequence: int = 0,
    number: int = 0,
    of: int = 1,
    name: str = "points",
    digest: str | None = None,
) -> Chunk:
    return Chunk(sender, sequence, number, of, name, digest or content_digest(body), body)


def receive(
    inbox: Inbox, name: str = "points", *, sender: str = "left", limit: int = 1000
) -> bytes:
    return inbox.get(Receive(sender, name, limit), time.monotonic() + SOON)


def test_a_frame_is_put_together_from_chunks_in_any_order() -> None:
    inbox = Inbox()
    for number in (2, 0, 1):
        inbox.put(chunk(b"abc"[number : number + 1], number=number, of=3))
    assert receive(inbox) == b"abc"


@given(st.permutations([(sequence, number) for sequence in range(3) for number in range(3)]))
def test_frames_come_out_in_the_senders_order(order: list[tuple[int, int]]) -> None:
    inbox = Inbox()
    for sequence, number in order:
        inbox.put(chunk(bytes([sequence, number]), sequence=sequence, number=number, of=3))
    for sequence in range(3):
        assert receive(inbox) == bytes([sequence, 0, sequence, 1, sequence, 2])


def test_a_repetition_changes_nothing_before_and_after_the_frame_was_read() -> None:
    inbox = Inbox()
    inbox.put(chunk(b"a"))
    inbox.put(chunk(b"a"))
    assert receive(inbox) == b"a"
    inbox.put(chunk(b"a"))
    with pytest.raises(Unavailable):
        inbox.get(Receive("left", "points", 10), time.monotonic())


def test_a_repetition_that_differs_is_a_violation() -> None:
    inbox = Inbox()
    inbox.put(chunk(b"a"))
    with pytest.raises(ProtocolViolation, match="came twice and differs"):
        inbox.put(chunk(b"b"))


def test_bytes_that_do_not_have_their_digest_are_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="digest"):
        Inbox().put(chunk(b"a", digest=content_digest(b"b")))


@pytest.mark.parametrize(
    "bad",
    [
        {"name": ""},
        {"name": "../x y"},
        {"of": 0},
        {"of": MAX_CHUNKS + 1},
        {"number": 1},
        {"number": -1},
        {"sequence": -1},
        {"sequence": MAX_FRAMES_A_SENDER},
    ],
)
def test_numbers_out_of_bounds_are_a_violation(bad: dict[str, int]) -> None:
    with pytest.raises(ProtocolViolation):
        Inbox().put(chunk(b"a", **bad))  # type: ignore[arg-type]


def test_an_oversize_chunk_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="at most"):
        Inbox().put(chunk(b"a" * (CHUNK_BYTES + 1)))


def test_a_frame_of_another_name_or_over_its_limit_is_a_violation() -> None:
    inbox = Inbox()
    inbox.put(chunk(b"abc"))
    inbox.put(chunk(b"abc", sequence=1))
    with pytest.raises(ProtocolViolation, match="expected frame 'other'"):
        receive(inbox, "other")
    with pytest.raises(ProtocolViolation, match="more than 2"):
        receive(inbox, limit=2)


def test_a_frame_that_changes_its_length_is_a_violation() -> None:
    inbox = Inbox()
    inbox.put(chunk(b"a", of=2))
    with pytest.raises(ProtocolViolation, match="changed"):
        inbox.put(chunk(b"b", number=1, of=3))


def test_closing_wakes_who_waits_with_the_reason() -> None:
    inbox = Inbox()
    reasons: list[str] = []

    def wait() -> None:
        try:
            receive(inbox)
        except Unavailable as err:
            reasons.append(str(err))

    thread = threading.Thread(target=wait)
    thread.start()
    inbox.close(Unavailable("the peer ended it"))
    thread.join(SOON)
    assert reasons == ["the peer ended it"]
    with pytest.raises(SessionClosed):
        inbox.put(chunk(b"late"))
