"""Routes for agreements: the owner's, and the one by which the other side ends one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from dataspace.access.permissions import Caller, Permission
from dataspace.protocol.agreement_rows import described
from dataspace.protocol.agreements import Ending
from dataspace.store.paging import MAX_LISTED, Page
from dataspace.web.access import CurrentMember, CurrentNode, For, Needs
from dataspace.web.negotiations import described as described_negotiation
from dataspace.web.positions import Limit, Position

# An agreement has the id its provider gave it, and another make's may be an IRI with slashes: ids
# are paths here, and the longer routes come first.
router = APIRouter(prefix="/api/agreements", tags=["owner's API"])
peer_router = APIRouter(
    prefix="/agreements", tags=["Dataspace Protocol"], dependencies=[For(Caller.MEMBER)]
)


@router.get("", dependencies=[Needs(Permission.AGREEMENT_READ)])
def agreements(
    node: CurrentNode, limit: Limit = MAX_LISTED, offset: Position = 0
) -> list[dict[str, Any]]:
    """Agreements, as consumer or as provider, newest first, and whether each can be used."""
    now = datetime.now(UTC)
    return [described(row, now) for row in node.agreements.newest(Page(limit, offset))]


@router.get("/{agreement:path}/deed", dependencies=[Needs(Permission.AGREEMENT_READ)])
def deed(node: CurrentNode, agreement: str) -> dict[str, Any]:
    """The agreement with both signatures as one file; verify it: dataspace agreement verify."""
    return node.agreements.deed(agreement)


@router.get("/{agreement:path}", dependencies=[Needs(Permission.AGREEMENT_READ)])
def agreement(node: CurrentNode, agreement: str) -> dict[str, Any]:
    return described(node.agreements.get(agreement), datetime.now(UTC))


@router.post("/{agreement:path}/end", dependencies=[Needs(Permission.AGREEMENT_END)])
def end(node: CurrentNode, agreement: str, ending: Ending) -> dict[str, Any]:
    """End an agreement before its time; the other side is told the reason."""
    node.agreements.end(agreement, ending.reason)
    return described(node.agreements.get(agreement), datetime.now(UTC))


@router.post(
    "/{agreement:path}/renewal", status_code=202, dependencies=[Needs(Permission.AGREEMENT_RENEW)]
)
def renew(node: CurrentNode, agreement: str) -> dict[str, Any]:
    """Negotiate the present offer of the agreement's dataset again."""
    return described_negotiation(node.proposals.get(node.agreements.renew(agreement)))


@peer_router.post("/{agreement:path}/end", status_code=204)
def end_by_peer(node: CurrentNode, peer: CurrentMember, agreement: str, ending: Ending) -> Response:
    """The other side has ended an agreement with this node."""
    with node.store.transaction() as tx:
        node.agreements.receive_end(tx, peer, agreement, ending)
    return Response(status_code=204)
