"""Returns 回流: rows or totals of a division that go to its bureau again and again.

A return is an offer for one bureau. Once it has accepted and asked for the rows to be pushed, a
durable process delivers them when they are due, until either side ends the transfer. Each delivery
is decided about by the contract, has its number, and is in the evidence of both sides.
"""

from __future__ import annotations

import math
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlmodel import Session, col, select

from connectors.classification import Grade
from connectors.source import ConsentedSource, open_source
from contracts.authoring import policy_from
from contracts.party import Party
from contracts.transfer import TERMINAL, TransferState
from contracts.transfer_strategy import PUSH
from dataspace.bounds import verify_bounds
from dataspace.classes import bounded_by
from dataspace.computing.permission import refusal_in
from dataspace.errors import InputRejected, NotFound
from dataspace.outbound import within
from dataspace.processes import Handler, Later, Pool, Process, is_scheduled, schedule
from dataspace.protocol.data_plane import MOVE_S
from dataspace.protocol.rows_in import Delivery
from dataspace.protocol.rows_out import still_there
from dataspace.publication import review, verify_formats
from dataspace.releasing import verify_release
from dataspace.return_rows import count, deliveries_of, finished, state_of, unfinished
from dataspace.return_terms import ReturnAsked, policy_of, view_of
from dataspace.store.tables import (
    AgreementRow,
    DeliveryRow,
    NegotiationRow,
    ReturnRow,
    TransferRow,
)

if TYPE_CHECKING:
    from dataspace.node import Node

DELIVER: Final = "deliver-return"
# A receiver may be away for as long as it likes; its return waits.
GIVE_UP_S: Final = 100 * 365 * 86400.0


