"""Keys that speak for a participant, and the suites of signatures they belong to.

A suite is one row of SUITES; nothing else in the node knows an algorithm by name. The key decides
the algorithm and never the text that was signed, so a signature cannot be verified under another
algorithm than the one its key was made for. Signatures are in the form of JWS (RFC 7518, RFC 8037):
64 bytes for all suites here. What SM2 is called in JOSE has no standard: see `contracts.sm2`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
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

from contracts import sm2
from contracts.errors import SuiteMissing
from contracts.sm2 import Sm2Key
from dataspace.errors import InputRejected, ProtocolViolation

# An Sm2Key is an ECKey.
VerificationKey = OKPKey | ECKey
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | Sm2Key


class SigningAlgorithm(StrEnum):
    """The algorithms a participant may sign with; the first two by their names in JOSE (RFC 9864,
    RFC 7518)."""

    ED25519 = "Ed25519"
    ES256 = "ES256"
    SM2 = "SM2"


@dataclass(frozen=True)
class Suite:
    """How the keys of one algorithm are made, told from others, and written in a did:key.

    `jose` is what a JWS calls the algorithm, `multicodec` the prefix of a public key in a did:key,
    `public_bytes` what follows it there.
    """

    jose: str

    curve: str
    multicodec: bytes
    generate: Callable[[], PrivateKey]
    import_key: Callable[[Any], VerificationKey]
    public_bytes: Callable[[Any], bytes]
    of_public_bytes: Callable[[bytes], VerificationKey]


def _sm2_key(private: object) -> Sm2Key:
    if not isinstance(private, Sm2Key):
        raise TypeError("not a key of SM2")
    return private


SUITES: Final[Mapping[SigningAlgorithm, Suite]] = {
    SigningAlgorithm.ED25519: Suite(
        jose="Ed25519",
        curve="Ed25519",
        multicodec=b"\xed\x01",
        generate=Ed25519PrivateKey.generate,
        import_key=OKPKey.import_key,
        public_bytes=lambda public: public.public_bytes_raw(),
        of_public_bytes=lambda raw: OKPKey.import_key(Ed25519PublicKey.from_public_bytes(raw)),
    ),
    SigningAlgorithm.ES256: Suite(
        jose="ES256",
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
    SigningAlgorithm.SM2: Suite(
        jose=sm2.ALGORITHM,
        curve=sm2.CURVE,
        # sm2-pub, a draft in the table of multicodec: 0x1206 as varint.
        multicodec=b"\x86\x24",
        generate=Sm2Key.generate,
        import_key=_sm2_key,
        public_bytes=lambda point: Sm2Key(point).compressed(),
        of_public_bytes=Sm2Key.of_compressed,
    ),
}

# What a JWS may say of a key of each suite; EdDSA is the older name of Ed25519 (RFC 9864).
READ_NAMES: Final[Mapping[SigningAlgorithm, frozenset[str]]] = {
    SigningAlgorithm.ED25519: frozenset({"Ed25519", "EdDSA"}),
    SigningAlgorithm.ES256: frozenset({"ES256"}),
    SigningAlgorithm.SM2: frozenset({sm2.ALGORITHM}),
}


@dataclass(frozen=True, repr=False)
class SigningKey:
    """A private key with the algorithm it signs with."""

    algorithm: SigningAlgorithm
    jwk: VerificationKey

    @classmethod
    def of(cls, private: PrivateKey) -> SigningKey:
        """Raises InputRejected for a key of no suite."""
        if isinstance(private, Sm2Key):
            return cls(SigningAlgorithm.SM2, private)
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
        """Raises InputRejected where what computes the algorithm is not installed."""
        with _installed():
            return cls.of(SUITES[algorithm].generate())

    @classmethod
    def from_pem(cls, text: str, *, name: str) -> SigningKey:
        """The key in a PEM file called `name`. Raises InputRejected, never quoting it."""
        private: object
        try:
            with _installed():
                private = Sm2Key.of_pem(text)
            if private is None:
                private = load_pem_private_key(text.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as err:
            raise InputRejected(
                f"{name} holds no private key", remedy="restore it from backup"
            ) from err
        if not isinstance(private, PrivateKey):
            raise InputRejected(
                f"{name} is not a key for one of {', '.join(SigningAlgorithm)}",
                remedy="restore it from backup",
            )
        return cls.of(private)

    def to_pem(self) -> str:
        if isinstance(self.jwk, Sm2Key):
            return self.jwk.to_pem()
        pem: bytes = self.jwk.private_key.private_bytes(  # type: ignore[union-attr]
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        return pem.decode()

    @property
    def thumbprint(self) -> str:
        return str(self.jwk.thumbprint())

    def sign(self, signed: bytes) -> bytes:
        """The signature over `signed`, in the form of JWS."""
        with _installed():
            return JWSRegistry.algorithms[SUITES[self.algorithm].jose].sign(signed, self.jwk)


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
        public = {name: value for name, value in written.items() if name != "d"}
        key = Sm2Key.of_jwk(public) if public["crv"] == sm2.CURVE else import_key(public)
    except (JoseError, ValueError, TypeError, KeyError) as err:
        raise ProtocolViolation("malformed public key") from err
    return key if isinstance(key, OKPKey | ECKey) else None


def public_jwk_of(key: VerificationKey) -> dict[str, Any]:
    """The public part as a DID document writes it."""
    return dict(key.as_dict(private=False))


def verify_bytes(key: VerificationKey, signed: bytes, signature: bytes) -> None:
    """Check a signature in the form of JWS. Raises ProtocolViolation."""
    algorithm = JWSRegistry.algorithms[SUITES[algorithm_of(key)].jose]
    try:
        with _installed():
            genuine = algorithm.verify(signed, signature, key)
    except (JoseError, ValueError) as err:
        raise ProtocolViolation("the signature is malformed") from err
    if not genuine:
        raise ProtocolViolation("the signature is not one of this key")


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except SuiteMissing as err:
        raise InputRejected(
            "this key's algorithm is SM2, and what computes it is not installed here",
            remedy="install the extra sm: pip install 'city-dataspace[sm]'",
        ) from err
