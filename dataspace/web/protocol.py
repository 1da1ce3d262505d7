"""Routes of the Dataspace Protocol 2025-1 (HTTPS binding), both roles, and version discovery."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from contracts import messages as dsp
from contracts.profile import CONTEXT_URL, context_document
from dataspace.access.permissions import Caller
from dataspace.errors import ProtocolViolation, Unauthenticated
from dataspace.identity.did import CACHE_S
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.peers import MessageName, earlier_answer, remember_answer
from dataspace.protocol import BASE
from dataspace.rates import MESSAGES, ORDERS
from dataspace.web.access import CurrentMember, CurrentNode, For

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_MESSAGE_ID_LETTERS = 128
JSON = "application/json"

well_known = APIRouter(tags=["discovery"], dependencies=[For(Caller.ANYBODY)])
router = APIRouter(prefix=BASE, tags=["Dataspace Protocol"], dependencies=[For(Caller.MEMBER)])

M = TypeVar("M", bound=dsp.Document)


async def _body(request: Request) -> bytes:
    return await request.body()


NEGOTIATION_STEPS: Mapping[str, type[dsp.Document]] = {
    "request": dsp.ContractRequestMessage,
    "offers": dsp.ContractOfferMessage,
    "agreement": dsp.ContractAgreementMessage,
    "agreement/verification": dsp.ContractAgreementVerificationMessage,
    "events": dsp.ContractNegotiationEventMessage,
    "termination": dsp.ContractNegotiationTerminationMessage,
}
TRANSFER_STEPS: Mapping[str, type[dsp.Document]] = {
    "start": dsp.TransferStartMessage,
    "suspension": dsp.TransferSuspensionMessage,
    "completion": dsp.TransferCompletionMessage,
    "termination": dsp.TransferTerminationMessage,
}

Body = Annotated[bytes, Depends(_body)]
# What a message does: within the transaction it is given, for the member that sent it.
Act = Callable[[Session, Node, Member, str, M], dsp.Document]


@well_known.get("/.well-known/dspace-version")
def version() -> Response:
    """The protocol versions this node speaks."""
    return _json(
        dsp.VersionResponse(
            protocol_versions=(dsp.ProtocolVersion(version="2025-1", path=BASE, binding="HTTPS"),)
        )
    )


class _JsonLd(JSONResponse):
    media_type = "application/ld+json"


@well_known.get(urlsplit(CONTEXT_URL).path, response_class=_JsonLd)
def json_ld_context() -> _JsonLd:
    """The JSON-LD context of this space's own terms."""
    return _JsonLd(context_document())


@well_known.get("/.well-known/did.json")
@well_known.get("/did.json", include_in_schema=False)
def did_document(node: CurrentNode) -> JSONResponse:
    """This node's DID document. A did:web with a path has it at the path's own `did.json`."""
    headers = {"cache-control": f"public, max-age={int(CACHE_S)}"}
    return JSONResponse(node.document(), headers=headers)


@router.get("/negotiations/{pid}")
def negotiation(node: CurrentNode, peer: CurrentMember, pid: str) -> Response:
    with node.store.transaction() as tx:
        return _json(node.negotiations.show(tx, peer, pid))


@router.get("/transfers/{pid}")
def transfer(node: CurrentNode, peer: CurrentMember, pid: str) -> Response:
    with node.store.transaction() as tx:
        return _json(node.transfers.show(tx, peer, pid))


def _add_message(path: str, model: type[M], act: Act[M], *, status: int = 200) -> None:
    """A route that takes one kind of message.

    It asks FastAPI for nothing but the request: messages are most of what a node answers, and each
    dependency would change threads once more.
    """

    async def take(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(_take, request, body, model, act, status)

    take.__doc__ = f"{model.__name__}. {model.__doc__}"
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    schema = {"schema": {"type": "object", "title": model.__name__}}
    router.add_api_route(
        path,
        take,
        methods=["POST"],
        status_code=status,
        name=f"{path}: {model.__name__}",
        openapi_extra={
            "parameters": parameters,
            "requestBody": {"required": True, "content": {JSON: schema}},
        },
    )


def _take(request: Request, body: bytes, model: type[M], act: Act[M], status: int) -> Response:
    """Act on a message once: the spent token, the change, the evidence, our next message and the
    stored answer are one transaction."""
    node: Node = request.app.state.node
    visitor = node.peers.recognise(request.headers.get("authorization"))
    did = visitor.member.did
    # Before anything is written: what comes too often costs a signature's verification and no more.
    node.rates.take(ORDERS if model is dsp.TransferRequestMessage else MESSAGES, did)
    try:
        name = _name_of(request, did, body)
        message = dsp.parse(model, body, limit_bytes=MAX_MESSAGE_BYTES)
        with node.store.transaction() as tx:
            node.peers.spend(tx, visitor)
            earlier = earlier_answer(tx, name)
            if earlier is not None:
                return Response(earlier.body, earlier.status, media_type=JSON)
            pid = request.path_params.get("pid", "")
            answer = act(tx, node, visitor.member, pid, message).to_bytes()
            remember_answer(tx, name, status, answer.decode())
    except Unauthenticated:
        raise
    except Exception:
        # Refused or not, a token is good for one request.
        node.peers.spend_alone(visitor)
        raise
    return Response(answer, status, media_type=JSON)


def _name_of(request: Request, peer: str, body: bytes) -> MessageName | None:
    given = request.headers.get("message-id")
    if given is None:
        return None
    if not 1 <= len(given) <= MAX_MESSAGE_ID_LETTERS:
        raise ProtocolViolation(
            f"Message-Id: expected 1 to {MAX_MESSAGE_ID_LETTERS} letters, got {len(given)}"
        )
    return MessageName.of(peer, given, request.url.path, body)


def _json(message: dsp.Document | dsp.VersionResponse) -> Response:
    return Response(message.to_bytes(), media_type=JSON)


_add_message(
    "/negotiations/request",
    dsp.ContractRequestMessage,
    lambda tx, node, peer, _, message: node.negotiations.receive_request(tx, peer, message),
    status=201,
)
_add_message(
    "/negotiations/offers",
    dsp.ContractOfferMessage,
    lambda tx, node, peer, _, message: node.negotiations.receive_offer(tx, peer, message),
    status=201,
)
_add_message(
    "/transfers/request",
    dsp.TransferRequestMessage,
    lambda tx, node, peer, _, message: node.transfers.receive_request(tx, peer, message),
    status=201,
)
for _path, _model in NEGOTIATION_STEPS.items():
    _add_message(
        f"/negotiations/{{pid}}/{_path}",
        _model,
        lambda tx, node, peer, pid, message: node.negotiations.receive(tx, peer, pid, message),
    )
for _path, _model in TRANSFER_STEPS.items():
    _add_message(
        f"/transfers/{{pid}}/{_path}",
        _model,
        lambda tx, node, peer, pid, message: node.transfers.receive(tx, peer, pid, message),
    )
