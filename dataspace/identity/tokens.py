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

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from dataspace.errors import Unauthenticated
from dataspace.identity.did import VerificationKey
from dataspace.settings import ParticipantKind

ALGORITHMS = ["Ed25519", "EdDSA", "ES256"]
TOKEN_LIFETIME_S = 60
# Clocks of two honest nodes may differ by this much.
CLOCK_SKEW_S = 30
MAX_TOKEN_BYTES = 8 * 1024
# A credential travels with every request, so what it names is bounded.
MAX_ZONES = 32
ZONE = re.compile(r"[^\s\x00-\x1f]{1,64}")
CREDENTIAL_LIFETIME_S = 30 * 86400

KeyOf = Callable[[str], VerificationKey]


@dataclass(frozen=True)
class Identity:
    """Our own DID with the key that speaks for it."""

    did: str
    key: OKPKey
    kid: str

    @classmethod
    def of(cls, did: str, private_key: Ed25519PrivateKey) -> Identity:
        key = OKPKey.import_key(private_key)
        return cls(did=did, key=key, kid=f"{did}#{key.thumbprint()}")


@dataclass(frozen=True)
class Member:
    """A verified participant: its DID and what its operator says it is."""

    did: str
    kind: ParticipantKind
    name: str
    zones: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claims:
    """What a verified token says, before its credential is looked at."""

    did: str
    jti: str
    expires_at: int
    membership: str | None


def issue_token(identity: Identity, *, audience: str, now: int, membership: str | None) -> str:
    """A token for one request to `audience`, valid for a minute."""
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
    header = {"alg": "Ed25519", "kid": identity.kid, "typ": "JWT"}
    return jwt.encode(header, claims, identity.key, algorithms=ALGORITHMS)


def open_token(token: str, *, audience: str, now: int, key_of: KeyOf) -> Claims:
    """The claims of a token addressed to `audience`. Raises Unauthenticated saying what is wrong.

    The caller still has to check `jti` against its replay table.
    """
    claims = _open(token, "token", key_of)
    issuer = claims.get("iss")
    if claims.get("sub") != issuer:
        raise Unauthenticated("the token is not self-issued: its iss and sub differ")
    if claims.get("aud") != audience:
        raise Unauthenticated(f"the token is addressed to another node, not to {audience}")
    expires_at = _verify_times(claims, now, "token", "send a fresh token with each request")
    if expires_at - now > TOKEN_LIFETIME_S + 2 * CLOCK_SKEW_S:
        raise Unauthenticated(f"the token lives longer than {TOKEN_LIFETIME_S} seconds")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 8 <= len(jti) <= 128:
        raise Unauthenticated("the token has no usable jti")
    membership = claims.get("membership")
    if membership is not None and not isinstance(membership, str):
        raise Unauthenticated("the token's membership claim is not a VC-JWT")
    return Claims(str(issuer), jti, expires_at, membership)


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
) -> str:
    """A membership credential as VC-JWT (W3C VC Data Model 1.1 §6.3.1), valid for thirty days."""
    about: dict[str, object] = {"id": subject, "kind": kind.value, "name": name}
    if zones:
        about["zones"] = list(zones)
    claims = {
        "iss": operator.did,
        "sub": subject,
        "iat": now,
        "nbf": now,
        "exp": now + CREDENTIAL_LIFETIME_S,
        "jti": f"urn:uuid:{uuid.uuid4()}",
        "vc": {
            "@context": ["https://www.w3.org/2018/credentials/v1"],
            "type": ["VerifiableCredential", "MembershipCredential"],
            "credentialSubject": about,
        },
    }
    header = {"alg": "Ed25519", "kid": operator.kid, "typ": "JWT"}
    return jwt.encode(header, claims, operator.key, algorithms=ALGORITHMS)


def renewal_time(credential: str) -> float:
    """When a credential of ours should be renewed: at two thirds of its life; UNIX seconds."""
    claims = json.loads(jws.extract_compact(credential.encode()).payload)
    return float(claims["iat"] + (claims["exp"] - claims["iat"]) * 2 / 3)


def open_credential(
    credential: str, *, subject: str, operator: str, now: int, key_of: KeyOf
) -> tuple[Member, int]:
    """What `operator` says of `subject`, and until when (UNIX seconds). Raises Unauthenticated
    saying what is wrong."""
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
    return member, expires_at


def _is_zone(value: object) -> bool:
    return isinstance(value, str) and ZONE.fullmatch(value) is not None


def _open(token: str, what: str, key_of: KeyOf) -> dict[str, object]:
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated(f"the {what} is longer than {MAX_TOKEN_BYTES} bytes")
    try:
        kid = jws.extract_compact(token.encode()).headers().get("kid")
        if not isinstance(kid, str):
            raise Unauthenticated(f"the {what} names no key (kid)")
        claims = dict(jwt.decode(token, key_of(kid), algorithms=ALGORITHMS).claims)
    except (JoseError, ValueError, RecursionError) as err:
        raise Unauthenticated(f"the {what} is malformed or its signature is wrong") from err
    if kid.partition("#")[0] != claims.get("iss"):
        raise Unauthenticated(f"the {what} is signed with a key that is not its issuer's")
    return claims


def _verify_times(claims: dict[str, object], now: int, what: str, remedy: str) -> int:
    issued_at, expires_at = claims.get("iat"), claims.get("exp")
    if not isinstance(issued_at, int) or not isinstance(expires_at, int):
        raise Unauthenticated(f"the {what} has no iat or no exp")
    if expires_at <= now - CLOCK_SKEW_S:
        raise Unauthenticated(f"the {what} expired {now - expires_at} seconds ago", remedy=remedy)
    if issued_at > now + CLOCK_SKEW_S:
        raise Unauthenticated(
            f"the {what} was issued {issued_at - now} seconds in the future",
            remedy="set both nodes' clocks",
        )
    return expires_at
