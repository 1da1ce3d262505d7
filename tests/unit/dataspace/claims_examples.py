"""A holder and an issuer with real keys, and what they sign: for tests of the claims protocol."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from dataspace.claims.credentials import Credential, open_credential_jwt
from dataspace.claims.jwts import sign_jwt
from dataspace.claims.presentations import Keys, open_presentations
from dataspace.errors import ProtocolViolation
from dataspace.identity.keys import SigningAlgorithm, SigningKey, VerificationKey
from dataspace.identity.tokens import Identity

NOW = 1_790_000_000
VERIFIER = "did:web:verifier.example"
V1, V2 = "https://www.w3.org/2018/credentials/v1", "https://www.w3.org/ns/credentials/v2"


def party(did: str, algorithm: SigningAlgorithm = SigningAlgorithm.ES256) -> Identity:
    return Identity.of(did, SigningKey.generate(algorithm))


HOLDER = party("did:web:holder.example")
ISSUER = party("did:web:issuer.example", SigningAlgorithm.ED25519)
OTHER = party("did:web:other.example")
_KEYS = {one.kid: one.key for one in (HOLDER, ISSUER, OTHER)}


def key_of(kid: str) -> VerificationKey:
    if kid not in _KEYS:
        raise ProtocolViolation("nobody lists the key named in the token")
    return _KEYS[kid]


KEYS = Keys(of_holder=key_of, of_issuer=key_of)


def date(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(NOW + seconds, UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Written:
    """A credential and the presentation around it, each part of which a test may alter."""

    issuer: Identity = ISSUER
    holder: Identity = HOLDER
    vc: dict[str, Any] = field(default_factory=dict)
    vc_claims: dict[str, Any] = field(default_factory=dict)
    vp: dict[str, Any] = field(default_factory=dict)
    vp_claims: dict[str, Any] = field(default_factory=dict)

    def credential(self) -> str:
        vc = {
            "@context": [V1],
            "id": f"urn:uuid:{uuid.uuid4()}",
            "type": ["VerifiableCredential", "MembershipCredential"],
            "issuer": ISSUER.did,
            "issuanceDate": date(-60),
            "expirationDate": date(3600),
            "credentialSubject": {"id": HOLDER.did, "kind": "enterprise", "name": "Holder"},
        }
        claims = {
            "iss": ISSUER.did,
            "sub": HOLDER.did,
            "iat": NOW - 60,
            "nbf": NOW - 60,
            "exp": NOW + 3600,
            "vc": _altered(vc, self.vc),
        }
        return sign_jwt(_altered(claims, self.vc_claims), self.issuer)

    def presentation(self, *credentials: str) -> str:
        vp = {
            "@context": [V1],
            "type": "VerifiablePresentation",
            "holder": HOLDER.did,
            "verifiableCredential": list(credentials) or [self.credential()],
        }
        claims = {
            "iss": HOLDER.did,
            "sub": HOLDER.did,
            "aud": VERIFIER,
            "jti": str(uuid.uuid4()),
            "iat": NOW,
            "nbf": NOW,
            "exp": NOW + 300,
            "vp": _altered(vp, self.vp),
        }
        return sign_jwt(_altered(claims, self.vp_claims), self.holder)

    def opened(self) -> Credential:
        return open_credential_jwt(self.credential(), now=NOW, key_of=key_of)


def shown(*presentations: object) -> tuple[Credential, ...]:
    return open_presentations(
        presentations, holder=HOLDER.did, audience=VERIFIER, now=NOW, keys=KEYS
    )


def _altered(written: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """With the changes; what they set to None is gone."""
    return {name: value for name, value in (written | changes).items() if value is not None}
