"""The hash of a log: SHA-256 as RFC 6962 has it, or SM3 in the same places.

A log never changes its hash, and a proof says nothing of it: whoever verifies has to know which it
is, as it has to know the log's key. Both give 32 bytes, so that a tile, a proof and an anchor look
alike under either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from cryptography.hazmat.primitives.hashes import SM3 as Sm3Algorithm
from cryptography.hazmat.primitives.hashes import Hash

from ledger.errors import InputRejected


class Hashed(Protocol):
    """Content that has been hashed, as `hashlib` gives it."""

    def digest(self) -> bytes: ...


@dataclass(frozen=True)
class HashSuite:
    """A hash of 32 bytes, by the name it has where a log or a proof is written down.

    `of` is called some twenty times for each proof, so it is the library's own function where
    there is one.
    """

    name: str
    of: Callable[[bytes], Hashed]

    @property
    def empty_root(self) -> bytes:
        """The root of a tree without leaves."""
        return self.of(b"").digest()

    def leaf(self, content: bytes) -> bytes:
        """H(00 ‖ content), RFC 6962 section 2.1."""
        return self.of(b"\x00" + content).digest()

    def node(self, left: bytes, right: bytes) -> bytes:
        """H(01 ‖ left ‖ right), RFC 6962 section 2.1."""
        return self.of(b"\x01" + left + right).digest()


class _Sm3:
    def __init__(self, content: bytes) -> None:
        self._hashing = Hash(Sm3Algorithm())
        self._hashing.update(content)

    def digest(self) -> bytes:
        return self._hashing.finalize()


SHA256: Final = HashSuite("sha256", sha256)
SM3: Final = HashSuite("sm3", _Sm3)


def hash_suite(name: str) -> HashSuite:
    """The suite of this name. Raises InputRejected."""
    for suite in (SHA256, SM3):
        if suite.name == name:
            return suite
    raise InputRejected("expected the hash sha256 or sm3")
