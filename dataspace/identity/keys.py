"""Keys that speak for a participant, and the suites of signatures they belong to.

A suite is one row of SUITES; nothing else in the node knows an algorithm by name. The key decides
the algorithm and never the text that was signed, so a signature cannot be verified under another
algorithm than the one its key was made for. Signatures are in the form of JWS (RFC 7518, RFC 8037):
64 bytes for both suites here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, import_key
from joserfc.jws import JWSRegistry

from dataspace.errors import InputRejected, ProtocolViolation

VerificationKey = OKPKey | ECKey
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class SigningAlgorithm(StrEnum):
    """The algorithms a participant may sign with, by their names in JOSE (RFC 9864, RFC 7518)."""

    ED25519 = "Ed25519"
    ES256 = "ES256"


@dataclass(frozen=True)
class Suite:
    """How the keys of one algorithm are made, told from others, and written in a did:key.

    `multicodec` is the prefix of a public key there, `public_bytes` what follows it.
    """

    curve: str
    multicodec: bytes
    generate: Callable[[], PrivateKey]
    import_key: Callable[[Any], VerificationKey]
    public_bytes: Callable[[Any], bytes]
    of_public_bytes: Callable[[bytes], VerificationKey]


SUITES: Final[Mapping[SigningAlgorithm, Suite]] = {
    SigningAlgorithm.ED25519: Suite(
        curve="Ed25519",
        multicodec=b"\xed\x01",
        generate=Ed25519PrivateKey.generate,
        import_key=OKPKey.import_key,
        public_bytes=lambda public: public.public_bytes_raw(),
        of_public_bytes=lambda raw: OKPKey.import_key(Ed25519PublicKey.from_public_bytes(raw)),
    ),
    SigningAlgorithm.ES256: Suite(
        curve="P-256",
        multicodec=b"\x80\x24",
        generate=lambda: ec.generate_private_key(ec.SECP256R1()),
        import_key=ECKey.import_key,
        public_bytes=lambda public: public.public_bytes(
            Encoding.X962, PublicFormat.CompressedPoint
        ),
        of_public_bytes=lambda raw: ECKey.import_key(
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
        ),
    ),
}

# What a JWS may say of a key of each suite; EdDSA is the older name of Ed25519 (RFC 9864).
READ_NAMES: Final[Mapping[SigningAlgorithm, frozenset[str]]] = {
    SigningAlgorithm.ED25519: frozenset({"Ed25519", "EdDSA"}),
    SigningAlgorithm.ES256: frozenset({"ES256"}),
}


@dataclass(frozen=True, repr=False)
class SigningKey:
    """A private key with the algorithm it signs with."""

    algorithm: SigningAlgorithm
    jwk: VerificationKey

    @classmethod
    def of(cls, private: PrivateKey) -> SigningKey:
        """Raises InputRejected for a key of no suite."""
        for algorithm, suite in SUITES.items():
            try:
                jwk = suite.import_key(private)
            except (TypeError, ValueError, AttributeError):
                continue
            if jwk.curve_name == suite.curve:
                return cls(algorithm, jwk)
        raise InputRejected(
            f"expected a private key for one of {', '.join(SigningAlgorithm)}",
            remedy="make one with: dataspace key rotate --algorithm Ed25519",
        )

    @classmethod
    def generate(cls, algorithm: SigningAlgorithm) -> SigningKey:
        return cls.of(SUITES[algorithm].generate())

    @classmethod
    def from_pem(cls, text: str, *, name: str) -> SigningKey:
        """The key in a PEM file called `name`. Raises InputRejected, never quoting it."""
        try:
            private = load_pem_private_key(text.encode(), password=None)
        except (ValueError, TypeError) as err:
            raise InputRejected(
                f"{name} holds no private key", remedy="restore it from backup"
            ) from err
        if not isinstance(private, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
            raise InputRejected(
                f"{name} is not a key for one of {', '.join(SigningAlgorithm)}",
                remedy="restore it from backup",
            )
        return cls.of(private)

    def to_pem(self) -> str:
        pem: bytes = self.jwk.private_key.private_bytes(  # type: ignore[union-attr]
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        return pem.decode()

    @property
    def thumbprint(self) -> str:
        return str(self.jwk.thumbprint())

    def sign(self, signed: bytes) -> bytes:
        """The signature over `signed`, in the form of JWS."""
        signature: bytes = JWSRegistry.algorithms[self.algorithm.value].sign(signed, self.jwk)
        return signature


def algorithm_of(key: VerificationKey) -> SigningAlgorithm:
    """The one algorithm that `key` is for. Raises ProtocolViolation for a key of no suite."""
    for algorithm, suite in SUITES.items():
        if key.curve_name == suite.curve:
            return algorithm
    raise ProtocolViolation(f"expected a key for one of {', '.join(SigningAlgorithm)}")


def names_of(key: VerificationKey) -> list[str]:
    """The names under which a JWS signed with `key` may call its algorithm, and no others."""
    return sorted(READ_NAMES[algorithm_of(key)])


def read_jwk(written: object) -> VerificationKey | None:
    """A public key as a DID document writes it; None for one of another kind, which is not ours to
    judge. Raises ProtocolViolation for a malformed one."""
    if not isinstance(written, dict):
        return None
    # A list, as what a stranger wrote there may have no hash.
    if written.get("crv") not in [suite.curve for suite in SUITES.values()]:
        return None
    try:
        # A private part that somebody published by mistake is not taken along.
        key = import_key({name: value for name, value in written.items() if name != "d"})
    except (JoseError, ValueError, TypeError, KeyError) as err:
        raise ProtocolViolation("malformed public key") from err
    return key if isinstance(key, OKPKey | ECKey) else None


def public_jwk_of(key: VerificationKey) -> dict[str, Any]:
    """The public part as a DID document writes it."""
    return dict(key.as_dict(private=False))


def verify_bytes(key: VerificationKey, signed: bytes, signature: bytes) -> None:
    """Check a signature in the form of JWS. Raises ProtocolViolation."""
    algorithm = JWSRegistry.algorithms[algorithm_of(key).value]
    try:
        genuine = algorithm.verify(signed, signature, key)
    except (JoseError, ValueError) as err:
        raise ProtocolViolation("the signature is malformed") from err
    if not genuine:
        raise ProtocolViolation("the signature is not one of this key")
