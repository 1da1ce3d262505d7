"""Self-issued tokens that carry a membership credential, and their verification.

Shape: Decentralized Claims Protocol 1.0 §4.3 (self-issued ID tokens: iss = sub = our DID, aud = the
peer's DID, jti, short expiry). The membership credential, a VC-JWT of the space's operator, rides
in the claim `membership`, so that verifying a peer costs no further call. One token is good for
one request: its `jti` goes into the verifier's replay table.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError

from dataspace.errors import InputRejected, TokenUntimely, Unauthenticated
from dataspace.identity.keys import (
    READ_NAMES,
    SUITES,
    PrivateKey,
    SigningKey,
    VerificationKey,
    names_of,
)
from dataspace.identity.status_list import StatusEntry, parse_status
from dataspace.moments import zulu_at
from dataspace.settings import ParticipantKind

ALGORITHMS = sorted(name for names in READ_NAMES.values() for name in names)
TOKEN_LIFETIME_S = 60
# Clocks of two honest nodes may differ by this much.
CLOCK_SKEW_S = 30
MAX_TOKEN_BYTES = 8 * 1024
# A credential travels with every request, so what it names is bounded.
MAX_ZONES = 32
ZONE = re.compile(r"[^\s\x00-\x1f]{1,64}")
CREDENTIAL_LIFETIME_S = 30 * 86400

KeyOf = Callable[[str], VerificationKey]
_UNREADABLE, _RESTORE = "the membership credential cannot be read", "restore a backup"


@dataclass(frozen=True)
class Identity:
    """Our own DID with the key that speaks for it."""

    did: str
    signing_key: SigningKey

    @classmethod
    def of(cls, did: str, key: SigningKey | PrivateKey) -> Identity:
        return cls(did, key if isinstance(key, SigningKey) else SigningKey.of(key))

    @property
    def key(self) -> VerificationKey:
        """The key as JOSE takes it, with its private part."""
        return self.signing_key.jwk

    @property
    def kid(self) -> str:
        return f"{self.did}#{self.signing_key.thumbprint}"

    @property
    def alg(self) -> str:
        """The algorithm's name in JOSE."""
        return SUITES[self.signing_key.algorithm].jose


@dataclass(frozen=True)
class Member:
    """A verified participant: its DID and what its operator says it is."""

    did: str
    kind: ParticipantKind
    name: str
    zones: tuple[str, ...] = ()


@dataclass(frozen=True)
class Membership:
    """What an operator's credential says: of whom, until when (UNIX seconds), and in which lists
    it may have been taken back since."""

    member: Member
    expires_at: int
    status: tuple[StatusEntry, ...] = ()


@dataclass(frozen=True)
class Claims:
    """What a verified token says, before its credential is looked at.

    `access` is the claim `token`: with it the addressee may ask the bearer's credential service.
    """

    did: str
    jti: str
    expires_at: int
    membership: str | None
    access: str | None = None


def issue_token(
    identity: Identity,
    *,
    audience: str,
    now: int,
    membership: str | None,
    access: str | None = None,
) -> str:
    """A token for one request to `audience`, valid for a minute. `access` lets the audience ask for
    our credentials, if it wants more than `membership` (`dataspace.claims.access`)."""
    claims: dict[str, object] = {
        "iss": identity.did,
        "sub": identity.did,
        "aud": audience,
        "iat": now,
        "exp": now + TOKEN_LIFETIME_S,
        "jti": str(uuid.uuid4()),
    }
    if membership is not None:
        claims["membership"] = membership
    if access is not None:
        claims["token"] = access
    header = {"alg": identity.alg, "kid": identity.kid, "typ": "JWT"}
    return jwt.encode(header, claims, identity.key, algorithms=ALGORITHMS)


