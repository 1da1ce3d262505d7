"""Routes of the operator's service: admission, the registry, and the space's chain."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from dataspace.access.permissions import Caller
from dataspace.errors import InputRejected, NotFound, Unavailable
from dataspace.evidence import read_space
from dataspace.membership import Admission, Application
from dataspace.web.access import CurrentDid, CurrentNode, CurrentOperator, For

router = APIRouter(tags=["operator"])


@router.post("/operator/participants", dependencies=[For(Caller.DID)])
def admit(operator: CurrentOperator, did: CurrentDid, application: Application) -> Admission:
    """Join the space: a DID proved by token, and an invitation."""
    return operator.admit(did, application)


@router.post("/operator/renewals", dependencies=[For(Caller.DID)])
def renew(operator: CurrentOperator, did: CurrentDid) -> Admission:
    """A fresh credential for a member that proves its DID."""
    return operator.renew(did)


@router.get("/operator/space", dependencies=[For(Caller.ANYBODY)])
def space(node: CurrentNode, operator: CurrentOperator) -> dict[str, Any]:
    """Where the space's chain and contract are: all that an auditor needs to begin."""
    with node.store.transaction() as tx:
        found = read_space(tx)
    if found is None:
        raise Unavailable("the space is being founded", remedy="try again in a moment")
    return {
        "operator": found.operator,
        "rpc_url": found.rpc_url,
        "contract": found.contract,
        "chain_id": found.chain_id,
    }


async def _rpc_body(request: Request) -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError) as err:
        raise InputRejected("the body is not JSON", remedy="send a JSON-RPC 2.0 request") from err


@router.post("/chain", dependencies=[For(Caller.ANYBODY)])
def chain(node: CurrentNode, body: Annotated[Any, Depends(_rpc_body)]) -> Response:
    """JSON-RPC of the embedded chain."""
    if node.chain is None:
        raise NotFound("this node serves no chain", remedy="use the RPC of /operator/space")
    # Written with escapes, as an id may hold what is not Unicode.
    return Response(json.dumps(node.chain.handle(body)), media_type="application/json")
