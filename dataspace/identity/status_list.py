"""Which credentials of an issuer still hold: the W3C Bitstring Status List, version 1.0.

Source: https://www.w3.org/TR/vc-bitstring-status-list/, sections 2.1 (entries), 2.2 (the list's
credential), 3.1 to 3.4 (encoding). One bit says one thing about one credential, index 0 being the
left-most; a list has at least 131,072 of them, so that looking one up tells the issuer little.
Everything here is a function of values: nothing is fetched, nothing is signed.
"""

from __future__ import annotations

import base64
import gzip
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dataspace.errors import InputRejected, ProtocolViolation

MIN_ENTRIES: Final = 131_072
# However small a list comes, so much of it is unpacked at most: sixty-four times the least list.
MAX_LIST_BYTES: Final = 1024 * 1024
MAX_ENTRIES: Final = MAX_LIST_BYTES * 8
# A list that does not compress at all, in base64.
MAX_ENCODED_LENGTH: Final = 1_500_000
# A credential names a list for revocation, one for suspension, and little else.
MAX_ENTRIES_A_CREDENTIAL: Final = 8
MAX_URL_LENGTH: Final = 2048

ENTRY_TYPE: Final = "BitstringStatusListEntry"
LIST_TYPE: Final = "BitstringStatusList"
LIST_CREDENTIAL_TYPE: Final = "BitstringStatusListCredential"

_GZIP: Final = 16 + zlib.MAX_WBITS
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")


class StatusPurpose(StrEnum):
    """What a set bit says: REVOCATION for good, SUSPENSION until it is taken back."""

    REVOCATION = "revocation"
    SUSPENSION = "suspension"


# They say something to people, and nothing about whether the credential holds.
_INFORMATIVE: Final = frozenset({"refresh", "message"})


@dataclass(frozen=True)
class StatusEntry:
    """Where the status of one credential is to be read: a bit of a list at an address."""

    purpose: StatusPurpose
    list_url: str
    index: int

    def to_json(self) -> dict[str, str]:
        """The entry as a credential's `credentialStatus` carries it."""
        return {
            "id": f"{self.list_url}#{self.index}",
            "type": ENTRY_TYPE,
            "statusPurpose": self.purpose.value,
            "statusListIndex": str(self.index),
            "statusListCredential": self.list_url,
        }


