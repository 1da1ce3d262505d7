"""One party's side of one running computation: a privacy role driven over HTTP.

A role yields frames to send and waits for frames to receive (`privacy.role`); a session moves
them. A frame travels as `PUT /compute/{order}/{sender}/{sequence}/{chunk}` in chunks of at most
8 MiB with a SHA-256 `Content-Digest` (RFC 9530). PUT is idempotent per number, so sending again
after a lost answer is safe.

Secrets of a run live in the role's local variables and never reach the disk; a run that a restart
interrupts has failed, and says so.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import structlog

from dataspace.errors import (
    InputRejected,
    NodeError,
    NotFound,
    ProtocolViolation,
    SessionClosed,
    Unavailable,
)
from dataspace.peers import Peers
from privacy.role import Progress, Receive, Send, Step
from privacy.transcript import Transcribed

log = structlog.get_logger("dataspace.sessions")

CHUNK_BYTES = 8 * 1024 * 1024
# 64 chunks are half a gigabyte: sixteen million points. Larger sets will come in buckets.
MAX_CHUNKS = 64
MAX_FRAMES_A_SENDER = 4096
# What peers may make one session, and all of them together, hold before a role asks for it: one
# frame of the largest size, and two.
MAX_BUFFERED_BYTES = (MAX_CHUNKS + 4) * CHUNK_BYTES
MAX_NODE_BUFFERED_BYTES = 2 * MAX_BUFFERED_BYTES
# Roles take turns, so an honest sender is at most a few frames ahead of its receiver.
MAX_FRAMES_AHEAD = 8
# How long a party that meets an ended session waits to hear why it ended.
REASON_GRACE_S = 30.0
# Ended sessions are remembered so that a late repetition is answered, not started again.
MAX_ENDED = 256

FRAME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
Drive = Generator[Step, bytes | None, Transcribed]


@dataclass(frozen=True)
class Chunk:
    """One received piece of a frame, as the route parsed it."""

    sender: str
    sequence: int
    number: int
    of: int
    name: str
    digest: str
    body: bytes


@dataclass
class _Frame:
    """A frame being put together. Invariant: every present chunk had the digest it claimed."""

    name: str
    of: int
    chunks: dict[int, bytes] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.digests) == self.of


class Budget:
    """A number of bytes that all sessions of a node share."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Whether `count` bytes were still there, and are now taken."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give_back(self, count: int) -> None:
        with self._lock:
            self._left += count


