"""Access tokens of an identity provider (RFC 9068), verified. Pure: keys and time are arguments.

Only access tokens count (`typ: at+jwt`), so that an ID token, made to tell another program who
somebody is, opens nothing here. The provider is not asked about single tokens: one counts until it
expires, and a person whose role is taken away keeps it for as long as their last token lives.

A browser's login is for a console to add: it would get such a token with the authorization code
flow and PKCE, and this module would verify it as it does any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeGuard

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from dataspace.access.permissions import Role
from dataspace.access.trust import Trust
from dataspace.errors import Unauthenticated

# Signatures only, and no shared secret: with HS256 a provider's public key would be the secret.
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "Ed25519", "EdDSA")
MAX_TOKEN_BYTES = 16 * 1024
MAX_ROLES = 200
MAX_SUBJECT = 255
CLOCK_SKEW_S = 30
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})

ProviderKey = RSAKey | ECKey | OKPKey


def looks_like_token(given: str) -> bool:
    """Whether this has the form of a signed token: three parts with dots between."""
    return given.count(".") == 2 and len(given) <= MAX_TOKEN_BYTES


def verified_claims(
    token: str, *, trust: Trust, key_of: Callable[[str], ProviderKey], now: int
) -> Mapping[str, Any]:
    """What an access token says, once everything about it was checked. Raises Unauthenticated."""
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError, RecursionError) as err:
        raise Unauthenticated("the access token is malformed") from err
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise Unauthenticated(f"the access token is not signed with one of {', '.join(ALGORITHMS)}")
    if str(header.get("typ", "")).lower() not in _TYPES:
        raise Unauthenticated(
            "this is no access token: its typ is not at+jwt (RFC 9068)",
            remedy="have the provider issue JWT access tokens, and send that one",
        )
    if not isinstance(kid, str) or "crit" in header:
        raise Unauthenticated("the access token names no key (kid), or wants what is unknown here")
    try:
        claims = dict(jwt.decode(token, key_of(kid), algorithms=list(ALGORITHMS)).claims)
    except (JoseError, ValueError, RecursionError) as err:
        raise Unauthenticated("the access token's signature is wrong") from err
    _verify(claims, trust, now)
    return claims


def _verify(claims: Mapping[str, Any], trust: Trust, now: int) -> None:
    if claims.get("iss") != trust.issuer:
        raise Unauthenticated("the access token is of another issuer")
    audience = claims.get("aud")
    if trust.audience not in (audience if isinstance(audience, list) else [audience]):
        raise Unauthenticated("the access token is for another audience than this node")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT:
        raise Unauthenticated("the access token names nobody (sub)")
    expires_at, begins_at = claims.get("exp"), claims.get("nbf", claims.get("iat"))
    if not _is_time(expires_at) or not _is_time(begins_at):
        raise Unauthenticated("the access token does not say from when until when it counts")
    if expires_at <= now - CLOCK_SKEW_S:
        raise Unauthenticated("the access token has expired", remedy="get a new one and repeat")
    if begins_at > now + CLOCK_SKEW_S:
        raise Unauthenticated("the access token does not count yet", remedy="set the clocks right")


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def roles_in(claims: Mapping[str, Any], trust: Trust) -> frozenset[Role]:
    """The roles here of what the provider calls them; what is not named in the settings is none."""
    found: object = claims
    for part in trust.roles_claim.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    values: Sequence[object] = found.split() if isinstance(found, str) else ()
    if isinstance(found, list):
        values = found[:MAX_ROLES]
    return frozenset(
        trust.roles[one] for one in values if isinstance(one, str) and one in trust.roles
    )
