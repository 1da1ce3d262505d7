"""The owner's routes for negotiations: ask, offer, answer what waits for a person, end."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from contracts.strategy import Approval
from dataspace.access.permissions import Permission
from dataspace.identity.did import did_of_url
from dataspace.node import Node
from dataspace.protocol.negotiation_rows import needs_person, waits_for
from dataspace.store.paging import MAX_LISTED, Page
from dataspace.store.tables import NegotiationRow
from dataspace.web.access import CurrentNode, CurrentPrincipal, Needs
from dataspace.web.positions import Limit, Position

router = APIRouter(prefix="/api", tags=["owner's API"])

Reason = Annotated[str, Field(min_length=1, max_length=500)]


class NegotiationRequest(BaseModel):
    """Which offer to ask for: the provider by DID or by its node's URL, and the dataset.

    `policy` proposes other terms than the offer's, as ODRL; `reuse` gives an agreement already in
    force on the same terms instead of a second one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str = Field(min_length=1, max_length=300)
    dataset: str = Field(min_length=1, max_length=200)
    offer: str | None = Field(default=None, max_length=300)
    policy: dict[str, Any] | None = None
    reuse: bool = False


class OfferRequest(BaseModel):
    """To whom to offer which dataset of ours: the consumer by DID or by its node's URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consumer: str = Field(min_length=1, max_length=300)
    dataset: str = Field(min_length=1, max_length=200)


class ApprovalGiven(BaseModel):
    """A person's word about a negotiation that waits for one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approval: Approval


class CounterOffer(BaseModel):
    """Other terms, as an ODRL policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: dict[str, Any]


class Ending(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Reason = "The other side's owner has ended it."


@router.post("/negotiations", status_code=202, dependencies=[Needs(Permission.NEGOTIATION_ASK)])
def negotiate(node: CurrentNode, asked: NegotiationRequest) -> dict[str, Any]:
    """Begin to negotiate; poll the answer's id until the state is FINALIZED or TERMINATED."""
    provider = _did(asked.provider)
    if asked.reuse:
        pid = node.proposals.reusable(provider, asked.dataset, asked.offer)
        if pid is not None:
            return described(node.proposals.get(pid))
    pid = node.proposals.request(provider, asked.dataset, asked.offer, policy=asked.policy)
    return described(node.proposals.get(pid))


@router.post(
    "/negotiations/offers", status_code=202, dependencies=[Needs(Permission.NEGOTIATION_OFFER)]
)
def offer(node: CurrentNode, asked: OfferRequest) -> dict[str, Any]:
    """Offer a dataset of this node to a consumer that has not asked for it."""
    return described(
        node.proposals.get(node.proposals.offer_to(_did(asked.consumer), asked.dataset))
    )


@router.get("/negotiations", dependencies=[Needs(Permission.NEGOTIATION_READ)])
def negotiations(
    node: CurrentNode,
    waiting: Annotated[bool, Query(description="only what waits for a person here")] = False,
    limit: Limit = MAX_LISTED,
    offset: Position = 0,
) -> list[dict[str, Any]]:
    """Negotiations, newest first, with what each waits for."""
    page = Page(limit, offset)
    return [described(row) for row in node.proposals.newest(page, waiting=waiting)]


@router.get("/negotiations/{pid}", dependencies=[Needs(Permission.NEGOTIATION_READ)])
def negotiation(node: CurrentNode, pid: str) -> dict[str, Any]:
    """One negotiation, with whose approvals it has so far."""
    return _with_approvals(node, pid)


@router.post("/negotiations/{pid}/approval", dependencies=[Needs(Permission.NEGOTIATION_DECIDE)])
def approve(
    node: CurrentNode, by: CurrentPrincipal, pid: str, given: ApprovalGiven
) -> dict[str, Any]:
    """Approve or decline a negotiation that waits for a person here, or for several."""
    node.proposals.decide(pid, given.approval, by=by)
    return _with_approvals(node, pid)


@router.post(
    "/negotiations/{pid}/counter-offer", dependencies=[Needs(Permission.NEGOTIATION_COUNTER)]
)
def counter(
    node: CurrentNode, by: CurrentPrincipal, pid: str, given: CounterOffer
) -> dict[str, Any]:
    """Answer the other side's terms with other ones."""
    node.proposals.counter(pid, given.policy, by=by)
    return described(node.proposals.get(pid))


@router.post("/negotiations/{pid}/termination", dependencies=[Needs(Permission.NEGOTIATION_END)])
def terminate(node: CurrentNode, pid: str, ending: Ending) -> dict[str, Any]:
    """End an unfinished negotiation."""
    node.proposals.end(pid, ending.reason)
    return described(node.proposals.get(pid))


def _with_approvals(node: Node, pid: str) -> dict[str, Any]:
    approved_by = [
        {"person": one.person, "approved_at": one.approved_at}
        for one in node.proposals.approvals(pid)
    ]
    return {**described(node.proposals.get(pid)), "approved_by": approved_by}


def described(row: NegotiationRow) -> dict[str, Any]:
    """A negotiation as its owner sees it."""
    ended = row.state == "TERMINATED"
    return {
        "id": row.pid,
        "role": row.role,
        "peer": row.peer,
        "dataset": row.dataset,
        "state": row.state,
        "rounds": row.rounds,
        "requested": row.offer,
        "offered": row.agreement,
        "agreement": (row.agreement or {}).get("@id") if row.state == "FINALIZED" else None,
        "waits_for": waits_for(row),
        "needs_person": needs_person(row),
        "deadline_at": None if ended else row.deadline_at,
        "reason": row.reason if ended else None,
        "clause": row.clause if ended else None,
        "remedy": row.remedy if ended else None,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _did(name: str) -> str:
    return name if name.startswith("did:") else did_of_url(name)
