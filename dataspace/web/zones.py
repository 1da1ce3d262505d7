"""Routes about zones: the operator's lists and shared policies, and what owners do with them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi import Path as InPath
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from dataspace.access.permissions import Caller, Permission
from dataspace.errors import Denied
from dataspace.identity.tokens import Member
from dataspace.web.access import CurrentMember, CurrentNode, CurrentOperator, For, Needs
from dataspace.zones.sharing import open_parameters

router = APIRouter(tags=["operator"])
owner_router = APIRouter(prefix="/api", tags=["owner's API"])

ZoneName = Annotated[str, InPath(min_length=1, max_length=64)]
PolicyName = Annotated[str, InPath(min_length=1, max_length=64)]
Did = Annotated[str, Field(pattern=r"^did:[a-z0-9]+:[^\s#?/]+$", max_length=512)]
JOSE = "application/jose"


class NewZone(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    title: str = Field(min_length=1, max_length=200)
    title_zh: str = Field(default="", max_length=200)
    about: str = Field(default="", max_length=4000)
    steward: Did | None = None


class OneMember(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    did: Did


class PolicyPut(BaseModel):
    """A policy to share: ODRL, or ready policies as `use`, `with` and `also`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    document: dict[str, Any]


# ---- at the operator, for everybody and for members ---------------------------------------------


@router.get("/operator/zones", dependencies=[For(Caller.ANYBODY)])
def zones(operator: CurrentOperator) -> list[dict[str, Any]]:
    """The zones of the space, and how many members each has."""
    return operator.zones.summary()