class Inbox:
    """Frames that came and have not been asked for, in order per sender."""

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget(MAX_NODE_BUFFERED_BYTES)
        self._changed = threading.Condition()
        self._frames: dict[tuple[str, int], _Frame] = {}
        self._next: dict[str, int] = {}
        self._buffered_bytes = 0
        self._held = False
        self._closed: NodeError | None = None

    def put(self, chunk: Chunk) -> None:
        """Take a chunk. Raises ProtocolViolation for a malformed or contradicting one, Unavailable
        when too much is waiting, SessionClosed after the end."""
        _verify_chunk(chunk)
        with self._changed:
            frame = self._frames.get((chunk.sender, chunk.sequence))
            if frame is not None and chunk.number in frame.digests:
                if frame.digests[chunk.number] != chunk.digest:
                    raise ProtocolViolation(
                        f"frame {chunk.sequence} chunk {chunk.number} came twice and differs"
                    )
                return
            if self._closed is not None:
                raise SessionClosed(f"the computation has ended here: {self._closed.sentence}")
            if chunk.sequence >= self._next.get(chunk.sender, 0) + MAX_FRAMES_AHEAD:
                raise Unavailable("the frame is too far ahead", remedy="send it again later")
            if frame is not None and (frame.name, frame.of) != (chunk.name, chunk.of):
                raise ProtocolViolation(f"frame {chunk.sequence} changed its name or length")
            size = len(chunk.body)
            too_many = self._buffered_bytes + size > MAX_BUFFERED_BYTES
            if too_many or not self._budget.take(size):
                raise Unavailable("too many frames are waiting here", remedy="send again later")
            if frame is None:
                frame = self._frames[chunk.sender, chunk.sequence] = _Frame(chunk.name, chunk.of)
            frame.chunks[chunk.number] = chunk.body
            frame.digests[chunk.number] = chunk.digest
            self._buffered_bytes += size
            self._changed.notify_all()

    def get(self, wanted: Receive, deadline: float) -> bytes:
        """The next frame of `wanted.sender`, waiting until `deadline` (monotonic seconds)."""
        with self._changed:
            sequence = self._next.get(wanted.sender, 0)
            key = (wanted.sender, sequence)
            while True:
                frame = self._frames.get(key)
                if frame is not None and frame.complete and not self._held:
                    break
                if self._closed is not None:
                    raise self._closed
                left_s = deadline - time.monotonic()
                if left_s <= 0 and self._held:
                    raise _suspended_too_long()
                if left_s <= 0:
                    raise Unavailable(
                        f"no frame {wanted.name!r} came from {wanted.sender} before the deadline",
                        remedy="check that the peer's node is running, then order again",
                    )
                self._changed.wait(left_s)
            payload = b"".join(frame.chunks[number] for number in range(frame.of))
            # The digests stay, so that a repetition is recognised; the bytes go.
            frame.chunks.clear()
            self._buffered_bytes -= len(payload)
            self._budget.give_back(len(payload))
            self._next[wanted.sender] = sequence + 1
        if frame.name != wanted.name:
            raise ProtocolViolation(
                f"expected frame {wanted.name!r} from {wanted.sender}, got {frame.name!r}"
            )
        if len(payload) > wanted.limit_bytes:
            raise ProtocolViolation(
                f"frame {wanted.name!r} of {wanted.sender} has {len(payload)} bytes, "
                f"more than {wanted.limit_bytes}"
            )
        return payload

    def pause(self, wait_s: float) -> None:
        """Wait, unless the session is closed: then raise the reason at once."""
        with self._changed:
            if self._changed.wait_for(lambda: self._closed is not None, wait_s):
                assert self._closed is not None
                raise self._closed

    def hold(self) -> None:
        """Let the role go no further until `release`."""
        with self._changed:
            self._held = True

    def release(self) -> None:
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def await_release(self, deadline: float) -> None:
        """Wait while held. Raises Unavailable when `deadline` passes, or the reason of a close."""
        with self._changed:
            free = self._changed.wait_for(
                lambda: not self._held or self._closed is not None,
                max(0.0, deadline - time.monotonic()),
            )
            if self._closed is not None:
                raise self._closed
            if not free:
                raise _suspended_too_long()

    def close(self, reason: NodeError) -> None:
        """Wake whoever waits with `reason`; take nothing more."""
        with self._changed:
            self._closed = self._closed or reason
            for frame in self._frames.values():
                frame.chunks.clear()
            self._budget.give_back(self._buffered_bytes)
            self._buffered_bytes = 0
            self._changed.notify_all()


@dataclass
class Session:
    """A running computation: who plays what, and what has happened so far."""

    order_id: str
    role: str
    dids: dict[str, str]
    deadline: float
    inbox: Inbox = field(default_factory=Inbox)
    step: str = "preparing"
    sent_bytes: int = 0
    received_bytes: int = 0
    # Units of work, as the role counts them; the total is 0 until it is known.
    done_units: int = 0
    total_units: int = 0
    ended: bool = False

    def sender_did(self, role: str) -> str | None:
        return self.dids.get(role)

    def advance(self, progress: Progress) -> None:
        self.done_units += progress.done
        if progress.total is not None:
            self.total_units = progress.total


