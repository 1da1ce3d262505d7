"""An identity provider of ours: keys, a configuration, and tokens as we want them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey

ISSUER, AUDIENCE = "https://idp.example/realm", "https://node.example"


@dataclass
class IdentityProvider:
    """Answers like one over HTTP, in this process. `away` makes it unreachable; `asked` notes what
    it was asked for."""

    key: Key = field(default_factory=lambda: ECKey.generate_key("P-256"))
    kid: str = "one"
    algorithm: str = "ES256"
    issuer: str = ISSUER
    away: bool = False
    asked: list[str] = field(default_factory=list)
    configuration: dict[str, Any] = field(default_factory=dict)
    more_keys: list[dict[str, Any]] = field(default_factory=list)

    def token(self, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """An access token for our audience; a change to None leaves the claim out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "zhang",
            "client_id": "console",
            "jti": "one",
            "iat": now,
            "exp": now + 300,
            "roles": ["city-stewards"],
        }
        said = {name: one for name, one in (claims | changes).items() if one is not None}
        top = {"alg": self.algorithm, "kid": self.kid, "typ": "at+jwt"} | (header or {})
        return jwt.encode(top, said, self.key, algorithms=[top["alg"]])

    def client(self) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.path)
        if self.away:
            raise httpx2.ConnectError("away")
        if request.url.path.endswith("/.well-known/openid-configuration"):
            body = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"} | self.configuration
            return httpx2.Response(200, json=body)
        public = {**self.key.as_dict(private=False), "kid": self.kid, "use": "sig"}
        return httpx2.Response(200, json={"keys": [*self.more_keys, public]})


def rsa_key(bits: int = 2048) -> RSAKey:
    return RSAKey.generate_key(bits)
