"""Access tokens: the claim `token` of a self-issued token, by which its addressee may read our
credentials (§4.3.1).

Nobody but the node that issued one reads it, so it is a JWT under a key that never leaves the node.
It is bound to its bearer: only the DID it was made out to can use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from dataspace.claims.scopes import Scope, parse_scopes
from dataspace.errors import ProtocolViolation, Unauthenticated

# The token around it is good for a minute; the addressee may be slow to ask.
ACCESS_LIFETIME_S: Final = 300
MAX_ACCESS_LETTERS: Final = 4096
_ALGORITHM: Final = "HS256"
_TYPE: Final = "dcp-access+jwt"


def issue_access(key: bytes, *, bearer: str, scopes: Iterable[Scope], now: int) -> str:
    """A token with which `bearer` may read what the scopes name, for five minutes."""
    claims = {
        "aud": bearer,
        "scope": " ".join(sorted(map(str, scopes))),
        "exp": now + ACCESS_LIFETIME_S,
    }
    header = {"alg": _ALGORITHM, "typ": _TYPE}
    return jwt.encode(header, claims, OctKey.import_key(key), algorithms=[_ALGORITHM])


def open_access(token: str, key: bytes, *, bearer: str, now: int) -> frozenset[Scope]:
    """What the token lets `bearer` read. Raises Unauthenticated."""
    refused = "the access token in the claim `token` is not one of ours"
    if len(token) > MAX_ACCESS_LETTERS:
        raise Unauthenticated(refused)
    try:
        opened = jwt.decode(token, OctKey.import_key(key), algorithms=[_ALGORITHM])
        expires_at, scope = opened.claims["exp"], opened.claims["scope"]
        if opened.header.get("typ") != _TYPE or not isinstance(expires_at, int):
            raise Unauthenticated(refused)
        scopes = parse_scopes(str(scope).split())
    except (JoseError, ValueError, KeyError, RecursionError, ProtocolViolation) as err:
        raise Unauthenticated(refused) from err
    if opened.claims.get("aud") != bearer:
        raise Unauthenticated("the access token was made out to another participant")
    if expires_at <= now:
        raise Unauthenticated(
            "the access token has expired", remedy="have its holder send a new request"
        )
    return scopes
