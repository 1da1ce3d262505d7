"""Routes about members: the operator's status lists, its registry, and each node's keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from dataspace.access.permissions import Caller, Permission
from dataspace.identity.keys import SigningAlgorithm
from dataspace.identity.standing import Standing, StandingAct
from dataspace.identity.status import MEDIA_TYPE
from dataspace.members import MAX_A_PAGE, MAX_TEXT
from dataspace.settings import ParticipantKind
from dataspace.web.access import CurrentNode, CurrentOperator, For, Needs

router = APIRouter(tags=["operator"], dependencies=[For(Caller.ANYBODY)])
owner_router = APIRouter(prefix="/api", tags=["owner's API"])

Did = Annotated[str, InPath(pattern=r"^did:[a-z0-9]+:[^\s#?/]+$", max_length=512)]
Thumbprint = Annotated[str, InPath(pattern=r"^[A-Za-z0-9_-]{43}$")]
Kinds = Annotated[tuple[ParticipantKind, ...], Query(max_length=8)]
Standings = Annotated[tuple[Standing, ...], Query(max_length=3)]
Zone = Annotated[str | None, Query(min_length=1, max_length=64)]
SearchedText = Annotated[str | None, Query(min_length=1, max_length=MAX_TEXT)]
After = Annotated[str | None, Query(max_length=512)]
Limit = Annotated[int, Query(ge=1, le=MAX_A_PAGE)]


class StandingChange(BaseModel):
    """Why a member is suspended, reinstated or revoked: the operator's own note."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field(min_length=1, max_length=500)


class KeyRotation(BaseModel):
    """Which algorithm the new key is for (the present one's unless given), and whether the present
    key is in somebody else's hands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: SigningAlgorithm | None = None
    compromised: bool = False


class KeyRetirement(BaseModel):
    """Whether what the key signed shall count for nothing besides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    withdraw: bool = False


# ---- at the operator, for everybody -------------------------------------------------------------


@router.get("/operator/status/{purpose}/{number}", response_class=Response)
def status_list(
    operator: CurrentOperator,
    purpose: Annotated[str, InPath(max_length=32)],
    number: Annotated[int, InPath(ge=1, le=10**9)],
) -> Response:
    """Which credentials were revoked, or suspended (W3C Bitstring Status List), as a JWT."""
    headers = {"cache-control": f"public, max-age={operator.status.ttl_s}"}
    return Response(
        operator.status.signed_list(purpose, number), media_type=MEDIA_TYPE, headers=headers
    )


@router.get("/operator/participants")
def participants(
    operator: CurrentOperator,
    kind: Kinds = (),
    status: Standings = (),
    zone: Zone = None,
    text: SearchedText = None,
    after: After = None,
    limit: Limit = MAX_A_PAGE,
) -> list[dict[str, Any]]:
    """The registry of the space's participants, in the order in which they joined.

    `after` is the last DID of the page before. It is not signed: a directory of addresses, which
    proves nothing; what counts of a participant is in its credential and in the status lists.
    """
    return operator.members.page(
        kinds=kind, standings=status, zone=zone, text=text, after=after, limit=limit
    )


# ---- for the operator's owner -------------------------------------------------------------------


@owner_router.get("/members", dependencies=[Needs(Permission.MEMBER_READ)])
def members(
    operator: CurrentOperator,
    kind: Kinds = (),
    status: Standings = (),
    zone: Zone = None,
    text: SearchedText = None,
    after: After = None,
    limit: Limit = MAX_A_PAGE,
) -> list[dict[str, Any]]:
    """Operator only: the members of the space."""
    return operator.members.page(
        kinds=kind, standings=status, zone=zone, text=text, after=after, limit=limit
    )


@owner_router.get("/members/{did}", dependencies=[Needs(Permission.MEMBER_READ)])
def member(operator: CurrentOperator, did: Did) -> dict[str, Any]:
    """Operator only: one member, why it stands as it does, and its credentials."""
    return operator.members.show(did)


@owner_router.post("/members/{did}/suspensions", dependencies=[Needs(Permission.MEMBER_REVOKE)])
def suspend(operator: CurrentOperator, did: Did, asked: StandingChange) -> dict[str, Any]:
    """Operator only: let nobody take this participant for a member until it is reinstated."""
    return operator.members.change(did, StandingAct.SUSPEND, asked.reason)


@owner_router.post("/members/{did}/reinstatements", dependencies=[Needs(Permission.MEMBER_REVOKE)])
def reinstate(operator: CurrentOperator, did: Did, asked: StandingChange) -> dict[str, Any]:
    """Operator only: end a suspension."""
    return operator.members.change(did, StandingAct.REINSTATE, asked.reason)


@owner_router.post("/members/{did}/revocations", dependencies=[Needs(Permission.MEMBER_REVOKE)])
def revoke(operator: CurrentOperator, did: Did, asked: StandingChange) -> dict[str, Any]:
    """Operator only: end a membership for good."""
    return operator.members.change(did, StandingAct.REVOKE, asked.reason)


# ---- for every owner ----------------------------------------------------------------------------


@owner_router.get("/status-lists", dependencies=[Needs(Permission.MEMBER_READ)])
def held_lists(node: CurrentNode) -> list[dict[str, Any]]:
    """The status lists by which this node knows members, and until when each counts."""
    return node.standings.held()


@owner_router.post("/status-lists/refreshes", dependencies=[Needs(Permission.ZONE_REFRESH)])
def refresh(node: CurrentNode) -> list[dict[str, Any]]:
    """Fetch the status lists now, and not only when they are due."""
    return node.standings.refresh()


@owner_router.get("/keys", dependencies=[Needs(Permission.STATUS_READ)])
def keys(node: CurrentNode) -> list[dict[str, Any]]:
    """The keys of this node's identity, and where each stands."""
    return node.keyring.all()


@owner_router.post("/keys/rotations", status_code=202, dependencies=[Needs(Permission.KEY_ROTATE)])
def rotate(node: CurrentNode, asked: KeyRotation) -> dict[str, str]:
    """Begin to use another signing key; at once where the present one is compromised."""
    return {"thumbprint": node.key_change.rotate(asked.algorithm, compromised=asked.compromised)}


@owner_router.post("/keys/{thumbprint}/retirements", dependencies=[Needs(Permission.KEY_ROTATE)])
def retire(node: CurrentNode, thumbprint: Thumbprint, asked: KeyRetirement) -> list[dict[str, Any]]:
    """Let an earlier key authenticate no more; with `withdraw` it counts for nothing at all."""
    node.key_change.retire(thumbprint, withdraw=asked.withdraw)
    return node.keyring.all()