@dataclass(frozen=True)
class StatusList:
    """The bits of a list, packed; its length in bytes is at least MIN_ENTRIES / 8."""

    bits: bytes

    @property
    def entries(self) -> int:
        return len(self.bits) * 8

    @classmethod
    def of(cls, indices: Iterable[int], *, entries: int = MIN_ENTRIES) -> StatusList:
        """A list whose set bits are `indices`. Raises InputRejected for a length that is no
        multiple of 8 or out of bounds, and for an index outside it."""
        if entries % 8 or not MIN_ENTRIES <= entries <= MAX_ENTRIES:
            raise InputRejected(
                f"status list: expected {MIN_ENTRIES} to {MAX_ENTRIES} entries, in eights"
            )
        bits = bytearray(entries // 8)
        for index in indices:
            if not 0 <= index < entries:
                raise InputRejected(f"status list: expected an index below {entries}, got {index}")
            bits[index // 8] |= 0x80 >> index % 8
        return cls(bytes(bits))


def status_at(status_list: StatusList, index: int) -> bool:
    """Whether the bit of this index is set. Raises ProtocolViolation for one outside the list."""
    if not 0 <= index < status_list.entries:
        raise ProtocolViolation(
            f"status list: expected an index below {status_list.entries}, got {index}"
        )
    return bool(status_list.bits[index // 8] & 0x80 >> index % 8)


def encode_list(status_list: StatusList) -> str:
    """The list as `encodedList` carries it: GZIP, then multibase base64url. The same bits give the
    same text."""
    packed = gzip.compress(status_list.bits, mtime=0)
    return "u" + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_list(encoded: str) -> StatusList:
    """The bits of an `encodedList`. Raises ProtocolViolation for what is none, has fewer than
    MIN_ENTRIES or more than MAX_ENTRIES bits; no more than that is ever unpacked."""
    if len(encoded) > MAX_ENCODED_LENGTH:
        raise ProtocolViolation(f"status list: expected at most {MAX_ENCODED_LENGTH} characters")
    digits = encoded[1:]
    if not encoded.startswith("u") or not _BASE64URL.fullmatch(digits) or len(digits) % 4 == 1:
        raise ProtocolViolation("status list: expected multibase base64url, which begins with u")
    packed = base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
    unpacking = zlib.decompressobj(wbits=_GZIP)
    try:
        # One byte more than may be, so that a list which goes on is told from one that is full.
        bits = unpacking.decompress(packed, MAX_LIST_BYTES + 1)
    except zlib.error as err:
        raise ProtocolViolation("status list: expected GZIP data") from err
    if len(bits) > MAX_LIST_BYTES:
        raise ProtocolViolation(f"status list: expected at most {MAX_ENTRIES} entries")
    if not unpacking.eof or unpacking.unused_data:
        raise ProtocolViolation("status list: expected one whole GZIP member and nothing else")
    if len(bits) * 8 < MIN_ENTRIES:
        raise ProtocolViolation(
            f"status list: expected at least {MIN_ENTRIES} entries, got {len(bits) * 8}"
        )
    return StatusList(bits)


def parse_status(written: object) -> tuple[StatusEntry, ...]:
    """The entries of a credential's `credentialStatus`, which is one object or a list of them; none
    where it has none. Entries that only inform (refresh, message) are left out.

    Raises ProtocolViolation for one that cannot be read: a status nobody can look up must not be
    taken for a good one.
    """
    if written is None:
        return ()
    several = written if isinstance(written, list) else [written]
    if len(several) > MAX_ENTRIES_A_CREDENTIAL:
        raise ProtocolViolation(
            f"credentialStatus: expected at most {MAX_ENTRIES_A_CREDENTIAL} entries"
        )
    entries = []
    for one in several:
        if not isinstance(one, Mapping):
            raise ProtocolViolation("credentialStatus: expected an object or a list of objects")
        if one.get("type") == ENTRY_TYPE and one.get("statusPurpose") in _INFORMATIVE:
            continue
        entries.append(_parse_entry(one))
    return tuple(entries)


def parse_list(subject: object) -> tuple[frozenset[StatusPurpose], StatusList]:
    """What a list's `credentialSubject` says: for which purposes it is, and its bits.

    Raises ProtocolViolation.
    """
    if not isinstance(subject, Mapping) or subject.get("type") != LIST_TYPE:
        raise ProtocolViolation(f"status list: expected a credentialSubject of type {LIST_TYPE}")
    named = subject.get("statusPurpose")
    purposes = named if isinstance(named, list) else [named]
    if not purposes or len(purposes) > MAX_ENTRIES_A_CREDENTIAL:
        raise ProtocolViolation("status list: expected one statusPurpose or a few")
    known = [_purpose(one) for one in purposes]
    encoded = subject.get("encodedList")
    if not isinstance(encoded, str):
        raise ProtocolViolation("status list: expected encodedList to be text")
    return frozenset(known), decode_list(encoded)


def list_subject(
    status_list: StatusList, *, url: str, purpose: StatusPurpose, ttl_s: int
) -> dict[str, str | int]:
    """The `credentialSubject` of the list served at `url`; readers may keep it for `ttl_s`."""
    return {
        "id": f"{url}#list",
        "type": LIST_TYPE,
        "statusPurpose": purpose.value,
        "encodedList": encode_list(status_list),
        # The specification counts in milliseconds.
        "ttl": ttl_s * 1000,
    }


def _parse_entry(one: Mapping[object, object]) -> StatusEntry:
    if one.get("type") != ENTRY_TYPE:
        raise ProtocolViolation(f"credentialStatus: expected the type {ENTRY_TYPE}")
    # More bits an entry are allowed by the specification, and used for messages only.
    if one.get("statusSize", 1) not in (1, "1"):
        raise ProtocolViolation("credentialStatus: expected a statusSize of 1")
    index, url = one.get("statusListIndex"), one.get("statusListCredential")
    if not isinstance(index, str) or not _INDEX.fullmatch(index):
        raise ProtocolViolation("credentialStatus: expected statusListIndex to be digits, as text")
    if not isinstance(url, str) or not 0 < len(url) <= MAX_URL_LENGTH:
        raise ProtocolViolation("credentialStatus: expected statusListCredential to be an address")
    return StatusEntry(_purpose(one.get("statusPurpose")), url, int(index))


def _purpose(value: object) -> StatusPurpose:
    try:
        return StatusPurpose(str(value))
    except ValueError as err:
        raise ProtocolViolation(
            "statusPurpose: expected revocation or suspension, got another"
        ) from err
