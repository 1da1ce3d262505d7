"""What all sources have that are one file of this machine: its name, its digest, its errors.

A file may be replaced, cut off or written to while it is read; what came of it would then be a
mixture that nobody has. So a file is looked up before and after, and a scan that met another file
ends with an error instead of its last row.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import pyarrow as pa

from connectors.errors import InputRejected, Unavailable

_HASH_BLOCK_BYTES: Final = 1 << 20
GZIP: Final = ".gz"
# A file of ordinary text unpacks to ten times its size. What unpacks to more than this was made to
# keep its reader busy.
MAX_UNPACKED_BYTES: Final = 16 * 1024**3


@dataclass(frozen=True)
class Stamp:
    """Which file it is and whether it was written to, as far as a file system tells."""

    device: int
    inode: int
    size: int
    modified_ns: int


class LocalFile:
    """A name, a digest, and errors that name the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    def version(self) -> str:
        """SHA-256 over the bytes of the file, read anew on every call."""
        digest = hashlib.sha256()
        with reading(self.path), self.path.open("rb") as file:
            while block := file.read(_HASH_BLOCK_BYTES):
                digest.update(block)
        return f"sha256:{digest.hexdigest()}"

    def stamp(self) -> Stamp:
        """The file as it is now. Raises InputRejected where it is gone or is no file any more."""
        with reading(self.path):
            found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):
            verify_is_file(self.path)
        return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def whole(self, batches: Iterator[pa.RecordBatch], before: Stamp) -> Iterator[pa.RecordBatch]:
        """The batches that have rows, of the file that `before` was taken from.

        Raises InputRejected where there is no row, and Unavailable where the file has changed.
        """
        some = False
        with self._unchanged(before), reading(self.path):
            for batch in batches:
                if batch.num_rows:
                    some = True
                    yield batch
        if not some:
            raise InputRejected(
                f"{self.name} has columns but no rows; fill it, or name another file"
            )

    @contextmanager
    def _unchanged(self, before: Stamp) -> Iterator[None]:
        self._verify_unchanged(before)
        try:
            yield
        except (InputRejected, Unavailable):
            # What a file that was cut off under its reader looks malformed for.
            self._verify_unchanged(before)
            raise
        self._verify_unchanged(before)

    def _verify_unchanged(self, before: Stamp) -> None:
        if self.stamp() != before:
            raise Unavailable(
                f"{self.name} was written to or replaced while it was read, so what came is not "
                "all of one file; read it again when nothing writes to it"
            )


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, within a bound, and errors that name the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packed = path.open("rb")
        self._content = gzip.GzipFile(fileobj=self._packed)
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        try:
            content = self._content.read(len(view))
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise InputRejected(
                f"{self._path.name} is no gzip file, or a damaged or cut off one; pack it again"
            ) from None
        self._size += len(content)
        if self._size > MAX_UNPACKED_BYTES:
            raise InputRejected(
                f"{self._path.name} unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB; split it, "
                "or write it as Parquet"
            )
        view[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._content.close()
        self._packed.close()
        super().close()


def open_bytes(path: Path) -> BinaryIO:
    """Open a file to be read, unpacked where its name ends in .gz. May raise OSError."""
    if path.suffix.lower() != GZIP:
        return path.open("rb")
    return io.BufferedReader(_Unpacked(path), buffer_size=_HASH_BLOCK_BYTES)


def open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    """As `open_bytes`, decoded, with line ends as they are."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, newline="")


def verify_is_file(path: Path) -> None:
    """Raises InputRejected unless `path` is an existing file, or leads to one."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputRejected(
            f"there is no file {path.name} in {path.parent}; check the path, "
            "relative ones start where the program was started"
        ) from None
    except OSError as err:
        raise InputRejected(
            f"{path.name} cannot be looked up ({os.strerror(err.errno or 0)})"
        ) from err
    except ValueError as err:
        raise InputRejected(f"{path.name} is no path; name a file") from err
    if stat.S_ISDIR(mode):
        raise InputRejected(f"{path.name} is a directory; name one file in it")
    if not stat.S_ISREG(mode):
        raise InputRejected(
            f"{path.name} is a pipe, a socket or a device; write its rows into a file and name that"
        )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours, naming the file."""
    try:
        yield
    except FileNotFoundError as err:
        raise InputRejected(f"{path.name} is no longer there; check the path") from err
    except PermissionError as err:
        raise InputRejected(
            f"{path.name} may not be read by this program; allow its user to read the file"
        ) from err
    except IsADirectoryError as err:
        raise InputRejected(f"{path.name} is a directory; name one file in it") from err
    except OSError as err:
        cause = err.strerror or "I/O error"
        raise Unavailable(f"{path.name} could not be read or written: {cause}") from err