def open_token(
    token: str, *, audience: str, now: int, key_of: KeyOf, lifetime_s: int = TOKEN_LIFETIME_S
) -> Claims:
    """The claims of a token addressed to `audience`. Raises Unauthenticated saying what is wrong.

    `key_of` is given the header's `kid`, or the issuer's DID where it has none. The caller still
    has to check `jti` against its replay table.
    """
    claims = _open(token, "token", key_of)
    issuer = claims.get("iss")
    if claims.get("sub") != issuer:
        raise Unauthenticated("the token is not self-issued: its iss and sub differ")
    if claims.get("aud") not in (audience, [audience]):
        raise Unauthenticated(f"the token is addressed to another node, not to {audience}")
    expires_at = _verify_times(claims, now, "token", "send a fresh token with each request")
    if expires_at - now > lifetime_s + 2 * CLOCK_SKEW_S:
        raise Unauthenticated(f"the token lives longer than {lifetime_s} seconds")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 8 <= len(jti) <= 128:
        raise Unauthenticated("the token has no usable jti")
    membership = claims.get("membership")
    if membership is not None and not isinstance(membership, str):
        raise Unauthenticated("the token's membership claim is not a VC-JWT")
    access = claims.get("token")
    if access is not None and not isinstance(access, str):
        raise Unauthenticated("the token's claim `token` is no text")
    return Claims(str(issuer), jti, expires_at, membership, access)


