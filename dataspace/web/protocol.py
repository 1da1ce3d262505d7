"""Routes of the Dataspace Protocol 2025-1 (HTTPS binding), both roles, and version discovery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response
from sqlmodel import Session

from contracts import messages as dsp
from dataspace.errors import ProtocolViolation
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.peers import earlier_answer, remember_answer
from dataspace.web.access import CurrentMember, CurrentNode

MAX_MESSAGE_BYTES = 1024 * 1024
JSON = "application/json"

well_known = APIRouter(tags=["discovery"])
router = APIRouter(prefix="/dsp/2025-1", tags=["Dataspace Protocol"])

M = TypeVar("M", bound=dsp.Document)


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]
MessageId = Annotated[str | None, Header(max_length=128)]


@well_known.get("/.well-known/dspace-version")
def version() -> Response:
    """The protocol versions this node speaks."""
    return _json(
        dsp.VersionResponse(
            protocol_versions=(
                dsp.ProtocolVersion(version="2025-1", path="/dsp/2025-1", binding="HTTPS"),
            )
        )
    )


@well_known.get("/.well-known/did.json")
def did_document(node: CurrentNode) -> dict[str, object]:
    """This node's DID document."""
    return node.document()


@router.post("/catalog/request")
def catalog(node: CurrentNode, peer: CurrentMember, body: Body) -> Response:
    message = _parse(dsp.CatalogRequestMessage, body)
    if message.filter:
        raise ProtocolViolation(
            "filter: this catalogue knows no filters", remedy="leave the filter out"
        )
    return _json(node.datasets.catalog())


@router.get("/catalog/datasets/{dataset_id}")
def dataset(node: CurrentNode, peer: CurrentMember, dataset_id: str) -> Response:
    with node.store.transaction() as tx:
        row = node.datasets.get(tx, dataset_id)
    return _json(node.datasets.describe(row))


@router.get("/negotiations/{pid}")
def negotiation(node: CurrentNode, peer: CurrentMember, pid: str) -> Response:
    with node.store.transaction() as tx:
        return _json(node.negotiations.show(tx, peer, pid))


@router.post("/negotiations/request", status_code=201)
def negotiation_request(
    node: CurrentNode, peer: CurrentMember, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.ContractRequestMessage, body)
    return _once(
        node,
        peer,
        message_id,
        lambda tx: node.negotiations.receive_request(tx, peer, message),
        status=201,
    )


@router.post("/negotiations/{pid}/request")
def negotiation_counter(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.ContractRequestMessage, body)
    return _negotiate(node, peer, pid, message_id, message)


@router.post("/negotiations/{pid}/offers")
def negotiation_offer(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.ContractOfferMessage, body)
    return _negotiate(node, peer, pid, message_id, message)


@router.post("/negotiations/{pid}/agreement")
def negotiation_agreement(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.ContractAgreementMessage, body)
    return _negotiate(node, peer, pid, message_id, message)


@router.post("/negotiations/{pid}/agreement/verification")
def negotiation_verification(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.ContractAgreementVerificationMessage, body)
    return _negotiate(node, peer, pid, message_id, message)


@router.post("/negotiations/{pid}/events")
def negotiation_event(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.ContractNegotiationEventMessage, body)
    return _negotiate(node, peer, pid, message_id, message)


@router.post("/negotiations/{pid}/termination")
def negotiation_termination(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.ContractNegotiationTerminationMessage, body)
    return _negotiate(node, peer, pid, message_id, message)


@router.get("/transfers/{pid}")
def transfer(node: CurrentNode, peer: CurrentMember, pid: str) -> Response:
    with node.store.transaction() as tx:
        return _json(node.transfers.show(tx, peer, pid))


@router.post("/transfers/request", status_code=201)
def transfer_request(
    node: CurrentNode, peer: CurrentMember, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.TransferRequestMessage, body)
    return _once(
        node,
        peer,
        message_id,
        lambda tx: node.transfers.receive_request(tx, peer, message),
        status=201,
    )


@router.post("/transfers/{pid}/start")
def transfer_start(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.TransferStartMessage, body)
    return _transfer(node, peer, pid, message_id, message)


@router.post("/transfers/{pid}/suspension")
def transfer_suspension(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.TransferSuspensionMessage, body)
    return _transfer(node, peer, pid, message_id, message)


@router.post("/transfers/{pid}/completion")
def transfer_completion(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.TransferCompletionMessage, body)
    return _transfer(node, peer, pid, message_id, message)


@router.post("/transfers/{pid}/termination")
def transfer_termination(
    node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
) -> Response:
    message = _parse(dsp.TransferTerminationMessage, body)
    return _transfer(node, peer, pid, message_id, message)


def _negotiate(
    node: Node, peer: Member, pid: str, message_id: str | None, message: dsp.Document
) -> Response:
    def act(tx: Session) -> dsp.Document:
        node.negotiations.receive(tx, peer, pid, message)
        return node.negotiations.show(tx, peer, pid)

    return _once(node, peer, message_id, act)


def _transfer(
    node: Node, peer: Member, pid: str, message_id: str | None, message: dsp.Document
) -> Response:
    def act(tx: Session) -> dsp.Document:
        node.transfers.receive(tx, peer, pid, message)
        return node.transfers.show(tx, peer, pid)

    return _once(node, peer, message_id, act)


def _once(
    node: Node,
    peer: Member,
    message_id: str | None,
    act: Callable[[Session], dsp.Document],
    *,
    status: int = 200,
) -> Response:
    """Act on a message once: the change, the evidence and the stored answer are one transaction."""
    with node.store.transaction() as tx:
        earlier = earlier_answer(tx, peer.did, message_id)
        if earlier is not None:
            return Response(earlier.body, earlier.status, media_type=JSON)
        body = act(tx).to_bytes()
        remember_answer(tx, peer.did, message_id, status, body.decode())
    return Response(body, status, media_type=JSON)


def _parse(kind: type[M], body: bytes) -> M:
    return dsp.parse(kind, body, limit_bytes=MAX_MESSAGE_BYTES)


def _json(message: dsp.Document | dsp.VersionResponse) -> Response:
    return Response(message.to_bytes(), media_type=JSON)
