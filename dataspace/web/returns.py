"""The owner's routes for returns 回流: set one up, see where it stands, pause, resume, end it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from dataspace.access.permissions import Permission
from dataspace.identity.did import did_of_url
from dataspace.return_terms import ReturnAsked
from dataspace.web.access import CurrentNode, Needs

router = APIRouter(prefix="/api", tags=["owner's API"])


class Reason(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=500)] = "The owner has asked for it."


@router.post("/returns", status_code=202, dependencies=[Needs(Permission.RETURN_GIVE)])
def add(node: CurrentNode, asked: ReturnAsked) -> dict[str, Any]:
    """Offer a bureau the rows or totals of its division again and again; a person there accepts."""
    if asked.to.startswith(("http://", "https://")):
        asked = asked.model_copy(update={"to": did_of_url(asked.to)})
    return node.returns.add(asked)


@router.get("/returns", dependencies=[Needs(Permission.RETURN_READ)])
def returns(node: CurrentNode) -> list[dict[str, Any]]:
    """All returns this node gives, newest first."""
    return node.returns.all()


@router.get("/returns/{name}", dependencies=[Needs(Permission.RETURN_READ)])
def show(node: CurrentNode, name: str) -> dict[str, Any]:
    """One return with its deliveries."""
    return node.returns.show(name)


@router.post("/returns/{name}/pause", dependencies=[Needs(Permission.RETURN_STEER)])
def pause(node: CurrentNode, name: str, given: Reason) -> dict[str, Any]:
    """Deliver nothing until it is resumed."""
    return node.returns.pause(name, given.reason)


@router.post("/returns/{name}/resume", dependencies=[Needs(Permission.RETURN_STEER)])
def resume(node: CurrentNode, name: str) -> dict[str, Any]:
    """Go on; what was due meanwhile is delivered once."""
    return node.returns.resume(name)


@router.post("/returns/{name}/end", dependencies=[Needs(Permission.RETURN_END)])
def end(node: CurrentNode, name: str, given: Reason) -> dict[str, Any]:
    """End it for good."""
    return node.returns.end(name, given.reason)
