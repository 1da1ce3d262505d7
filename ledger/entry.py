"""Records of what happened, and their sealing into salted commitments.

A record names organisations only, never a natural person, a raw dataset id, a query text or a row
count. Its commitment is the leaf data of the log, so a log can be published whole without saying
anything, and deleting a body with its salt erases the record while every proof still holds.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Final, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ledger.errors import InputRejected, InvalidEntry

ENTRY_TAG = b"city-dataspace/entry/1\0"
SUITE: Final = "sha256-ed25519"
SALT_BYTES = 16
COMMITMENT_BYTES = 32
# An entry bundle writes the length of an entry in 16 bits (C2SP tlog-tiles).
MAX_BODY_BYTES = 65_535
MAX_TEXT = 500
MAX_LIST = 32


class EntryType(StrEnum):
    """What happened."""

    PUBLISHED = "published"
    NEGOTIATED = "negotiated"
    ORDERED = "ordered"
    DECIDED = "decided"
    STARTED = "started"
    COMPLETED = "completed"
    REFUSED = "refused"
    RELEASED = "released"
    CONSENT_GIVEN = "consent_given"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    ACCESSED = "accessed"
    ERASED = "erased"
    KEY_ROTATED = "key_rotated"
    JOINED = "joined"
    REVOKED = "revoked"
    ADMINISTERED = "administered"
    FAILED = "failed"


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
# A SHA-256 digest in lower-case hexadecimal: every field whose name ends in _h or _c.
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Texts = Annotated[tuple[Text, ...], Field(max_length=MAX_LIST)]
Digests = Annotated[tuple[Digest, ...], Field(max_length=MAX_LIST)]

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Entry(BaseModel):
    """One record. Optional fields are absent from the canonical form when None.

    `log` is the origin of the log it belongs to, `actor` and `peer` are participants, `corr` is
    the agreement's id, the same on both sides. Fields follow the IDSA observer, ISO/IEC TS 27560,
    GDPR article 30 and the Gaia-X data-exchange logging vocabulary.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    suite: Literal["sha256-ed25519"] = SUITE
    log: Text
    id: str
    ts: str
    type: EntryType
    actor: Text
    peer: Text | None = None
    corr: Text | None = None
    agreement_h: Digest | None = None
    policy_h: Digest | None = None
    order_h: Digest | None = None
    code_h: Digest | None = None
    transcript_h: Digest | None = None
    kind: Text | None = None
    purpose: Text | None = None
    legal_basis: Text | None = None
    categories: Texts | None = None
    recipients: Texts | None = None
    transfer: Text | None = None
    decision: Literal["permit", "deny", "violation"] | None = None
    clause: Text | None = None
    outcome: Text | None = None
    obligations_met: bool | None = None
    inputs_c: Digests | None = None
    outputs_c: Digests | None = None
    privacy_spend: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    retention_until: str | None = None
    # Digest of the step receipt both sides signed.
    receipt: Digest | None = None

    @field_validator("id")
    @classmethod
    def _is_uuid7(cls, value: str) -> str:
        if not _UUID7.fullmatch(value):
            raise ValueError("expected a UUID of version 7 in lower case")
        return value

    @field_validator("ts", "retention_until")
    @classmethod
    def _is_timestamp(cls, value: str | None) -> str | None:
        if value is not None:
            if not _TIMESTAMP.fullmatch(value):
                raise ValueError("expected RFC 3339 in UTC with milliseconds, ending in Z")
            # Rejects a thirteenth month and the like.
            datetime.fromisoformat(value)
        return value


@dataclass(frozen=True)
class SealedEntry:
    """A record as it is stored and shown: canonical body, 16-byte salt, 32-byte commitment.

    Nothing is promised until `open_entry` has opened it: a reader may be shown anything.
    """

    body: bytes
    salt: bytes
    commitment: bytes

    def to_json(self) -> dict[str, str]:
        """The three fields in base64, so that even a damaged body can be shown."""
        return {
            "body": base64.b64encode(self.body).decode(),
            "salt": base64.b64encode(self.salt).decode(),
            "commitment": base64.b64encode(self.commitment).decode(),
        }

    @staticmethod
    def parse(value: object) -> SealedEntry:
        """The reverse of `to_json`. Raises InvalidEntry; does not open the commitment."""
        if not isinstance(value, Mapping):
            raise InvalidEntry(f"a sealed entry is a JSON object, got {type(value).__name__}")
        body, salt, commitment = (
            _field_bytes(value, name) for name in ("body", "salt", "commitment")
        )
        if len(body) > MAX_BODY_BYTES:
            raise InvalidEntry(f"a body of {len(body)} bytes, at most {MAX_BODY_BYTES} are allowed")
        if len(salt) != SALT_BYTES or len(commitment) != COMMITMENT_BYTES:
            raise InvalidEntry(
                f"expected a salt of {SALT_BYTES} and a commitment of {COMMITMENT_BYTES} bytes, "
                f"got {len(salt)} and {len(commitment)}"
            )
        return SealedEntry(body=body, salt=salt, commitment=commitment)


