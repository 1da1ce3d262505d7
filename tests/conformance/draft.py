"""Where the claims kit that Maven serves (1.0.0-RC6) follows an earlier text than the final one.

The product follows the final version 1.0. Against the kit's later releases, given by --kit, nothing
of this is used; each point names the release in which the kit followed:

* DID documents say what their keys may be used for (1.0.1);
* who asks for more than it may see is shown less, and is not refused (§5.4.1.2; 1.0.2);
* the format of a delivered credential is named by its profile, not VC1_0_JWT (1.0.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import httpx2
from sqlmodel import Session

from dataspace.claims.messages import PresentationQueryMessage, PresentationResponseMessage
from dataspace.claims.scopes import parse_scopes
from dataspace.errors import Denied
from dataspace.identity.did import Resolver, Use
from dataspace.identity.tokens import Claims, Identity
from dataspace.node import Node
from dataspace.peers import Peers
from dataspace.store.engine import Store

FORMAT: Final = "VC1_0_JWT"


class DraftResolver(Resolver):
    """Takes every key of a document that says of none what it may be used for."""

    def _fetch(self, did: str) -> tuple[dict[str, Any], float]:
        document, fresh_s = super()._fetch(did)
        if not any(use.value in document for use in Use):
            kids = [method["id"] for method in document["verificationMethod"]]
            document |= {use.value: kids for use in Use}
        return document, fresh_s


class DraftPeers(Peers):
    """Peers whose DID documents are the draft's."""

    def __init__(
        self, store: Store, identity: Callable[[], Identity], client: httpx2.Client, *, local: bool
    ) -> None:
        super().__init__(store, identity, client, local=local)
        self.resolver = DraftResolver(client, local=local)


def play_by_the_draft(node: Node) -> None:
    """Have the node refuse and name things as the draft did."""
    holder, issuer = node.claims.holder, node.claims.issuer
    show = holder.show

    def show_or_refuse(
        tx: Session, claims: Claims, query: PresentationQueryMessage
    ) -> PresentationResponseMessage:
        granted = holder.open_access(claims.did, claims.access)
        if not parse_scopes(query.scopes()) <= granted:
            raise Denied("more was asked for than the access token allows")
        return show(tx, claims, query)

    holder.show = show_or_refuse  # type: ignore[method-assign]
    if issuer is not None:
        issuer.format = FORMAT
