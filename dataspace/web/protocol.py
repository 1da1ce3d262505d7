"""Routes of the Dataspace Protocol 2025-1 (HTTPS binding), both roles, and version discovery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response
from sqlmodel import Session

from contracts import messages as dsp
from dataspace.errors import ProtocolViolation
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.peers import earlier_answer, remember_answer
from dataspace.protocol import BASE
from dataspace.web.access import CurrentMember, CurrentNode

MAX_MESSAGE_BYTES = 1024 * 1024
JSON = "application/json"

well_known = APIRouter(tags=["discovery"])
router = APIRouter(prefix=BASE, tags=["Dataspace Protocol"])

M = TypeVar("M", bound=dsp.Document)


async def _body(request: Request) -> bytes:
    return await request.body()


StepKind = Literal["negotiation", "transfer"]
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
MessageId = Annotated[str | None, Header(max_length=128)]


@well_known.get("/.well-known/dspace-version")
def version() -> Response:
    """The protocol versions this node speaks."""
    return _json(
        dsp.VersionResponse(
            protocol_versions=(dsp.ProtocolVersion(version="2025-1", path=BASE, binding="HTTPS"),)
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


def _add_steps(prefix: str, steps: Mapping[str, type[dsp.Document]], kind: StepKind) -> None:
    """A route for each message that may follow in a process: they differ in what they parse."""
    for path, model in steps.items():
        router.add_api_route(
            f"/{prefix}/{{pid}}/{path}",
            _step_route(model, kind),
            methods=["POST"],
            name=f"{prefix}: {model.__name__}",
        )


def _step_route(model: type[dsp.Document], kind: StepKind) -> Callable[..., Response]:
    def step(
        node: CurrentNode, peer: CurrentMember, pid: str, body: Body, message_id: MessageId = None
    ) -> Response:
        message = _parse(model, body)
        process = node.negotiations if kind == "negotiation" else node.transfers

        def act(tx: Session) -> dsp.Document:
            process.receive(tx, peer, pid, message)
            return process.show(tx, peer, pid)

        return _once(node, peer, message_id, act)

    step.__doc__ = f"{model.__name__}. {model.__doc__}"
    return step


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


_add_steps("negotiations", NEGOTIATION_STEPS, "negotiation")
_add_steps("transfers", TRANSFER_STEPS, "transfer")
