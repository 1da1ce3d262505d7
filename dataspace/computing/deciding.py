"""A provider's side of an order: is it in order, and may this one use happen?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlmodel import Session, select

from contracts import messages as dsp
from contracts.odrl import Agreement
from contracts.order import ComputationOrder, open_order, order_hash
from contracts.party import Party
from contracts.transfer import TransferState
from dataspace.computing import budgets
from dataspace.computing.parameters import parameters_of
from dataspace.computing.permission import epsilon_of, judge
from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.identity.tokens import Member
from dataspace.operations.tracing import record
from dataspace.processes import Handler, Process
from dataspace.protocol.transfer_rows import refusal_of
from dataspace.store.tables import AgreementRow, TransferRow
from ledger.crossmatch import ORDER_RECEIVED
from ledger.entry import EntryType
from privacy.kinds import kind as kind_named

if TYPE_CHECKING:
    from dataspace.node import Node

DECIDE = "decide-transfer"
ENDPOINT_TYPE = "https://w3id.org/city-dataspace/ns/v1#ComputeSession"


class Deciding:
    """Takes in orders that came with transfer requests, and decides about them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def handlers(self) -> dict[str, Handler]:
        return {DECIDE: Handler(self._decide, self._decide_failed)}

    def take_in(
        self,
        tx: Session,
        row: TransferRow,
        peer: Member,
        message: dsp.TransferRequestMessage,
        agreement: AgreementRow,
    ) -> None:
        """Check the order in `message` and put it into `row`, with the evidence that it came.

        Raises InputRejected or ProtocolViolation for an order that is not properly signed, not for
        us, or that came before.
        """
        assert message.order is not None
        order = self._verified(peer, message, message.order, agreement)
        seen = select(TransferRow).where(
            TransferRow.role == Party.PROVIDER.value, TransferRow.computation == order.id
        )
        if tx.exec(seen).first() is not None:
            raise ProtocolViolation("ds:order: it came before; an order is good for one run")
        row.computation, row.order_jws = order.id, message.order
        row.order_h, row.purpose = order_hash(message.order), order.purpose
        self._node.evidence.record(
            tx,
            EntryType.ORDERED,
            outcome=ORDER_RECEIVED,
            peer=peer.did,
            corr=agreement.id,
            agreement_h=agreement.document_h,
            order_h=row.order_h,
            kind=order.kind,
            purpose=order.purpose,
        )

    def _verified(
        self, peer: Member, message: dsp.TransferRequestMessage, text: str, agreement: AgreementRow
    ) -> ComputationOrder:
        order = open_order(text, self._node.peers.resolver.known_key, datetime.now(UTC))
        if order.consumer != peer.did:
            raise ProtocolViolation("ds:order: it was signed by another participant")
        if order.kind != message.format:
            raise ProtocolViolation("format: it is not the order's kind of computation")
        mine = [part for part in order.participants if part.did == self._node.did]
        if len(mine) != 1 or mine[0].agreement != agreement.id:
            raise ProtocolViolation("ds:order: it does not give this node a part under agreementId")
        # The agreement says what may be used; an order that names something else is an attack.
        if mine[0].dataset != agreement.dataset:
            raise ProtocolViolation(
                "ds:order: it names another dataset than the agreement's target"
            )
        kind = kind_named(order.kind)
        # What the kind cannot do is refused before any policy is asked and any budget is spent.
        kind.verify_parameters(parameters_of(order))
        roles = kind.roles(len(order.participants) - 1)
        if {part.role for part in order.participants} != set(roles):
            raise ProtocolViolation(f"ds:order: {order.kind} has the roles {', '.join(roles)}")
        if len({part.did for part in order.participants}) != len(order.participants):
            raise ProtocolViolation("ds:order: one participant has two parts")
        return order

    def _decide(self, process: Process) -> None:
        """Ask the agreement's policy about this one use, and act on the answer."""
        node, now = self._node, datetime.now(UTC)
        with node.store.transaction() as tx:
            row = tx.get_one(TransferRow, process.subject)
            if row.state != TransferState.REQUESTED:
                return
            agreement = tx.get_one(AgreementRow, row.agreement)
            dataset = node.datasets.get(tx, agreement.dataset)
        document = Agreement.model_validate(agreement.document)
        try:
            sight = node.versions.look(document, dataset)
        except Unavailable as err:
            with node.store.transaction() as tx:
                row = tx.get_one(TransferRow, process.subject)
                node.transfers.terminate(tx, row, str(err), code="unavailable", remedy=err.remedy)
            return
        with node.store.transaction() as tx:
            row = tx.get_one(TransferRow, process.subject)
            if row.state != TransferState.REQUESTED:
                return
            agreement = tx.get_one(AgreementRow, row.agreement)
            order = open_order(row.order_jws, node.peers.resolver.key, now)
            try:
                node.computations.verify_room(tx, order.consumer)
            except Unavailable as err:
                node.transfers.terminate(tx, row, str(err), code="busy", remedy=err.remedy)
                return
            judged = judge(
                order,
                next(part for part in order.participants if part.did == node.did),
                agreement,
                node.datasets.get(tx, agreement.dataset),
                sight,
                recipient_kind=row.peer_kind or "",
                recipient_zones=node.zones.zones_of(order.consumer, document, now),
                epsilon_spent=budgets.spent(tx, agreement.dataset, order.consumer),
                now=now,
            )
            revoked = node.standings.refusal(order.consumer)
            refusal = revoked or refusal_of(agreement) or judged.refusal
            record("decision", now.timestamp(), outcome="deny" if refusal else "permit")
            node.leaving.record_decision(tx, row, agreement, judged.facts, refusal)
            if refusal is not None:
                node.transfers.deny(tx, row, refusal)
                return
            epsilon = epsilon_of(order)
            if epsilon is not None:
                budgets.spend(tx, agreement.dataset, order.consumer, epsilon)
            address = dsp.DataAddress(
                endpoint_type=ENDPOINT_TYPE, endpoint=f"{node.home.url}/compute/{order.id}"
            )
            node.transfers.start(tx, row, address)
            node.computations.accept(tx, row, order)

    def _decide_failed(self, tx: Session, process: Process, error: str) -> None:
        row = tx.get_one(TransferRow, process.subject)
        self._node.transfers.terminate(tx, row, error, code="failed")
