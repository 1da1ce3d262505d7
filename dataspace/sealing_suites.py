"""What seals at rest: AES-256-GCM, or SM4-GCM for those who have to use national algorithms.

A suite is one row of SUITES. Whatever is sealed names its suite where it begins, and the name is
authenticated, so that everything opens that was sealed before another suite was chosen. SM4 has
keys of 128 bits, and its keys are derived with SM3 (GB/T 32905); a passphrase becomes a key by
scrypt under either, as there is no national function that is as dear to guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SM3, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

TAG_BYTES: Final = 16


class SealingSuite(StrEnum):
    """The names that stand in what is sealed."""

    AES = "AES-256-GCM"
    SM4 = "SM4-GCM"


class Aead(Protocol):
    """An authenticated cipher under one key; the tag stands behind the text."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Raises InvalidTag for what was sealed otherwise, or altered."""


class Sm4Gcm:
    """SM4 (GB/T 32907) in GCM as RFC 8998 uses it: nonces of 12 bytes, tags of 16."""

    def __init__(self, key: bytes) -> None:
        self._algorithm = algorithms.SM4(key)

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        sealing = Cipher(self._algorithm, modes.GCM(nonce)).encryptor()
        sealing.authenticate_additional_data(associated_data or b"")
        return sealing.update(data) + sealing.finalize() + sealing.tag

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        if len(data) < TAG_BYTES:
            raise InvalidTag
        mode = modes.GCM(nonce, data[-TAG_BYTES:])
        opening = Cipher(self._algorithm, mode).decryptor()
        opening.authenticate_additional_data(associated_data or b"")
        # Nothing is given out before the tag has been found right.
        text = opening.update(data[:-TAG_BYTES])
        return text + opening.finalize()


@dataclass(frozen=True)
class _Suite:
    key_bytes: int
    cipher: Callable[[bytes], Aead]
    hash: Callable[[], HashAlgorithm]


SUITES: Final[Mapping[SealingSuite, _Suite]] = {
    SealingSuite.AES: _Suite(32, AESGCM, SHA256),
    SealingSuite.SM4: _Suite(16, Sm4Gcm, SM3),
}


def derived_key(suite: SealingSuite, root: bytes, *, salt: bytes | None, use: bytes) -> bytes:
    """A key of the suite for this `use` alone, derived from `root` by HKDF (RFC 5869)."""
    row = SUITES[suite]
    return HKDF(row.hash(), row.key_bytes, salt=salt, info=use).derive(root)