def peek_token(token: str) -> tuple[str, str | None]:
    """Issuer and membership credential as the token claims them, nothing verified yet."""
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
    try:
        claims = json.loads(jws.extract_compact(token.encode()).payload)
        issuer, membership = claims["iss"], claims.get("membership")
    except (JoseError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as err:
        raise Unauthenticated("the token is malformed") from err
    if not isinstance(issuer, str) or not isinstance(membership, str | None):
        raise Unauthenticated("the token's issuer or membership is no text")
    return issuer, membership


def issue_credential(
    operator: Identity,
    *,
    subject: str,
    kind: ParticipantKind,
    name: str,
    now: int,
    zones: Sequence[str] = (),
    status: Sequence[StatusEntry] = (),
) -> str:
    """A membership credential as VC-JWT (W3C VC Data Model 1.1 §6.3.1), valid for thirty days
    unless a list that `status` names says otherwise."""
    about: dict[str, object] = {"id": subject, "kind": kind.value, "name": name}
    if zones:
        about["zones"] = list(zones)
    jti = f"urn:uuid:{uuid.uuid4()}"
    vc: dict[str, object] = {
        "@context": ["https://www.w3.org/2018/credentials/v1"],
        # What the claims around it say as well; readers of other makes look for it here.
        "id": jti,
        "type": ["VerifiableCredential", "MembershipCredential"],
        "issuer": operator.did,
        "issuanceDate": zulu_at(now),
        "credentialSubject": about,
    }
    if status:
        vc["@context"] = [
            "https://www.w3.org/2018/credentials/v1",
            "https://www.w3.org/ns/credentials/status/v1",
        ]
        vc["credentialStatus"] = [entry.to_json() for entry in status]
    claims = {
        "iss": operator.did,
        "sub": subject,
        "iat": now,
        "nbf": now,
        "exp": now + CREDENTIAL_LIFETIME_S,
        "jti": jti,
        "vc": vc,
    }
    header = {"alg": operator.alg, "kid": operator.kid, "typ": "JWT"}
    return jwt.encode(header, claims, operator.key, algorithms=ALGORITHMS)


def renewal_time(credential: str) -> float:
    """When a credential of ours should be renewed: at two thirds of its life; UNIX seconds."""
    claims = read_own_credential(credential)
    return float(claims["iat"] + (claims["exp"] - claims["iat"]) * 2 / 3)


def credential_end(credential: str) -> float:
    """When a credential of ours ends; UNIX seconds. Raises InputRejected for what is none."""
    try:
        return float(read_own_credential(credential)["exp"])
    except (KeyError, TypeError, ValueError) as err:
        raise InputRejected(_UNREADABLE, remedy=_RESTORE) from err


def read_own_credential(credential: str) -> dict[str, Any]:
    """What a credential says that we keep: it was verified when it came, and is not again.

    Raises InputRejected for what is none.
    """
    try:
        claims = json.loads(jws.extract_compact(credential.encode()).payload)
    except (JoseError, ValueError, RecursionError) as err:
        raise InputRejected(_UNREADABLE, remedy=_RESTORE) from err
    if not isinstance(claims, dict):
        raise InputRejected(_UNREADABLE, remedy=_RESTORE)
    return claims


def open_credential(
    credential: str, *, subject: str, operator: str, now: int, key_of: KeyOf
) -> Membership:
    """What `operator` says of `subject`. Raises Unauthenticated saying what is wrong, and
    ProtocolViolation for a status that cannot be read. The lists are not looked at here."""
    claims = _open(credential, "membership credential", key_of)
    if claims.get("iss") != operator:
        raise Unauthenticated(
            f"the membership credential was not issued by this space's operator, {operator}",
            remedy="join the space: ask its operator for an invitation",
        )
    if claims.get("sub") != subject:
        raise Unauthenticated("the membership credential belongs to another participant")
    expires_at = _verify_times(
        claims, now, "membership credential", "ask the operator for a new one"
    )
    vc = claims.get("vc")
    about = vc.get("credentialSubject") if isinstance(vc, dict) else None
    if not isinstance(about, dict) or about.get("id") != subject:
        raise Unauthenticated("the membership credential does not describe its subject")
    try:
        kind = ParticipantKind(str(about.get("kind")))
    except ValueError as err:
        raise Unauthenticated("the membership credential names an unknown kind") from err
    zones = about.get("zones", [])
    if not isinstance(zones, list) or len(zones) > MAX_ZONES or not all(map(_is_zone, zones)):
        raise Unauthenticated("the membership credential's zones are not a list of names")
    member = Member(did=subject, kind=kind, name=str(about.get("name", "")), zones=tuple(zones))
    status = parse_status(vc.get("credentialStatus") if isinstance(vc, dict) else None)
    return Membership(member, expires_at, status)


def _is_zone(value: object) -> bool:
    return isinstance(value, str) and ZONE.fullmatch(value) is not None


def _open(token: str, what: str, key_of: KeyOf) -> dict[str, object]:
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated(f"the {what} is longer than {MAX_TOKEN_BYTES} bytes")
    try:
        unopened = jws.extract_compact(token.encode())
        kid = unopened.headers().get("kid")
        if kid is None and what == "token":
            kid = json.loads(unopened.payload)["iss"]
        if not isinstance(kid, str):
            raise Unauthenticated(f"the {what} names no key (kid)")
        key = key_of(kid)
        # The key says which algorithm it is for; a header that names another one is refused.
        claims = dict(jwt.decode(token, key, algorithms=names_of(key)).claims)
    except (JoseError, ValueError, RecursionError, KeyError, TypeError) as err:
        raise Unauthenticated(f"the {what} is malformed or its signature is wrong") from err
    if kid.partition("#")[0] != claims.get("iss"):
        raise Unauthenticated(f"the {what} is signed with a key that is not its issuer's")
    return claims


def _verify_times(claims: dict[str, object], now: int, what: str, remedy: str) -> int:
    issued_at, expires_at = claims.get("iat"), claims.get("exp")
    if not isinstance(issued_at, int) or not isinstance(expires_at, int):
        raise Unauthenticated(f"the {what} has no iat or no exp")
    if expires_at <= now - CLOCK_SKEW_S:
        raise TokenUntimely(f"the {what} expired {now - expires_at} seconds ago", remedy=remedy)
    if issued_at > now + CLOCK_SKEW_S:
        raise TokenUntimely(
            f"the {what} was issued {issued_at - now} seconds in the future",
            remedy="set both nodes' clocks",
        )
    begins_at = claims.get("nbf", issued_at)
    if not isinstance(begins_at, int) or begins_at > now + CLOCK_SKEW_S:
        raise TokenUntimely(f"the {what} is not valid yet", remedy="set both nodes' clocks")
    return expires_at
