"""Traces: who used whose data, when, for what, under which agreement; told to the person only, and
to the regulator.

Each use has a random key, under which the use is written once, and an ephemeral X25519 key. What
the ephemeral key and a person's public key share seals the use's key to that person and names the
trace, so that the disk tells neither what was done nor with whose data: to find their own trace,
people need their private key. To the regulator go, by HPKE (RFC 9180), the key of the use and
another key, under which stand the pseudonyms of all the people in it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from pydantic import AwareDatetime, BaseModel, ConfigDict

from connectors.errors import InputRejected
from connectors.use import Use
from connectors.vault_keys import KEY_BYTES, DamagedVault, seal, unseal

SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
NAME_BYTES: Final = 16
TAG_BYTES: Final = 16
PSEUDONYM_BYTES: Final = 16
_TAG_LABEL: Final = b"city-dataspace/vault/1/trace tag\0"
_KEY_LABEL: Final = b"city-dataspace/vault/1/trace key\0"
_FOR_REGULATOR: Final = b"city-dataspace/vault/1/regulator\0"


class UseTold(BaseModel):
    """A use as the person reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    recipient: str
    purpose: str
    agreement: str | None
    computation: str | None
    columns: tuple[str, ...]


@dataclass(frozen=True)
class SealedUse:
    """What of a use is stored once: its name, ephemeral public key, and sealed texts."""

    name: bytes
    ephemeral: bytes
    sealed: bytes
    regulator: bytes | None


class SealedTrace(NamedTuple):
    """What is stored for one person of a use."""

    tag: bytes
    wrapped: bytes


class UseWriter:
    """Seals the traces of one use, batch by batch."""

    def __init__(self, use: Use, columns: Sequence[str], regulator: bytes | None) -> None:
        self._ephemeral = X25519PrivateKey.generate()
        self._key, people_key = os.urandom(KEY_BYTES), os.urandom(KEY_BYTES)
        self._people_key = AESGCM(people_key) if regulator is not None else None
        name = os.urandom(NAME_BYTES)
        told = UseTold(
            at=use.at,
            recipient=use.recipient,
            purpose=use.purpose,
            agreement=use.agreement,
            computation=use.computation,
            columns=tuple(columns),
        )
        self.use = SealedUse(
            name,
            self._ephemeral.public_key().public_bytes_raw(),
            seal(AESGCM(self._key), told.model_dump_json().encode(), name),
            None
            if regulator is None
            else SUITE.encrypt(
                self._key + people_key,
                X25519PublicKey.from_public_bytes(regulator),
                info=_FOR_REGULATOR + name,
            ),
        )

    def traces(self, public_keys: Sequence[bytes]) -> list[SealedTrace]:
        """One trace for each person, sorted by tags: the order tells nothing either."""
        name, key, exchange = self.use.name, int.from_bytes(self._key), self._ephemeral.exchange
        load = X25519PublicKey.from_public_bytes
        made = []
        for public in public_keys:
            try:
                shared = exchange(load(public))
            except ValueError:
                # A key that shares nothing is none of those the vault makes.
                raise DamagedVault("a person's public key was altered") from None
            tag, pad = _parts(shared, name + public)
            wrapped = key ^ int.from_bytes(pad)
            made.append(SealedTrace(tag, wrapped.to_bytes(KEY_BYTES)))
        return sorted(made)

    def people(self, pseudonyms: Sequence[bytes], number: int) -> bytes | None:
        """Whose data are in batch `number`, for the regulator; None where there is none."""
        if self._people_key is None:
            return None
        return seal(self._people_key, b"".join(pseudonyms), _batch(self.use.name, number))


class TraceReader:
    """Finds and opens the traces of the person who has the private key."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key().public_bytes_raw()

    def parts(self, use: SealedUse) -> tuple[bytes, bytes]:
        """The tag of this person's trace of `use`, and the pad over its key."""
        shared = self._key.exchange(X25519PublicKey.from_public_bytes(use.ephemeral))
        return _parts(shared, use.name + self._public)

    @staticmethod
    def open(use: SealedUse, pad: bytes, wrapped: bytes) -> UseTold:
        """The use, from a trace found under its tag. Raises DamagedVault."""
        # Whatever was changed in what is wrapped gives another key, which opens nothing.
        return _told(use, bytes(a ^ b for a, b in zip(pad, wrapped, strict=True)))


@dataclass(frozen=True)
class RegulatorsUse:
    """A use as the regulator reads it, with the pseudonyms that receipts name people by."""

    use: UseTold
    people: tuple[str, ...]


def open_for_regulator(
    use: SealedUse, batches: Sequence[tuple[int, bytes]], key: X25519PrivateKey
) -> RegulatorsUse:
    """Raises InputRejected where the use was not sealed to this key."""
    if use.regulator is None:
        raise InputRejected("the vault has no regulator's key: its traces are the people's alone")
    try:
        keys = SUITE.decrypt(use.regulator, key, info=_FOR_REGULATOR + use.name)
    except InvalidTag:
        raise InputRejected(
            "this is not the regulator's key that the vault's traces are sealed to"
        ) from None
    people_key = AESGCM(keys[KEY_BYTES:])
    people: list[str] = []
    for number, sealed in batches:
        people += _pseudonyms(unseal(people_key, sealed, _batch(use.name, number)))
    return RegulatorsUse(_told(use, keys[:KEY_BYTES]), tuple(people))


def _told(use: SealedUse, key: bytes) -> UseTold:
    return UseTold.model_validate_json(unseal(AESGCM(key), use.sealed, use.name))


def _parts(shared: bytes, bound: bytes) -> tuple[bytes, bytes]:
    """The trace's tag, and the one-time pad over the key of the use.

    Bound to the use's name and the person's public key, so no pad is used twice. What is shared
    over X25519 is not uniform; HMAC extracts, under a label each (RFC 5869).
    """
    tag = hmac.digest(shared, _TAG_LABEL + bound, "sha256")
    return tag[:TAG_BYTES], hmac.digest(shared, _KEY_LABEL + bound, "sha256")


def _batch(name: bytes, number: int) -> bytes:
    return name + number.to_bytes(8)


def _pseudonyms(packed: bytes) -> Iterator[str]:
    for start in range(0, len(packed), PSEUDONYM_BYTES):
        yield packed[start : start + PSEUDONYM_BYTES].hex()
