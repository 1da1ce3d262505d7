"""SM2 signatures with SM3 (GB/T 32918.2, GB/T 32905) in the forms of JOSE.

There is no registered name for them, so the ones here are private: the algorithm is called by the
object identifier of SM2 with SM3 as a URN, which RFC 7515 §4.1.1 asks of a private name (it must
not collide), and a key is an EC key on the curve "SM2". A signature is r ‖ s, 64 bytes, as JWS
writes those of other curves; the signer's identity in it is the standard's default,
1234567812345678, as a JWS names its signer in the header that is signed.

The arithmetic is that of gmssl-pyx (GmSSL), which the extra `sm` installs and which is loaded when
a signature is first made or verified. Reading, writing and comparing keys needs none of it.
"""

from __future__ import annotations

import base64
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from joserfc.jwk import ECKey
from joserfc.jws import JWSAlgModel, JWSRegistry  # type: ignore[attr-defined]

from contracts.errors import InputRejected, SuiteMissing

# sm2sign-with-sm3, GM/T 0006.
ALGORITHM: Final = "urn:oid:1.2.156.10197.1.501"
CURVE: Final = "SM2"
SIGNER_ID: Final = b"1234567812345678"
NUMBER_BYTES: Final = 32

# The curve's numbers, GB/T 32918.5.
P: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
A: Final = P - 3
B: Final = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
N: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123

# PKCS #8 (RFC 5958) around an EC private key (RFC 5915) with its public one, on the curve
# 1.2.156.10197.1.301. Every length is fixed, so the parts between the numbers are too.
_PKCS8_HEAD: Final = bytes.fromhex(
    "308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420"
)
_PKCS8_MIDDLE: Final = bytes.fromhex("a14403420004")
_PEM_HEAD, _PEM_TAIL = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"


