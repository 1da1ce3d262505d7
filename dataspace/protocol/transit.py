"""Files on their way in or out: private to their owner, named when whole, known by their digest.

What comes is written to a partial file first, which outlives a connection and the node itself, so
that the rest can follow; what has come is digested and counted again then.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dataspace.errors import ProtocolViolation, Unavailable

# More than any table of ours; a peer must not fill our disk.
MAX_BYTES = 8 * 1024**3
CHUNK_BYTES = 1024 * 1024

_PART, _PARTIAL = ".part", ".partial"
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Digesting:
    """SHA-256 and length of bytes as they pass."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    @classmethod
    def of(cls, file: IO[bytes]) -> Digesting:
        """Of a whole file, which is then at its beginning again."""
        digesting = cls()
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            digesting.feed(chunk)
        file.seek(0)
        return digesting

    def feed(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)

    def header(self) -> str:
        """The value of a `Content-Digest` or `Repr-Digest` header (RFC 9530)."""
        return digest_header(self._hash.digest())

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.size, "sha256": self._hash.hexdigest()}


def digest_header(digest: bytes) -> str:
    """A SHA-256 digest as headers of RFC 9530 say it."""
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


class RowCounter:
    """How many rows a CSV has, of its bytes as they pass: its records but for the header."""

    def __init__(self) -> None:
        self._quoted = False
        self._records = 0
        self._open = False

    def feed(self, chunk: bytes) -> None:
        # A quote within a quoted cell is written twice, so each one changes sides.
        for index, piece in enumerate(chunk.split(b'"')):
            if index:
                self._quoted = not self._quoted
            if not self._quoted:
                self._records += piece.count(b"\n")
        if chunk:
            self._open = not chunk.endswith(b"\n") or self._quoted

    def rows(self) -> int:
        return max(0, self._records + self._open - 1)


@contextmanager
def fresh_file(path: Path) -> Iterator[IO[bytes]]:
    """A file readable by its owner only, that gets its name when the block ends well.

    Raises Unavailable where the disk is full.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{time.monotonic_ns()}{_PART}")
    with room():
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            name_whole(part, path)
        finally:
            part.unlink(missing_ok=True)


def partial_path(directory: Path, name: str) -> Path:
    """Where what comes under `name` is kept until it is whole."""
    return directory / f".{name}{_PARTIAL}"


def partial_size(path: Path) -> int:
    """How many bytes have come; 0 where nothing has."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def partial_file(path: Path, *, begin_at: int) -> Iterator[Incoming]:
    """The partial file, to be written on from the byte `begin_at`; what lies behind it is gone.

    However the block ends, what has been written stays. Raises Unavailable where the disk is full.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with room():
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(begin_at)
            incoming = Incoming(file)
            while chunk := file.read(CHUNK_BYTES):
                incoming.note(chunk)
            yield incoming
            file.flush()
            os.fsync(file.fileno())


def name_whole(part: Path, path: Path) -> None:
    """Give a file that is whole and on the disk its name, for good."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part.replace(path)
    _keep_names(path.parent)


@contextmanager
def room() -> Iterator[None]:
    """Raises Unavailable where the disk becomes full in the block."""
    try:
        yield
    except OSError as err:
        if err.errno not in _DISK_FULL:
            raise
        raise Unavailable(
            "the rows do not fit on this node's disk", remedy="make room on it, then try again"
        ) from err


def sweep(directory: Path) -> None:
    """Remove what a killed node left half written there; only while nothing is being written."""
    if directory.is_dir():
        for part in directory.glob(f".*{_PART}"):
            part.unlink(missing_ok=True)


def _keep_names(directory: Path) -> None:
    # A new name is on the disk only when its directory is.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Incoming:
    """A file that a peer sends: bounded, and kept only with the digest it was sent with."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digesting = Digesting()
        self.counter = RowCounter()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises ProtocolViolation beyond the limit."""
        if self.digesting.size + len(chunk) > MAX_BYTES:
            raise ProtocolViolation(f"the rows are more than {MAX_BYTES} bytes")
        self.note(chunk)
        self._file.write(chunk)

    def note(self, chunk: bytes) -> None:
        """Bytes that are in the file already."""
        self.digesting.feed(chunk)
        self.counter.feed(chunk)

    def verify(self, claimed: str | None) -> None:
        """What came must be what was sent. Raises Unavailable, as sending it again may help.

        `claimed` is a `Repr-Digest` or the `Content-Digest` of the whole. A sender of another make
        may give none, or none of ours: HTTP itself then says whether all has come.
        """
        ours = sha256_claimed(claimed)
        if any(one != self.digesting.header() for one in ours):
            raise Unavailable("the rows that came do not have the digest they were sent with")


def sha256_claimed(claimed: str | None) -> list[str]:
    """The SHA-256 digests among those of a header, as `digest_header` writes them."""
    digests = [one.strip() for one in (claimed or "").split(",")]
    return [
        f"sha-256={one.partition('=')[2]}" for one in digests if one.lower().startswith("sha-256=")
    ]
