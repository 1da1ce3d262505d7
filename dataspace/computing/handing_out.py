"""Handing out the signatures of a run, once the consumer has stored that it is over.

The last frame of a run goes to every provider by a durable process, scheduled in the transaction
that stores the result: a consumer that dies before it has not completed anywhere, and one that dies
after it hands out the signatures in its next life. A provider that has signed waits for them
(`dataspace.computing.closing`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from sqlmodel import Session

from contracts.order import ComputationOrder
from dataspace.computing.closing import SIGNATURES_S
from dataspace.computing.inbox import content_digest
from dataspace.computing.sessions import Session as Run
from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.processes import Handler, Pool, Process, schedule
from dataspace.protocol.delivery import DELIVER
from dataspace.store.tables import ComputationRow, TransferRow
from privacy.transcript import SIGNATURES, encode_signatures

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.handing_out")

HAND_OUT = "hand-out-signatures"


def schedule_handing_out(
    tx: Session, row: ComputationRow, order: ComputationOrder, transfer: TransferRow, run: Run
) -> None:
    """Queue the last frame to the provider of `transfer`, before its completion is announced."""
    part = next((one for one in order.participants if one.agreement == transfer.agreement), None)
    if part is None or part.role not in (row.signatures or {}):
        return
    schedule(
        tx,
        HAND_OUT,
        row.id,
        {
            "to": part.did,
            "sequence": run.sequences.get(part.role, 0),
            "attempt": run.attempt,
        },
        lane=f"{DELIVER}:{transfer.pid}",
        target=part.did,
        give_up_after_s=max(0.0, order.expires_at.timestamp() - time.time()) + SIGNATURES_S,
    )


class HandingOut:
    """The process that sends the signatures to one provider."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def handlers(self) -> dict[str, Handler]:
        return {HAND_OUT: Handler(self._hand_out, pool=Pool.PEERS)}

    def _hand_out(self, process: Process) -> None:
        node, asked = self._node, process.payload
        row = node.computations.get(process.subject)
        signatures = {party: bytes.fromhex(one) for party, one in (row.signatures or {}).items()}
        bundle = encode_signatures(signatures)
        base = f"{node.peers.url_of(asked['to'])}/compute/{row.id}/{row.role}"
        answer = node.peers.send(
            "PUT",
            f"{base}/{asked['sequence']}/0",
            to=asked["to"],
            body=bundle,
            headers={
                "content-type": "application/octet-stream",
                "content-digest": content_digest(bundle),
                "frame-name": SIGNATURES,
                "frame-chunks": "1",
                "frame-attempt": str(asked["attempt"]),
            },
        )
        if answer.status == 404:
            raise Unavailable(f"{asked['to']} has not opened its side of the computation again")
        if answer.status in (409, 410):
            log.info("the peer had ended it already", subject=process.subject, to=asked["to"])
        elif answer.status >= 300:
            raise ProtocolViolation(f"{asked['to']} refused the signatures: {answer.reason()}")