class Sessions:
    """All sessions of this node, and the threads that drive them."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        # Orders that are suspended, whether or not their session is open yet.
        self._held: set[str] = set()
        self.budget = Budget(MAX_NODE_BUFFERED_BYTES)

    def find(self, order_id: str) -> Session | None:
        with self._lock:
            return self._sessions.get(order_id)

    def open(
        self,
        session: Session,
        start: Callable[[], Drive],
        finish: Callable[[Transcribed | Exception], None],
    ) -> bool:
        """Run `start()`'s role in a thread of its own and give the end to `finish`.

        Returns False, and does nothing, where the order already has a session: an order is run
        at most once.
        """
        with self._lock:
            if session.order_id in self._sessions:
                return False
            ended = [key for key, one in self._sessions.items() if one.ended]
            for key in ended[: max(0, len(ended) - MAX_ENDED)]:
                del self._sessions[key]
            self._sessions[session.order_id] = session
            if session.order_id in self._held:
                session.inbox.hold()
        threading.Thread(
            target=self._run,
            args=(session, start, finish),
            name=f"session-{session.order_id[:8]}-{session.role}",
            daemon=True,
        ).start()
        return True

    def receive(self, order_id: str, sender_did: str, chunk: Chunk) -> None:
        """A chunk from the participant `sender_did`. Raises NotFound where it is no party of such
        a session here: the same answer whether the order or the right is missing."""
        session = self.find(order_id)
        if session is None or session.sender_did(chunk.sender) != sender_did:
            raise NotFound("there is no such computation here", remedy="order it first")
        session.inbox.put(chunk)
        session.received_bytes += len(chunk.body)

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

    def close(self) -> None:
        with self._lock:
            running = [one for one in self._sessions.values() if not one.ended]
        for session in running:
            session.inbox.close(Unavailable("the node is stopping"))

    def _run(
        self,
        session: Session,
        start: Callable[[], Drive],
        finish: Callable[[Transcribed | Exception], None],
    ) -> None:
        end: Transcribed | Exception
        try:
            end = self._drive(session, start())
        except Exception as err:  # whatever ended the role is the session's result
            end = err
            if not isinstance(err, NodeError):
                log.info("role ended", order=session.order_id, error=type(err).__name__)
        finally:
            session.ended = True
            session.inbox.close(SessionClosed("it is finished"))
            with self._lock:
                self._held.discard(session.order_id)
        try:
            finish(end)
        except Exception:  # nobody is left to raise to; the row stays RUNNING and says so at start
            log.exception("a session's end could not be stored", order=session.order_id)

    def _drive(self, session: Session, drive: Drive) -> Transcribed:
        sequences: dict[str, int] = {}
        answer: bytes | None = None
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
                    sequence = sequences.get(step.to, 0)
                    sequences[step.to] = sequence + 1
                    self._send(session, step, sequence)
                    answer = None
                else:
                    answer = session.inbox.get(step, session.deadline)
        finally:
            drive.close()

    def _send(self, session: Session, frame: Send, sequence: int) -> None:
        did = session.dids[frame.to]
        base = f"{self._peers.url_of(did)}/compute/{session.order_id}/{session.role}/{sequence}"
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
            headers = {
                "content-type": "application/octet-stream",
                "content-digest": content_digest(piece),
                "frame-name": frame.name,
                "frame-chunks": str(len(pieces)),
            }
            self._put(session, did, f"{base}/{number}", piece, headers)
            session.sent_bytes += len(piece)

    def _put(
        self, session: Session, did: str, url: str, body: bytes, headers: dict[str, str]
    ) -> None:
        wait_s = 0.02
        while True:
            try:
                answer = self._peers.send("PUT", url, to=did, body=body, headers=headers)
                if answer.status < 300:
                    return
                if answer.status == 410:
                    # It has told the consumer why, and the consumer tells everyone: that reason,
                    # not this echo of it, is what the computation ended for.
                    left_s = session.deadline - time.monotonic()
                    session.inbox.pause(min(max(0.0, left_s), REASON_GRACE_S))
                    raise SessionClosed(f"{did} has ended the computation: {answer.reason()}")
                if answer.status != 404:
                    raise ProtocolViolation(f"{did} refused a frame: {answer.reason()}")
                # The peer has not opened its session yet; its own decision may still be running.
                error = Unavailable(f"{did} did not open its side of the computation")
            except Unavailable as err:
                error = err
            if time.monotonic() + wait_s > session.deadline:
                raise error
            session.inbox.pause(wait_s)
            wait_s = min(wait_s * 2, 2.0)


def content_digest(body: bytes) -> str:
    """`Content-Digest` header value of `body` (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def _suspended_too_long() -> Unavailable:
    return Unavailable(
        "the computation was suspended until its deadline",
        remedy="resume the transfer sooner, or order again",
    )


def _verify_chunk(chunk: Chunk) -> None:
    if not FRAME_NAME.fullmatch(chunk.name):
        raise ProtocolViolation("the frame has no usable name")
    if not 1 <= chunk.of <= MAX_CHUNKS or not 0 <= chunk.number < chunk.of:
        raise ProtocolViolation(f"a frame has 1 to {MAX_CHUNKS} chunks, numbered from 0")
    if not 0 <= chunk.sequence < MAX_FRAMES_A_SENDER:
        raise ProtocolViolation(f"a computation has at most {MAX_FRAMES_A_SENDER} frames a sender")
    if len(chunk.body) > CHUNK_BYTES:
        raise ProtocolViolation(f"a chunk has at most {CHUNK_BYTES} bytes")
    if content_digest(chunk.body) != chunk.digest:
        raise ProtocolViolation("the chunk's bytes do not have the digest it was sent with")
