"""Long content sealed in chunks, in memory that does not grow with it.

The construction is that of STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) as age's files use it:
chunk number and a mark for the last one are the nonce, so chunks cannot be left out, exchanged,
repeated or cut off at the end. That asks for a key that seals one content only.
"""

from __future__ import annotations

from typing import BinaryIO

from cryptography.exceptions import InvalidTag

from dataspace.errors import InputRejected
from dataspace.sealing_suites import SUITES, TAG_BYTES, SealingSuite

CHUNK_BYTES = 128 * 1024
_NUMBER_BYTES = 11


class SealingWriter:
    """Seals what is written to it into `file`. `close` writes the last chunk; without it the
    content does not open. `key` is for this content alone, `context` is authenticated with it."""

    def __init__(
        self, file: BinaryIO, key: bytes, context: bytes, suite: SealingSuite = SealingSuite.AES
    ) -> None:
        self._file, self._cipher, self._context = file, SUITES[suite].cipher(key), context
        self._waiting = bytearray()
        self._number = 0

    def write(self, content: bytes) -> None:
        self._waiting += content
        # The last chunk is known at the end only, so one stays back.
        while len(self._waiting) > CHUNK_BYTES:
            self._seal(bytes(self._waiting[:CHUNK_BYTES]), last=False)
            del self._waiting[:CHUNK_BYTES]

    def close(self) -> None:
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last), chunk, self._context))
        self._number += 1


class OpeningReader:
    """Opens what `SealingWriter` sealed. What `read` gives has been authenticated.

    Raises InputRejected for another key or context, and for content that was altered or cut.
    """

    def __init__(
        self,
        file: BinaryIO,
        key: bytes,
        context: bytes,
        *,
        told: str,
        suite: SealingSuite = SealingSuite.AES,
    ) -> None:
        self._file, self._cipher = file, SUITES[suite].cipher(key)
        self._context, self._told = context, told
        self._opened = bytearray()
        self._number = 0
        self._following = file.read(CHUNK_BYTES + TAG_BYTES)
        self._ended = False

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end only."""
        while len(self._opened) < size and not self._ended:
            self._open_next()
        given = bytes(self._opened[:size])
        del self._opened[:size]
        return given

    def _open_next(self) -> None:
        sealed = self._following
        whole = len(sealed) == CHUNK_BYTES + TAG_BYTES
        self._following = self._file.read(CHUNK_BYTES + TAG_BYTES) if whole else b""
        self._ended = not self._following
        try:
            self._opened += self._cipher.decrypt(
                _nonce(self._number, self._ended), sealed, self._context
            )
        except (InvalidTag, ValueError) as err:
            raise InputRejected(
                f"{self._told} does not open: another passphrase, or it was altered or cut",
                remedy="check the passphrase; take another copy of the file",
            ) from err
        self._number += 1


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big") + bytes([last])
