"""A provider that died after its signature: what it kept, and how it ends in its next life."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dataspace.answer import Answer
from dataspace.computing.closing import SIGNATURES_S, keep_signed, patient, put_back, signed_run
from dataspace.computing.inbox import Chunk, content_digest
from dataspace.computing.sessions import Course, Session, Sessions
from dataspace.computing.spools import DirectorySpool
from dataspace.errors import ProtocolViolation as Refused
from dataspace.errors import Unavailable
from privacy.errors import ProtocolViolation
from privacy.kinds import CONSUMER
from privacy.role import Outcome
from privacy.transcript import SIGNATURE, SIGNATURES, Signed, closing, encode_signatures

ORDER, SOON_S = "6f0d2a34-0000-4000-8000-1234567890ab", 10.0
PEER, ME = "did:web:consumer", "did:web:sender"
TAKEN, SENT = 3, 5
OUTCOME = Outcome({"count": 2**70}, {"rows": 7}, None, (CONSUMER, "sender"))
SIGNED = Signed(OUTCOME, (CONSUMER, "sender"), b"d" * 32, b"mine")
BUNDLE = encode_signatures({CONSUMER: b"theirs", "sender": b"mine"})


def verify(party: str, digest: bytes, signature: bytes) -> None:
    if (party, digest, signature) != (CONSUMER, b"d" * 32, b"theirs"):
        raise Refused("it is not theirs")


def frame(body: bytes = BUNDLE, **changes: Any) -> Chunk:
    said: dict[str, Any] = {"sender": CONSUMER, "sequence": TAKEN, "name": SIGNATURES, "attempt": 2}
    said |= {"number": 0, "of": 1, "digest": content_digest(body), "body": body}
    return Chunk(**(said | changes))


def session() -> Session:
    dids = {CONSUMER: PEER, "sender": ME}
    return Session(ORDER, "sender", dids, deadline=time.monotonic(), attempt=2, resumable=True)


@pytest.fixture
def spool(tmp_path: Path) -> DirectorySpool:
    """That of a run that was signed at its second attempt."""
    made = DirectorySpool(tmp_path / "spool")
    run = session()
    run.sequences[CONSUMER] = SENT
    run.inbox.go_on_after(CONSUMER, TAKEN)
    keep_signed(run, made, SIGNED, 4)
    return made


class Wire:
    """A consumer that answers as told, a status or an error to each request."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)
        self.sent: list[tuple[str, bytes, str]] = []
        self.tried = threading.Event()

    def url_of(self, did: str) -> str:
        return "http://peer"

    def send(self, method: str, url: str, *, to: str, body: bytes, headers: Any) -> Answer:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.sent.append((url.removeprefix("http://peer/compute/"), body, headers["frame-name"]))
        self.tried.set()
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer, {}, b"")


Begin = Callable[..., tuple[Sessions, threading.Event, list[Any]]]


@pytest.fixture
def begin(spool: DirectorySpool) -> Iterator[Begin]:
    opened: list[Sessions] = []

    def begin(
        wire: Wire, check: Callable[[str, bytes, bytes], None] = verify
    ) -> tuple[Sessions, threading.Event, list[Any]]:
        sessions, run = Sessions(wire), session()  # type: ignore[arg-type]
        over, ends = threading.Event(), list[Any]()
        kept = signed_run(spool, 2)
        assert kept is not None
        put_back(run, spool, kept)

        def finish(end: Any) -> None:
            ends.append(end)
            over.set()

        holds = patient(check, lambda: sessions.find(ORDER))
        course = Course(
            lambda: closing(kept.signed, me="sender", collector=CONSUMER, verify=holds), finish
        )
        sessions.open(run, course)
        opened.append(sessions)
        return sessions, over, ends

    yield begin
    for one in opened:
        one.close()


