"""The secure token service (§4.3.2): self-issued tokens of this node for programs of its owner.

An OAuth 2 client credentials grant (RFC 6749 §4.4), which the protocol suggests. Whoever has the
client's secret speaks as this node, so there is none unless the owner sets one; what is kept of it
is a hash. A secret is 32 random bytes, and of those a plain hash cannot be reversed.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from dataspace.claims.holder import Holder
from dataspace.claims.scopes import parse_scopes
from dataspace.errors import InputRejected, NotFound, Unauthenticated
from dataspace.identity.tokens import TOKEN_LIFETIME_S, issue_token

if TYPE_CHECKING:
    from dataspace.node import Node

GRANT: Final = "client_credentials"
MAX_FORM_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 16


@dataclass(frozen=True)
class TokenRequest:
    """What a client sends: who it is, whom the token is for, and what that one may read of us."""

    client_id: str
    client_secret: str
    audience: str
    access_scopes: tuple[str, ...]


def parse_token_request(body: bytes) -> TokenRequest:
    """The request in a form. Raises InputRejected, naming the field and no value."""
    try:
        if len(body) > MAX_FORM_BYTES:
            raise ValueError("too long")
        pairs = parse_qsl(
            body.decode("ascii"), strict_parsing=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError as err:
        raise InputRejected(
            "expected a form, application/x-www-form-urlencoded",
            remedy="send grant_type, client_id, client_secret and audience",
        ) from err
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InputRejected("expected every field once")
    if fields.get("grant_type") != GRANT:
        raise InputRejected(f"grant_type: expected {GRANT}")
    return TokenRequest(
        client_id=_required(fields, "client_id"),
        client_secret=_required(fields, "client_secret"),
        audience=_did(_required(fields, "audience")),
        access_scopes=tuple(fields.get("bearer_access_scope", "").split()),
    )


def _required(fields: Mapping[str, str], name: str) -> str:
    if not fields.get(name):
        raise InputRejected(f"{name} is required")
    return fields[name]


def _did(written: str) -> str:
    if not written.startswith("did:") or not written.isprintable() or len(written) > 512:
        raise InputRejected("audience: expected a DID")
    return written


class TokenService:
    """Issues tokens to the one client that the owner has set."""

    def __init__(self, node: Node, holder: Holder) -> None:
        self._node = node
        self._holder = holder

    def token(self, request: TokenRequest) -> str:
        """A token for one request to the audience. Raises NotFound where there is no such service,
        Unauthenticated for another client, ProtocolViolation for what is no scope."""
        settings = self._node.home.settings
        client, secret_h = settings.token_client_id, settings.token_client_secret_h
        if client is None or secret_h is None:
            raise NotFound(
                "this node issues no tokens to clients",
                remedy="set token_client_id and token_client_secret_h",
            )
        given_h = hashlib.sha256(request.client_secret.encode()).hexdigest()
        right = hmac.compare_digest(given_h, secret_h)
        if not hmac.compare_digest(request.client_id.encode(), client.encode()) or not right:
            raise Unauthenticated("the client or its secret is not known here")
        now, access = int(time.time()), None
        if request.access_scopes:
            scopes = parse_scopes(request.access_scopes)
            access = self._holder.access_for(request.audience, scopes, now=now)
        return issue_token(
            self._node.identity,
            audience=request.audience,
            now=now,
            membership=self._node.peers.membership(),
            access=access,
        )

    @property
    def lifetime_s(self) -> int:
        return TOKEN_LIFETIME_S