def shown_entry(value: object) -> SealedEntry | None:
    """What a log showed for one entry: None for an erased one.

    What is no sealed entry at all becomes one that will not open, so that an audit names its index
    instead of ending there.
    """
    if value is None:
        return None
    try:
        return SealedEntry.parse(value)
    except InvalidEntry:
        return SealedEntry(body=repr(value)[:MAX_BODY_BYTES].encode(), salt=b"", commitment=b"")


def uuid7(now: datetime, random: bytes) -> str:
    """A UUID of version 7 (RFC 9562 section 5.7) from an aware time and 10 random bytes."""
    if len(random) != 10:
        raise InputRejected(f"expected 10 random bytes, got {len(random)}")
    if now.tzinfo is None:
        raise InputRejected("expected a time with its zone")
    milliseconds = int(now.timestamp() * 1000)
    bits = int.from_bytes(random) & ((1 << 74) - 1)
    value = milliseconds << 80 | 7 << 76 | (bits >> 62) << 64 | 2 << 62 | bits & ((1 << 62) - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def canonical(entry: Entry) -> bytes:
    """The one byte string of this record: RFC 8785 (JSON Canonicalization Scheme)."""
    values = entry.model_dump(mode="json", exclude_none=True)
    if entry.privacy_spend is not None:
        return rfc8785.dumps(values)
    # Without a float the standard encoder, in C, writes the same bytes: our names are ASCII, so
    # they sort alike, and both escape strings alike. A tenth of the time, for every record.
    return _ENCODER.encode(values).encode()


def commitment_of(body: bytes, salt: bytes) -> bytes:
    """SHA-256(tag ‖ salt ‖ body): hides the body as long as the salt is secret or deleted."""
    return sha256(ENTRY_TAG + salt + body).digest()


def seal(entry: Entry, salt: bytes) -> SealedEntry:
    """The record with its commitment under a fresh random salt of 16 bytes.

    Raises InputRejected for a salt of another length or a record too large for a bundle.
    """
    if len(salt) != SALT_BYTES:
        raise InputRejected(f"expected a salt of {SALT_BYTES} bytes, got {len(salt)}")
    body = canonical(entry)
    if len(body) > MAX_BODY_BYTES:
        raise InputRejected(f"a record of {len(body)} bytes, at most {MAX_BODY_BYTES} are allowed")
    return SealedEntry(body=body, salt=salt, commitment=commitment_of(body, salt))


def open_entry(body: bytes, salt: bytes, commitment: bytes) -> Entry:
    """The record that this commitment was made for.

    Raises InvalidEntry when body and salt do not open the commitment, and when the body is not
    the canonical form of a record we understand. The commitment covers the bytes as they came.
    """
    if len(salt) != SALT_BYTES or not compare_digest(commitment_of(body, salt), commitment):
        raise InvalidEntry("the body does not open its commitment: body or salt was altered")
    try:
        # The parser of pydantic has its own, small limit of nesting.
        entry = Entry.model_validate_json(body)
    except ValidationError as err:
        # The values stay out of the message: they are the record's content.
        fields = ", ".join(sorted({".".join(map(str, e["loc"])) or "record" for e in err.errors()}))
        raise InvalidEntry(f"not a record of version 1: wrong or unknown {fields}") from err
    if canonical(entry) != body:
        raise InvalidEntry("the body is not in canonical form (RFC 8785)")
    return entry


def _field_bytes(value: Mapping[object, object], name: str) -> bytes:
    text = value.get(name)
    if not isinstance(text, str):
        raise InvalidEntry(f"a sealed entry needs the text field {name!r}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as err:
        raise InvalidEntry(f"field {name!r} of a sealed entry is not base64") from err