def test_what_was_signed_comes_back_with_the_count_of_unusable_rows(spool: DirectorySpool) -> None:
    kept = signed_run(spool, 2)
    assert kept is not None
    assert (kept.sequence, kept.taken) == (SENT, TAKEN)
    assert kept.signed.outcome.report == {"rows": 7, "excluded": 4}
    assert kept.signed.outcome.value == OUTCOME.value
    assert (kept.signed.parties, kept.signed.digest) == (SIGNED.parties, SIGNED.digest)
    assert signed_run(spool, 3) is None


def test_who_signed_waits_past_the_deadline_of_the_order(spool: DirectorySpool) -> None:
    run = session()
    before = run.deadline
    keep_signed(run, spool, SIGNED, None)
    assert run.deadline == before + SIGNATURES_S


@pytest.mark.parametrize("status", [204, 404, 409, 410])
def test_the_signature_is_offered_again_and_the_others_are_taken(begin: Begin, status: int) -> None:
    # A token that is not taken is a clock's fault, and passes.
    wire = Wire(Unavailable("away"), 401, status)
    sessions, over, ends = begin(wire)
    while len(wire.sent) < 3:
        assert wire.tried.wait(SOON_S)
        wire.tried.clear()
    sessions.receive(ORDER, PEER, frame())
    assert over.wait(SOON_S)
    assert ends[0].signatures == {CONSUMER: b"theirs", "sender": b"mine"}
    assert wire.sent[0] == (f"{ORDER}/sender/{SENT}/0", b"mine", SIGNATURE)


def test_signatures_that_were_acknowledged_need_not_come_again(
    begin: Begin, spool: DirectorySpool
) -> None:
    run = session()
    kept = signed_run(spool, 2)
    assert kept is not None
    put_back(run, spool, kept)
    # Acknowledged, and the node dies: what was in its memory only is gone.
    run.keep(frame())
    wire = Wire(Unavailable("away"))
    _, over, ends = begin(wire)
    assert over.wait(SOON_S)
    assert ends[0].digest == SIGNED.digest
    assert wire.sent == []


def test_signatures_that_do_not_hold_end_the_run(begin: Begin) -> None:
    sessions, over, ends = begin(Wire(204))
    sessions.receive(
        ORDER, PEER, frame(encode_signatures({CONSUMER: b"forged", "sender": b"mine"}))
    )
    assert over.wait(SOON_S)
    assert isinstance(ends[0], ProtocolViolation)


def test_a_signer_whose_keys_cannot_be_had_at_the_moment_is_asked_again(begin: Begin) -> None:
    tries = iter([Unavailable("its document cannot be fetched"), Unavailable("a moment ago"), None])

    def check(party: str, digest: bytes, signature: bytes) -> None:
        trouble = next(tries)
        if trouble is not None:
            raise trouble
        verify(party, digest, signature)

    sessions, over, ends = begin(Wire(204), check)
    sessions.receive(ORDER, PEER, frame())
    assert over.wait(SOON_S)
    assert ends[0].signatures == {CONSUMER: b"theirs", "sender": b"mine"}


def test_who_waits_for_the_keys_of_a_signer_ends_for_the_reason_it_is_told(begin: Begin) -> None:
    asked = threading.Event()

    def check(party: str, digest: bytes, signature: bytes) -> None:
        asked.set()
        raise Unavailable("its document cannot be fetched")

    sessions, over, ends = begin(Wire(204), check)
    sessions.receive(ORDER, PEER, frame())
    assert asked.wait(SOON_S)
    reason = Unavailable("it was cancelled by a participant")
    sessions.cancel(ORDER, reason)
    assert over.wait(SOON_S)
    assert ends == [reason]


@pytest.mark.parametrize("changes", [{"sequence": TAKEN + 1}, {"name": "points"}, {"of": 2}])
def test_no_other_frame_is_kept(spool: DirectorySpool, changes: dict[str, Any]) -> None:
    run = session()
    kept = signed_run(spool, 2)
    assert kept is not None
    put_back(run, spool, kept)
    run.keep(frame(**changes))
    assert spool.get("signatures") is None
