"""Files on their way in or out: private to their owner, named when whole, known by their digest."""

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

_PART = ".part"
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
        """The value of a `Content-Digest` header (RFC 9530)."""
        return f"sha-256=:{base64.b64encode(self._hash.digest()).decode()}:"

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.size, "sha256": self._hash.hexdigest()}


@contextmanager
def fresh_file(path: Path) -> Iterator[IO[bytes]]:
    """A file readable by its owner only, that gets its name when the block ends well.

    Raises Unavailable where the disk is full.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{time.monotonic_ns()}{_PART}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _keep_names(path.parent)
    except OSError as err:
        if err.errno not in _DISK_FULL:
            raise
        raise Unavailable(
            "the rows do not fit on this node's disk", remedy="make room on it, then try again"
        ) from err
    finally:
        part.unlink(missing_ok=True)


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

    def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises ProtocolViolation beyond the limit."""
        if self.digesting.size + len(chunk) > MAX_BYTES:
            raise ProtocolViolation(f"the rows are more than {MAX_BYTES} bytes")
        self.digesting.feed(chunk)
        self._file.write(chunk)

    def verify(self, claimed: str | None) -> None:
        """What came must be what was sent. Raises Unavailable, as sending it again may help.

        `claimed` is a `Content-Digest`. A sender of another make may give none, or none of ours:
        HTTP itself then says whether all has come.
        """
        digests = [one.strip() for one in (claimed or "").split(",")]
        ours = [one for one in digests if one.lower().startswith("sha-256=")]
        if any(one.partition("=")[2] != self.digesting.header().partition("=")[2] for one in ours):
            raise Unavailable("the rows that came do not have the digest they were sent with")
