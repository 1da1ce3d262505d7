"""One party's side of one running computation: a privacy role driven over HTTP.

A role yields frames to send and waits for frames to receive (`privacy.role`); a session moves
them. A frame travels as `PUT /compute/{order}/{sender}/{sequence}/{chunk}` in chunks of at most
8 MiB with a SHA-256 `Content-Digest` (RFC 9530). PUT is idempotent per number, so sending again
after a lost answer is safe.

Secrets of a run live in the role's local variables and never reach the disk. A party that comes
back from a restart begins its role again as the next *attempt* and says so to the others
(`PUT /compute/{order}/{sender}/attempts/{n}`), who begin theirs again too; what the roles had
finished lies in their spools. Frames name their attempt, so that those of an earlier one are never
taken for new. Where a kind cannot go on, the restarted party fails and says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import structlog

from dataspace.answer import Answer
from dataspace.computing.inbox import (
    CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_NODE_BUFFERED_BYTES,
    Budget,
    Chunk,
    Inbox,
    content_digest,
    verify_chunk,
)
from dataspace.errors import (
    InputRejected,
    NodeError,
    NotFound,
    ProtocolViolation,
    SessionClosed,
    Superseded,
    Unavailable,
)
from dataspace.operations.tracing import Stopwatch, in_this_trace, span
from dataspace.peers import Peers
from privacy.role import Progress, Send, Step
from privacy.transcript import Transcribed

log = structlog.get_logger("dataspace.sessions")

# How long a party that meets an ended session waits to hear why it ended.
REASON_GRACE_S = 30.0
# Ended sessions are remembered so that a late repetition is answered, not started again.
MAX_ENDED = 256
# A computation that was begun this often will not end by being begun once more.
MAX_ATTEMPTS = 32
FIRST_WAIT_S, LONGEST_WAIT_S = 0.02, 2.0

Drive = Generator[Step, bytes | None, Transcribed]


class _Restarting(NodeError):
    """The role ends because a later attempt begins."""


@dataclass
class Session:
    """A running computation: who plays what, and what has happened so far.

    `resumable`: a later attempt may take the place of this one. `announced`: the others know of
    this attempt.
    """

    order_id: str
    role: str
    dids: dict[str, str]
    deadline: float
    inbox: Inbox = field(default_factory=Inbox)
    attempt: int = 1
    resumable: bool = False
    announced: bool = True
    # The number of the next frame to each other party.
    sequences: dict[str, int] = field(default_factory=dict)
    step: str = "preparing"
    sent_bytes: int = 0
    received_bytes: int = 0
    # Units of work, as the role counts them; the total is 0 until it is known.
    done_units: int = 0
    total_units: int = 0
    ended: bool = False
    # The attempt that takes the place of this one.
    successor: int | None = None
    # What is left of the role is to offer the own signature once more and to take the others'.
    closing: bool = False
    # Has a frame on the disk before it is acknowledged, where the run depends on it.
    keep: Callable[[Chunk], None] = lambda _: None

    def sender_did(self, role: str) -> str | None:
        return self.dids.get(role)

    def advance(self, progress: Progress) -> None:
        self.done_units += progress.done
        if progress.total is not None:
            self.total_units = progress.total

    def supersede(self, attempt: int) -> None:
        """End this attempt so that a later one can begin."""
        self.successor = max(attempt, self.successor or 0)
        self.inbox.close(_Restarting("a later attempt begins"))


@dataclass(frozen=True)
class Course:
    """What a session runs: its role, made anew for every attempt; what to do at its end; and whom
    to tell that a later attempt began."""

    start: Callable[[], Drive]
    finish: Callable[[Transcribed | Exception], None]
    restarted: Callable[[int], None] = lambda _: None


class Sessions:
    """All sessions of this node, and the threads that drive them."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        # Orders that are suspended, whether or not their session is open yet.
        self._held: set[str] = set()
        self.budget = Budget(MAX_NODE_BUFFERED_BYTES)
        self._stopping = threading.Event()

    def find(self, order_id: str) -> Session | None:
        with self._lock:
            return self._sessions.get(order_id)

    def step_of(self, order_id: str) -> str | None:
        """Where a session is that has not ended; None where there is none here."""
        session = self.find(order_id)
        return None if session is None or session.ended else session.step

    def open_count(self) -> int:
        """How many sessions have not ended."""
        with self._lock:
            return sum(not one.ended for one in self._sessions.values())

    def open(self, session: Session, course: Course) -> bool:
        """Run the role of `course` in a thread of its own and give the end to its `finish`.

        Returns False, and does nothing, where the order already has a session: an order is run
        at most once.
        """
        with self._lock:
            if session.order_id in self._sessions:
                return False
            ended = [key for key, one in self._sessions.items() if one.ended]
            for key in ended[: max(0, len(ended) - MAX_ENDED)]:
                del self._sessions[key]
            self._enter(session)
        threading.Thread(
            target=in_this_trace(self._run),
            args=(session, course),
            name=f"session-{session.order_id[:8]}-{session.role}",
            daemon=True,
        ).start()
        return True

    def receive(self, order_id: str, sender_did: str, chunk: Chunk) -> None:
        """A chunk from the participant `sender_did`. Raises NotFound where it is no party of such
        a session here: the same answer whether the order or the right is missing."""
        session = self._of_party(order_id, sender_did, chunk.sender)
        if chunk.attempt != session.attempt:
            # The notice of a later attempt may be slower than its first frame.
            self.rejoin(order_id, sender_did, chunk.sender, chunk.attempt)
            raise Unavailable("this side begins again too", remedy="send the frame again")
        if not session.ended:
            verify_chunk(chunk)
            session.keep(chunk)
        session.inbox.put(chunk)
        session.received_bytes += len(chunk.body)

    def rejoin(self, order_id: str, sender_did: str, sender: str, attempt: int) -> None:
        """The party `sender` came back and has begun `attempt`: begin it here too.

        Raises Superseded where a later one runs here, SessionClosed where the computation has
        ended, and ProtocolViolation where it cannot be begun again.
        """
        session = self._of_party(order_id, sender_did, sender)
        with self._lock:
            if attempt < session.attempt:
                raise Superseded(f"attempt {session.attempt} of this computation runs here")
            if attempt == session.attempt:
                return
            if session.ended:
                raise SessionClosed("the computation has ended here")
            if not session.resumable:
                raise ProtocolViolation("this kind of computation cannot be begun again")
            if attempt > MAX_ATTEMPTS:
                raise ProtocolViolation(f"a computation is begun at most {MAX_ATTEMPTS} times")
            session.supersede(attempt)

    def cancel(self, order_id: str, reason: NodeError) -> None:
        """End a session from outside; its role is closed at its next step."""
        with self._lock:
            self._held.discard(order_id)
            session = self._sessions.get(order_id)
        if session is not None:
            session.inbox.close(reason)

    def hold(self, order_id: str) -> None:
        """Suspend a session: its role sends and takes nothing more until it is released. One that
        is not open yet will be held from its first step."""
        with self._lock:
            self._held.add(order_id)
            session = self._sessions.get(order_id)
            if session is not None:
                session.inbox.hold()

    def release(self, order_id: str) -> None:
        """Let a session go on; its deadline has not moved."""
        with self._lock:
            self._held.discard(order_id)
            session = self._sessions.get(order_id)
            if session is not None:
                session.inbox.release()

    def running(self) -> list[str]:
        """The orders whose sessions have not ended."""
        with self._lock:
            return [one.order_id for one in self._sessions.values() if not one.ended]

    def abandon(self, order_id: str) -> None:
        """End and forget a session that another replica has taken over."""
        with self._lock:
            self._held.discard(order_id)
            session = self._sessions.pop(order_id, None)
        if session is not None:
            session.inbox.close(Unavailable("another replica goes on with the computation"))

    def close(self) -> None:
        """End all sessions without an end: they go on, or have failed, at the next start."""
        with self._lock:
            self._stopping.set()
            running = [one for one in self._sessions.values() if not one.ended]
        for session in running:
            session.inbox.close(Unavailable("the node is stopping"))

    def _of_party(self, order_id: str, did: str, role: str) -> Session:
        session = self.find(order_id)
        if session is None or session.sender_did(role) != did:
            raise NotFound("there is no such computation here", remedy="order it first")
        return session

    def _enter(self, session: Session) -> None:
        """Make `session` the one of its order. The caller holds the lock."""
        self._sessions[session.order_id] = session
        if session.order_id in self._held:
            session.inbox.hold()

    def _run(self, session: Session, course: Course) -> None:
        while True:
            with span("session", role=session.role, attempt=session.attempt) as measured:
                end = self._play(session, course)
                measured.note(outcome=type(end).__name__)
            if not isinstance(end, _Restarting):
                break
            session = self._successor(session)
            try:
                self._stored(session, partial(course.restarted, session.attempt))
            except Exception as err:  # a session that cannot be kept ends here
                end, session.ended = err, True
                break
        with self._lock:
            self._held.discard(session.order_id)
        if self._stopping.is_set() and not isinstance(end, Transcribed):
            return
        try:
            self._stored(session, partial(course.finish, end))
        except Unavailable:  # the node stops; what is RUNNING goes on, or has failed, at its start
            return
        except Exception:  # nobody is left to raise to; the row stays RUNNING and says so at start
            log.exception("a session's end could not be stored", order=session.order_id)

    def _stored(self, session: Session, store: Callable[[], None]) -> None:
        """Do `store`, again and again while the database is away: nobody else would, and the
        computation would stay open until the next start. Raises Unavailable once the node stops."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return store()
            except Unavailable as err:
                if wait_s == FIRST_WAIT_S:
                    log.warning(
                        "what became of a session cannot be stored yet",
                        order=session.order_id,
                        error=err.sentence,
                    )
                if self._stopping.wait(wait_s):
                    raise
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _play(self, session: Session, course: Course) -> Transcribed | Exception:
        end: Transcribed | Exception = SessionClosed("its thread was ended")
        try:
            self._announce(session)
            end = self._drive(session, course.start())
        except Exception as err:  # whatever ended the role is the session's result
            end = err
            if not isinstance(err, NodeError):
                log.info("role ended", order=session.order_id, error=type(err).__name__)
        finally:
            if not isinstance(end, _Restarting):
                session.ended = True
            session.inbox.close(SessionClosed("it is finished"))
        return end

    def _successor(self, session: Session) -> Session:
        """The session of the next attempt, in the place of `session`."""
        assert session.successor is not None
        fresh = Session(
            order_id=session.order_id,
            role=session.role,
            dids=session.dids,
            deadline=session.deadline,
            inbox=Inbox(self.budget),
            attempt=session.successor,
            resumable=True,
            announced=session.announced,
        )
        with self._lock:
            self._enter(fresh)
        log.info("computation begun again", order=fresh.order_id, attempt=fresh.attempt)
        return fresh

    def _announce(self, session: Session) -> None:
        """Tell every other party of the attempt that this one begins by itself."""
        if session.announced:
            return
        for party, did in session.dids.items():
            if party == session.role:
                continue
            url = f"{self._base(session, did)}/attempts/{session.attempt}"
            answer = self._put(session, did, url)
            if answer.status == 409:
                # Several restarts met: the next number is later than all of them.
                session.supersede(session.attempt + 1)
                raise _Restarting("a later attempt runs elsewhere")
            self._verify_taken(session, did, answer)
        session.announced = True

    def _drive(self, session: Session, drive: Drive) -> Transcribed:
        answer: bytes | None = None
        sending, waiting = Stopwatch("frames sent"), Stopwatch("frames awaited")
        try:
            while True:
                try:
                    step = drive.send(answer)
                except StopIteration as stop:
                    result: Transcribed = stop.value
                    return result
                if isinstance(step, Progress):
                    session.advance(step)
                    session.inbox.await_release(session.deadline)
                    answer = None
                    continue
                session.step = f"{'send' if isinstance(step, Send) else 'wait for'} {step.name}"
                if isinstance(step, Send):
                    sequence = session.sequences.get(step.to, 0)
                    session.sequences[step.to] = sequence + 1
                    with sending.running():
                        if session.closing:
                            self._send_again(session, step, sequence)
                        else:
                            self._send(session, step, sequence)
                    answer = None
                else:
                    with waiting.running():
                        answer = session.inbox.get(step, session.deadline)
                    session.step = "compute"
        finally:
            drive.close()
            sending.record()
            waiting.record()

    def _base(self, session: Session, did: str) -> str:
        return f"{self._peers.url_of(did)}/compute/{session.order_id}/{session.role}"

    def _send(self, session: Session, frame: Send, sequence: int) -> None:
        did = session.dids[frame.to]
        pieces = [
            frame.payload[start : start + CHUNK_BYTES]
            for start in range(0, len(frame.payload), CHUNK_BYTES)
        ] or [b""]
        if len(pieces) > MAX_CHUNKS:
            raise InputRejected(
                f"frame {frame.name!r} has {len(frame.payload)} bytes, more than "
                f"{MAX_CHUNKS * CHUNK_BYTES}",
                remedy="use fewer rows in one computation",
            )
        for number, piece in enumerate(pieces):
            session.inbox.await_release(session.deadline)
            url = f"{self._base(session, did)}/{sequence}/{number}"
            headers = _headers(session, frame, piece, of=len(pieces))
            answer = self._put(session, did, url, piece, headers)
            self._verify_taken(session, did, answer)
            session.sent_bytes += len(piece)

    def _send_again(self, session: Session, frame: Send, sequence: int) -> None:
        """Offer a frame that an earlier life may have sent, until it has come or the other side's
        next one is here. One that has ended its side, or died and has not opened it yet, needs this
        frame no longer: it says what follows."""
        did = session.dids[frame.to]
        url = f"{self._base(session, did)}/{sequence}/0"
        headers = _headers(session, frame, frame.payload, of=1)
        wait_s = FIRST_WAIT_S
        while not session.inbox.has_next(frame.to) and time.monotonic() < session.deadline:
            session.inbox.await_release(session.deadline)
            answer = None
            with suppress(Unavailable):
                answer = self._peers.send("PUT", url, to=did, body=frame.payload, headers=headers)
            # Signed and kept, it must not fail because a clock is wrong for a while (401).
            if answer is None or answer.status == 401:
                session.inbox.pause(wait_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
                continue
            if answer.status >= 300 and answer.status not in (404, 409, 410):
                raise ProtocolViolation(f"{did} refused a frame: {answer.reason()}")
            return

    def _put(
        self,
        session: Session,
        did: str,
        url: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """The answer to a PUT, repeated until the peer can be reached and has its side open."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                answer = self._peers.send("PUT", url, to=did, body=body, headers=headers)
                if answer.status != 404:
                    return answer
                # The peer has not opened its session yet; its own decision may still be running.
                error = Unavailable(f"{did} did not open its side of the computation")
            except Unavailable as err:
                error = err
            if time.monotonic() + wait_s > session.deadline:
                raise error
            session.inbox.pause(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _verify_taken(self, session: Session, did: str, answer: Answer) -> None:
        if answer.status < 300:
            return
        if answer.status not in (409, 410):
            raise ProtocolViolation(f"{did} refused a frame: {answer.reason()}")
        # Either it has ended the computation, told the consumer why, and the consumer tells
        # everyone: that reason, not this echo of it, is what the computation ended for. Or a later
        # attempt runs there, whose notice is on its way to us.
        left_s = session.deadline - time.monotonic()
        session.inbox.pause(min(max(0.0, left_s), REASON_GRACE_S))
        raise SessionClosed(f"{did} has ended the computation: {answer.reason()}")


def _headers(session: Session, frame: Send, piece: bytes, *, of: int) -> dict[str, str]:
    """What a chunk says of itself besides its bytes."""
    return {
        "content-type": "application/octet-stream",
        "content-digest": content_digest(piece),
        "frame-name": frame.name,
        "frame-chunks": str(of),
        "frame-attempt": str(session.attempt),
    }
