"""Verifiable presentations: credentials signed together by their holder for one verifier (§5.4)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dataspace.claims.credentials import Credential, open_credential_jwt
from dataspace.claims.jwts import id_of, open_jwt, sign_jwt, verify_times
from dataspace.claims.messages import MAX_CREDENTIALS
from dataspace.errors import ProtocolViolation
from dataspace.identity.tokens import Identity, KeyOf

PRESENTATION_LIFETIME_S: Final = 300
CONTEXT_V1: Final = "https://www.w3.org/2018/credentials/v1"
CONTEXT_V2: Final = "https://www.w3.org/ns/credentials/v2"
_ENVELOPE: Final = "data:application/vc+jwt,"


@dataclass(frozen=True)
class Keys:
    """Where the keys of a presentation come from: its holder's must be for authentication, those
    of the issuers for statements (§5.4.3.3, VC Data Model 1.1 §4.7)."""

    of_holder: KeyOf
    of_issuer: KeyOf


def issue_presentations(
    identity: Identity, credentials: Iterable[Credential], *, audience: str, now: int
) -> list[str]:
    """The credentials shown by `identity` to `audience` for five minutes: one presentation for each
    data model, as none may mix them (§7, homogeneity)."""
    several = list(credentials)
    made = []
    for enveloped in (False, True):
        jwts = [one.jwt for one in several if one.enveloped is enveloped]
        if jwts:
            claims = _enveloping(identity, jwts) if enveloped else _plain(identity, jwts)
            claims |= {
                "iss": identity.did,
                "sub": identity.did,
                "aud": audience,
                "jti": str(uuid.uuid4()),
                "iat": now,
                "nbf": now,
                "exp": now + PRESENTATION_LIFETIME_S,
            }
            made.append(sign_jwt(claims, identity))
    return made


def _plain(identity: Identity, jwts: list[str]) -> dict[str, object]:
    presentation = {
        "@context": [CONTEXT_V1],
        "type": "VerifiablePresentation",
        "holder": identity.did,
        "verifiableCredential": jwts,
    }
    return {"vp": presentation}


def _enveloping(identity: Identity, jwts: list[str]) -> dict[str, object]:
    envelopes = [
        {
            "@context": CONTEXT_V2,
            "id": _ENVELOPE + one,
            "type": "EnvelopedVerifiableCredential",
        }
        for one in jwts
    ]
    return {
        "@context": [CONTEXT_V2],
        "type": ["VerifiablePresentation"],
        "holder": identity.did,
        "verifiableCredential": envelopes,
    }


def open_presentations(
    presentations: Sequence[object], *, holder: str, audience: str, now: int, keys: Keys
) -> tuple[Credential, ...]:
    """The credentials in the presentations, all of them about their holder and valid now. One that
    is wrong makes all wrong (§5.4.3.8). Raises ProtocolViolation saying what is wrong."""
    if not presentations:
        raise ProtocolViolation("no presentation was shown")
    if len(presentations) > MAX_CREDENTIALS:
        raise ProtocolViolation(f"more than {MAX_CREDENTIALS} presentations were shown")
    found: list[Credential] = []
    for one in presentations:
        if not isinstance(one, str):
            raise ProtocolViolation("a presentation is no JWT, the one form that is read here")
        found += _open_one(one, holder=holder, audience=audience, now=now, keys=keys)
    if len(found) > MAX_CREDENTIALS:
        raise ProtocolViolation(f"more than {MAX_CREDENTIALS} credentials were shown")
    return tuple(found)


def _open_one(token: str, *, holder: str, audience: str, now: int, keys: Keys) -> list[Credential]:
    claims = open_jwt(token, "presentation", keys.of_holder)
    verify_times(claims, "presentation", now)
    inner = claims.get("vp", claims)
    if not isinstance(inner, dict):
        raise ProtocolViolation("the presentation's claim vp is no object")
    signer = claims.get("iss", id_of(claims.get("holder")))
    named = (signer, claims.get("sub", signer), id_of(inner.get("holder", signer)))
    if any(one != holder for one in named):
        raise ProtocolViolation("the presentation was made by another than the one asked")
    addressed = claims.get("aud")
    if addressed not in (audience, [audience]):
        raise ProtocolViolation("the presentation is addressed to another verifier")
    if claims.get("exp") is None:
        raise ProtocolViolation("the presentation has no end (exp)")
    listed = inner.get("verifiableCredential", [])
    several = listed if isinstance(listed, list) else [listed]
    if len(several) > MAX_CREDENTIALS:
        raise ProtocolViolation(f"more than {MAX_CREDENTIALS} credentials were shown")
    credentials = [
        open_credential_jwt(_enveloped(one), now=now, key_of=keys.of_issuer) for one in several
    ]
    if any(one.subject != holder for one in credentials):
        raise ProtocolViolation("a credential is about another than the one who shows it")
    return credentials


def _enveloped(written: Any) -> str:
    """A credential's JWT, by itself or in the envelope of the data model 2.0."""
    content = id_of(written)
    if not isinstance(content, str):
        raise ProtocolViolation("a credential is no JWT, the one form that is read here")
    return content.removeprefix(_ENVELOPE)