@router.get("/operator/zones/{zone}", response_class=Response, dependencies=[For(Caller.ANYBODY)])
def zone_list(operator: CurrentOperator, zone: ZoneName) -> Response:
    """Who is in a zone now, as a compact JWS that lives for a few minutes."""
    # As long as a provider itself goes on without asking again.
    fresh_s = max(1, operator.zones.lifetime_s // 3)
    headers = {"cache-control": f"public, max-age={fresh_s}"}
    return Response(operator.zones.signed_list(zone), media_type=JOSE, headers=headers)


@router.get("/operator/zones/{zone}/policies", dependencies=[For(Caller.MEMBER)])
def zone_policies(
    operator: CurrentOperator, caller: CurrentMember, zone: ZoneName
) -> list[dict[str, Any]]:
    """The policies that members of a zone share, for those members."""
    return operator.zones.policies(zone, reader=caller.did)


@router.get(
    "/operator/zones/{zone}/policies/{policy}",
    response_class=Response,
    dependencies=[For(Caller.MEMBER)],
)
def zone_policy(
    operator: CurrentOperator, caller: CurrentMember, zone: ZoneName, policy: PolicyName
) -> Response:
    """One shared policy, as a compact JWS, for members of its zone."""
    text = operator.zones.signed_policy(zone, policy, reader=caller.did)
    return Response(text, media_type=JOSE, headers={"cache-control": "private, no-store"})


@router.put("/operator/zones/{zone}/policies/{policy}", dependencies=[For(Caller.MEMBER)])
def put_zone_policy(
    operator: CurrentOperator,
    caller: CurrentMember,
    zone: ZoneName,
    policy: PolicyName,
    asked: PolicyPut,
) -> dict[str, Any]:
    """Share a policy with the members of a zone; for its steward."""
    return operator.zones.put_policy(zone, policy, asked.document, by=caller.did)


# ---- at any member, for the operator ------------------------------------------------------------


def _from_operator(node: CurrentNode, caller: CurrentMember) -> Member:
    if caller.did != node.operators_zones.did():
        raise Denied("only the operator of this space says that a credential has changed")
    return caller


@router.post(
    "/membership/renewals",
    status_code=202,
    tags=["membership"],
    dependencies=[For(Caller.OPERATOR)],
)
def renew(node: CurrentNode, _: Annotated[Member, Depends(_from_operator)]) -> dict[str, str]:
    """The operator says that our credential has changed; we ask it for the new one."""
    with node.store.transaction() as tx:
        node.schedule_renewal(tx)
    return {"status": "renewing"}


# ---- for the owner ------------------------------------------------------------------------------


@owner_router.get("/zones", dependencies=[Needs(Permission.ZONE_READ)])
def own_zones(node: CurrentNode) -> list[dict[str, Any]]:
    """The zones of the space this node has joined."""
    return node.operators_zones.all()


@owner_router.post("/zones", status_code=201, dependencies=[Needs(Permission.ZONE_CREATE)])
def create(operator: CurrentOperator, asked: NewZone) -> dict[str, Any]:
    """Operator only: a new zone, without members."""
    return operator.zones.create(
        asked.name,
        title=asked.title,
        title_zh=asked.title_zh,
        about=asked.about,
        steward=asked.steward,
    )


@owner_router.get("/zones/{zone}", dependencies=[Needs(Permission.ZONE_READ)])
def show(node: CurrentNode, zone: ZoneName) -> dict[str, Any]:
    """One zone and its members, as the operator's signed list says; it is kept, too."""
    return node.zones.fetch(zone).model_dump(mode="json")


@owner_router.post("/zones/{zone}/admissions", dependencies=[Needs(Permission.ZONE_MEMBERS)])
def admit(operator: CurrentOperator, zone: ZoneName, asked: OneMember) -> dict[str, Any]:
    """Operator only: put a participant on a zone's list; its credential follows."""
    return operator.zones.admit(zone, asked.did)


@owner_router.post("/zones/{zone}/expulsions", dependencies=[Needs(Permission.ZONE_MEMBERS)])
def expel(operator: CurrentOperator, zone: ZoneName, asked: OneMember) -> dict[str, Any]:
    """Operator only: take a participant off a zone's list. Providers learn of it within the life
    of a list (`zone_list_lifetime_s`), whatever the participant's credential says."""
    return operator.zones.expel(zone, asked.did)


@owner_router.get("/zone-lists", dependencies=[Needs(Permission.ZONE_READ)])
def held_lists(node: CurrentNode) -> list[dict[str, Any]]:
    """The lists this node decides by, and until when each counts."""
    return node.zones.held()


@owner_router.post("/zone-lists/refreshes", dependencies=[Needs(Permission.ZONE_REFRESH)])
def refresh(node: CurrentNode) -> list[dict[str, Any]]:
    """Fetch the lists of the zones that this node's policies ask about, now."""
    return node.zones.refresh()


@owner_router.get("/zones/{zone}/policies", dependencies=[Needs(Permission.ZONE_READ)])
def policies(node: CurrentNode, zone: ZoneName) -> list[dict[str, Any]]:
    """The policies that members of a zone share."""
    return [
        {**one, "open_parameters": list(open_parameters(one["document"]))}
        for one in node.operators_zones.policies(zone)
    ]


@owner_router.get("/zones/{zone}/policies/{policy}", dependencies=[Needs(Permission.ZONE_READ)])
def policy(node: CurrentNode, zone: ZoneName, policy: PolicyName) -> dict[str, Any]:
    """One shared policy, with the operator's signature verified."""
    found = node.sharing.fetch(zone, policy)
    return {
        "zone": found.zone,
        "policy": found.policy,
        "number": found.number,
        "document": found.document,
        "open_parameters": list(open_parameters(found.document)),
    }


@owner_router.put("/zones/{zone}/policies/{policy}", dependencies=[Needs(Permission.ZONE_POLICY)])
def put_policy(
    node: CurrentNode, zone: ZoneName, policy: PolicyName, asked: PolicyPut
) -> dict[str, Any]:
    """Share a policy with the members of a zone; for the operator and the zone's steward."""
    return node.operators_zones.put_policy(zone, policy, asked.document)


@owner_router.get("/zone-policies/followed", dependencies=[Needs(Permission.ZONE_READ)])
def followed(node: CurrentNode) -> list[dict[str, Any]]:
    """Which of this node's datasets follow a shared policy, and whether that has changed since."""
    return node.sharing.outdated()
