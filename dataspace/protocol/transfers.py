"""Transfer processes. A computation is a transfer whose data plane is a privacy protocol.

The request carries the signed order (`ds:order`). A provider that permits the use answers
TransferStart with the address of its session; one that refuses answers TransferTermination with
the sentence, the clause and the remedy. The session's address carries no token: every frame is
authenticated as its sender, which cannot be passed on as a token could.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, select

from contracts import messages as dsp
from contracts.order import ComputationOrder, open_order, order_hash
from contracts.party import Party
from contracts.transfer import TERMINAL, TransferMessage, TransferState, next_state
from dataspace.answer import Answer
from dataspace.computing.permission import judge
from dataspace.errors import InputRejected, NotFound, ProtocolViolation, Unavailable
from dataspace.identity.tokens import Member
from dataspace.processes import Handler, Process, schedule
from dataspace.protocol import BASE, UNKNOWN_PID, Pids, verify_pids
from dataspace.protocol.delivery import Reaction
from dataspace.store.tables import AgreementRow, ComputationRow, TransferRow
from ledger.crossmatch import ORDER_RECEIVED
from ledger.entry import EntryType
from privacy.kinds import kind as kind_named

if TYPE_CHECKING:
    from dataspace.node import Node

DECIDE = "decide-transfer"
REQUEST_REACTION = "transfer-requested"
MESSAGE_REACTION = "transfer-message"
ENDPOINT_TYPE = "https://w3id.org/city-dataspace/ns/v1#ComputeSession"


class Transfers:
    """All transfer processes of this node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        node.delivery.on(REQUEST_REACTION, Reaction(self._requested, self._undelivered))
        node.delivery.on(MESSAGE_REACTION, Reaction(None, self._undelivered))

    def handlers(self) -> dict[str, Handler]:
        return {DECIDE: Handler(self._decide, self._decide_failed)}

    # ---- consumer ---------------------------------------------------------------------------

    def request(self, tx: Session, agreement: AgreementRow, computation: ComputationRow) -> None:
        """Queue a TransferRequest carrying the computation's order to the agreement's provider."""
        pid = f"urn:uuid:{uuid.uuid4()}"
        callback = f"{self._node.peers.url_of(agreement.provider)}{BASE}"
        tx.add(
            TransferRow(
                pid=pid,
                role=Party.CONSUMER.value,
                peer=agreement.provider,
                callback=callback,
                agreement=agreement.id,
                format=computation.kind,
                state=next_state(None, Party.CONSUMER, TransferMessage.REQUEST),
                computation=computation.id,
                order_jws=computation.order_jws,
                order_h=computation.order_h,
                created_at=time.time(),
                updated_at=time.time(),
            )
        )
        message = dsp.TransferRequestMessage(
            consumer_pid=pid,
            agreement_id=agreement.id,
            format=computation.kind,
            callback_address=f"{self._node.home.url}{BASE}",
            order=computation.order_jws,
        )
        self._node.delivery.queue(
            tx,
            message,
            to=agreement.provider,
            url=f"{callback}/transfers/request",
            subject=pid,
            reaction=REQUEST_REACTION,
        )

    def complete(self, tx: Session, row: TransferRow) -> None:
        """Tell the provider that the computation gave its result."""
        if TransferState(row.state) in TERMINAL:
            return
        self._move(tx, row, TransferMessage.COMPLETE)
        self._send(tx, row, "completion", dsp.TransferCompletionMessage(**_pids(row)))

    def terminate(
        self,
        tx: Session,
        row: TransferRow,
        reason: str,
        *,
        code: str,
        clause: str | None = None,
        remedy: str | None = None,
    ) -> None:
        """End the transfer with a sentence, and where a clause refused, its path and the remedy.

        Does nothing where it has ended already."""
        if TransferState(row.state) in TERMINAL:
            return
        self._move(tx, row, TransferMessage.TERMINATE)
        row.reason, row.clause, row.remedy = reason, clause, remedy
        detail = {key: value for key, value in (("clause", clause), ("remedy", remedy)) if value}
        reasons: tuple[Any, ...] = (reason, detail) if detail else (reason,)
        message = dsp.TransferTerminationMessage(**_pids(row), code=code, reason=reasons)
        if row.peer_pid is not None:
            self._send(tx, row, "termination", message)

    # ---- a peer's message -------------------------------------------------------------------

    def show(self, tx: Session, peer: Member, pid: str) -> dsp.TransferProcess:
        return _as_message(self._own(tx, peer, pid))

    def receive_request(
        self, tx: Session, peer: Member, message: dsp.TransferRequestMessage
    ) -> dsp.TransferProcess:
        """A consumer's request. A repetition gets the transfer it already has.

        Raises NotFound for an agreement this consumer does not hold, InputRejected or
        ProtocolViolation for an order that is not properly signed or not for us.
        """
        existing = tx.exec(
            select(TransferRow).where(
                TransferRow.role == Party.PROVIDER.value,
                TransferRow.peer == peer.did,
                TransferRow.peer_pid == message.consumer_pid,
            )
        ).first()
        if existing is not None:
            return _as_message(existing)
        agreement = tx.get(AgreementRow, message.agreement_id)
        if (
            agreement is None
            or agreement.role != Party.PROVIDER.value
            or agreement.consumer != peer.did
        ):
            raise NotFound("there is no such agreement between us")
        order = self._verified_order(peer, message, agreement)
        seen = select(TransferRow).where(
            TransferRow.role == Party.PROVIDER.value, TransferRow.computation == order.id
        )
        if tx.exec(seen).first() is not None:
            raise ProtocolViolation("ds:order: it came before; an order is good for one run")
        row = TransferRow(
            pid=f"urn:uuid:{uuid.uuid4()}",
            role=Party.PROVIDER.value,
            peer=peer.did,
            peer_pid=message.consumer_pid,
            callback=self._node.peers.callback_of(peer.did, message.callback_address),
            agreement=agreement.id,
            format=message.format,
            state=next_state(None, Party.CONSUMER, TransferMessage.REQUEST),
            computation=order.id,
            order_jws=message.order or "",
            order_h=order_hash(message.order or ""),
            created_at=time.time(),
            updated_at=time.time(),
        )
        tx.add(row)
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
        schedule(tx, DECIDE, row.pid, {"recipient_kind": peer.kind.value})
        return _as_message(row)

    def receive(self, tx: Session, peer: Member, pid: str, message: dsp.Document) -> None:
        """Any later message of either side. Raises IllegalTransition where the table has no arc."""
        row = self._own(tx, peer, pid)
        kind = dsp.transfer_message(message)
        verify_pids(message, _pids(row))
        theirs = Party.CONSUMER if row.role == Party.PROVIDER.value else Party.PROVIDER
        row.state = next_state(TransferState(row.state), theirs, kind)
        row.updated_at = time.time()
        if row.role == Party.CONSUMER.value:
            row.peer_pid = row.peer_pid or getattr(message, "provider_pid", None)
        tx.add(row)
        if kind is TransferMessage.START and row.role == Party.CONSUMER.value:
            tx.flush()
            self._node.computations.transfer_started(tx, row.computation)
        if isinstance(message, dsp.TransferTerminationMessage):
            row.reason, row.clause, row.remedy = _explanation(message.reason)
            tx.flush()
            self._node.computations.transfer_terminated(tx, row, code=message.code or "failed")

    # ---- provider ---------------------------------------------------------------------------

    def _verified_order(
        self, peer: Member, message: dsp.TransferRequestMessage, agreement: AgreementRow
    ) -> ComputationOrder:
        if message.order is None:
            raise InputRejected(
                "ds:order: the request carries no computation order",
                remedy="this node gives data out through computations only",
            )
        order = open_order(message.order, self._node.peers.resolver.key, datetime.now(UTC))
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
        roles = kind_named(order.kind).roles(len(order.participants) - 1)
        if {part.role for part in order.participants} != set(roles):
            raise ProtocolViolation(f"ds:order: {order.kind} has the roles {', '.join(roles)}")
        if len({part.did for part in order.participants}) != len(order.participants):
            raise ProtocolViolation("ds:order: one participant has two parts")
        return order

    def _decide(self, process: Process) -> None:
        """Ask the agreement's policy about this one use, and act on the answer."""
        node, now = self._node, datetime.now(UTC)
        recipient_kind = process.payload["recipient_kind"]
        with node.store.transaction() as tx:
            row = tx.get_one(TransferRow, process.subject)
            if row.state != TransferState.REQUESTED:
                return
            agreement = tx.get_one(AgreementRow, row.agreement)
            order = open_order(row.order_jws, node.peers.resolver.key, now)
            try:
                node.computations.verify_room(tx, order.consumer)
            except Unavailable as err:
                self.terminate(tx, row, str(err), code="busy", remedy=err.remedy)
                return
            judged = judge(
                order,
                next(part for part in order.participants if part.did == node.did),
                agreement,
                node.datasets.get(tx, agreement.dataset),
                recipient_kind=recipient_kind,
                now=now,
            )
            refusal, facts = judged.refusal, judged.facts
            node.evidence.record(
                tx,
                EntryType.DECIDED,
                at=now,
                peer=row.peer,
                corr=agreement.id,
                agreement_h=agreement.document_h,
                order_h=row.order_h,
                kind=order.kind,
                purpose=order.purpose,
                decision="permit" if refusal is None else "deny",
                clause=refusal.clause if refusal else None,
                # The facts the policy was asked with, so that an auditor can ask it again.
                recipients=(recipient_kind,),
                categories=(facts.grade,) if facts.grade else None,
                legal_basis="consent" if facts.consent else None,
            )
            if refusal is not None:
                self.terminate(
                    tx,
                    row,
                    str(refusal),
                    code="denied",
                    clause=refusal.clause,
                    remedy=refusal.remedy,
                )
                return
            # Counted when it is permitted, not when it succeeds: a run that dies stays spent.
            agreement.use_count += 1
            tx.add(agreement)
            self._start(tx, row, order)

    def _start(self, tx: Session, row: TransferRow, order: ComputationOrder) -> None:
        self._move(tx, row, TransferMessage.START)
        self._node.computations.accept(tx, row, order)
        address = dsp.DataAddress(
            endpoint_type=ENDPOINT_TYPE, endpoint=f"{self._node.home.url}/compute/{order.id}"
        )
        message = dsp.TransferStartMessage(**_pids(row), data_address=address)
        self._send(tx, row, "start", message)

    def _decide_failed(self, tx: Session, process: Process, error: str) -> None:
        self.terminate(tx, tx.get_one(TransferRow, process.subject), error, code="failed")

    # ---- small parts ------------------------------------------------------------------------

    def _own(self, tx: Session, peer: Member, pid: str) -> TransferRow:
        row = tx.get(TransferRow, pid)
        if row is None or row.peer != peer.did:
            raise NotFound("there is no such transfer")
        return row

    def _move(self, tx: Session, row: TransferRow, kind: TransferMessage) -> None:
        row.state = next_state(TransferState(row.state), Party(row.role), kind)
        row.updated_at = time.time()
        tx.add(row)

    def _send(self, tx: Session, row: TransferRow, path: str, message: dsp.Document) -> None:
        self._node.delivery.queue(
            tx,
            message,
            to=row.peer,
            url=f"{row.callback}/transfers/{row.peer_pid}/{path}",
            subject=row.pid,
            reaction=MESSAGE_REACTION,
            last=TransferState(row.state) in TERMINAL,
        )

    def _requested(self, tx: Session, pid: str, answer: Answer) -> None:
        row = tx.get_one(TransferRow, pid)
        if row.peer_pid is None:
            row.peer_pid = dsp.parse(dsp.TransferProcess, answer.body).provider_pid
            tx.add(row)

    def _undelivered(self, tx: Session, pid: str, error: str) -> None:
        """The peer refused a message or stayed away too long: the transfer is over for us."""
        row = tx.get_one(TransferRow, pid)
        if TransferState(row.state) in TERMINAL:
            return
        row.state, row.reason, row.updated_at = TransferState.TERMINATED, error, time.time()
        tx.add(row)
        tx.flush()
        self._node.computations.transfer_terminated(tx, row, code="failed")


def _explanation(reason: Any) -> tuple[str, str | None, str | None]:
    """Sentence, clause and remedy out of a peer's termination; foreign text, so it is cut."""
    items = list(reason or ())
    sentence = str(items[0])[:500] if items else "the peer ended it without saying why"
    detail = items[1] if len(items) > 1 and isinstance(items[1], dict) else {}
    clause, remedy = detail.get("clause"), detail.get("remedy")
    return (
        sentence,
        str(clause)[:200] if clause else None,
        str(remedy)[:500] if remedy else None,
    )


def _pids(row: TransferRow) -> Pids:
    peer_pid = row.peer_pid or UNKNOWN_PID
    if row.role == Party.PROVIDER.value:
        return {"provider_pid": row.pid, "consumer_pid": peer_pid}
    return {"provider_pid": peer_pid, "consumer_pid": row.pid}


def _as_message(row: TransferRow) -> dsp.TransferProcess:
    return dsp.TransferProcess(**_pids(row), state=TransferState(row.state))
