"""Who may call: the owner by API key, a member of the space by token."""

from __future__ import annotations

import hmac
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dataspace.errors import Denied, NotFound, Unauthenticated
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.operator import Operator
from dataspace.settings import ParticipantKind

_bearer = HTTPBearer(auto_error=False, description="the node owner's API key, or a peer's token")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def node_of(request: Request) -> Node:
    # Not a plain function: for that one FastAPI would change threads with every request.
    return cast(Node, request.app.state.node)


CurrentNode = Annotated[Node, Depends(node_of)]


def member(request: Request, node: CurrentNode, _: Credentials) -> Member:
    """A member of the space, by a self-issued token with its membership credential."""
    return node.peers.authenticate(request.headers.get("authorization"))


def regulator(caller: Annotated[Member, Depends(member)]) -> Member:
    """A member that its operator's credential calls a regulator."""
    if caller.kind is not ParticipantKind.REGULATOR:
        raise Denied(
            f"entry bodies are shown to regulators, not to participants of kind {caller.kind}",
            remedy="verify with the commitments, which are public",
        )
    return caller


def owner(node: CurrentNode, credentials: Credentials) -> None:
    """The node's owner, by the API key in its home; compared in constant time."""
    given = credentials.credentials if credentials else ""
    if not hmac.compare_digest(given.encode(), node.api_key.encode()):
        raise Unauthenticated(
            "this address is for the node's owner: the API key is missing or wrong",
            remedy="send Authorization: Bearer with the key in the home's keys/api.key",
        )


def operator_of(node: CurrentNode) -> Operator:
    if node.operator is None:
        raise NotFound("this node is not the operator of a space", remedy="ask the operator's node")
    return node.operator


CurrentMember = Annotated[Member, Depends(member)]
CurrentRegulator = Annotated[Member, Depends(regulator)]
CurrentOperator = Annotated[Operator, Depends(operator_of)]
Owner = Depends(owner)