class Returns:
    """The returns that this node's owner has set up."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def handlers(self) -> dict[str, Handler]:
        return {DELIVER: Handler(self._deliver, self._failed, Pool.PEERS)}

    # ---- the owner's side -------------------------------------------------------------------

    def add(self, asked: ReturnAsked) -> dict[str, Any]:
        """Offer a return to a bureau. Raises InputRejected with the remedy for a division that is
        none or not the dataset's, columns that are missing, and terms that bounds do not allow."""
        with self._node.store.transaction() as tx:
            dataset = self._node.datasets.offered(tx, asked.dataset)
        source = open_source(dataset.source)
        personal = isinstance(source, ConsentedSource)
        view = view_of(asked, dataset)
        name = uuid.uuid4().hex[:12]
        rules = (*view.rules(), *asked.rules)
        offer = policy_from(
            policy_of(asked, rules, personal=personal),
            offer_id=f"offer:{asked.dataset}:return:{name}",
        )
        grade, formats = Grade(dataset.grade), (PUSH,)
        review(offer, formats, personal=personal, grade=grade, now=datetime.now(UTC))
        verify_formats(offer, formats, grade)
        verify_bounds(bounded_by(dataset, personal=personal), offer, formats)
        verify_release(offer, formats, dataset, source)
        with self._node.store.transaction() as tx:
            dataset = self._node.datasets.offered(tx, asked.dataset)
            row = ReturnRow(
                id=name,
                dataset=asked.dataset,
                consumer=asked.to,
                division=view.division.code,
                grid=asked.grid,
                rules=list(rules),
                every_s=asked.every_s,
                negotiation=self._node.proposals.offer_terms(tx, asked.to, dataset, offer),
                created_at=time.time(),
            )
            tx.add(row)
            tx.flush()
            return self._described(tx, row)

    def all(self) -> list[dict[str, Any]]:
        """Every return, newest first, with where it stands."""
        with self._node.store.transaction() as tx:
            found = tx.exec(select(ReturnRow).order_by(col(ReturnRow.created_at).desc())).all()
            return [self._described(tx, row) for row in found]

    def show(self, name: str) -> dict[str, Any]:
        """One return with its deliveries. Raises NotFound."""
        with self._node.store.transaction() as tx:
            row = self._get(tx, name)
            made = [] if row.transfer is None else deliveries_of(tx, row.transfer)
            return {**self._described(tx, row), "deliveries": made}

    def pause(self, name: str, reason: str) -> dict[str, Any]:
        """Deliver nothing until it is resumed. Raises InputRejected where it does not run."""
        with self._node.store.transaction() as tx:
            row, transfer = self._running(tx, name, TransferState.STARTED)
            self._node.transfers.suspend(tx, transfer, reason)
            return self._described(tx, row)

    def resume(self, name: str) -> dict[str, Any]:
        """Go on; what was due meanwhile is delivered once."""
        with self._node.store.transaction() as tx:
            row, transfer = self._running(tx, name, TransferState.SUSPENDED)
            self._node.transfers.resume(tx, transfer)
            self.begin(tx, transfer)
            return self._described(tx, row)

    def end(self, name: str, reason: str) -> dict[str, Any]:
        """End a return for good, with its transfer, or its offer where nobody has accepted it."""
        with self._node.store.transaction() as tx:
            row = self._get(tx, name)
            if row.ended_at is not None:
                raise InputRejected("this return has ended already")
            row.ended_at = time.time()
            tx.add(row)
            transfer = None if row.transfer is None else tx.get_one(TransferRow, row.transfer)
            if transfer is not None and TransferState(transfer.state) not in TERMINAL:
                if transfer.state == TransferState.STARTED:
                    self._node.transfers.complete(tx, transfer)
                else:
                    self._node.transfers.terminate(tx, transfer, reason, code="ended")
            negotiation = tx.get_one(NegotiationRow, row.negotiation)
            if negotiation.state not in ("FINALIZED", "TERMINATED"):
                self._node.proposals.withdraw(tx, negotiation, reason)
            tx.flush()
            return self._described(tx, row)

    # ---- for transfers ----------------------------------------------------------------------

    def of(self, tx: Session, transfer: TransferRow) -> ReturnRow | None:
        """The return under whose agreement a transfer of this node as provider is."""
        if transfer.role != Party.PROVIDER.value:
            return None
        agreement = tx.get_one(AgreementRow, transfer.agreement)
        by_agreement = select(ReturnRow).where(ReturnRow.negotiation == agreement.negotiation)
        return tx.exec(by_agreement).first()

    def formats(self, tx: Session, transfer: TransferRow) -> tuple[str, ...]:
        """The formats in which rows leave because a return says so."""
        row = self.of(tx, transfer)
        return (PUSH,) if row is not None and row.ended_at is None else ()

    def begin(self, tx: Session, transfer: TransferRow) -> bool:
        """Deliver by this transfer from now on; False where it belongs to no return."""
        row = self.of(tx, transfer)
        if row is None or transfer.format != PUSH:
            return False
        other = None
        if row.transfer not in (None, transfer.pid):
            other = tx.get_one(TransferRow, row.transfer)
        if row.ended_at is not None or (
            other is not None and TransferState(other.state) not in TERMINAL
        ):
            self._node.transfers.terminate(
                tx,
                transfer,
                "This return is delivered by another transfer, or has ended.",
                code="ended",
                remedy="Complete the other transfer first.",
            )
            return True
        row.transfer = transfer.pid
        tx.add(row)
        if not is_scheduled(tx, DELIVER, transfer.pid):
            schedule(
                tx,
                DELIVER,
                transfer.pid,
                lane=f"{DELIVER}:{transfer.pid}",
                target=f"rows at {transfer.peer}",
                give_up_after_s=GIVE_UP_S,
            )
        return True

    # ---- delivering, as one of our processes ------------------------------------------------

    def _deliver(self, process: Process) -> Later | None:
        now = time.time()
        with self._node.store.transaction() as tx:
            transfer = tx.get_one(TransferRow, process.subject)
            row = self.of(tx, transfer)
            if row is None or row.ended_at is not None or row.transfer != transfer.pid:
                return None
            if transfer.state != TransferState.STARTED:
                # Resuming it schedules this again.
                return None
            # In milliseconds, which the receiver is told exactly.
            due_at = round(now, 3) if row.next_due_at is None else row.next_due_at
            begun = unfinished(tx, transfer.pid)
            number = count(tx, transfer.pid) + 1 if begun is None else begun.number
        if due_at > now and begun is None:
            return Later(due_at - now)
        delivery = Delivery(number, due_at if begun is None else begun.due_at)
        if not self._permitted(transfer, delivery, begun=begun is not None):
            return None
        with within(MOVE_S):
            self._give(transfer, delivery, begun)
        return Later(max(0.0, self._finish(transfer, delivery) - time.time()))

    def _permitted(self, transfer: TransferRow, delivery: Delivery, *, begun: bool) -> bool:
        """Whether the contract lets this delivery leave now, which is then one use of it; where it
        does not, the transfer has been ended with the clause.

        The first one is the use that was counted when the transfer was requested; one that has
        begun was counted then.
        """
        sight = self._node.leaving.look(transfer)
        with self._node.store.transaction() as tx:
            stored = tx.get_one(TransferRow, transfer.pid)
            if stored.state != TransferState.STARTED:
                return False
            if begun or delivery.number == 1:
                refused = self._node.leaving.refuse_now(tx, stored, sight) is not None
            else:
                decision = self._node.leaving.decide(tx, stored, sight)
                refusal = None if decision is None else refusal_in(decision)
                if refusal is not None:
                    self._node.transfers.deny(tx, stored, refusal)
                refused = decision is None or refusal is not None
            if not refused and not begun:
                tx.add(
                    DeliveryRow(
                        transfer=transfer.pid,
                        number=delivery.number,
                        due_at=delivery.due_at,
                        began_at=time.time(),
                    )
                )
        return not refused

    def _give(self, transfer: TransferRow, delivery: Delivery, begun: DeliveryRow | None) -> None:
        """Write the rows, unless that was done, and push them, unless they have come."""
        plane = self._node.data_plane
        # Asked before rows that need consent would be read again.
        sent = begun is not None and begun.moved is not None
        if sent and plane.moving.ask(transfer, delivery).complete:
            return
        path = plane.rows_out.path(transfer, delivery.number)
        written = None
        if begun is not None and not plane.reads_anew(transfer):
            written = still_there(path, begun.moved)
        if written is None:
            written = plane.write(transfer, path, delivery)
        plane.send(transfer, written, again=begun is not None, delivery=delivery)

    def _finish(self, transfer: TransferRow, delivery: Delivery) -> float:
        """Note that a delivery has come; when the next one is due. Times that have passed are not
        made up for one by one: what is due is always the rows as they are."""
        now = time.time()
        with self._node.store.transaction() as tx:
            noted = tx.get_one(DeliveryRow, (transfer.pid, delivery.number))
            noted.finished_at = now
            tx.add(noted)
            row = self.of(tx, tx.get_one(TransferRow, transfer.pid))
            assert row is not None, "a return is never deleted"
            passed = math.floor((now - delivery.due_at) / row.every_s)
            row.next_due_at = round(delivery.due_at + (passed + 1) * row.every_s, 3)
            tx.add(row)
            following = row.next_due_at
        self._node.data_plane.rows_out.path(transfer, delivery.number).unlink(missing_ok=True)
        return following

    def _failed(self, tx: Session, process: Process, error: str) -> None:
        transfer = tx.get_one(TransferRow, process.subject)
        self._node.transfers.terminate(tx, transfer, error, code="failed")

    # ---- small parts ------------------------------------------------------------------------

    def _get(self, tx: Session, name: str) -> ReturnRow:
        row = tx.get(ReturnRow, name)
        if row is None:
            raise NotFound("there is no such return at this node", remedy="dataspace return list")
        return row

    def _running(
        self, tx: Session, name: str, state: TransferState
    ) -> tuple[ReturnRow, TransferRow]:
        row = self._get(tx, name)
        transfer = None if row.transfer is None else tx.get_one(TransferRow, row.transfer)
        if transfer is None or transfer.state != state:
            found = "waits for the bureau" if transfer is None else f"is {transfer.state}"
            raise InputRejected(
                f"this return {found}", remedy="see where it stands: dataspace return list"
            )
        return row, transfer

    def _described(self, tx: Session, row: ReturnRow) -> dict[str, Any]:
        negotiation = tx.get_one(NegotiationRow, row.negotiation)
        agreement = tx.exec(
            select(AgreementRow).where(AgreementRow.negotiation == row.negotiation)
        ).first()
        transfer = None if row.transfer is None else tx.get_one(TransferRow, row.transfer)
        told = transfer if transfer is not None else negotiation
        return {
            "id": row.id,
            "dataset": row.dataset,
            "to": row.consumer,
            "division": row.division,
            "grid": row.grid,
            "rules": row.rules,
            "every_s": row.every_s,
            "state": state_of(row, negotiation, agreement, transfer),
            "negotiation": row.negotiation,
            "agreement": None if agreement is None else agreement.id,
            "transfer": row.transfer,
            "delivered": 0 if transfer is None else finished(tx, transfer.pid),
            "next_due_at": row.next_due_at,
            "created_at": row.created_at,
            "ended_at": row.ended_at,
            "reason": told.reason,
            "clause": told.clause,
            "remedy": told.remedy,
        }
