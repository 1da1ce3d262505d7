"""The file of a backup: sealed under a passphrase, file after file, the manifest last.

    city-dataspace-backup/1\\n
    S salt(16), and from here on sealed in chunks (`dataspace.sealed_stream`); or P, nothing sealed
    F length(4) {"path", "size"} content     for each file
    M length(4) {"text", "key", "signature"} the manifest, last

The format has no links, no modes, no compression: nothing in it can point elsewhere or unfold into
more than it is.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dataspace.backups.manifest import (
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    BackedFile,
    Manifest,
    SignedManifest,
    verify_path,
)
from dataspace.errors import InputRejected
from dataspace.sealed_stream import OpeningReader, SealingWriter

MAGIC = b"city-dataspace-backup/1\n"
SALT_BYTES = 16
# 128 MiB and a third of a second: a backup lies where others may try passphrases at leisure.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**17, 8, 1
PIECE_BYTES = 1024 * 1024
MAX_HEADER_BYTES = 8192


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int = Field(ge=0, le=MAX_FILE_BYTES)


class _Sink(Protocol):
    def write(self, content: bytes, /) -> object: ...


class _Reading(Protocol):
    def read(self, size: int, /) -> bytes: ...


class ArchiveWriter:
    """Writes a backup into `file`; `passphrase` None leaves it readable by whoever has it."""

    def __init__(self, file: BinaryIO, passphrase: str | None) -> None:
        self._file = file
        file.write(MAGIC)
        self._sealing: SealingWriter | None = None
        self._sink: _Sink = file
        if passphrase is None:
            file.write(b"P")
        else:
            salt = secrets.token_bytes(SALT_BYTES)
            file.write(b"S" + salt)
            self._sealing = SealingWriter(file, _key(passphrase, salt), MAGIC + salt)
            self._sink = self._sealing
        self.files: list[BackedFile] = []

    def add(self, path: str, source: BinaryIO, size: int) -> None:
        """Add a file of exactly `size` bytes. Raises InputRejected where it has fewer."""
        verify_path(path)
        header = _Header(path=path, size=size).model_dump_json().encode()
        self._sink.write(b"F" + len(header).to_bytes(4, "big") + header)
        digest, left = hashlib.sha256(), size
        while left:
            piece = source.read(min(PIECE_BYTES, left))
            if not piece:
                raise InputRejected(f"{path} became shorter while it was read", remedy="try again")
            digest.update(piece)
            self._sink.write(piece)
            left -= len(piece)
        self.files.append(BackedFile(path=path, size=size, sha256=digest.hexdigest()))

    def finish(self, manifest: SignedManifest) -> None:
        text = manifest.model_dump_json().encode()
        if len(text) > MAX_MANIFEST_BYTES:
            raise InputRejected("the home has too many files for one backup")
        self._sink.write(b"M" + len(text).to_bytes(4, "big") + text)
        if self._sealing is not None:
            self._sealing.close()


@dataclass(frozen=True)
class Opened:
    """A backup that was read whole: its manifest, and the thumbprint of the key that signed it."""

    manifest: Manifest
    key: str
    sealed: bool


# Takes the pieces of one file; called with None at its end.
Taker = Callable[[bytes | None], None]


def read_archive(path: Path, passphrase: str | None, taker_of: Callable[[str], Taker]) -> Opened:
    """Read a backup from end to end, giving each file's pieces to `taker_of(path)`.

    Everything is checked by the time it returns: paths, sizes, digests, the manifest's signature,
    and that nothing is missing or follows. Raises InputRejected.
    """
    try:
        with path.open("rb") as file:
            reading, sealed = _opened(file, passphrase, path.name)
            found, signed = _read_records(reading, taker_of)
            if reading.read(1):
                raise _damaged("something follows its manifest")
    except OSError as err:
        raise InputRejected(
            f"{path} cannot be read ({type(err).__name__})", remedy="check the path and its mode"
        ) from err
    manifest = signed.verified()
    if tuple(found) != manifest.files:
        raise _damaged("its files are not those of its manifest")
    return Opened(manifest, signed.thumbprint(), sealed)


def _opened(file: BinaryIO, passphrase: str | None, name: str) -> tuple[_Reading, bool]:
    if file.read(len(MAGIC)) != MAGIC:
        raise InputRejected(f"{name} is no backup of a node", remedy="give the file backup made")
    mode = file.read(1)
    if mode == b"P":
        return file, False
    salt = file.read(SALT_BYTES)
    if mode != b"S" or len(salt) != SALT_BYTES:
        raise _damaged("its beginning is not complete")
    if passphrase is None:
        raise InputRejected(
            f"{name} is sealed under a passphrase",
            remedy="give --passphrase-file, or set DATASPACE_PASSPHRASE_FILE",
        )
    return OpeningReader(file, _key(passphrase, salt), MAGIC + salt, told=name), True


def _read_records(
    reading: _Reading, taker_of: Callable[[str], Taker]
) -> tuple[list[BackedFile], SignedManifest]:
    found: list[BackedFile] = []
    seen: set[str] = set()
    folders: set[str] = set()
    while True:
        kind = reading.read(1)
        if kind == b"M":
            return found, _read_manifest(reading)
        if kind != b"F":
            raise _damaged("it ends before its manifest, or is not in its form")
        if len(found) >= MAX_FILES:
            raise _damaged(f"it has more than {MAX_FILES} files")
        header = _read_header(reading)
        above = set(_parents(header.path))
        if header.path in seen or header.path in folders or not above.isdisjoint(seen):
            raise _damaged("it names one path twice, or a file as a directory")
        seen.add(header.path)
        folders |= above
        taker, digest = taker_of(header.path), hashlib.sha256()
        for piece in _pieces(reading, header.size):
            digest.update(piece)
            taker(piece)
        taker(None)
        found.append(BackedFile(path=header.path, size=header.size, sha256=digest.hexdigest()))


def _read_header(reading: _Reading) -> _Header:
    try:
        header = _Header.model_validate_json(_sized(reading, MAX_HEADER_BYTES))
    except ValidationError as err:
        raise _damaged("the description of a file is not in its form") from err
    verify_path(header.path)
    return header


def _read_manifest(reading: _Reading) -> SignedManifest:
    try:
        return SignedManifest.model_validate_json(_sized(reading, MAX_MANIFEST_BYTES))
    except ValidationError as err:
        raise _damaged("its manifest is not in its form") from err


def _sized(reading: _Reading, most: int) -> bytes:
    size = int.from_bytes(_exactly(reading, 4), "big")
    if size > most:
        raise _damaged(f"a part of it claims {size} bytes, at most {most} are allowed")
    return _exactly(reading, size)


def _exactly(reading: _Reading, size: int) -> bytes:
    got = reading.read(size)
    if len(got) != size:
        raise _damaged("it was cut")
    return got


def _pieces(reading: _Reading, size: int) -> Iterator[bytes]:
    while size:
        piece = _exactly(reading, min(PIECE_BYTES, size))
        size -= len(piece)
        yield piece


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _damaged(what: str) -> InputRejected:
    return InputRejected(
        f"the backup is damaged or was made by somebody else: {what}",
        remedy="take another copy of the backup",
    )


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(
        passphrase.encode()
    )
