"""Signed JWTs of the claims protocol: self-issued tokens, credentials and presentations alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError

from contracts.wire import read_json
from dataspace.claims.messages import MAX_MESSAGE_BYTES
from dataspace.errors import ProtocolViolation
from dataspace.identity.keys import names_of
from dataspace.identity.tokens import CLOCK_SKEW_S, Identity, KeyOf

# Beyond the year 9999, which no date of ours can name.
MAX_TIME: Final = 253_402_300_800
# What the library raises for a header that is no object, or has members of the wrong kind.
_MALFORMED: Final = (JoseError, ValueError, RecursionError, TypeError, KeyError, AttributeError)


def open_jwt(token: str, what: str, key_of: KeyOf) -> dict[str, Any]:
    """The claims of a JWT signed by its own issuer: the DID of the key is the claim `iss`.

    `key_of` is given the header's `kid`. Raises ProtocolViolation, calling the token `what`.
    """
    if len(token) > MAX_MESSAGE_BYTES:
        raise ProtocolViolation(f"the {what} is longer than {MAX_MESSAGE_BYTES} letters")
    malformed = f"the {what} is malformed or its signature is wrong"
    try:
        kid = jws.extract_compact(token.encode()).headers().get("kid")
    except _MALFORMED as err:
        raise ProtocolViolation(malformed) from err
    if not isinstance(kid, str):
        raise ProtocolViolation(f"the {what} names no key (kid)")
    key = key_of(kid)
    try:
        opened = jws.deserialize_compact(token, key, algorithms=names_of(key))
    except _MALFORMED as err:
        raise ProtocolViolation(malformed) from err
    claims = read_json(opened.payload or b"", limit_bytes=MAX_MESSAGE_BYTES)
    # A credential of the data model 2.0 names its issuer in its own words.
    issuer = claims.get("iss", id_of(claims.get("issuer", claims.get("holder"))))
    if kid.partition("#")[0] != issuer:
        raise ProtocolViolation(f"the {what} is signed with a key that is not its issuer's")
    return claims


def peek_jwt(token: str) -> dict[str, Any]:
    """The claims as they are written, nothing verified yet. Raises ProtocolViolation."""
    if len(token) > MAX_MESSAGE_BYTES:
        raise ProtocolViolation(f"the token is longer than {MAX_MESSAGE_BYTES} letters")
    try:
        payload = jws.extract_compact(token.encode()).payload
    except _MALFORMED as err:
        raise ProtocolViolation("the token is malformed") from err
    return read_json(payload, limit_bytes=MAX_MESSAGE_BYTES)


def verify_times(claims: Mapping[str, Any], what: str, now: int) -> None:
    """Check `exp`, `nbf` and `iat`, each where it is there. Raises ProtocolViolation."""
    times = {name: claims.get(name) for name in ("exp", "nbf", "iat")}
    for name, value in times.items():
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (fits and 0 <= value <= MAX_TIME):
            raise ProtocolViolation(f"the {what} has a {name} that is no time")
    if times["exp"] is not None and times["exp"] <= now - CLOCK_SKEW_S:
        raise ProtocolViolation(f"the {what} has expired")
    if times["nbf"] is not None and times["nbf"] > now + CLOCK_SKEW_S:
        raise ProtocolViolation(f"the {what} is not valid yet")
    if times["iat"] is not None and times["iat"] > now + CLOCK_SKEW_S:
        raise ProtocolViolation(f"the {what} was issued in the future")


def sign_jwt(claims: Mapping[str, object], identity: Identity) -> str:
    """A JWT under our own key; its algorithm is that of the key."""
    header = {"alg": identity.alg, "kid": identity.kid, "typ": "JWT"}
    return jwt.encode(header, dict(claims), identity.key, algorithms=[identity.alg])


def id_of(value: object) -> object:
    """The id of what may be written as a text or as an object with an `id`."""
    return value.get("id") if isinstance(value, Mapping) else value


def texts(value: object, what: str, *, most: int) -> tuple[str, ...]:
    """A text, or a list of at most `most` texts. Raises ProtocolViolation."""
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
        raise ProtocolViolation(f"{what}: expected a text or a list of texts")
    if not 1 <= len(several) <= most:
        raise ProtocolViolation(f"{what}: expected 1 to {most} texts, got {len(several)}")
    return tuple(several)
