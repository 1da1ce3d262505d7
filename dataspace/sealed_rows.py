"""Rows of people at rest: files of rows and values of rows, sealed where a passphrase is set.

The key is derived from the home's root secret, which lies sealed under the passphrase itself, so
that a new passphrase seals one small file anew. A sealed file begins with a line that names it and
its salt; the rest is `dataspace.sealed_stream` under a key for it alone, the line authenticated.
What was written before there was a passphrase is read as it is, until `dataspace seal` seals it.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dataspace.errors import InputRejected
from dataspace.sealed_stream import OpeningReader, SealingWriter

MAGIC = b"city-dataspace-sealed-rows/1 "
MAX_HEADER_BYTES = 2048
PIECE_BYTES = 1024 * 1024
SALT_BYTES, NONCE_BYTES = 32, 12
# The one member of a JSON object that stands for a sealed value.
SEALED = "sealed/1"
_FILE, _VALUE = b"city-dataspace/rows-file/1", b"city-dataspace/rows-value/1"


class Reads(Protocol):
    """What gives bytes piece by piece, none at its end."""

    def read(self, size: int, /) -> bytes: ...


class RowSealing:
    """Seals and opens with the keys of one node; `seals` says whether what is written is sealed."""

    def __init__(self, root: bytes, *, seals: bool) -> None:
        self._root = root
        self._values = AESGCM(_derived(root, None, _VALUE))
        self.seals = seals

    def seal_value(self, value: Any, column: str) -> dict[str, str]:
        """A JSON value as one that says nothing; it opens as a value of `column` only."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        sealed = self._values.encrypt(nonce, text, column.encode())
        return {SEALED: base64.b64encode(nonce + sealed).decode()}

    def open_value(self, value: Any, column: str) -> Any:
        """The reverse; what is not sealed is given back. Raises InputRejected."""
        if not is_sealed_value(value):
            return value
        try:
            raw = base64.b64decode(value[SEALED], validate=True)
            text = self._values.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], column.encode())
        except (ValueError, TypeError, InvalidTag) as err:
            raise InputRejected(
                f"a sealed value of {column} does not open with this home's root key",
                remedy="restore keys/root.key and the database from one backup",
            ) from err
        return json.loads(text)

    def seal_file(self, path: Path, name: str) -> None:
        """Put the sealed content of `path`, that opens as `name`, in its place. The old content
        stays until the new one is on the disk."""
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as target, path.open("rb") as source:
                self._seal(source, target, name)
                target.flush()
                os.fsync(target.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def _seal(self, source: BinaryIO, target: BinaryIO, name: str) -> None:
        salt = secrets.token_bytes(SALT_BYTES)
        told = {"name": name, "salt": base64.b64encode(salt).decode()}
        header = MAGIC + json.dumps(told).encode() + b"\n"
        if len(header) > MAX_HEADER_BYTES:
            raise InputRejected("the name of the file is too long to be sealed with it")
        target.write(header)
        writer = SealingWriter(target, _derived(self._root, salt, _FILE), header)
        while piece := source.read(PIECE_BYTES):
            writer.write(piece)
        writer.close()

    @contextmanager
    def opened(self, path: Path, name: str | None = None) -> Iterator[Reads]:
        """The content of a file, sealed or not. With `name` a sealed file must be of that name, so
        that two files cannot be exchanged. Raises InputRejected."""
        try:
            with path.open("rb") as file:
                if not is_sealed_file(path):
                    yield file
                    return
                header = file.readline(MAX_HEADER_BYTES)
                told, salt = _header(header)
                if name is not None and told != name:
                    raise InputRejected(
                        f"{path.name} is the content of {told}",
                        remedy="put the files back under their names, or restore a backup",
                    )
                key = _derived(self._root, salt, _FILE)
                yield OpeningReader(file, key, header, told=path.name)
        except OSError as err:
            raise InputRejected(
                f"{path} cannot be read ({type(err).__name__})", remedy="check the path"
            ) from err


def is_sealed_value(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {SEALED}


def is_sealed_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def pieces(reading: Reads) -> Iterator[bytes]:
    """What is left of it."""
    while piece := reading.read(PIECE_BYTES):
        yield piece


def _header(line: bytes) -> tuple[str, bytes]:
    try:
        told = json.loads(line[len(MAGIC) :])
        return str(told["name"]), base64.b64decode(told["salt"], validate=True)
    except (ValueError, KeyError, TypeError) as err:
        raise InputRejected("the beginning of a sealed file is damaged") from err


def _derived(root: bytes, salt: bytes | None, use: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=salt, info=use).derive(root)
