"""Compact JWS (RFC 7515) as this space writes and reads it: few algorithms, one exact header."""

import base64
from collections.abc import Callable
from typing import Final

from joserfc import jws as jose
from joserfc.errors import JoseError
from joserfc.jwk import Key, OKPKey

from contracts.errors import InputRejected, ProtocolViolation
from contracts.wire import read_json

# EdDSA is the older name of Ed25519 here (RFC 9864), read and no longer written.
WRITTEN_ALGORITHMS: Final = frozenset({"Ed25519", "ES256"})
READ_ALGORITHMS: Final = WRITTEN_ALGORITHMS | {"EdDSA"}
# A did:web with a long path makes a key id of a few hundred bytes.
HEADER_LIMIT_BYTES: Final = 2048

# Made once, so that signing looks up nothing that a caller could widen.
_WRITING: Final = jose.JWSRegistry(algorithms=WRITTEN_ALGORITHMS)


def sign_compact(payload: bytes, key: Key, kid: str, alg: str, *, typ: str, limit: int) -> str:
    """`payload` as a compact JWS. Raises InputRejected for another algorithm, a key that does not
    fit it, or a result longer than `limit` bytes."""
    if alg not in WRITTEN_ALGORITHMS:
        raise InputRejected("expected the algorithm Ed25519 or ES256")
    header = {"alg": alg, "kid": kid, "typ": typ}
    try:
        text = jose.serialize_compact(header, payload, key, registry=_WRITING)
    except (JoseError, ValueError) as err:
        raise InputRejected(f"expected a private key that signs {alg}") from err
    if len(text) > limit:
        raise InputRejected(f"expected a document of at most {limit} bytes, got {len(text)}")
    return text


def open_compact(
    text: str, signer: str, key_of: Callable[[str], Key], *, typ: str, what: str, limit: int
) -> bytes:
    """The payload of a JWS that the DID `signer` signed.

    `key_of` is only asked for key ids of `signer`. Raises ProtocolViolation, whose text begins with
    `what`, for anything else.
    """
    header, payload = read_compact(text, typ=typ, what=what, limit=limit)
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


def read_compact(text: str, *, typ: str, what: str, limit: int) -> tuple[dict[str, str], bytes]:
    """Header and payload of a JWS in our form, the signature unchecked.

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
    if header["alg"] not in READ_ALGORITHMS:
        raise ProtocolViolation(f"{what}: expected the algorithm Ed25519, EdDSA or ES256")
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


def _verify_signature(text: str, alg: str, key: Key, what: str) -> None:
    # EdDSA may also mean Ed448, which no participant of this space uses.
    if alg == "EdDSA" and not (isinstance(key, OKPKey) and key.curve_name == "Ed25519"):
        raise ProtocolViolation(f"{what}: expected an Ed25519 key for EdDSA")
    signed, _, signature = text.rpartition(".")
    # The algorithm's own object, because the library's wrapper warns about the name EdDSA in a way
    # that a program cannot silence in one thread only.
    algorithm = jose.JWSRegistry.algorithms[alg]
    try:
        algorithm.check_key(key)
        genuine = algorithm.verify(signed.encode(), decode_segment(signature, what), key)
    except (JoseError, ValueError) as err:
        raise ProtocolViolation(f"{what}: expected a key of the signer for {alg}") from err
    if not genuine:
        raise ProtocolViolation(f"{what}: the signature is not the signer's over this text")
