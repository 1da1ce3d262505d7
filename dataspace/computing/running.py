"""Running a computation's role at this node: when its turn comes, and again after a restart."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, col, select

from connectors.source import ConsentedSource, open_source
from connectors.table import Reading
from connectors.use import Use
from contracts.odrl import Agreement
from contracts.order import (
    ComputationOrder,
    OrderParticipant,
    open_order,
    read_unverified_order,
)
from dataspace.canonical import canonical_hash
from dataspace.computing.closing import (
    SignedRun,
    keep_signed,
    patient,
    put_back,
    signed_run,
)
from dataspace.computing.inbox import Inbox
from dataspace.computing.measured import MeasuredRows, MeasuredWorkers
from dataspace.computing.parameters import RowsOf, SteadyRows, parameters_of
from dataspace.computing.queue import Waiting, choose_next
from dataspace.computing.sessions import MAX_ATTEMPTS, Course, Drive
from dataspace.computing.sessions import Session as Run
from dataspace.computing.spools import Spools
from dataspace.computing.spu_engine import SpuEngine, SpuPlace
from dataspace.errors import SessionClosed, Unavailable
from dataspace.identity.addresses import verify_address
from dataspace.operations.tracing import about, recording, span
from dataspace.processes import Handler, Later, Process, hasten, is_kept, schedule
from dataspace.store.tables import AgreementRow, ComputationRow, ProcessRow, TransferRow
from ledger.entry import EntryType
from privacy.computation import Rows
from privacy.engine import ENGINE_SETTING
from privacy.errors import Withheld
from privacy.kinds import CONSUMER, ConsumerSecrets, Inputs
from privacy.kinds import kind as kind_named
from privacy.spool import Spool
from privacy.transcript import Signed, Transcribed, Verify, closing, transcribed
from privacy.workers import Workers

if TYPE_CHECKING:
    from dataspace.node import Node

RUN = "run-computation"
# Each running computation holds a thread, its frames and a bucket of its set.
MAX_RUNNING = 32
MAX_RUNNING_A_CONSUMER = 12
# Whoever ends calls the next; this is for what was in hand at that moment, or ran elsewhere.
QUEUE_LOOK_S = 1.0

REQUESTED, RUNNING, COMPLETED, REFUSED, FAILED = (
    "REQUESTED",
    "RUNNING",
    "COMPLETED",
    "REFUSED",
    "FAILED",
)
TERMINAL = frozenset({COMPLETED, REFUSED, FAILED})


class Running:
    """The roles this node plays now."""

    def __init__(self, node: Node, spools: Spools) -> None:
        self._node = node
        self.spools = spools

    def handlers(self) -> dict[str, Handler]:
        return {RUN: Handler(self._run, self._run_failed)}

    def recover(self) -> None:
        """After a restart: go on with what this replica ran, and remove what nobody needs."""
        with self._node.store.transaction() as tx:
            self.take_over(tx, self._node.replicas.name)
            unfinished = select(ComputationRow.id).where(
                col(ComputationRow.status).in_([REQUESTED, RUNNING])
            )
            alive = set(tx.exec(unfinished).all())
        for order_id in self.spools.leftovers():
            if order_id not in alive:
                self.spools.discard(order_id)

    def take_over(self, tx: Session, replica: str) -> None:
        """What `replica` was running goes on where its kind can, at whichever replica begins it,
        and has failed where it cannot, or waits for a key that was in its memory."""
        reason = "the node was restarted while the computation ran"
        computations = self._node.computations
        # Without a name are those of a version that had no replicas.
        unfinished = select(ComputationRow).where(
            col(ComputationRow.status).in_([REQUESTED, RUNNING]),
            col(ComputationRow.replica).in_([replica, ""]),
        )
        for row in tx.exec(unfinished).all():
            kind = kind_named(row.kind)
            key_is_lost = row.role == CONSUMER and kind.needs_key
            if row.status == REQUESTED and not key_is_lost:
                continue
            if row.replica == "" and is_kept(tx, RUN, row.id):
                # It was taken over before, and nobody has begun it yet.
                continue
            if self._signed(row) is not None:
                # Nothing begins again: whoever takes it offers its signature and takes the others'.
                row.replica = ""
                tx.add(row)
                schedule(tx, RUN, row.id)
                continue
            if kind.resumable and not key_is_lost and row.attempt < MAX_ATTEMPTS:
                row.attempt += 1
                row.replica = ""
                tx.add(row)
                schedule(tx, RUN, row.id)
                continue
            computations.end(tx, row, FAILED, reason, remedy="order it again")
            computations.terminate_transfers(tx, row.id, reason)

    def follow(self) -> None:
        """Do to the sessions here what another replica was told: end, hold or release them."""
        node = self._node
        here = {*node.sessions.running(), *node.computations.keyed()}
        if not here:
            return
        with node.store.transaction() as tx:
            rows = tx.exec(select(ComputationRow).where(col(ComputationRow.id).in_(here))).all()
            suspended = set(
                tx.exec(
                    select(TransferRow.computation).where(
                        col(TransferRow.computation).in_(here), TransferRow.state == "SUSPENDED"
                    )
                ).all()
            )
        for row in rows:
            if row.status in TERMINAL:
                ended = Unavailable(f"the computation was ended: {row.reason or 'it is over'}")
                node.sessions.cancel(row.id, ended)
                node.computations.forget_key(row.id)
            elif row.replica != node.replicas.name:
                node.sessions.abandon(row.id)
                node.computations.forget_key(row.id)
            elif row.id in suspended:
                node.sessions.hold(row.id)
            else:
                node.sessions.release(row.id)

    def let_go(self) -> None:
        """Another replica has what ran here: end it without an end."""
        for order_id in self._node.sessions.running():
            self._node.sessions.abandon(order_id)
        for order_id in self._node.computations.keyed():
            self._node.computations.forget_key(order_id)

    def waiting(self, tx: Session) -> list[Waiting]:
        """Computations that could run and have not begun."""
        due = select(ProcessRow.subject).where(
            ProcessRow.kind == RUN, col(ProcessRow.state) == "ready"
        )
        could = select(ComputationRow.id, ComputationRow.consumer, ComputationRow.created_at).where(
            ComputationRow.status == REQUESTED, col(ComputationRow.id).in_(due)
        )
        return [Waiting(*one) for one in tx.exec(could).all()]

    def call_next(self, tx: Session) -> None:
        """Have those begin whose turn it is, now that one has ended in the caller's transaction."""
        tx.flush()
        following = self._next(tx)
        if following:
            hasten(tx, RUN, following)

    def _next(self, tx: Session) -> tuple[str, ...]:
        # The bound is the memory of one process; every replica has its own.
        running = select(ComputationRow.consumer).where(
            ComputationRow.status == RUNNING,
            ComputationRow.replica == self._node.replicas.name,
        )
        return choose_next(
            self.waiting(tx),
            tx.exec(running).all(),
            most=MAX_RUNNING,
            most_a_consumer=MAX_RUNNING_A_CONSUMER,
        )

    def _run(self, process: Process) -> Later | None:
        """Open the session of a computation whose turn it is, unless it has one or has ended."""
        node = self._node
        with node.store.transaction() as tx:
            row = tx.get_one(ComputationRow, process.subject)
            run_here = node.sessions.find(row.id)
            over = row.status in TERMINAL
            if over and run_here is None and row.replica in ("", node.replicas.name):
                # It ended before it was begun again, and so no session removes its files.
                self.spools.discard(row.id)
            if over or run_here is not None:
                return None
            if row.status == RUNNING and row.replica not in ("", node.replicas.name):
                return None
            if row.status == REQUESTED:
                if row.id not in self._next(tx):
                    return Later(QUEUE_LOOK_S)
                row.status, row.started_at = RUNNING, time.time()
                node.evidence.record(
                    tx, EntryType.STARTED, order_h=row.order_h, kind=row.kind, purpose=row.purpose
                )
            row.replica = node.replicas.name
            tx.add(row)
        signed = self._signed(row)
        if signed is None:
            # Opened again from the bytes that came: what runs is what was signed.
            order = open_order(row.order_jws, self._key_of, datetime.now(UTC))
        else:
            # It was opened when the run began, and may have expired since.
            order = read_unverified_order(row.order_jws)
        left_s = (order.expires_at - datetime.now(UTC)).total_seconds()
        run = Run(
            order_id=row.id,
            role=row.role,
            dids={part.role: part.did for part in order.participants},
            deadline=time.monotonic() + max(0.0, left_s),
            inbox=Inbox(node.sessions.budget),
            attempt=row.attempt,
            resumable=kind_named(row.kind).resumable,
            announced=row.attempt == 1,
        )
        if signed is not None:
            put_back(run, self.spools.open(row.id), signed)
        with about(computation=row.id, role=row.role):
            node.sessions.open(run, self._course(row, order, signed))
        return None

    def _signed(self, row: ComputationRow) -> SignedRun | None:
        """What an earlier life had kept of this attempt, if it had signed it."""
        spool = self.spools.find(row.id)
        return None if spool is None else signed_run(spool, row.attempt)

    def _keep(self, spool: Spool, order_id: str, signed: Signed, excluded: int | None) -> None:
        """Have on the disk what ends this run well, before our signature leaves."""
        node = self._node
        run = node.sessions.find(order_id)
        if run is None or node.computations.get(order_id).replica != node.replicas.name:
            raise Unavailable("another replica goes on with the computation")
        keep_signed(run, spool, signed, excluded)

    def _run_failed(self, tx: Session, process: Process, error: str) -> None:
        row = tx.get(ComputationRow, process.subject)
        if row is not None and row.status not in TERMINAL:
            self._node.computations.end(tx, row, FAILED, error, remedy="order it again")
            self._node.computations.terminate_transfers(tx, row.id, error)
            # What an earlier life has left of it goes once this is stored.
            schedule(tx, RUN, row.id)

    def _key_of(self, kid: str) -> Any:
        return self._node.key_of(kid)

    def _course(
        self, row: ComputationRow, order: ComputationOrder, signed: SignedRun | None
    ) -> Course:
        # What was signed needs no rows, and they may be gone.
        reading = None if signed is not None else self._reading(row, order)

        def start() -> Drive:
            nonlocal reading
            run = self._node.sessions.find(row.id)
            if signed is not None and run is not None and run.closing:
                return closing(
                    signed.signed, me=row.role, collector=CONSUMER, verify=self._verify(order)
                )
            if signed is not None and reading is None:
                reading = self._reading(row, order)
            return self._role(row, order, reading)

        def finish(end: Transcribed | Exception) -> None:
            with span("disclosure", outcome=_outcome_of(end)):
                self._node.computations.finish(row.id, order, end, excluded=_excluded(reading))

        def restarted(attempt: int) -> None:
            with self._node.store.transaction() as tx:
                kept = tx.get_one(ComputationRow, row.id)
                if kept.replica != self._node.replicas.name:
                    raise SessionClosed("another replica goes on with the computation")
                kept.attempt = attempt
                tx.add(kept)

        return Course(start, finish, restarted)

    def _verify(self, order: ComputationOrder) -> Verify:
        dids = {part.role: part.did for part in order.participants}
        return patient(
            lambda party, digest, signature: self._node.verify_signature(
                dids[party], digest, signature
            ),
            lambda: self._node.sessions.find(order.id),
        )

    def _role(self, row: ComputationRow, order: ComputationOrder, reading: Reading | None) -> Drive:
        node = self._node
        kind = kind_named(order.kind)
        parties = kind.roles(len(order.participants) - 1)
        key = node.computations.key_of(row.id)
        me = next(part for part in order.participants if part.role == row.role)
        rows: Rows = Inputs() if reading is None else self._rows(me, reading)
        workers: Workers = node.workers
        if recording():
            rows, workers = MeasuredRows(rows), MeasuredWorkers(workers)
        cached_under = me.agreement or next(p.agreement for p in order.participants if p.agreement)
        spool = self.spools.open(row.id)
        role = kind.start(
            row.role,
            parties,
            rows,
            parameters_of(order),
            ConsumerSecrets(key) if key is not None else None,
            workers=workers,
            spool=spool,
            cache=self.spools.cache(cached_under, self._version(me)) if kind.caches else None,
            engine=self._engine(order) if ENGINE_SETTING in kind.settings else None,
            present=self._present(order) if kind.partial and row.role == CONSUMER else None,
        )
        return transcribed(
            role,
            me=row.role,
            parties=parties,
            collector=CONSUMER,
            context=bytes.fromhex(row.order_h),
            sign=node.identity_signer(),
            verify=self._verify(order),
            random_bytes=secrets.token_bytes,
            # They are handed out once the result is stored.
            hand_out=False,
            keep=lambda signed: self._keep(spool, row.id, signed, _excluded(reading)),
        )

    def _engine(self, order: ComputationOrder) -> SpuEngine | None:
        """The external engine for two sets, where the owner has installed it."""
        settings = self._node.home.settings
        if settings.spu_python is None:
            return None
        directory = self._node.home.path / "engine"
        directory.mkdir(mode=0o700, exist_ok=True)
        place = SpuPlace(
            settings.spu_python,
            directory,
            settings.spu_listen_host,
            settings.spu_public_host,
            max(1.0, (order.expires_at - datetime.now(UTC)).total_seconds()),
        )
        return SpuEngine(place, lambda address: verify_address(address, settings.address_policy))

    def _present(self, order: ComputationOrder) -> tuple[str, ...]:
        """The roles of the providers whose transfers have started."""
        with self._node.store.transaction() as tx:
            started = tx.exec(
                select(TransferRow.agreement).where(
                    TransferRow.computation == order.id, TransferRow.state == "STARTED"
                )
            ).all()
        return tuple(part.role for part in order.participants if part.agreement in started)

    def _reading(self, row: ComputationRow, order: ComputationOrder) -> Reading | None:
        """The rows this node brings, None where it brings none."""
        node = self._node
        if row.role == CONSUMER:
            own = row.local_input
            return None if own is None else own_reading(node, own)
        me = next(part for part in order.participants if part.role == row.role)
        # What is read is what the agreement is about, whatever the order says.
        with node.store.transaction() as tx:
            agreement = tx.get_one(AgreementRow, me.agreement or "")
            dataset = node.datasets.get(tx, agreement.dataset)
        use = Use(
            purpose=order.purpose,
            recipient=order.consumer,
            at=datetime.now(UTC),
            agreement=agreement.id,
            computation=order.kind,
        )
        return node.datasets.read(dataset, me.columns, use=use)

    def _rows(self, me: OrderParticipant, reading: Reading) -> Rows:
        """The rows that `reading` gives, of one state of the data where the agreement names some.

        The data are looked at before the role begins, whatever it has read in an earlier life, and
        again after the last row: a change in between ends the role. Frames about rows that were
        read until then may have left; the kind says what they tell, and there is no result.
        """
        if me.agreement is None:
            return RowsOf(reading)
        with self._node.store.transaction() as tx:
            agreement = tx.get_one(AgreementRow, me.agreement)
            dataset = self._node.datasets.get(tx, agreement.dataset)
        versions = self._node.versions
        covered = versions.covered(Agreement.model_validate(agreement.document), dataset)
        if covered is None:
            return RowsOf(reading)
        return SteadyRows(RowsOf(reading), lambda: versions.verify_still(dataset, covered))

    def _version(self, me: OrderParticipant) -> str | None:
        """A name of the rows that our part of an order would read. None where nothing names them
        before they are read: a consent can end without a change of any file."""
        if me.agreement is None:
            return None
        with self._node.store.transaction() as tx:
            agreement = tx.get_one(AgreementRow, me.agreement)
            dataset = self._node.datasets.get(tx, agreement.dataset)
        source = open_source(dataset.source)
        if isinstance(source, ConsentedSource):
            return None
        named = {
            "content": source.version(),
            "read": dict(me.columns),
            "columns": dataset.columns,
            "conditions": dataset.conditions,
        }
        return canonical_hash(named)


def _excluded(reading: Reading | None) -> int | None:
    """How many rows had no usable identifier, where they were read in this life of the node."""
    return reading.excluded if reading is not None and reading.rows else None


def _outcome_of(end: Transcribed | Exception) -> str:
    """What became of the result, as a span says it."""
    if isinstance(end, Transcribed):
        return "released"
    return "withheld" if isinstance(end, Withheld) else "failed"


def own_reading(node: Node, own: Mapping[str, Any]) -> Reading:
    """The consumer's own file, as `ComputationRow.local_input` describes it."""
    named = {name: own.get(name) for name in ("identifier", "value", "group")}
    columns = {name: column for name, column in named.items() if column is not None}
    return node.datasets.read_own(
        own["source"], columns, canonicaliser=own["canonicaliser"], scale=own.get("decimals", 0)
    )
