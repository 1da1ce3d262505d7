"""Computations from order to result: the consumer's side and a provider's side.

Consumer: an order is signed, one transfer is requested of every provider, and when all have
started the consumer's own role runs. Provider: the order is checked, the agreement's policy
decides, and the provider's role runs. Each change of state is written with its evidence in one
transaction.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from sqlmodel import Session, col, select

from connectors.table import Use
from contracts.order import (
    ComputationOrder,
    open_order,
    order_hash,
    sign_order,
)
from dataspace.computing.ordering import (
    ComputationRequest,
    find_part,
    make_order,
    verify_counts,
)
from dataspace.computing.sessions import Drive, Inbox
from dataspace.computing.sessions import Session as Run
from dataspace.errors import SHOWN, NotFound, Unavailable
from dataspace.processes import Handler, Process, schedule
from dataspace.store.tables import AgreementRow, ComputationRow, TransferRow
from ledger.crossmatch import ORDER_SENT
from ledger.entry import EntryType
from privacy.errors import Withheld
from privacy.kinds import CONSUMER, ConsumerSecrets, Inputs, Parameters
from privacy.kinds import kind as kind_named
from privacy.paillier import PrivateKey, generate_keypair
from privacy.transcript import Transcribed, transcribed

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.computations")

RUN = "run-computation"
EXPIRE = "expire-computation"
KEY_BITS = 2048
# Each running computation holds a thread and its frames.
MAX_RUNNING = 32
MAX_RUNNING_A_CONSUMER = 12

REQUESTED, RUNNING, COMPLETED, REFUSED, FAILED = (
    "REQUESTED",
    "RUNNING",
    "COMPLETED",
    "REFUSED",
    "FAILED",
)
TERMINAL = frozenset({COMPLETED, REFUSED, FAILED})


class Computations:
    """All computations in which this node takes part."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Private keys of running orders: in memory only, gone with the run.
        self._keys: dict[str, PrivateKey] = {}

    def handlers(self) -> dict[str, Handler]:
        return {RUN: Handler(self._run, self._run_failed), EXPIRE: Handler(self._expire)}

    def recover(self) -> None:
        """After a restart: what was running, or waits for a key that was in memory, has failed."""
        reason = "the node was restarted while the computation ran"
        with self._node.store.transaction() as tx:
            unfinished = select(ComputationRow).where(
                col(ComputationRow.status).in_([REQUESTED, RUNNING])
            )
            for row in tx.exec(unfinished).all():
                waits_for_peers = row.status == REQUESTED and (
                    row.role != CONSUMER or not kind_named(row.kind).needs_key
                )
                if waits_for_peers:
                    continue
                self._end(tx, row, FAILED, reason, remedy="order it again")
                self._terminate_transfers(tx, row.id, reason)

    # ---- consumer ---------------------------------------------------------------------------

    def order(self, asked: ComputationRequest) -> ComputationRow:
        """Sign an order and request its transfers. Raises InputRejected or NotFound at once for
        what can be seen to be wrong without asking a provider's policy."""
        kind = kind_named(asked.kind)
        verify_counts(kind, asked)
        parts = [find_part(self._node, kind, one, asked) for one in asked.agreements]
        key = generate_keypair(KEY_BITS) if kind.needs_key else None
        order = make_order(self._node, kind, asked, parts, key.public_key if key else None)
        jws = sign_order(order, self._node.identity.key, self._node.identity.kid, "Ed25519")
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
            schedule(tx, EXPIRE, row.id, after_s=self._node.home.settings.computation_deadline_s)
        return row

    def transfer_started(self, tx: Session, computation_id: str) -> None:
        """A provider has started; when it was the last one, our own role runs."""
        row = tx.get(ComputationRow, computation_id)
        if row is None or row.status != REQUESTED:
            return
        states = tx.exec(
            select(TransferRow.state).where(TransferRow.computation == computation_id)
        ).all()
        if all(state == "STARTED" for state in states):
            schedule(tx, RUN, row.id)

    def transfer_terminated(
        self, tx: Session, transfer: TransferRow, *, code: str, by: str
    ) -> None:
        """A participant refused, failed or ended it: the whole computation ends, and the others
        are told; `by` is the DID of the party whose will it was."""
        row = tx.get(ComputationRow, transfer.computation)
        if row is None or row.status in TERMINAL:
            return
        refused = code in ("denied", "withheld")
        reason = transfer.reason or "a participant ended the computation"
        self._end(
            tx,
            row,
            REFUSED if refused else FAILED,
            reason,
            clause=transfer.clause,
            remedy=transfer.remedy,
            refused_by=by,
        )
        self._terminate_transfers(tx, row.id, "another participant ended the computation")
        self._node.sessions.cancel(row.id, Unavailable(f"the computation was ended: {reason}"))

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
        """Raise Unavailable while as many computations run as this node takes at once."""
        running = select(ComputationRow.consumer).where(
            col(ComputationRow.status).in_([REQUESTED, RUNNING])
        )
        consumers = tx.exec(running).all()
        if len(consumers) >= MAX_RUNNING or consumers.count(consumer) >= MAX_RUNNING_A_CONSUMER:
            raise Unavailable(
                "this node runs as many computations as it takes at once",
                remedy="order again when the running ones have ended",
            )

    # ---- both -------------------------------------------------------------------------------

    def get(self, computation_id: str) -> ComputationRow:
        with self._node.store.transaction() as tx:
            row = tx.get(ComputationRow, computation_id)
        if row is None:
            raise NotFound(
                "there is no such computation at this node", remedy="list them: dataspace status"
            )
        return row

    def all(self) -> list[ComputationRow]:
        newest = select(ComputationRow).order_by(col(ComputationRow.created_at).desc())
        with self._node.store.transaction() as tx:
            return list(tx.exec(newest).all())

    def progress(self, row: ComputationRow) -> dict[str, Any]:
        """Where a computation is: its step and the bytes moved, while it runs here."""
        run = self._node.sessions.find(row.id)
        if run is None:
            return {"step": row.status.lower(), "sent_bytes": 0, "received_bytes": 0}
        return {
            "step": row.status.lower() if row.status in TERMINAL else run.step,
            "sent_bytes": run.sent_bytes,
            "received_bytes": run.received_bytes,
        }

    def _own_input(
        self, asked: ComputationRequest, order: ComputationOrder
    ) -> dict[str, Any] | None:
        if asked.own is None:
            return None
        canonicaliser = order.participants[0].canonicaliser or "text/1"
        # Read now, so that a wrong file or column is the caller's error and no one's failed run.
        rows = self._node.datasets.read_own(
            asked.own.source, identifier=asked.own.identifier, canonicaliser=canonicaliser
        )
        return {
            "source": asked.own.source,
            "identifier": asked.own.identifier,
            "canonicaliser": canonicaliser,
            "rows": rows.rows,
            "excluded": rows.excluded,
        }

    def _run(self, process: Process) -> None:
        """Open the session of a computation that is due, unless it already has one or has ended."""
        node = self._node
        with node.store.transaction() as tx:
            row = tx.get_one(ComputationRow, process.subject)
            if row.status in TERMINAL or node.sessions.find(row.id) is not None:
                return
            row.status, row.started_at = RUNNING, time.time()
            tx.add(row)
            node.evidence.record(
                tx, EntryType.STARTED, order_h=row.order_h, kind=row.kind, purpose=row.purpose
            )
        order = self._open(row)
        left_s = (order.expires_at - datetime.now(UTC)).total_seconds()
        run = Run(
            order_id=row.id,
            role=row.role,
            dids={part.role: part.did for part in order.participants},
            deadline=time.monotonic() + max(0.0, left_s),
            inbox=Inbox(node.sessions.budget),
        )
        node.sessions.open(
            run, lambda: self._role(row, order), lambda end: self._finish(row.id, order, end)
        )

    def _run_failed(self, tx: Session, process: Process, error: str) -> None:
        row = tx.get(ComputationRow, process.subject)
        if row is not None and row.status not in TERMINAL:
            self._end(tx, row, FAILED, error, remedy="order it again")
            self._terminate_transfers(tx, row.id, error)

    def _open(self, row: ComputationRow) -> ComputationOrder:
        # Opened again from the bytes that came: what runs is what was signed.
        return open_order(row.order_jws, self._key_of, datetime.now(UTC))

    def _key_of(self, kid: str) -> Any:
        own = self._node.identity
        return own.key if kid == own.kid else self._node.peers.resolver.key(kid)

    def _role(self, row: ComputationRow, order: ComputationOrder) -> Drive:
        kind = kind_named(order.kind)
        parties = kind.roles(len(order.participants) - 1)
        key = self._keys.get(row.id)
        role = kind.start(
            row.role,
            parties,
            self._inputs(row, order),
            Parameters(
                min_cohort=order.min_cohort, public_key=order.public_key, groups=order.groups
            ),
            ConsumerSecrets(key) if key is not None else None,
        )
        dids = {part.role: part.did for part in order.participants}
        return transcribed(
            role,
            me=row.role,
            parties=parties,
            collector=CONSUMER,
            context=bytes.fromhex(row.order_h),
            sign=self._node.identity_signer(),
            verify=lambda party, digest, signature: self._node.verify_signature(
                dids[party], digest, signature
            ),
            random_bytes=secrets.token_bytes,
        )

    def _inputs(self, row: ComputationRow, order: ComputationOrder) -> Inputs:
        node = self._node
        if row.role == CONSUMER:
            if row.local_input is None:
                return Inputs()
            own = row.local_input
            rows = node.datasets.read_own(
                own["source"], identifier=own["identifier"], canonicaliser=own["canonicaliser"]
            )
        else:
            me = next(part for part in order.participants if part.role == row.role)
            # What is read is what the agreement is about, whatever the order says.
            with node.store.transaction() as tx:
                agreement = tx.get_one(AgreementRow, me.agreement or "")
                dataset = node.datasets.get(tx, agreement.dataset)
            rows = node.datasets.read(
                dataset,
                identifier=me.columns.get("identifier"),
                value=me.columns.get("value"),
                group=me.columns.get("group"),
                use=Use(purpose=order.purpose, recipient=order.consumer, at=datetime.now(UTC)),
            )
        return Inputs(identifiers=rows.identifiers, values=rows.values, groups=rows.groups)

    def _finish(self, computation_id: str, order: ComputationOrder, end: object) -> None:
        """Store how our role ended, with its evidence, and tell the other side."""
        self._keys.pop(computation_id, None)
        with self._node.store.transaction() as tx:
            row = tx.get_one(ComputationRow, computation_id)
            if row.status in TERMINAL:
                return
            if isinstance(end, Transcribed):
                self._complete(tx, row, order, end)
                return
            assert isinstance(end, Exception)
            if isinstance(end, Withheld):
                status, code, clause = REFUSED, "withheld", end.rule
                remedy: str | None = "ask about a larger group of people"
            else:
                status, code, clause = FAILED, "failed", None
                remedy = getattr(end, "remedy", None)
            reason = _public_reason(end)
            self._end(tx, row, status, reason, clause=clause, remedy=remedy)
            self._terminate_transfers(tx, row.id, reason, code=code, clause=clause)

    def _complete(
        self, tx: Session, row: ComputationRow, order: ComputationOrder, end: Transcribed
    ) -> None:
        row.status, row.finished_at = COMPLETED, time.time()
        row.transcript_h = end.digest.hex()
        row.signatures = {party: value.hex() for party, value in end.signatures.items()}
        value = end.outcome.value
        row.value = dict(value) if isinstance(value, Mapping) else None
        tx.add(row)
        for part in order.participants:
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
            for transfer in self._transfers(tx, row.id):
                self._node.transfers.complete(tx, transfer)

    def _end(
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
        row.status, row.finished_at = status, time.time()
        row.reason, row.clause, row.remedy = reason, clause, remedy
        row.refused_by = refused_by or row.refused_by
        tx.add(row)
        self._keys.pop(row.id, None)
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

    def _terminate_transfers(
        self,
        tx: Session,
        computation_id: str,
        reason: str,
        *,
        code: str = "failed",
        clause: str | None = None,
    ) -> None:
        for transfer in self._transfers(tx, computation_id):
            self._node.transfers.terminate(tx, transfer, reason, code=code, clause=clause)

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
            self._end(tx, row, FAILED, reason + names, remedy="check those nodes, then order again")
            self._terminate_transfers(tx, row.id, reason)
        self._node.sessions.cancel(process.subject, Unavailable(reason))


def _public_reason(err: Exception) -> str:
    """A sentence that may leave this node: our own errors' sentences, never an internal one."""
    if isinstance(err, SHOWN):
        return str(err)
    log.error("a role failed", error=type(err).__name__, exc_info=err)
    return f"an error inside the node ({type(err).__name__}); its log says more"
