"""People from the owner's identity provider, by the access tokens it gives them.

OpenID Connect Discovery 1.0 says where its keys are, RFC 7517 what they look like; the tokens are
verified in `dataspace.access.oidc_tokens`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from dataspace.access.oidc_tokens import ProviderKey, roles_in, verified_claims
from dataspace.access.principal import Principal
from dataspace.access.trust import Trust
from dataspace.errors import InputRejected, ProtocolViolation, Unauthenticated, Unavailable
from dataspace.outbound import UNREACHABLE, ask

MIN_RSA_BITS = 2048
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_KEYS = 64
KEY_TYPES = ("RSA", "EC", "OKP")
FETCH_S = 5.0
# Keys are looked at again this often, and count this long while the provider is away.
REFRESH_S, KEEP_S = 3600.0, 24 * 3600.0
# An unknown key id may be a new key, but inventing key ids must not make us fetch for each.
REFETCH_AFTER_S = 30.0


@dataclass(frozen=True)
class _Known:
    keys: Mapping[str, ProviderKey]
    fetched_at: float


class Provider:
    """The identity provider: its keys, fetched when needed and kept while it is away."""

    def __init__(
        self,
        trust: Trust,
        http: httpx2.Client,
        *,
        local: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.trust = trust
        self._http = http
        self._local = local
        self._clock = clock
        self._known: _Known | None = None
        self._tried_at = -REFETCH_AFTER_S
        self._lock = threading.Lock()
        _verify_address(trust.issuer, local=local)

    def recognise(self, token: str) -> Principal:
        """Whose token this is. Raises Unauthenticated, or Unavailable while the provider is away
        and its keys are not at hand. Somebody without a role here is known and may do nothing."""
        claims = verified_claims(token, trust=self.trust, key_of=self._key, now=int(self._clock()))
        return Principal(
            str(claims["sub"]), f"token {self.trust.issuer}", roles_in(claims, self.trust)
        )

    def _key(self, kid: str) -> ProviderKey:
        with self._lock:
            now, known = self._clock(), self._known
            missing = known is None or kid not in known.keys
            old = known is None or now - known.fetched_at >= REFRESH_S
            if (missing or old) and now - self._tried_at >= REFETCH_AFTER_S:
                self._tried_at = now
                try:
                    self._known = known = _Known(self._fetch_keys(), now)
                except Unavailable:
                    if known is None or missing:
                        raise
            if known is None or now - known.fetched_at >= KEEP_S:
                raise Unavailable("the identity provider's keys are not at hand")
        if kid not in known.keys:
            raise Unauthenticated("the access token is signed with a key its issuer does not list")
        return known.keys[kid]

    def _fetch_keys(self) -> Mapping[str, ProviderKey]:
        issuer = self.trust.issuer
        found = self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        # Without this one provider could speak for another (Discovery 1.0, section 4.3).
        if found.get("issuer") != issuer or not isinstance(found.get("jwks_uri"), str):
            raise Unavailable(
                "the identity provider's configuration is not that of oidc_issuer",
                remedy="write oidc_issuer exactly as the provider's configuration does",
            )
        try:
            _verify_address(found["jwks_uri"], local=self._local)
        except InputRejected as err:
            raise Unavailable(f"the identity provider's jwks_uri: {err}") from err
        return _keys_in(self._get(found["jwks_uri"]))

    def _get(self, url: str) -> dict[str, Any]:
        try:
            answer = ask(self._http, "GET", url, most=MAX_DOCUMENT_BYTES, timeout_s=FETCH_S)
            if answer.status != 200:
                raise Unavailable(
                    f"the identity provider answered with {answer.status}",
                    remedy="check oidc_issuer, and that it is running",
                )
            return answer.json()
        except UNREACHABLE as err:
            raise Unavailable(
                "the identity provider cannot be asked", remedy="check oidc_issuer, and try again"
            ) from err
        except ProtocolViolation as err:
            raise Unavailable(
                "the identity provider's document is too large, or no JSON object",
                remedy="check oidc_issuer, and the provider's own settings",
            ) from err


def _keys_in(document: Mapping[str, Any]) -> Mapping[str, ProviderKey]:
    """The keys for signatures, by id. Others, and those of no known form, are passed over: a
    provider may have keys for other uses in the same set."""
    listed = document.get("keys")
    keys: dict[str, ProviderKey] = {}
    for one in listed[:MAX_KEYS] if isinstance(listed, list) else ():
        if not isinstance(one, dict) or one.get("kty") not in KEY_TYPES:
            continue
        if one.get("use", "sig") != "sig":
            continue
        kid = one.get("kid")
        try:
            key = import_key(one)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        weak = isinstance(key, RSAKey) and key.raw_value.key_size < MIN_RSA_BITS
        if isinstance(kid, str) and isinstance(key, RSAKey | ECKey | OKPKey) and not weak:
            keys[kid] = key
    return keys


def _verify_address(url: str, *, local: bool) -> None:
    """The provider is the owner's own, so it may be inside the owner's network; but who is in
    between must not be able to answer in its place."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (local and parts.scheme == "http"):
        raise InputRejected(
            "the identity provider's address has to begin with https://",
            remedy="correct oidc_issuer, or the provider's own settings",
        )
