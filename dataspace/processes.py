"""Durable processes: what must happen is a row, and a row is done or still there.

A transaction that changes state schedules the work that follows from it in the same commit. One
thread, the dispatcher, leases due rows and writes down what came of earlier ones, both in one
transaction; workers do the work. A node killed in between does the work again after the restart: at
least once, so every handler is idempotent and every receiver deduplicates.

Replicas on one database share the rows. A lease names its replica and is renewed while the work is
in hand; the count of leases is its fence, so that whoever was taken for dead and comes back writes
no outcome over that of its successor. The leases of a replica go back to all when it begins again
under its name, or when the others have found it dead (`dataspace.replicas`).

A handler returns None when the work is done, `Later(seconds)` to be called again, or raises:
`Unavailable` means try again with back-off until `give_up_at`; any other error ends the process as
failed, after `on_failure` had its chance to tell the state that waits for it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from queue import SimpleQueue
from typing import Any

import structlog
from sqlalchemy import Connection, Row, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel import Session, col, select

from dataspace.errors import SHOWN, NodeError, Unavailable
from dataspace.leases import (
    LEASE_S,
    MAX_CANDIDATES,
    Outcome,
    due_rows,
    give_back_leases,
    lease,
    next_due_at,
    renew,
    set_right,
    write_outcomes,
)
from dataspace.operations.figures import Figures
from dataspace.operations.process_names import subject_name
from dataspace.operations.tracing import (
    TRACEPARENT,
    Spans,
    Trace,
    new_parent,
    outgoing,
    parse_traceparent,
    span,
    within_trace,
)
from dataspace.steady_time import CLOCKS_DIFFER_S, Patience, SteadyClock
from dataspace.store.engine import Store
from dataspace.store.tables import ProcessRow
from ledger.errors import ChainUnavailable

log = structlog.get_logger("dataspace.processes")

# Renewed in time while the work is in hand.
RENEW_S = LEASE_S / 4
# The one replica of a node that has no others.
ALONE = "main"
GIVE_UP_S = 600.0
# For work that comes again and again by itself, for as long as the node runs.
FOR_EVER_S = 100 * 365 * 86400.0
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 15.0
# With nothing scheduled a worker still looks now and then: a row may have been left by a killed
# worker whose lease has since run out.
IDLE_LOOK_S = 5.0
PAUSE_AFTER_TROUBLE_S = 1.0
# A peer keeps this many workers at most while nothing is known of it or it is slow; with each quick
# answer it may keep one more, so that only who has answered quickly can keep many, and once.
MAX_AT_A_SLOW_PEER = 2
MAX_AT_A_QUICK_PEER = 6
QUICK_S = 1.0


@dataclass(frozen=True)
class Later:
    """The work is not finished; call again after `after_s`."""

    after_s: float


@dataclass(frozen=True)
class Process:
    """One piece of work as its handler sees it."""

    id: int
    kind: str
    subject: str
    payload: dict[str, Any]
    attempts: int
    created_at: float
    give_up_at: float = 0.0
    target: str = ""
    # The request or process that this came of, as a `traceparent`.
    trace: str | None = None


Handle = Callable[[Process], "Later | None"]
OnFailure = Callable[[Session, Process, str], None]


class Pool(StrEnum):
    """Who does the work: a slow peer must not hold up what needs no peer."""

    LOCAL = "local"
    PEERS = "peers"


@dataclass(frozen=True)
class Handler:
    """What to do for one kind of process, who does it, and whom to tell when it cannot be done."""

    handle: Handle
    on_failure: OnFailure | None = None
    pool: Pool = Pool.LOCAL


WORKERS: Mapping[Pool, int] = {Pool.LOCAL: 6, Pool.PEERS: 16}


def schedule(
    tx: Session,
    kind: str,
    subject: str,
    payload: dict[str, Any] | None = None,
    *,
    lane: str = "",
    target: str = "",
    bound_to: str = "",
    after_s: float = 0.0,
    give_up_after_s: float = GIVE_UP_S,
) -> None:
    """Queue work in the caller's transaction.

    Rows of one non-empty `lane` run in order; `target` is the peer that the work waits for;
    `bound_to` the only replica that can do it.
    """
    now, trace = time.time(), outgoing()
    carried = {} if trace is None else {TRACEPARENT: trace}
    tx.add(
        ProcessRow(
            kind=kind,
            subject=subject,
            lane=lane,
            target=target,
            bound_to=bound_to,
            payload={**(payload or {}), **carried},
            due_at=now + after_s,
            give_up_at=now + after_s + give_up_after_s,
            created_at=now,
        )
    )
    tx.info["scheduled"] = True


def hasten(tx: Session, kind: str, subjects: Sequence[str]) -> None:
    """Have such work that waits for its time done at once. What is in hand at this moment is not
    touched, so that whoever is told `Later` must look again by itself too."""
    waits = (
        col(ProcessRow.kind) == kind,
        col(ProcessRow.subject).in_(subjects),
        col(ProcessRow.state) == "ready",
        col(ProcessRow.lease_until) == 0.0,
    )
    tx.flush()
    tx.connection().execute(update(ProcessRow).where(*waits).values(due_at=time.time()))
    tx.info["scheduled"] = True


def is_scheduled(tx: Session, kind: str, subject: str) -> bool:
    """Whether such work is waiting and nobody has begun it."""
    tx.flush()
    found = select(ProcessRow.id).where(
        ProcessRow.kind == kind,
        ProcessRow.subject == subject,
        ProcessRow.state == "ready",
        ProcessRow.lease_until == 0.0,
    )
    return tx.exec(found).first() is not None


def is_kept(tx: Session, kind: str, subject: str) -> bool:
    """Whether such work is waiting or in hand: for work that comes again and again by itself."""
    tx.flush()
    found = select(ProcessRow.id).where(
        ProcessRow.kind == kind, ProcessRow.subject == subject, ProcessRow.state == "ready"
    )
    return tx.exec(found).first() is not None


def newest_unfinished(tx: Session, kind: str) -> ProcessRow | None:
    """The last process of this kind that waits, is in hand, or has failed."""
    newest = (
        select(ProcessRow)
        .where(ProcessRow.kind == kind, col(ProcessRow.state).in_(["ready", "failed"]))
        .order_by(col(ProcessRow.id).desc())
        .limit(1)
    )
    return tx.exec(newest).first()


@dataclass
class _Load:
    """What the workers are doing. Only the dispatcher adds to it; the engine's lock guards it."""

    running: Counter[Pool] = field(default_factory=Counter)
    at_peer: Counter[str] = field(default_factory=Counter)
    allowed: dict[str, int] = field(default_factory=lambda: defaultdict(lambda: MAX_AT_A_SLOW_PEER))

    def has_room(self, pool: Pool, target: str) -> bool:
        return self.running[pool] < WORKERS[pool] and self.has_room_at(target)

    def copy(self) -> _Load:
        return _Load(Counter(self.running), Counter(self.at_peer), self.allowed.copy())

    def full(self) -> list[str]:
        """The peers that may keep no more workers now."""
        return [target for target in self.at_peer if not self.has_room_at(target)]

    def has_room_at(self, target: str) -> bool:
        return not target or self.at_peer[target] < self.allowed[target]

    def begin(self, pool: Pool, target: str) -> None:
        self.running[pool] += 1
        if target:
            self.at_peer[target] += 1

    def end(self, pool: Pool, target: str, *, quick: bool) -> None:
        self.running[pool] -= 1
        if not target:
            return
        self.at_peer[target] -= 1
        if self.at_peer[target] <= 0:
            del self.at_peer[target]
        most = self.allowed[target] + 1 if quick else MAX_AT_A_SLOW_PEER
        self.allowed[target] = min(MAX_AT_A_QUICK_PEER, most)


