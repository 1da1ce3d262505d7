"""Keys of ML-DSA-44 (FIPS 204) as JOSE writes them (RFC 9964): post-quantum signatures beside
those of elliptic curves, so that an agreement holds although either kind should be broken.

A key is of type AKP, with its algorithm, its public bytes `pub` (1,312) and, where it is private,
the seed `priv` (32). The signature is the pure variant with an empty context, 2,420 bytes.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from contracts.errors import InputRejected, ProtocolViolation

ALGORITHM: Final = "ML-DSA-44"
KEY_TYPE: Final = "AKP"
PUBLIC_BYTES, SEED_BYTES, SIGNATURE_BYTES = 1312, 32, 2420
# The members that make a public key and its thumbprint (RFC 9964, RFC 7638).
MEMBERS: Final = frozenset({"kty", "alg", "pub"})


@dataclass(frozen=True, repr=False)
class MlDsaKey:
    """A key that signs where it is private, and verifies."""

    public: MLDSA44PublicKey
    private: MLDSA44PrivateKey | None = None

    @classmethod
    def generate(cls) -> MlDsaKey:
        return cls.of_private(MLDSA44PrivateKey.generate())

    @classmethod
    def of_private(cls, private: MLDSA44PrivateKey) -> MlDsaKey:
        return cls(private.public_key(), private)

    @classmethod
    def of_jwk(cls, jwk: dict[str, Any]) -> MlDsaKey:
        """The public key that `jwk` writes; what it says beside that is left out. Raises
        ProtocolViolation."""
        if jwk.get("kty") != KEY_TYPE or jwk.get("alg") != ALGORITHM:
            raise ProtocolViolation(f"expected a key of type {KEY_TYPE} for {ALGORITHM}")
        written = jwk.get("pub")
        if not isinstance(written, str):
            raise ProtocolViolation(f"{ALGORITHM} key: expected `pub` as text")
        try:
            raw = base64.urlsafe_b64decode(written.encode("ascii") + b"=" * (-len(written) % 4))
            # One text for one key, so that it has one thumbprint.
            if _encoded(raw) != written:
                raise ValueError("another spelling")
            return cls(MLDSA44PublicKey.from_public_bytes(raw))
        except ValueError as err:
            raise ProtocolViolation(
                f"{ALGORITHM} key: expected {PUBLIC_BYTES} bytes in base64url without padding"
            ) from err

    def as_dict(self, private: Literal[False] = False) -> dict[str, Any]:
        """The public key as JWK. The private part has no such form here: its file holds it."""
        return {"alg": ALGORITHM, "kty": KEY_TYPE, "pub": _encoded(self.public.public_bytes_raw())}

    def thumbprint(self) -> str:
        """RFC 7638 over the members that RFC 9964 names, with SHA-256."""
        return _encoded(sha256(rfc8785.dumps(self.as_dict())).digest())

    def sign(self, signed: bytes) -> bytes:
        if self.private is None:
            raise InputRejected(f"expected a private key that signs {ALGORITHM}")
        return self.private.sign(signed)

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        try:
            self.public.verify(signature, signed)
        except InvalidSignature:
            return False
        return True


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
