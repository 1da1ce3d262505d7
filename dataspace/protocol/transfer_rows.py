"""What a stored transfer says: to the peer as messages, to its owner in words."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
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
# The property of a data address where its token is exchanged for a new one.
REFRESH = "refreshEndpoint"


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


def new_address(
    url: str, *, refresh: str | None = None, token_s: float | None = None
) -> tuple[dsp.DataAddress, str]:
    """Where the other side may fetch or send rows, with a token for it, and the token's hash.

    A token that ends after `token_s` seconds is exchanged for another at the address `refresh`.
    """
    token = secrets.token_urlsafe(32)
    properties = {"authorization": token, "authType": "bearer"}
    if refresh is not None and token_s is not None:
        properties |= {"expiresIn": str(int(token_s)), REFRESH: refresh}
    address = dsp.DataAddress(
        endpoint_type=HTTP_ENDPOINT,
        endpoint=url,
        endpoint_properties=tuple(
            dsp.EndpointProperty(name=name, value=value) for name, value in properties.items()
        ),
    )
    return address, token_hash(token)


def start_address(row: TransferRow, node_url: str, *, token_s: float) -> dsp.DataAddress | None:
    """Where a consumer fetches the rows of our transfer that starts; None where we do not serve it.

    Every start, and every renewal, has a new token, which `row` keeps the hash of: an earlier one
    stays dead.
    """
    if row.computation or row.role != Party.PROVIDER.value or row.format == PUSH:
        return None
    url = f"{node_url}/data/{row.pid}"
    address, row.token_h = new_address(url, refresh=f"{url}/token", token_s=token_s)
    row.token_until = time.time() + token_s
    return address


def address_of(row: TransferRow) -> dsp.DataAddress:
    """Where the peer said the rows go. Raises ProtocolViolation where it said nothing."""
    if row.data_address is None:
        raise ProtocolViolation("dataAddress: the peer did not say where the rows go")
    return dsp.DataAddress.model_validate(row.data_address)


def endpoint_of(row: TransferRow, peers: Peers) -> str:
    """Where the peer wants the rows fetched from or sent to: on its own node, and nowhere else.

    Raises ProtocolViolation.
    """
    endpoint = address_of(row).endpoint or ""
    of_peer(row, endpoint, peers)
    return endpoint


def of_peer(row: TransferRow, address: str, peers: Peers) -> None:
    """An address of the rows' data plane is on the peer's own node. Raises ProtocolViolation."""
    try:
        peers.callback_of(row.peer, address)
    except ProtocolViolation as err:
        raise ProtocolViolation(
            "dataAddress: its endpoint is not on the node that the peer's DID names",
            remedy=err.remedy,
        ) from err


def commitment_of(row: TransferRow, sha256: str, number: int | None) -> str:
    """What both sides' evidence says of rows that moved, as 64 hexadecimal digits.

    An HMAC of the rows' digest and the delivery's number under the two names of the transfer, which
    both parties hold and no entry has: they can show anybody that these rows are the ones, and who
    reads the evidence cannot guess rows and try.
    """
    names = pids(row)
    key = f"{names['consumer_pid']} {names['provider_pid']}".encode()
    return hmac.digest(key, f"{number or 0} {sha256}".encode(), "sha256").hex()


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
