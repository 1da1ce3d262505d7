"""Compact JWS (RFC 7515) as this space writes and reads it: few algorithms, one exact header."""

import base64
from collections.abc import Callable
from typing import Final

from joserfc import jws as jose
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from contracts import mldsa, sm2
from contracts.errors import InputRejected, ProtocolViolation
from contracts.keys import SignatureKey
from contracts.wire import read_json, write_json

# EdDSA is the older name of Ed25519 here (RFC 9864), read and no longer written.
WRITTEN_ALGORITHMS: Final = frozenset({"Ed25519", "ES256", sm2.ALGORITHM})
READ_ALGORITHMS: Final = WRITTEN_ALGORITHMS | {"EdDSA"}
# What signs beside one of these and never in its place.
POST_QUANTUM_ALGORITHMS: Final = frozenset({mldsa.ALGORITHM})
# A did:web with a long path makes a key id of a few hundred bytes.
HEADER_LIMIT_BYTES: Final = 2048


def sign_compact(
    payload: bytes, key: SignatureKey, kid: str, alg: str, *, typ: str, limit: int
) -> str:
    """`payload` as a compact JWS. Raises InputRejected for another algorithm, a key that does not
    fit it, or a result longer than `limit` bytes."""
    if alg not in WRITTEN_ALGORITHMS | POST_QUANTUM_ALGORITHMS:
        raise InputRejected("expected the algorithm Ed25519, ES256, SM2 with SM3 or ML-DSA-44")
    header = write_json({"alg": alg, "kid": kid, "typ": typ})
    signed = f"{_encoded(header)}.{_encoded(payload)}"
    text = f"{signed}.{_encoded(_signature(signed.encode(), key, alg))}"
    if len(text) > limit:
        raise InputRejected(f"expected a document of at most {limit} bytes, got {len(text)}")
    return text


def open_compact(
    text: str,
    signer: str,
    key_of: Callable[[str], SignatureKey],
    *,
    typ: str,
    what: str,
    limit: int,
    algorithms: frozenset[str] = READ_ALGORITHMS,
) -> bytes:
    """The payload of a JWS that the DID `signer` signed under one of `algorithms`.

    `key_of` is only asked for key ids of `signer`. Raises ProtocolViolation, whose text begins with
    `what`, for anything else.
    """
    header, payload = read_compact(text, typ=typ, what=what, limit=limit, algorithms=algorithms)
    if not header["kid"].startswith(signer + "#"):
        raise ProtocolViolation(f"{what}: expected the signer's own key id, got another party's")
    try:
        key = key_of(header["kid"])
    except LookupError as err:
        raise ProtocolViolation(
            f"{what}: expected a key of the signer, got an unknown one"
        ) from err
    _verify_signature(text, header["alg"], key, what)
    return payload


def read_compact(
    text: str,
    *,
    typ: str,
    what: str,
    limit: int,
    algorithms: frozenset[str] = READ_ALGORITHMS,
) -> tuple[dict[str, str], bytes]:
    """Header and payload of a JWS in our form under one of `algorithms`, the signature unchecked.

    Raises ProtocolViolation."""
    if len(text) > limit:
        raise ProtocolViolation(f"{what}: expected at most {limit} bytes, got {len(text)}")
    segments = text.split(".")
    if len(segments) != 3:
        raise ProtocolViolation(f"{what}: expected three parts joined by dots")
    header = read_json(decode_segment(segments[0], what), limit_bytes=HEADER_LIMIT_BYTES)
    # Exactly these: a header we do not understand (crit, jwk, jku, b64) must not steer us.
    if header.keys() != {"alg", "kid", "typ"} or not all(
        isinstance(value, str) for value in header.values()
    ):
        raise ProtocolViolation(f"{what}: expected exactly alg, kid and typ in the header, as text")
    if header["typ"] != typ:
        raise ProtocolViolation(f"{what}: expected the type {typ}")
    if header["alg"] not in algorithms:
        raise ProtocolViolation(
            f"{what}: expected the algorithm {', '.join(sorted(algorithms))}, got another"
        )
    return header, decode_segment(segments[1], what)


def decode_segment(segment: str, what: str) -> bytes:
    """Strict base64url: one text for one value, so that a document's hash cannot be varied here."""
    try:
        decoded = base64.urlsafe_b64decode(segment.encode("ascii") + b"=" * (-len(segment) % 4))
    except ValueError as err:
        raise ProtocolViolation(f"{what}: expected base64url without padding") from err
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != segment:
        raise ProtocolViolation(f"{what}: expected base64url without padding")
    return decoded


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _signature(signed: bytes, key: SignatureKey, alg: str) -> bytes:
    if alg in POST_QUANTUM_ALGORITHMS:
        if not isinstance(key, mldsa.MlDsaKey):
            raise InputRejected(f"expected a private key that signs {alg}")
        return key.sign(signed)
    algorithm = jose.JWSRegistry.algorithms[alg]
    try:
        # Also where the key is of no kind the library knows.
        algorithm.check_key(key)
        return algorithm.sign(signed, key)
    except (JoseError, ValueError, AttributeError) as err:
        raise InputRejected(f"expected a private key that signs {alg}") from err


def _verify_signature(text: str, alg: str, key: SignatureKey, what: str) -> None:
    # EdDSA may also mean Ed448, which no participant of this space uses.
    if alg == "EdDSA" and not (isinstance(key, OKPKey) and key.curve_name == "Ed25519"):
        raise ProtocolViolation(f"{what}: expected an Ed25519 key for EdDSA")
    signed, _, encoded = text.rpartition(".")
    signature = decode_segment(encoded, what)
    if isinstance(key, mldsa.MlDsaKey) or alg in POST_QUANTUM_ALGORITHMS:
        if not isinstance(key, mldsa.MlDsaKey) or alg != mldsa.ALGORITHM:
            raise ProtocolViolation(f"{what}: expected a key of the signer for {alg}")
        genuine = key.verifies(signed.encode(), signature)
    else:
        # The algorithm's own object, because the library's wrapper warns about the name EdDSA in a
        # way that a program cannot silence in one thread only.
        algorithm = jose.JWSRegistry.algorithms[alg]
        try:
            algorithm.check_key(key)
            genuine = algorithm.verify(signed.encode(), signature, key)
        except (JoseError, ValueError) as err:
            raise ProtocolViolation(f"{what}: expected a key of the signer for {alg}") from err
    if not genuine:
        raise ProtocolViolation(f"{what}: the signature is not the signer's over this text")
