"""A status list as its operator signs and serves it: a credential of data model 2.0, as a JWT.

It lives for a while (`validUntil`), and whoever keeps it asks for a newer one after its `ttl`,
which is much shorter: the one is how long the space goes on without its operator, the other how
soon a change is known. Sources: W3C Bitstring Status List 1.0, section 2.2; W3C Securing Verifiable
Credentials using JOSE and COSE (type `vc+jwt`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from contracts.errors import ContractError
from contracts.jws import open_compact, read_compact, sign_compact
from dataspace.errors import ProtocolViolation
from dataspace.identity.keys import VerificationKey
from dataspace.identity.status_list import (
    LIST_CREDENTIAL_TYPE,
    MAX_ENCODED_LENGTH,
    StatusList,
    StatusPurpose,
    list_subject,
    parse_list,
)
from dataspace.identity.tokens import CLOCK_SKEW_S, Identity
from dataspace.moments import zulu_at

JWT_TYPE: Final = "vc+jwt"
MEDIA_TYPE: Final = "application/vc+jwt"
# base64 of the largest list and what stands around it.
LIMIT_BYTES: Final = MAX_ENCODED_LENGTH * 2
# However long an operator would have its lists live, a revocation is not put off for longer.
MAX_LIFETIME_S: Final = 86400
# A reader asks for a newer list so many times in the life of one.
LOOKS_A_LIFE: Final = 12

_WHAT: Final = "status list"


@dataclass(frozen=True)
class StatusDocument:
    """A list whose signature is the operator's. Times in seconds since the epoch."""

    url: str
    purposes: frozenset[StatusPurpose]
    bits: StatusList
    issued_at: int
    expires_at: int
    ttl_s: float


def ttl_of(lifetime_s: int) -> int:
    """How soon a reader should ask for a newer list, for lists of this life."""
    return max(1, lifetime_s // LOOKS_A_LIFE)


def sign_status_list(
    bits: StatusList,
    *,
    url: str,
    purpose: StatusPurpose,
    operator: Identity,
    now: int,
    lifetime_s: int,
) -> str:
    """The list served at `url`, as a compact JWS."""
    subject = list_subject(bits, url=url, purpose=purpose, ttl_s=ttl_of(lifetime_s))
    document = {
        "@context": ["https://www.w3.org/ns/credentials/v2"],
        "id": url,
        "type": ["VerifiableCredential", LIST_CREDENTIAL_TYPE],
        "issuer": operator.did,
        "validFrom": zulu_at(now),
        "validUntil": zulu_at(now + lifetime_s),
        "credentialSubject": subject,
        "iss": operator.did,
        "iat": now,
        "exp": now + lifetime_s,
    }
    payload = json.dumps(document, separators=(",", ":")).encode()
    return sign_compact(
        payload, operator.key, operator.kid, operator.alg, typ=JWT_TYPE, limit=LIMIT_BYTES
    )


def open_status_list(
    text: str, *, url: str, operator: str, now: float, key_of: Callable[[str], VerificationKey]
) -> StatusDocument:
    """The list of `url` that `operator` signed. Raises ProtocolViolation for another one, one that
    has ended or lives too long, and whatever `key_of` raises."""
    try:
        payload = open_compact(text, operator, key_of, typ=JWT_TYPE, what=_WHAT, limit=LIMIT_BYTES)
    except ContractError as err:
        raise ProtocolViolation(str(err)) from err
    found = _read(payload, operator, url)
    if found.issued_at > now + CLOCK_SKEW_S:
        raise ProtocolViolation(
            f"{_WHAT}: it was made {found.issued_at - now:.0f} seconds in the future",
            remedy="set both nodes' clocks",
        )
    if not found.issued_at < found.expires_at <= found.issued_at + MAX_LIFETIME_S:
        raise ProtocolViolation(f"{_WHAT}: it has to live for at most {MAX_LIFETIME_S} seconds")
    if found.expires_at <= now:
        raise ProtocolViolation(f"{_WHAT}: it ended {now - found.expires_at:.0f} seconds ago")
    return found


def read_kept_status_list(text: str, *, url: str, operator: str) -> StatusDocument:
    """A list out of our own database, whose signature was verified before it went there."""
    try:
        _, payload = read_compact(text, typ=JWT_TYPE, what=_WHAT, limit=LIMIT_BYTES)
    except ContractError as err:
        raise ProtocolViolation(str(err)) from err
    return _read(payload, operator, url)


def _read(payload: bytes, operator: str, url: str) -> StatusDocument:
    try:
        document: Any = json.loads(payload)
    except (ValueError, RecursionError) as err:
        raise ProtocolViolation(f"{_WHAT}: expected JSON") from err
    if not isinstance(document, dict) or document.get("issuer") != operator:
        raise ProtocolViolation(f"{_WHAT}: it does not come from the operator of this space")
    types = document.get("type")
    if not isinstance(types, list) or LIST_CREDENTIAL_TYPE not in types:
        raise ProtocolViolation(f"{_WHAT}: expected a credential of type {LIST_CREDENTIAL_TYPE}")
    if document.get("id") != url:
        raise ProtocolViolation(f"{_WHAT}: it is the list of another address")
    issued_at, expires_at = document.get("iat"), document.get("exp")
    if not isinstance(issued_at, int) or not isinstance(expires_at, int):
        raise ProtocolViolation(f"{_WHAT}: expected iat and exp to be seconds")
    subject = document.get("credentialSubject")
    purposes, bits = parse_list(subject)
    ttl = subject.get("ttl") if isinstance(subject, dict) else None
    lifetime_s = expires_at - issued_at
    ttl_s = ttl / 1000 if isinstance(ttl, int) and ttl > 0 else float(ttl_of(lifetime_s))
    return StatusDocument(url, purposes, bits, issued_at, expires_at, min(ttl_s, lifetime_s / 2))
