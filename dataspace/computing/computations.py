"""Computations from order to result: the consumer's side and a provider's side.

Consumer: an order is signed, one transfer is requested of every provider, and when all have
started the consumer's own role runs. Provider: the order is checked, the agreement's policy
decides, and the provider's role runs (`dataspace.computing.running`). Each change of state is
written with its evidence in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from sqlmodel import Session, col, select

from contracts.order import ComputationOrder, order_hash, read_unverified_order, sign_order
from dataspace.computing.handing_out import HandingOut, schedule_handing_out
from dataspace.computing.ordering import (
    ComputationRequest,
    find_part,
    make_order,
    verify_counts,
)
from dataspace.computing.parameters import parameters_of
from dataspace.computing.queue import has_room
from dataspace.computing.running import (
    COMPLETED,
    FAILED,
    REFUSED,
    REQUESTED,
    RUN,
    TERMINAL,
    Running,
    own_reading,
)
from dataspace.errors import SHOWN, Denied, InputRejected, NotFound, Unavailable
from dataspace.kinds import Right, verify_right
from dataspace.processes import Handler, Process, is_scheduled, schedule
from dataspace.store.paging import FIRST, Page
from dataspace.store.tables import ComputationRow, TransferRow
from ledger.crossmatch import ORDER_SENT
from ledger.entry import EntryType
from privacy.errors import Withheld
from privacy.kinds import CONSUMER
from privacy.kinds import kind as kind_named
from privacy.paillier import PrivateKey, generate
from privacy.partial import least_providers
from privacy.transcript import Transcribed

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.computations")

EXPIRE, GATHER = "expire-computation", "gather-providers"
# The part of an order's life in which providers are waited for that it can do without.
GATHERING_SHARE = 0.25
KEY_BITS = 2048
# Those that wait for their turn hold a row and no memory.
MAX_WAITING = 256
MAX_WAITING_A_CONSUMER = 128
# The consumer's own file is read so far before anybody is asked for anything.
LOOKED_AT_ROWS = 100_000


class Computations:
    """All computations in which this node takes part."""

    def __init__(self, node: Node, running: Running) -> None:
        self._node = node
        self._running = running
        # Private keys of running orders: in memory only, gone with the run.
        self._keys: dict[str, PrivateKey] = {}

    def handlers(self) -> dict[str, Handler]:
        return {
            **self._running.handlers(),
            **HandingOut(self._node).handlers(),
            EXPIRE: Handler(self._expire),
            GATHER: Handler(self._gather),
        }

    def key_of(self, computation_id: str) -> PrivateKey | None:
        """The private key of a running order of ours, if its kind has one."""
        return self._keys.get(computation_id)

    def keyed(self) -> list[str]:
        """The orders of ours that depend on what is in the memory of this process."""
        return list(self._keys)

    def _begin(self, tx: Session, row: ComputationRow) -> None:
        """Let our own role run, where its key is if it has one."""
        schedule(tx, RUN, row.id, bound_to=row.replica)

    def forget_key(self, computation_id: str) -> None:
        """Wipe the key of an order that needs it no longer."""
        key = self._keys.pop(computation_id, None)
        if key is not None:
            key.wipe()

    # ---- consumer ---------------------------------------------------------------------------

    def order(self, asked: ComputationRequest) -> ComputationRow:
        """Sign an order and request its transfers. Raises InputRejected or NotFound at once for
        what can be seen to be wrong without asking a provider's policy."""
        verify_right(self._node.home.settings.kind, Right.CONSUME)
        kind = kind_named(asked.kind)
        verify_counts(kind, asked)
        parts = [find_part(self._node, kind, one, asked) for one in asked.agreements]
        key = generate(KEY_BITS) if kind.needs_key else None
        order = make_order(self._node, kind, asked, parts, key.public_key if key else None)
        own = self._node.identity
        jws = sign_order(order, own.key, own.kid, own.alg)
        row = ComputationRow(
            id=order.id,
            kind=kind.name,
            role=CONSUMER,
            consumer=self._node.did,
            purpose=asked.purpose,
            order_jws=jws,
            order_h=order_hash(jws),
            status=REQUESTED,
            local_input=self._own_input(asked, order),
            created_at=time.time(),
        )
        if key is not None:
            self._keys[order.id] = key
            # The key is in the memory of this process, and so only it can run our role.
            row.replica = self._node.replicas.name
        with self._node.store.transaction() as tx:
            tx.add(row)
            for part in parts:
                self._node.evidence.record(
                    tx,
                    EntryType.ORDERED,
                    outcome=ORDER_SENT,
                    peer=part.agreement.provider,
                    corr=part.agreement.id,
                    agreement_h=part.agreement.document_h,
                    order_h=row.order_h,
                    kind=row.kind,
                    purpose=row.purpose,
                )
                self._node.transfers.order(tx, part.agreement, row)
            left_s = (order.expires_at - order.issued_at).total_seconds()
            schedule(tx, EXPIRE, row.id, after_s=left_s)
            if kind.partial:
                schedule(tx, GATHER, row.id, after_s=left_s * GATHERING_SHARE)
        return row

    def cancel(self, computation_id: str) -> ComputationRow:
        """End a computation at its owner's word, whichever part this node has in it.

        Raises NotFound, and InputRejected where it has ended already.
        """
        reason = "it was cancelled by a participant"
        with self._node.store.transaction() as tx:
            row = tx.get(ComputationRow, computation_id)
            if row is None:
                raise _unknown()
            if row.status in TERMINAL:
                raise InputRejected(f"this computation has ended: {row.status.lower()}")
            self.end(tx, row, FAILED, reason)
            self.terminate_transfers(tx, row.id, reason, code="cancelled")
        self._node.sessions.cancel(computation_id, Unavailable(reason))
        return row

    def transfer_started(self, tx: Session, computation_id: str) -> None:
        """A provider has started; when it was the last one, our own role runs."""
        row = tx.get(ComputationRow, computation_id)
        if row is not None and row.status == REQUESTED:
            self._begin_if_gathered(tx, row)

    def _begin_if_gathered(self, tx: Session, row: ComputationRow) -> None:
        """Let our own role run once every provider has started, or has for a kind that can do
        without some, either started or refused."""
        states = [transfer.state for transfer in self._transfers(tx, row.id)]
        settled = {"STARTED", "TERMINATED"} if kind_named(row.kind).partial else {"STARTED"}
        if set(states) <= settled:
            self._begin(tx, row)

    def _gather(self, process: Process) -> None:
        """Stop waiting for providers of a kind that can do without some."""
        reason = "the computation began without this provider, which did not answer in time"
        with self._node.store.transaction() as tx:
            row = tx.get_one(ComputationRow, process.subject)
            if row.status != REQUESTED or is_scheduled(tx, RUN, row.id):
                return
            for transfer in self._transfers(tx, row.id):
                if transfer.state == REQUESTED:
                    self._node.transfers.terminate(tx, transfer, reason, code="late")
            self._begin_if_gathered(tx, row)

    def transfer_terminated(
        self, tx: Session, transfer: TransferRow, *, code: str, by: str
    ) -> None:
        """A participant refused, failed or ended it: the whole computation ends, and the others
        are told; `by` is the DID of the party whose will it was."""
        row = tx.get(ComputationRow, transfer.computation)
        if row is None or row.status in TERMINAL:
            return
        if row.role == CONSUMER and row.status == REQUESTED and self._can_do_without(tx, row):
            self._begin_if_gathered(tx, row)
            return
        refused = code in ("denied", "withheld")
        reason = transfer.reason or "a participant ended the computation"
        self.end(
            tx,
            row,
            REFUSED if refused else FAILED,
            reason,
            clause=transfer.clause,
            remedy=transfer.remedy,
            refused_by=by,
        )
        self.terminate_transfers(tx, row.id, "another participant ended the computation")
        self._node.sessions.cancel(row.id, Unavailable(f"the computation was ended: {reason}"))

    def _can_do_without(self, tx: Session, row: ComputationRow) -> bool:
        """Whether enough providers are left of a kind that needs not all of them."""
        if not kind_named(row.kind).partial:
            return False
        order = read_unverified_order(row.order_jws)
        left = [one for one in self._transfers(tx, row.id) if one.state != "TERMINATED"]
        return len(left) >= least_providers(parameters_of(order))

    # ---- provider ---------------------------------------------------------------------------

    def accept(self, tx: Session, transfer: TransferRow, order: ComputationOrder) -> None:
        """A provider's policy said yes: our role will run."""
        me = next(part for part in order.participants if part.did == self._node.did)
        tx.add(
            ComputationRow(
                id=order.id,
                kind=order.kind,
                role=me.role,
                consumer=order.consumer,
                purpose=order.purpose,
                order_jws=transfer.order_jws,
                order_h=order_hash(transfer.order_jws),
                status=REQUESTED,
                created_at=time.time(),
            )
        )
        schedule(tx, RUN, order.id)

    def verify_room(self, tx: Session, consumer: str) -> None:
        """Raise Unavailable while as many computations wait as this node lets wait, of this
        consumer or of all."""
        waiting = [one.consumer for one in self._running.waiting(tx)]
        room = {"most": MAX_WAITING, "most_a_consumer": MAX_WAITING_A_CONSUMER}
        if not has_room(waiting, consumer, **room):
            raise Unavailable(
                "as many computations wait at this node as it lets wait",
                remedy="order again when some of them have ended",
            )

    # ---- both -------------------------------------------------------------------------------

    def get(self, computation_id: str) -> ComputationRow:
        with self._node.store.transaction() as tx:
            row = tx.get(ComputationRow, computation_id)
        if row is None:
            raise _unknown()
        return row

    def newest(self, page: Page = FIRST) -> list[ComputationRow]:
        """A page of this node's computations, newest first."""
        newest = select(ComputationRow).order_by(col(ComputationRow.created_at).desc())
        with self._node.store.look() as tx:
            return list(tx.exec(page.of(newest)).all())

    def progress(self, row: ComputationRow) -> dict[str, Any]:
        """Where a computation is, while it runs here: its step, the units of work done and in all
        (0 until that is known), and the bytes moved."""
        run = self._node.sessions.find(row.id)
        if run is None and row.status not in TERMINAL:
            told = self._node.forwarding.progress(row)
            if told is not None:
                return told
        over = row.status in TERMINAL or run is None
        return {
            "step": row.status.lower() if over or run is None else run.step,
            "done_units": run.done_units if run else 0,
            "total_units": run.total_units if run else 0,
            "sent_bytes": run.sent_bytes if run else 0,
            "received_bytes": run.received_bytes if run else 0,
            "started_at": row.started_at,
            "attempt": row.attempt,
        }

    def _own_input(
        self, asked: ComputationRequest, order: ComputationOrder
    ) -> dict[str, Any] | None:
        if asked.own is None:
            return None
        own: dict[str, Any] = asked.own.model_dump()
        own["canonicaliser"] = order.participants[0].canonicaliser or "text/1"
        reading = own_reading(self._node, own)
        # Looked at now, so that a wrong file or column is the caller's error and no one's failed
        # run. How a large file goes on shows in the run.
        for _ in reading.batches():
            if reading.rows >= LOOKED_AT_ROWS:
                break
        return own | {"rows": reading.rows, "excluded": reading.excluded}

    def finish(
        self,
        computation_id: str,
        order: ComputationOrder,
        end: Transcribed | Exception,
        *,
        excluded: int | None,
    ) -> None:
        """Store how our role ended, with its evidence, and tell the other side. `excluded` of our
        rows had no usable identifier, where they were read in this life of the node."""
        self.forget_key(computation_id)
        if self.get(computation_id).replica != self._node.replicas.name:
            # Another replica has taken it over, with its files.
            return
        spools = self._running.spools
        if isinstance(end, Transcribed) and end.outcome.attachment is not None:
            spools.keep_result(computation_id, end.outcome.attachment)
        if not self._store_end(computation_id, order, end, excluded):
            # It was ended meanwhile, and what has ended has no result.
            spools.result(computation_id).unlink(missing_ok=True)
        spools.discard(computation_id)

    def _store_end(
        self,
        computation_id: str,
        order: ComputationOrder,
        end: Transcribed | Exception,
        excluded: int | None,
    ) -> bool:
        """Put down the end of our role; False where the computation had ended before without a
        result. One that has completed did so by an earlier call, of whose commit no word came."""
        with self._node.store.transaction() as tx:
            row = tx.get_one(ComputationRow, computation_id)
            if row.status in TERMINAL or row.replica != self._node.replicas.name:
                return row.status == COMPLETED
            if isinstance(end, Transcribed):
                report = dict(end.outcome.report)
                row.report = report if excluded is None else report | {"excluded": excluded}
                row.attachment = end.outcome.attachment
                self._complete(tx, row, order, end)
                return True
            if isinstance(end, Withheld):
                status, code = REFUSED, "withheld"
                clause: str | None = end.rule
                remedy: str | None = "ask about a larger group of people"
            elif isinstance(end, Denied):
                status, code, clause, remedy = REFUSED, "denied", end.clause, end.remedy
            else:
                status, code, clause = FAILED, "failed", None
                remedy = getattr(end, "remedy", None)
            reason = _public_reason(end)
            self.end(tx, row, status, reason, clause=clause, remedy=remedy)
            self.terminate_transfers(tx, row.id, reason, code=code, clause=clause, remedy=remedy)
        return True

    def _complete(
        self, tx: Session, row: ComputationRow, order: ComputationOrder, end: Transcribed
    ) -> None:
        row.status, row.finished_at = COMPLETED, time.time()
        self._count(row)
        row.transcript_h = end.digest.hex()
        row.signatures = {party: value.hex() for party, value in end.signatures.items()}
        value = end.outcome.value
        row.value = dict(value) if isinstance(value, Mapping) else None
        tx.add(row)
        self._running.call_next(tx)
        for part in order.participants:
            if part.role not in end.signatures:
                continue  # It was not there.
            if row.role != CONSUMER and part.did != self._node.did:
                continue
            if row.role == CONSUMER and part.role == CONSUMER:
                continue
            self._node.evidence.record(
                tx,
                EntryType.COMPLETED,
                peer=order.consumer if row.role != CONSUMER else part.did,
                corr=part.agreement,
                order_h=row.order_h,
                kind=row.kind,
                purpose=row.purpose,
                transcript_h=row.transcript_h,
                outcome="completed",
            )
        if row.role == CONSUMER:
            run = self._node.sessions.find(row.id)
            assert run is not None, "its session ends after this"
            for transfer in self._transfers(tx, row.id):
                schedule_handing_out(tx, row, order, transfer, run)
                self._node.transfers.complete(tx, transfer)

    def end(
        self,
        tx: Session,
        row: ComputationRow,
        status: str,
        reason: str,
        *,
        clause: str | None = None,
        remedy: str | None = None,
        refused_by: str | None = None,
    ) -> None:
        """Put down why a computation ended without a result, with its evidence."""
        row.status, row.finished_at = status, time.time()
        self._count(row)
        row.reason, row.clause, row.remedy = reason, clause, remedy
        row.refused_by = refused_by or row.refused_by
        tx.add(row)
        self._running.call_next(tx)
        self.forget_key(row.id)
        self._node.evidence.record(
            tx,
            EntryType.REFUSED if status == REFUSED else EntryType.FAILED,
            peer=refused_by,
            order_h=row.order_h,
            kind=row.kind,
            purpose=row.purpose,
            clause=clause,
            outcome=status.lower(),
        )

    def _count(self, row: ComputationRow) -> None:
        """Count an end, and how long the role ran if it did."""
        if row.started_at is not None and row.finished_at is not None:
            took_s = row.finished_at - row.started_at
            self._node.figures.computation_s.add((row.kind, row.status.lower()), took_s)

    def terminate_transfers(
        self,
        tx: Session,
        computation_id: str,
        reason: str,
        *,
        code: str = "failed",
        clause: str | None = None,
        remedy: str | None = None,
    ) -> None:
        """End what is left of the transfers of a computation."""
        for transfer in self._transfers(tx, computation_id):
            self._node.transfers.terminate(
                tx, transfer, reason, code=code, clause=clause, remedy=remedy
            )

    def _transfers(self, tx: Session, computation_id: str) -> list[TransferRow]:
        return list(
            tx.exec(select(TransferRow).where(TransferRow.computation == computation_id)).all()
        )

    def _expire(self, process: Process) -> None:
        reason = "not every participant answered before the order's deadline"
        with self._node.store.transaction() as tx:
            row = tx.get_one(ComputationRow, process.subject)
            if row.status in TERMINAL:
                return
            waiting = [one.peer for one in self._transfers(tx, row.id) if one.state == REQUESTED]
            names = f" (no answer from {', '.join(waiting)})" if waiting else ""
            self.end(tx, row, FAILED, reason + names, remedy="check those nodes, then order again")
            self.terminate_transfers(tx, row.id, reason)
        self._node.sessions.cancel(process.subject, Unavailable(reason))


def _public_reason(err: Exception) -> str:
    """A sentence that may leave this node: our own errors' sentences, never an internal one."""
    if isinstance(err, SHOWN):
        return str(err)
    log.error("a role failed", error=type(err).__name__, exc_info=err)
    return f"an error inside the node ({type(err).__name__}); its log says more"


def _unknown() -> NotFound:
    return NotFound(
        "there is no such computation at this node", remedy="list them: dataspace computation list"
    )
