"""Frames of peers, counted, measured and digested, until the role asks for them."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from dataclasses import dataclass, field

from dataspace.errors import NodeError, ProtocolViolation, SessionClosed, Unavailable
from privacy.role import Receive

CHUNK_BYTES = 8 * 1024 * 1024
# 64 chunks are half a gigabyte: sixteen million points. Larger sets come in buckets.
MAX_CHUNKS = 64
MAX_FRAMES_A_SENDER = 4096
# What peers may make one session, and all of them together, hold before a role asks for it: one
# frame of the largest size, and two.
MAX_BUFFERED_BYTES = (MAX_CHUNKS + 4) * CHUNK_BYTES
MAX_NODE_BUFFERED_BYTES = 2 * MAX_BUFFERED_BYTES
# Roles take turns, so an honest sender is at most a few frames ahead of its receiver.
MAX_FRAMES_AHEAD = 8

FRAME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")


@dataclass(frozen=True)
class Chunk:
    """One received piece of a frame, as the route parsed it; `attempt` counts from 1 how often the
    computation was begun."""

    sender: str
    sequence: int
    number: int
    of: int
    name: str
    digest: str
    body: bytes
    attempt: int = 1


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
        verify_chunk(chunk)
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
                        remedy="check that the peer's node is running, then order again; "
                        "large sets need a later deadline",
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

    def taken(self, sender: str) -> int:
        """How many frames of `sender` the role has had."""
        with self._changed:
            return self._next.get(sender, 0)

    def go_on_after(self, sender: str, taken: int) -> None:
        """Count `taken` frames of `sender` as had: an earlier life of the role had them."""
        with self._changed:
            self._next[sender] = taken

    def has_next(self, sender: str) -> bool:
        """Whether the next frame of `sender` is there, whole."""
        with self._changed:
            frame = self._frames.get((sender, self._next.get(sender, 0)))
            return frame is not None and frame.complete

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


def content_digest(body: bytes) -> str:
    """`Content-Digest` header value of `body` (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def _suspended_too_long() -> Unavailable:
    return Unavailable(
        "the computation was suspended until its deadline",
        remedy="resume the transfer sooner, or order again",
    )


def verify_chunk(chunk: Chunk) -> None:
    """Raise ProtocolViolation for a chunk that no party sends."""
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