class ProcessEngine:
    """Runs due processes in a fixed number of threads for each pool, as the replica `me`."""

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        *,
        me: str = ALONE,
        figures: Figures | None = None,
        spans: Spans | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """`figures` and `spans` are where what happens is counted and measured, `fields` are
        in every log line of a process: which node this is, and which replica."""
        self._store = store
        self._handlers = handlers
        self._me = me
        self._figures = figures or Figures()
        self._spans = spans
        self._fields = dict(fields or {})
        self._wake = threading.Condition()
        self._generation = 0
        self._stopping = False
        self._draining = False
        self._threads: list[threading.Thread] = []
        self._queues: dict[Pool, SimpleQueue[Process | None]] = {
            pool: SimpleQueue() for pool in Pool
        }
        self._load = _Load()
        self._outcomes: deque[Outcome] = deque()
        # What is leased here and has no outcome written yet: ids and the fence of each.
        self._in_hand: dict[int, int] = {}
        self._renewed_at = time.monotonic()
        self._clock = SteadyClock()
        self._patience = Patience()
        # An earlier life may have had a wrong clock, so the first turn looks too.
        self._ahead_s = math.inf
        store.on_scheduled(self.wake)

    def start(self) -> None:
        """Take back what an earlier life of this replica had leased, then begin."""
        with self._store.transaction() as tx:
            give_back_leases(tx, self._me, bound=True)
        self._thread("dispatcher", self._dispatch)
        for pool, workers in WORKERS.items():
            for number in range(workers):
                self._thread(f"{pool}-{number}", self._work, pool)

    @property
    def draining(self) -> bool:
        """Whether no new work is begun any more."""
        return self._draining

    def drain(self) -> None:
        """Begin no new work but what is bound to this replica; what is in hand goes on."""
        self._draining = True
        self.wake()

    def idle(self) -> bool:
        """Whether nothing is in hand, and everything that came of it is written."""
        with self._wake:
            return not self._in_hand

    def _thread(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the work in hand, write down what came of it, and start no more."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for pool, workers in WORKERS.items():
            for _ in range(workers):
                self._queues[pool].put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._threads:
            with self._store.transaction() as tx:
                write_outcomes(tx.connection(), self._drained())
                # Whatever is still in hand here ends with this process.
                give_back_leases(tx, self._me, bound=True)

    def wake(self) -> None:
        with self._wake:
            self._generation += 1
            self._wake.notify_all()

    def healthy(self) -> bool:
        """Whether every thread that was started still works."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def kinds(self) -> frozenset[str]:
        """The kinds of process that this version does."""
        return frozenset(self._handlers)

    def busy(self) -> dict[Pool, int]:
        """How many workers of each pool are at work."""
        with self._wake:
            return {pool: self._load.running[pool] for pool in Pool}

    # ---- the dispatcher ---------------------------------------------------------------------

    def _dispatch(self) -> None:
        while True:
            with self._wake:
                if self._stopping:
                    return
                seen = self._generation
            outcomes = self._drained()
            try:
                wait_s = self._turn(outcomes)
            except Exception as err:  # a locked or full database must not end the node's work
                self._outcomes.extendleft(reversed(outcomes))
                log.error("the dispatcher could not go on", error=str(err)[:300])
                wait_s = PAUSE_AFTER_TROUBLE_S
            with self._wake:
                if not self._stopping and self._generation == seen:
                    self._wake.wait(wait_s)

    def _turn(self, outcomes: list[Outcome]) -> float:
        """Write `outcomes`, lease what is due and has a worker free; the seconds until more is."""
        now, wall = self._clock.now(), time.time()
        leased: list[tuple[Pool, Process]] = []
        # Workers only make room meanwhile, so what has room in this copy has it.
        with self._wake:
            load = self._load.copy()
        asked = {
            "full": load.full(),
            "busy": self._kinds_without_worker(load),
            "mine": [self._me] if self._draining else ["", self._me],
        }
        renewing = time.monotonic() - self._renewed_at > RENEW_S
        # How far the wall clock is ahead of the one that nobody sets.
        ahead_s = wall - time.monotonic()
        set_back = ahead_s < self._ahead_s - CLOCKS_DIFFER_S
        with self._store.transaction() as tx:
            database = tx.connection()
            write_outcomes(database, outcomes)
            if set_back:
                set_right(database, wall, seen=self._ahead_s < math.inf)
            if renewing:
                self._renew(database, now, outcomes)
            found = due_rows(database, now, wall=wall, **asked)
            for row in found:
                pool = self._pool_of(row.kind)
                if load.has_room(pool, row.target):
                    load.begin(pool, row.target)
                    leased.append((pool, _process_of(row)))
            if leased:
                ids = [process.id for _, process in leased]
                lease(database, ids, by=self._me, now=now)
            following = next_due_at(database, now)
        self._ahead_s = ahead_s
        if renewing:
            self._renewed_at = time.monotonic()
        # Not before the leases are written: room that a failed commit took would be lost.
        with self._wake:
            for one in outcomes:
                self._let_go(one.id, one.fence)
            for pool, process in leased:
                self._in_hand[process.id] = process.attempts
                self._load.begin(pool, process.target)
        for pool, process in leased:
            self._queues[pool].put(process)
        if leased and len(found) == MAX_CANDIDATES:
            # There may be more behind these; what has no room now is left out of the next look.
            return 0.0
        if following is None:
            return IDLE_LOOK_S
        return min(IDLE_LOOK_S, max(0.005, following - now))

    def _renew(self, database: Connection, now: float, outcomes: list[Outcome]) -> None:
        """Renew the leases of what is in hand, and give back those of which nobody knows."""
        with self._wake:
            in_hand = dict(self._in_hand)
        for one in outcomes:
            in_hand.pop(one.id, None)
        renew(database, in_hand, by=self._me, now=now)

    def _let_go(self, process_id: int, fence: int) -> None:
        """It is in hand no longer. The caller holds the lock."""
        if self._in_hand.get(process_id) == fence:
            del self._in_hand[process_id]

    def _kinds_without_worker(self, load: _Load) -> list[str]:
        return [
            kind
            for kind, handler in self._handlers.items()
            if load.running[handler.pool] >= WORKERS[handler.pool]
        ]

    def _pool_of(self, kind: str) -> Pool:
        # A kind nobody handles any more is taken by the local pool, which says so.
        handler = self._handlers.get(kind)
        return Pool.LOCAL if handler is None else handler.pool

    def _drained(self) -> list[Outcome]:
        found = []
        while self._outcomes:
            found.append(self._outcomes.popleft())
        return found

    # ---- the workers ------------------------------------------------------------------------

    def _work(self, pool: Pool) -> None:
        while True:
            process = self._queues[pool].get()
            if process is None:
                return
            began = time.monotonic()
            try:
                with within_trace(self._trace_of(process)), span(process.kind):
                    self._run(process)
            except Exception as err:  # what could not be written is given back with the leases
                log.error("a worker could not go on", pool=pool, error=str(err)[:300])
                with self._wake:
                    self._let_go(process.id, process.attempts)
            quick = time.monotonic() - began < QUICK_S
            with self._wake:
                self._load.end(pool, process.target, quick=quick)
            self.wake()

    def _trace_of(self, process: Process) -> Trace:
        """The trace of what scheduled the process. What no request led to, the housekeeping, has
        one of its own for its log lines, and no spans."""
        fields = {
            **self._fields,
            "process": str(process.id),
            subject_name(process.kind): process.subject,
        }
        parent = parse_traceparent(process.trace)
        return Trace(parent or new_parent(), self._spans if parent else None, fields)

    def _run(self, process: Process) -> None:
        fields = {"process": process.id, "kind": process.kind, "subject": process.subject}
        handler = self._handlers.get(process.kind)
        try:
            if handler is None:
                raise NodeError(f"this version knows no process of kind {process.kind}")
            later = handler.handle(process)
        except (Unavailable, StaleDataError, ChainUnavailable) as err:
            least_s = getattr(err, "after_s", None) or 0.0
            self._retry_or_fail(process, handler, str(err), fields, least_s)
        except Exception as err:  # the engine must outlive any one process; the error is kept
            known = isinstance(err, SHOWN)
            log.error("process failed", **fields, error=str(err), exc_info=not known)
            self._fail(process, handler, str(err) if known else f"internal: {type(err).__name__}")
        else:
            self._patience.forget(process.id)
            due_at = None if later is None else self._clock.now() + later.after_s
            self._count(process, "done" if later is None else "later")
            self._outcomes.append(Outcome(process.id, process.attempts, due_at))

    def _count(self, process: Process, outcome: str) -> None:
        kind = process.kind if process.kind in self._handlers else "unknown"
        self._figures.attempts.add((kind, outcome))

    def _retry_or_fail(
        self,
        process: Process,
        handler: Handler | None,
        error: str,
        fields: dict[str, Any],
        least_s: float,
    ) -> None:
        back_off_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(process.attempts - 1, 10))
        wait_s = max(back_off_s, least_s)
        now = self._clock.now()
        lifetime_s = process.give_up_at - process.created_at
        tried = self._patience.is_over(process.id, lifetime_s)
        if tried and now + wait_s > process.give_up_at:
            log.warning("process given up", **fields, error=error)
            self._fail(process, handler, error)
            return
        log.info("process will be tried again", **fields, after_s=round(wait_s, 2), error=error)
        self._count(process, "again")
        due_at = now + wait_s
        self._outcomes.append(Outcome(process.id, process.attempts, due_at, error))

    def _fail(self, process: Process, handler: Handler | None, error: str) -> None:
        """End a process, together with what its failure means for the state that waits for it.

        Where even that cannot be written, the process ends alone: it must not be tried for ever.
        """
        self._count(process, "failed")
        self._patience.forget(process.id)
        try:
            self._end(process, handler, error, tell=True)
        except (SQLAlchemyError, *SHOWN) as err:
            log.error("a failure could not be told", process=process.id, error=str(err)[:300])
            self._end(process, handler, error, tell=False)

    def _end(self, process: Process, handler: Handler | None, error: str, *, tell: bool) -> None:
        with self._store.transaction() as tx:
            row = tx.get_one(ProcessRow, process.id)
            if row.attempts == process.attempts and row.state == "ready":
                row.state, row.last_error, row.lease_until = "failed", error, 0.0
                row.leased_by = ""
                tx.add(row)
                if handler is not None and handler.on_failure is not None and tell:
                    handler.on_failure(tx, process, error)
        with self._wake:
            self._let_go(process.id, process.attempts)


def _process_of(row: Row[Any]) -> Process:
    """The leased row as its handler sees it, this attempt counted."""
    payload = dict(row.payload)
    trace = payload.pop(TRACEPARENT, None)
    return Process(
        row.id,
        row.kind,
        row.subject,
        payload,
        row.attempts + 1,
        row.created_at,
        row.give_up_at,
        row.target,
        trace,
    )