class Sm2Key(ECKey):
    """An EC key on the curve SM2, private where `scalar` is given."""

    def __init__(self, point: bytes, scalar: bytes | None = None) -> None:
        """`point` is x ‖ y. Raises ValueError unless it lies on the curve."""
        x, y = int.from_bytes(point[:NUMBER_BYTES]), int.from_bytes(point[NUMBER_BYTES:])
        if len(point) != 2 * NUMBER_BYTES or not _is_on_curve(x, y):
            raise ValueError("not a point of the curve SM2")
        if scalar is not None and not 1 <= int.from_bytes(scalar) < N - 1:
            raise ValueError("not a private key of SM2")
        self.point, self.scalar = point, scalar
        written = {
            "crv": CURVE,
            "x": _encoded(point[:NUMBER_BYTES]),
            "y": _encoded(point[NUMBER_BYTES:]),
        }
        if scalar is not None:
            written["d"] = _encoded(scalar)
        super().__init__(cast(Any, point), written)

    @classmethod
    def generate(cls) -> Sm2Key:
        """Raises SuiteMissing."""
        point, scalar = _gmssl().sm2_key_generate()
        return cls(point, scalar)

    @classmethod
    def of_jwk(cls, jwk: dict[str, Any]) -> Sm2Key:
        """The public key in `jwk`. Raises ValueError."""
        if jwk.get("crv") != CURVE or not all(isinstance(jwk.get(name), str) for name in "xy"):
            raise ValueError("not a key of SM2")
        return cls(b"".join(_decoded(jwk[name]) for name in "xy"))

    @classmethod
    def of_compressed(cls, raw: bytes) -> Sm2Key:
        """The public key in the compressed form of SEC 1, 33 bytes. Raises ValueError."""
        if len(raw) != 1 + NUMBER_BYTES or raw[0] not in (2, 3):
            raise ValueError("not a compressed point")
        x = int.from_bytes(raw[1:])
        # P = 3 (mod 4), so this is the square root if there is one; the constructor finds out.
        y = pow(x**3 + A * x + B, (P + 1) // 4, P)
        if y % 2 != raw[0] % 2:
            y = P - y
        return cls(raw[1:] + y.to_bytes(NUMBER_BYTES))

    def compressed(self) -> bytes:
        return bytes([2 + self.point[-1] % 2]) + self.point[:NUMBER_BYTES]

    @classmethod
    def of_pem(cls, text: str) -> Sm2Key | None:
        """The private key in PEM; None for a key of another kind. Raises ValueError for a damaged
        one, and SuiteMissing, as the two halves are tried on one another."""
        lines = text.strip().splitlines()
        if len(lines) < 3 or (lines[0], lines[-1]) != (_PEM_HEAD, _PEM_TAIL):
            return None
        der = base64.b64decode("".join(lines[1:-1]))
        if not der.startswith(_PKCS8_HEAD[:3]) or _PKCS8_HEAD[6:27] not in der[:32]:
            return None
        scalar_at = len(_PKCS8_HEAD)
        middle_at = scalar_at + NUMBER_BYTES
        point_at = middle_at + len(_PKCS8_MIDDLE)
        fits = der.startswith(_PKCS8_HEAD) and der[middle_at:point_at] == _PKCS8_MIDDLE
        if not fits or len(der) != point_at + 2 * NUMBER_BYTES:
            raise ValueError("not a private key of SM2 with its public one")
        key = cls(der[point_at:], der[scalar_at:middle_at])
        if not key.verifies(b"", key.sign(b"")):
            raise ValueError("the halves of the key do not belong together")
        return key

    def to_pem(self) -> str:
        if self.scalar is None:
            raise ValueError("not a private key")
        der = base64.b64encode(_PKCS8_HEAD + self.scalar + _PKCS8_MIDDLE + self.point).decode()
        lines = [der[at : at + 64] for at in range(0, len(der), 64)]
        return "\n".join([_PEM_HEAD, *lines, _PEM_TAIL, ""])

    def sign(self, signed: bytes) -> bytes:
        """r ‖ s over `signed`. Raises SuiteMissing, and InputRejected for a public key."""
        if self.scalar is None:
            raise InputRejected("expected a private key that signs SM2")
        der = _gmssl().sm2_sign(self.scalar, self.point, signed, SIGNER_ID)
        return b"".join(number.to_bytes(NUMBER_BYTES) for number in decode_dss_signature(der))

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Raises SuiteMissing."""
        gmssl = _gmssl()
        r, s = (int.from_bytes(half) for half in (signature[:NUMBER_BYTES], signature[32:]))
        if len(signature) != 2 * NUMBER_BYTES or not (1 <= r < N and 1 <= s < N):
            return False
        try:
            return bool(gmssl.sm2_verify(self.point, signed, encode_dss_signature(r, s), SIGNER_ID))
        except gmssl.GmsslInnerError:
            return False

    @property
    def curve_name(self) -> str:
        return CURVE

    @property
    def is_private(self) -> bool:
        return self.scalar is not None


class _Sm2WithSm3(JWSAlgModel):
    """SM2 with SM3, as the JOSE library asks for an algorithm."""

    name = ALGORITHM
    description = "SM2 with SM3 (GB/T 32918.2), r and s joined"
    key_type = "EC"

    def check_key(self, key: Any) -> None:
        super().check_key(key)
        if not isinstance(key, Sm2Key):
            raise ValueError("expected a key on the curve SM2")

    def sign(self, msg: bytes, key: Any) -> bytes:
        self.check_key(key)
        signature: bytes = key.sign(msg)
        return signature

    def verify(self, msg: bytes, sig: bytes, key: Any) -> bool:
        self.check_key(key)
        return bool(key.verifies(msg, sig))


# The library's own way to take up an algorithm it does not know; nobody is offered it who does not
# name it.
JWSRegistry.register(_Sm2WithSm3())


def _gmssl() -> Any:
    try:
        import gmssl_pyx
    except ImportError as err:
        raise SuiteMissing(
            "SM2 signatures need the extra sm, which is not installed here: "
            "pip install 'city-dataspace[sm]'"
        ) from err
    return gmssl_pyx


def _is_on_curve(x: int, y: int) -> bool:
    return x < P and y < P and (y * y - (x**3 + A * x + B)) % P == 0


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    # One text for one key, so that it has one thumbprint.
    if len(raw) != NUMBER_BYTES or _encoded(raw) != text:
        raise ValueError("not a number of the curve SM2")
    return raw
