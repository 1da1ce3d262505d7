"""The parts that a node plays in the claims protocol, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataspace.claims.documents import describe
from dataspace.claims.holder import Holder
from dataspace.claims.issuer import Issuer
from dataspace.claims.outside import Outside
from dataspace.claims.token_service import TokenService
from dataspace.claims.verifier import Trust, Verifier
from dataspace.processes import Handler

if TYPE_CHECKING:
    from dataspace.node import Node


class Parts:
    """Every node is a holder and a verifier; the operator of a space is an issuer too."""

    def __init__(self, node: Node) -> None:
        self._node = node
        settings = node.home.settings
        self.outside = Outside(node.http, lambda: node.identity, local=settings.local)
        self.holder = Holder(node, self.outside)
        self.token_service = TokenService(node, self.holder)
        self.verifier = Verifier(
            self.outside,
            node.peers.resolver,
            Trust(node.peers.operator, node.peers.member_by, frozenset(settings.trusted_issuers)),
            did=node.did,
        )
        self.issuer = Issuer(node, node.operator, self.outside) if node.operator else None
        node.peers.access_for = self.holder.membership_access
        node.peers.presented = self.verifier.member

    def handlers(self) -> dict[str, Handler]:
        return self.issuer.handlers() if self.issuer else {}

    def describe(self, document: dict[str, Any]) -> dict[str, Any]:
        """The node's DID document, with what the claims protocol looks for in it."""
        return describe(document, url=self._node.home.url, issues=self.issuer is not None)
