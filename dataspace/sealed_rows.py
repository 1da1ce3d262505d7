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

from dataspace.errors import InputRejected
from dataspace.sealed_stream import OpeningReader, SealingWriter
from dataspace.sealing_suites import SUITES, Aead, SealingSuite, derived_key

MAGIC = b"city-dataspace-sealed-rows/1 "
MAX_HEADER_BYTES = 2048
PIECE_BYTES = 1024 * 1024
SALT_BYTES, NONCE_BYTES = 32, 12
# The one member of a JSON object that stands for a sealed value.
SEALED = {SealingSuite.AES: "sealed/1", SealingSuite.SM4: "sealed/1/sm4-gcm"}
_FILE, _VALUE = b"city-dataspace/rows-file/1", b"city-dataspace/rows-value/1"


class Reads(Protocol):
    """What gives bytes piece by piece, none at its end."""

    def read(self, size: int, /) -> bytes: ...


class RowSealing:
    """Seals and opens with the keys of one node; `seals` says whether what is written is sealed,
    `suite` with what. Whatever was sealed with another opens."""

    def __init__(self, root: bytes, *, seals: bool, suite: SealingSuite = SealingSuite.AES) -> None:
        self._root, self.suite = root, suite
        self._values: dict[SealingSuite, Aead] = {
            one: SUITES[one].cipher(derived_key(one, root, salt=None, use=_VALUE))
            for one in SealingSuite
        }
        self.seals = seals

    def seal_value(self, value: Any, column: str) -> dict[str, str]:
        """A JSON value as one that says nothing; it opens as a value of `column` only."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        sealed = self._values[self.suite].encrypt(nonce, text, column.encode())
        return {SEALED[self.suite]: base64.b64encode(nonce + sealed).decode()}

    def open_value(self, value: Any, column: str) -> Any:
        """The reverse; what is not sealed is given back. Raises InputRejected."""
        suite = _suite_of_value(value)
        if suite is None:
            return value
        try:
            raw = base64.b64decode(value[SEALED[suite]], validate=True)
            cipher = self._values[suite]
            text = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], column.encode())
        except (ValueError, TypeError, InvalidTag) as err:
            raise InputRejected(
                f"a sealed value of {column} does not open with this home's root key",
                remedy="restore keys/root.key and the database from one backup",
            ) from err
        return json.loads(text)

    def seal_file(self, path: Path, name: str) -> None:
        """Put the sealed content of `path`, that opens as `name`, in its place; one that is sealed
        already is sealed anew. The old content stays until the new one is on the disk."""
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as target, self.opened(path, name) as source:
                self._seal(source, target, name)
                target.flush()
                os.fsync(target.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def _seal(self, source: Reads, target: BinaryIO, name: str) -> None:
        salt = secrets.token_bytes(SALT_BYTES)
        told = {"name": name, "salt": base64.b64encode(salt).decode()}
        if self.suite is not SealingSuite.AES:
            told["suite"] = self.suite.value
        header = MAGIC + json.dumps(told).encode() + b"\n"
        if len(header) > MAX_HEADER_BYTES:
            raise InputRejected("the name of the file is too long to be sealed with it")
        target.write(header)
        key = derived_key(self.suite, self._root, salt=salt, use=_FILE)
        writer = SealingWriter(target, key, header, self.suite)
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
                told, salt, suite = _header(header)
                if name is not None and told != name:
                    raise InputRejected(
                        f"{path.name} is the content of {told}",
                        remedy="put the files back under their names, or restore a backup",
                    )
                key = derived_key(suite, self._root, salt=salt, use=_FILE)
                yield OpeningReader(file, key, header, told=path.name, suite=suite)
        except OSError as err:
            raise InputRejected(
                f"{path} cannot be read ({type(err).__name__})", remedy="check the path"
            ) from err


def is_sealed_value(value: Any) -> bool:
    return _suite_of_value(value) is not None


def _suite_of_value(value: Any) -> SealingSuite | None:
    for suite, name in SEALED.items():
        if isinstance(value, dict) and value.keys() == {name}:
            return suite
    return None


def is_sealed_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def pieces(reading: Reads) -> Iterator[bytes]:
    """What is left of it."""
    while piece := reading.read(PIECE_BYTES):
        yield piece


def sealing_suite_of_file(path: Path) -> SealingSuite | None:
    """What a file of rows is sealed with; None where it is not. Raises InputRejected."""
    if not is_sealed_file(path):
        return None
    with path.open("rb") as file:
        return _header(file.readline(MAX_HEADER_BYTES))[2]


def _header(line: bytes) -> tuple[str, bytes, SealingSuite]:
    """Name, salt and suite. A file of earlier versions names no suite: there was one."""
    try:
        told = json.loads(line[len(MAGIC) :])
        suite = SealingSuite(told.get("suite", SealingSuite.AES))
        return str(told["name"]), base64.b64decode(told["salt"], validate=True), suite
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise InputRejected("the beginning of a sealed file is damaged") from err
