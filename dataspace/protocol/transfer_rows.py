"""What a stored transfer says: to the peer as messages, to its owner in words."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from contracts import messages as dsp
from contracts.party import Party
from contracts.transfer import TransferState
from contracts.transfer_strategy import PUSH
from dataspace.errors import Denied, ProtocolViolation
from dataspace.peers import Peers
from dataspace.protocol import UNKNOWN_PID, Pids
from dataspace.store.tables import AgreementRow, TransferRow

# The identifier data planes give to plain HTTP.
HTTP_ENDPOINT = "https://w3id.org/idsa/v4.1/HTTP"


def pids(row: TransferRow) -> Pids:
    peer_pid = row.peer_pid or UNKNOWN_PID
    if row.role == Party.PROVIDER.value:
        return {"provider_pid": row.pid, "consumer_pid": peer_pid}
    return {"provider_pid": peer_pid, "consumer_pid": row.pid}


def as_message(row: TransferRow) -> dsp.TransferProcess:
    return dsp.TransferProcess(**pids(row), state=TransferState(row.state))


def refusal_of(agreement: AgreementRow) -> Denied | None:
    """Why nothing may be used under an agreement that a party has ended; None while it stands."""
    if agreement.ended_at is None:
        return None
    return Denied(
        f"The agreement was ended by {agreement.ended_by}: {agreement.ended_reason}",
        clause="agreement.ended",
        remedy="Negotiate a new agreement.",
    )


def new_address(url: str) -> tuple[dsp.DataAddress, str]:
    """Where the other side may fetch or send rows, with a token for it, and the token's hash."""
    token = secrets.token_urlsafe(32)
    address = dsp.DataAddress(
        endpoint_type=HTTP_ENDPOINT,
        endpoint=url,
        endpoint_properties=(
            dsp.EndpointProperty(name="authorization", value=token),
            dsp.EndpointProperty(name="authType", value="bearer"),
        ),
    )
    return address, token_hash(token)


def start_address(row: TransferRow, node_url: str) -> dsp.DataAddress | None:
    """Where a consumer fetches the rows of our transfer that starts; None where we do not serve it.

    Every start has a new token, which `row` keeps the hash of: an earlier one stays dead.
    """
    if row.computation or row.role != Party.PROVIDER.value or row.format == PUSH:
        return None
    address, row.token_h = new_address(f"{node_url}/data/{row.pid}")
    return address


def endpoint_of(row: TransferRow, peers: Peers) -> str:
    """Where the peer wants the rows fetched from or sent to: on its own node, and nowhere else.

    Raises ProtocolViolation.
    """
    if row.data_address is None:
        raise ProtocolViolation("dataAddress: the peer did not say where the rows go")
    endpoint = dsp.DataAddress.model_validate(row.data_address).endpoint or ""
    try:
        peers.callback_of(row.peer, endpoint)
    except ProtocolViolation as err:
        raise ProtocolViolation(
            "dataAddress: its endpoint is not on the node that the peer's DID names",
            remedy=err.remedy,
        ) from err
    return endpoint


def token_hash(token: str) -> str:
    """What is kept of a token that another side uses with us."""
    return hashlib.sha256(b"city-dataspace/data-token/1\0" + token.encode()).hexdigest()


def described(row: TransferRow) -> dict[str, Any]:
    """A transfer as its owner sees it: no token, no order."""
    return {
        "id": row.pid,
        "role": row.role,
        "peer": row.peer,
        "agreement": row.agreement,
        "format": row.format,
        "state": row.state,
        "purpose": row.purpose,
        "computation": row.computation or None,
        "order_sha256": row.order_h or None,
        "moved": row.moved,
        "reason": row.reason,
        "clause": row.clause,
        "remedy": row.remedy,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
