"""Verifiable credentials as JWTs, of both data models that the protocol has profiles for.

`vc11-sl2021/jwt`: W3C Verifiable Credentials Data Model 1.1, §6.3.1 (the credential is the claim
`vc`). `vc20-bssl/jwt`: Data Model 2.0 secured with JOSE (the claims are the credential). Everything
that needs no call is checked here (§5.4.3); status lists and schemas are named for whoever can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dataspace.claims.jwts import id_of, open_jwt, peek_jwt, texts, verify_times
from dataspace.errors import ProtocolViolation
from dataspace.identity.tokens import CLOCK_SKEW_S, KeyOf

MAX_TYPES: Final = 32
MAX_SCHEMAS: Final = 4
# The two kinds of JSON schema that a credential may be held against: the older one is of the
# credentialSubject, the newer one of the whole credential.
_OF_WHOLE: Final[Mapping[str, bool]] = {"JsonSchema": True, "JsonSchemaValidator2018": False}


@dataclass(frozen=True)
class SchemaReference:
    """Where a schema is, and whether the whole credential or its subject has to fit it."""

    url: str
    of_whole: bool


@dataclass(frozen=True)
class Credential:
    """A credential whose signature and times are right, as of when it was opened.

    `document` is the credential, `about` its credentialSubject, `status` its credentialStatus as
    written. `enveloped` tells the data model 2.0 from 1.1. `id` is None where it has none.
    """

    jwt: str
    id: str | None
    issuer: str
    subject: str
    types: tuple[str, ...]
    document: Mapping[str, Any]
    about: Mapping[str, Any]
    expires_at: float | None
    status: object
    schemas: tuple[SchemaReference, ...]
    enveloped: bool

    @property
    def kind(self) -> str:
        """Its most special type."""
        special = [one for one in self.types if one != "VerifiableCredential"]
        return special[-1] if special else self.types[-1]


def open_credential_jwt(
    token: str, *, now: int, key_of: KeyOf, about_a_list: bool = False
) -> Credential:
    """The credential in `token`, if its issuer signed it and it is valid now. One `about_a_list`
    need not say whom it is about. Raises ProtocolViolation saying what is wrong."""
    return _credential(token, open_jwt(token, "credential", key_of), now, about_a_list)


def read_credential(token: str, *, now: int) -> Credential:
    """A credential that was opened when it came, read again: its signature is not verified.
    Raises ProtocolViolation once it has expired."""
    return _credential(token, peek_jwt(token), now, False)


def _credential(token: str, claims: dict[str, Any], now: int, about_a_list: bool) -> Credential:
    verify_times(claims, "credential", now)
    inner = claims.get("vc", claims)
    if not isinstance(inner, dict):
        raise ProtocolViolation("the credential's claim vc is no object")
    issuer = str(claims.get("iss", id_of(claims.get("issuer"))))
    if id_of(inner.get("issuer", issuer)) != issuer:
        raise ProtocolViolation("the credential names another issuer than the one that signed it")
    about = inner.get("credentialSubject")
    # A list of one says the same; several subjects would leave open whom it is about.
    if isinstance(about, list) and len(about) == 1:
        about = about[0]
    if not isinstance(about, dict) or not (about_a_list or isinstance(about.get("id"), str)):
        raise ProtocolViolation("the credential does not say whom it is about")
    subject, named = str(about.get("id", "")), claims.get("sub")
    # Some issuers write the credential's own id there, which says nothing about the subject.
    if isinstance(named, str) and named.startswith("did:") and named != subject:
        raise ProtocolViolation("the credential names two subjects")
    begins = inner.get("validFrom", inner.get("issuanceDate"))
    ends = inner.get("validUntil", inner.get("expirationDate"))
    ends_at = _verify_dates(begins, ends, now)
    expires = [float(at) for at in (claims.get("exp"), ends_at) if at is not None]
    identifier = inner.get("id", claims.get("jti"))
    return Credential(
        jwt=token,
        id=identifier if isinstance(identifier, str) and len(identifier) <= 512 else None,
        issuer=issuer,
        subject=subject,
        types=texts(inner.get("type"), "the credential's type", most=MAX_TYPES),
        document=inner,
        about=about,
        expires_at=min(expires, default=None),
        status=inner.get("credentialStatus"),
        schemas=_schemas(inner.get("credentialSchema")),
        enveloped="vc" not in claims,
    )


def _verify_dates(begins: object, ends: object, now: int) -> float | None:
    """Check the dates of the credential itself; the second, in seconds, where there is one."""
    if begins is not None and _time(begins) > now + CLOCK_SKEW_S:
        raise ProtocolViolation("the credential is not valid yet")
    if ends is None:
        return None
    ends_at = _time(ends)
    if ends_at <= now - CLOCK_SKEW_S:
        raise ProtocolViolation("the credential has expired")
    return ends_at


def _time(written: object) -> float:
    try:
        moment = datetime.fromisoformat(str(written)[:40])
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return moment.timestamp()
    except (ValueError, OverflowError) as err:
        raise ProtocolViolation("the credential has a date that is no xsd:dateTime") from err


def _schemas(written: object) -> tuple[SchemaReference, ...]:
    """Its schemas. A kind of schema that we cannot check is not taken as met."""
    if written is None:
        return ()
    several = written if isinstance(written, list) else [written]
    if len(several) > MAX_SCHEMAS:
        raise ProtocolViolation(f"credentialSchema: expected at most {MAX_SCHEMAS}")
    found = []
    for one in several:
        url, kind = (one.get("id"), one.get("type")) if isinstance(one, dict) else (None, None)
        if not isinstance(url, str) or not isinstance(kind, str) or kind not in _OF_WHOLE:
            raise ProtocolViolation("credentialSchema: expected a JSON schema with an id")
        found.append(SchemaReference(url, _OF_WHOLE[kind]))
    return tuple(found)
