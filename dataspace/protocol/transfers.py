"""Transfer processes: both roles, judged by the one state table.

A transfer that carries a computation order is moved by the computation; one without lets rows
leave, and is moved by the node's strategy (`contracts.transfer_strategy`) and its data plane.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from sqlmodel import Session, col, select

from contracts import messages as dsp
from contracts.party import Party
from contracts.transfer import (
    TERMINAL,
    TransferMessage,
    TransferState,
    may_follow_up,
    next_state,
)
from contracts.transfer_strategy import PUSH
from dataspace.answer import Answer
from dataspace.computing.deciding import DECIDE
from dataspace.errors import Denied, InputRejected, NotFound
from dataspace.identity.tokens import Member
from dataspace.kinds import Right, verify_right
from dataspace.operations.tracing import record
from dataspace.processes import Handler, schedule
from dataspace.protocol import BASE, verify_pids
from dataspace.protocol.delivery import Reaction
from dataspace.protocol.explanation import Explanation, explanation_of
from dataspace.protocol.process_names import learn_pid
from dataspace.protocol.transfer_moves import TransferMoves
from dataspace.protocol.transfer_rows import as_message, new_address, pids
from dataspace.store.paging import FIRST, Page
from dataspace.store.tables import AgreementRow, ComputationRow, TransferRow

if TYPE_CHECKING:
    from dataspace.node import Node

REQUEST_REACTION = "transfer-requested"
MESSAGE_REACTION = "transfer-message"


class Transfers:
    """All transfer processes of this node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._moves = TransferMoves(node)
        node.delivery.on(REQUEST_REACTION, Reaction(self._requested, self._undelivered))
        node.delivery.on(MESSAGE_REACTION, Reaction(self._told, self._undelivered))

    def handlers(self) -> dict[str, Handler]:
        return self._moves.handlers()

    def recover(self) -> None:
        """After a restart: what was suspended stays so, also what has not begun to run."""
        with self._node.store.transaction() as tx:
            suspended = select(TransferRow.computation).where(
                TransferRow.state == TransferState.SUSPENDED, TransferRow.computation != ""
            )
            for computation in tx.exec(suspended).all():
                self._node.sessions.hold(computation)

    # ---- consumer ---------------------------------------------------------------------------

    def order(self, tx: Session, agreement: AgreementRow, computation: ComputationRow) -> None:
        """Queue a request that carries the computation's order to the agreement's provider."""
        row = self._new_row(agreement, computation.kind)
        row.computation, row.purpose = computation.id, computation.purpose
        row.order_jws, row.order_h = computation.order_jws, computation.order_h
        self._request(tx, row, None)

    def begin(
        self,
        tx: Session,
        agreement: AgreementRow,
        format_: str,
        *,
        purpose: str | None = None,
        callback: str | None = None,
    ) -> str:
        """Queue a request for the rows themselves; returns our pid. `callback` is where the
        provider speaks the protocol, if not where its DID says."""
        row = self._new_row(agreement, format_, callback)
        row.purpose = purpose
        address = None
        if format_ == PUSH:
            address, row.token_h = new_address(f"{self._node.home.url}/data/inbox/{row.pid}")
        self._request(tx, row, address)
        return row.pid

    def _new_row(
        self, agreement: AgreementRow, format_: str, callback: str | None = None
    ) -> TransferRow:
        now = time.time()
        return TransferRow(
            pid=f"urn:uuid:{uuid.uuid4()}",
            role=Party.CONSUMER.value,
            peer=agreement.provider,
            callback=callback or f"{self._node.peers.url_of(agreement.provider)}{BASE}",
            agreement=agreement.id,
            format=format_,
            state=next_state(None, Party.CONSUMER, TransferMessage.REQUEST),
            computation="",
            order_jws="",
            order_h="",
            created_at=now,
            updated_at=now,
        )

    def _request(self, tx: Session, row: TransferRow, address: dsp.DataAddress | None) -> None:
        tx.add(row)
        message = dsp.TransferRequestMessage(
            consumer_pid=row.pid,
            agreement_id=row.agreement,
            format=row.format,
            callback_address=f"{self._node.home.url}{BASE}",
            data_address=address,
            order=row.order_jws or None,
            purpose=None if row.order_jws else row.purpose,
        )
        self._node.delivery.queue(
            tx,
            message,
            to=row.peer,
            url=f"{row.callback}/transfers/request",
            subject=row.pid,
            state=row.state,
            reaction=REQUEST_REACTION,
        )

    # ---- our own moves ----------------------------------------------------------------------

    def start(self, tx: Session, row: TransferRow, address: dsp.DataAddress | None) -> None:
        """Start or resume the transfer; `address` says where to fetch."""
        self._move(tx, row, TransferMessage.START)
        row.reason = None
        self._pace(tx, row)
        message = dsp.TransferStartMessage(**pids(row), data_address=address)
        self._send(tx, row, "start", message)

    def suspend(self, tx: Session, row: TransferRow, reason: str, code: str = "suspended") -> None:
        """Interrupt the transfer; what it moves stands still until it is resumed."""
        self._move(tx, row, TransferMessage.SUSPEND)
        row.reason = reason
        self._pace(tx, row)
        message = dsp.TransferSuspensionMessage(**pids(row), code=code, reason=(reason,))
        self._send(tx, row, "suspension", message)

    def complete(self, tx: Session, row: TransferRow) -> None:
        """Tell the peer that all is done. Does nothing where the transfer has ended already."""
        if TransferState(row.state) in TERMINAL:
            return
        if row.computation and row.state == TransferState.SUSPENDED:
            # The last frame had come before the suspension, and the protocol has no way from
            # SUSPENDED to COMPLETED but this.
            self.start(tx, row, None)
        self._complete(tx, row)

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
        if row.peer_pid is not None:
            self._send(tx, row, "termination", self._termination(row, code))

    def deny(self, tx: Session, row: TransferRow, refusal: Denied) -> None:
        """End the transfer because a clause refused it."""
        self.terminate(
            tx, row, str(refusal), code="denied", clause=refusal.clause, remedy=refusal.remedy
        )

    # ---- by the owner's hand ----------------------------------------------------------------

    def get(self, tx: Session, pid: str) -> TransferRow:
        """The transfer by our pid. Raises NotFound."""
        row = tx.get(TransferRow, pid)
        if row is None:
            raise NotFound("there is no such transfer at this node", remedy="check its id")
        return row

    def newest(self, page: Page = FIRST) -> list[TransferRow]:
        """A page of this node's transfers, newest first."""
        newest = select(TransferRow).order_by(col(TransferRow.created_at).desc())
        with self._node.store.look() as tx:
            return list(tx.exec(page.of(newest)).all())

    def resume(self, tx: Session, row: TransferRow) -> None:
        """Go on with a suspended transfer."""
        if row.state != TransferState.SUSPENDED:
            # The table would let a provider start; that is the policy's word, not the owner's.
            raise InputRejected(f"the transfer is {row.state}, not suspended")
        self.start(tx, row, self._node.data_plane.start_address(row))
        self._let_begin(tx, row)

    def finish(self, tx: Session, row: TransferRow) -> None:
        """Complete a transfer of rows by hand. Raises InputRejected for a computation's."""
        if row.computation:
            raise InputRejected(
                "a computation completes by itself", remedy="end or suspend it instead"
            )
        self._complete(tx, row)

    def end(self, tx: Session, row: TransferRow, reason: str, *, by: str) -> None:
        """End a transfer, and the computation it belongs to, by the will of party `by` (a DID)."""
        if TransferState(row.state) in TERMINAL:
            raise InputRejected(f"the transfer is {row.state} already")
        self.terminate(tx, row, reason, code="ended")
        if row.computation:
            tx.flush()
            self._node.computations.transfer_terminated(tx, row, code="ended", by=by)

    # ---- a peer's message -------------------------------------------------------------------

    def show(self, tx: Session, peer: Member, pid: str) -> dsp.TransferProcess:
        return as_message(self._own(tx, peer, pid))

    def receive_request(
        self, tx: Session, peer: Member, message: dsp.TransferRequestMessage
    ) -> dsp.TransferProcess:
        """A consumer's request. A repetition gets the transfer it already has.

        Raises NotFound for an agreement this consumer does not hold, InputRejected for a format
        the dataset does not leave in, and as `Deciding.take_in` does about an order.
        """
        verify_right(peer.kind, Right.CONSUME)
        existing = tx.exec(
            select(TransferRow).where(
                TransferRow.role == Party.PROVIDER.value,
                TransferRow.peer == peer.did,
                TransferRow.peer_pid == message.consumer_pid,
            )
        ).first()
        if existing is not None:
            return as_message(existing)
        agreement = tx.get(AgreementRow, message.agreement_id)
        if (
            agreement is None
            or agreement.role != Party.PROVIDER.value
            or agreement.consumer != peer.did
        ):
            raise NotFound("there is no such agreement between us")
        row = self._new_row(agreement, message.format, callback=" ")
        row.role, row.peer, row.peer_pid = Party.PROVIDER.value, peer.did, message.consumer_pid
        row.callback = self._node.peers.callback_of(peer.did, message.callback_address)
        row.peer_kind = peer.kind.value
        if message.order is not None:
            self._node.deciding.take_in(tx, row, peer, message, agreement)
            schedule(tx, DECIDE, row.pid)
        else:
            self._node.leaving.take_in(tx, row, peer, message)
        tx.add(row)
        answer = as_message(row)
        self._moves.move_on(tx, row)
        return answer

    def receive(
        self, tx: Session, peer: Member, pid: str, message: dsp.Document
    ) -> dsp.TransferProcess:
        """Any later message of either side. Raises IllegalTransition where the table has no arc."""
        row = self._own(tx, peer, pid)
        verify_pids(message, pids(row))
        theirs = Party.CONSUMER if row.role == Party.PROVIDER.value else Party.PROVIDER
        permitted = row.state == TransferState.REQUESTED and isinstance(
            message, dsp.TransferStartMessage
        )
        self._enter(
            tx, row, next_state(TransferState(row.state), theirs, dsp.transfer_message(message))
        )
        if row.role == Party.CONSUMER.value:
            learn_pid(tx, row, getattr(message, "provider_pid", None))
        if permitted:
            # The provider has counted this use; who holds the agreement knows what is left of it.
            agreement = tx.get(AgreementRow, row.agreement)
            if agreement is not None:
                agreement.use_count += 1
                tx.add(agreement)
        tx.add(row)
        answer = as_message(row)
        self._follow(tx, row, message)
        self._moves.move_on(tx, row)
        return answer

    def _follow(self, tx: Session, row: TransferRow, message: dsp.Document) -> None:
        """What the peer's message means for what is being moved."""
        if isinstance(message, dsp.TransferStartMessage):
            row.reason = None
            if message.data_address is not None and not row.computation:
                row.data_address = message.data_address.to_json()
            self._pace(tx, row)
            self._let_begin(tx, row)
        elif isinstance(message, dsp.TransferSuspensionMessage):
            row.reason = explanation_of(message.reason, message.code).sentence
            self._pace(tx, row)
        elif isinstance(message, dsp.TransferTerminationMessage):
            said = explanation_of(message.reason, message.code)
            row.reason, row.clause, row.remedy = said.sentence, said.clause, said.remedy
            tx.flush()
            if row.computation:
                self._node.computations.transfer_terminated(
                    tx, row, code=message.code or "failed", by=row.peer
                )

    # ---- small parts ------------------------------------------------------------------------

    def _own(self, tx: Session, peer: Member, pid: str) -> TransferRow:
        row = tx.get(TransferRow, pid)
        if row is None or row.peer != peer.did:
            raise NotFound("there is no such transfer")
        return row

    def _complete(self, tx: Session, row: TransferRow) -> None:
        self._move(tx, row, TransferMessage.COMPLETE)
        self._send(tx, row, "completion", dsp.TransferCompletionMessage(**pids(row)))

    def _move(self, tx: Session, row: TransferRow, kind: TransferMessage) -> None:
        self._enter(tx, row, next_state(TransferState(row.state), Party(row.role), kind))

    def _enter(self, tx: Session, row: TransferRow, state: TransferState) -> None:
        row.state, row.updated_at = state, time.time()
        tx.add(row)
        if state in TERMINAL:
            record("transfer", row.created_at, role=row.role, outcome=state.value)
            self._node.data_plane.forget(row)

    def _send(self, tx: Session, row: TransferRow, path: str, message: dsp.Document) -> None:
        self._node.delivery.queue(
            tx,
            message,
            to=row.peer,
            url=f"{row.callback}/transfers/{row.peer_pid}/{path}",
            subject=row.pid,
            state=row.state,
            reaction=MESSAGE_REACTION,
            last=TransferState(row.state) in TERMINAL,
        )

    def _termination(self, row: TransferRow, code: str) -> dsp.TransferTerminationMessage:
        explanation = Explanation(row.reason or "", row.clause, row.remedy)
        return dsp.TransferTerminationMessage(
            **pids(row), code=code, reason=explanation.to_reason()
        )

    def _pace(self, tx: Session, row: TransferRow) -> None:
        """A computation stands still while any of its transfers is suspended, and then goes on."""
        if not row.computation:
            return
        tx.flush()
        states = select(TransferRow.state).where(TransferRow.computation == row.computation)
        if TransferState.SUSPENDED in tx.exec(states).all():
            self._node.sessions.hold(row.computation)
        else:
            self._node.sessions.release(row.computation)

    def _let_begin(self, tx: Session, row: TransferRow) -> None:
        """At a consumer a start, or the end of a suspension, may be what its role waited for."""
        if row.computation and row.role == Party.CONSUMER.value:
            tx.flush()
            self._node.computations.transfer_started(tx, row.computation)

    def _requested(self, tx: Session, pid: str, answer: Answer, state: str) -> None:
        row = tx.get_one(TransferRow, pid)
        if row.peer_pid is None:
            learn_pid(tx, row, dsp.parse(dsp.TransferProcess, answer.body).provider_pid)
            tx.add(row)
        if row.state == TransferState.TERMINATED:
            # Ended here before the peer knew of it.
            self._send(tx, row, "termination", self._termination(row, "ended"))
        self._told(tx, pid, answer, state)

    def _told(self, tx: Session, pid: str, answer: Answer, state: str) -> None:
        """The peer took our message: where the table lets us go on from there, our strategy may."""
        row = tx.get_one(TransferRow, pid)
        if row.state == state and may_follow_up(TransferState(state), Party(row.role)):
            self._moves.move_on(tx, row)

    def _undelivered(self, tx: Session, pid: str, error: str) -> None:
        """The peer refused a message or stayed away too long: the transfer is over for us."""
        row = tx.get_one(TransferRow, pid)
        if TransferState(row.state) in TERMINAL:
            return
        self._enter(tx, row, TransferState.TERMINATED)
        row.reason = error
        tx.flush()
        if row.computation:
            self._node.computations.transfer_terminated(tx, row, code="failed", by=row.peer)
