"""Durable processes: what must happen is a row, and a row is done or still there.

A transaction that changes state schedules the work that follows from it in the same commit. A
worker takes a due row under a lease, does the work, and marks the row done. A node killed in
between does the work again after the restart: at least once, so every handler is idempotent and
every receiver deduplicates.

A handler returns None when the work is done, `Later(seconds)` to be called again, or raises:
`Unavailable` means try again with back-off until `give_up_at`; any other error ends the process as
failed, after `on_failure` had its chance to tell the state that waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import ColumnElement, func
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel import Session, col, or_, select, update

from dataspace.errors import SHOWN, NodeError, Unavailable
from dataspace.store.engine import Store
from dataspace.store.tables import ProcessRow
from ledger.errors import ChainUnavailable

log = structlog.get_logger("dataspace.processes")

# Longer than any one piece of work may take: requests to peers have a total deadline below it.
LEASE_S = 120.0
GIVE_UP_S = 600.0
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 15.0
# With nothing scheduled a worker still looks now and then: a row may have been left by a killed
# worker whose lease has since run out.
IDLE_LOOK_S = 5.0
PAUSE_AFTER_TROUBLE_S = 1.0
MAX_CANDIDATES = 64
# A peer that answers slowly keeps this many workers at most.
MAX_AT_ONE_PEER = 2


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


WORKERS: Mapping[Pool, int] = {Pool.LOCAL: 6, Pool.PEERS: 10}


def schedule(
    tx: Session,
    kind: str,
    subject: str,
    payload: dict[str, Any] | None = None,
    *,
    lane: str = "",
    target: str = "",
    after_s: float = 0.0,
    give_up_after_s: float = GIVE_UP_S,
) -> None:
    """Queue work in the caller's transaction.

    Rows of one non-empty `lane` run in order; `target` is the peer that the work waits for.
    """
    now = time.time()
    tx.add(
        ProcessRow(
            kind=kind,
            subject=subject,
            lane=lane,
            target=target,
            payload=payload or {},
            due_at=now + after_s,
            give_up_at=now + after_s + give_up_after_s,
            created_at=now,
        )
    )
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


def _at_the_head_of_its_lane() -> ColumnElement[bool]:
    """One row of a lane does not start before the earlier ones are done."""
    heads = (
        select(func.min(ProcessRow.id))
        .where(col(ProcessRow.state) == "ready", col(ProcessRow.lane) != "")
        .group_by(col(ProcessRow.lane))
    )
    return or_(col(ProcessRow.lane) == "", col(ProcessRow.id).in_(heads))


def _in_pool(pool: Pool, kinds: Sequence[str]) -> ColumnElement[bool]:
    # A kind nobody handles any more is taken by the local pool, which says so.
    own = col(ProcessRow.kind).in_(kinds)
    return own if pool is Pool.PEERS else or_(own, col(ProcessRow.target) == "")


class ProcessEngine:
    """Runs due processes in a fixed number of threads for each pool."""

    def __init__(self, store: Store, handlers: Mapping[str, Handler]) -> None:
        self._store = store
        self._handlers = handlers
        self._wake = threading.Condition()
        self._generation = 0
        self._stopping = False
        self._threads: list[threading.Thread] = []
        store.on_scheduled(self.wake)

    def start(self) -> None:
        """Take back what this node's earlier life had leased, then begin."""
        with self._store.transaction() as tx:
            tx.exec(
                update(ProcessRow)
                .where(col(ProcessRow.state) == "ready", col(ProcessRow.lease_until) > 0)
                .values(lease_until=0.0)
            )
        for pool, workers in WORKERS.items():
            kinds = [kind for kind, one in self._handlers.items() if one.pool is pool]
            for number in range(workers):
                thread = threading.Thread(
                    target=self._work, args=(pool, kinds), name=f"{pool}-{number}", daemon=True
                )
                thread.start()
                self._threads.append(thread)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the work in hand and start no more."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def wake(self) -> None:
        with self._wake:
            self._generation += 1
            self._wake.notify_all()

    def healthy(self) -> bool:
        """Whether every worker that was started still works."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def _work(self, pool: Pool, kinds: Sequence[str]) -> None:
        while True:
            with self._wake:
                if self._stopping:
                    return
                seen = self._generation
            wait_s = PAUSE_AFTER_TROUBLE_S
            try:
                process, wait_s = self._claim(pool, kinds)
                if process is not None:
                    self._run(process)
                    continue
            except Exception as err:  # a locked or full database must not cost a worker for ever
                log.error("a worker could not go on", pool=pool, error=str(err)[:300])
            with self._wake:
                if not self._stopping and self._generation == seen:
                    self._wake.wait(wait_s)

    def _claim(self, pool: Pool, kinds: Sequence[str]) -> tuple[Process | None, float]:
        """Lease the next due row of this pool, or say in how many seconds to look again."""
        now = time.time()
        ready = select(ProcessRow).where(
            col(ProcessRow.state) == "ready", _in_pool(pool, kinds), _at_the_head_of_its_lane()
        )
        with self._store.transaction() as tx:
            due = ready.where(col(ProcessRow.due_at) <= now, col(ProcessRow.lease_until) <= now)
            candidates = (
                due.order_by(col(ProcessRow.due_at), col(ProcessRow.id))
                .limit(MAX_CANDIDATES)
                # Another worker's candidates are passed over; SQLite has one writer anyhow.
                .with_for_update(skip_locked=True)
            )
            busy = self._busy_subjects(tx, now) if pool is Pool.PEERS else {}
            for row in tx.exec(candidates):
                if busy.get(row.target, 0) >= MAX_AT_ONE_PEER:
                    continue
                row.lease_until = now + LEASE_S
                row.attempts += 1
                tx.add(row)
                assert row.id is not None
                claimed = Process(
                    row.id, row.kind, row.subject, dict(row.payload), row.attempts, row.created_at
                )
                return claimed, 0.0
            waiting = ready.where(col(ProcessRow.due_at) > now)
            following = tx.exec(waiting.order_by(col(ProcessRow.due_at)).limit(1)).first()
        if following is None:
            return None, IDLE_LOOK_S
        return None, min(IDLE_LOOK_S, max(0.01, following.due_at - now))

    def _busy_subjects(self, tx: Session, now: float) -> dict[str, int]:
        """How many deliveries are under way to each peer."""
        leased = select(ProcessRow.target, func.count()).where(
            col(ProcessRow.state) == "ready",
            col(ProcessRow.lease_until) > now,
            col(ProcessRow.target) != "",
        )
        return dict(tx.exec(leased.group_by(col(ProcessRow.target))).all())

    def _run(self, process: Process) -> None:
        fields = {"process": process.id, "kind": process.kind, "subject": process.subject}
        handler = self._handlers.get(process.kind)
        try:
            if handler is None:
                raise NodeError(f"this version knows no process of kind {process.kind}")
            later = handler.handle(process)
        except (Unavailable, StaleDataError, ChainUnavailable) as err:
            self._retry_or_fail(process, handler, str(err), fields)
        except Exception as err:  # the engine must outlive any one process; the error is kept
            known = isinstance(err, SHOWN)
            log.error("process failed", **fields, error=str(err), exc_info=not known)
            self._fail(process, handler, str(err) if known else f"internal: {type(err).__name__}")
        else:
            if later is None:
                self._set(process, state="done")
            else:
                self._set(process, due_at=time.time() + later.after_s)

    def _retry_or_fail(
        self, process: Process, handler: Handler | None, error: str, fields: dict[str, Any]
    ) -> None:
        wait_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(process.attempts - 1, 10))
        with self._store.transaction() as tx:
            row = tx.get_one(ProcessRow, process.id)
            give_up = time.time() + wait_s > row.give_up_at
        if give_up:
            log.warning("process given up", **fields, error=error)
            self._fail(process, handler, error)
            return
        log.info("process will be tried again", **fields, after_s=round(wait_s, 2), error=error)
        self._set(process, due_at=time.time() + wait_s, last_error=error)

    def _fail(self, process: Process, handler: Handler | None, error: str) -> None:
        """End a process, together with what its failure means for the state that waits for it.

        Where even that cannot be written, the process ends alone: it must not be tried for ever.
        """
        try:
            self._end(process, handler, error, tell=True)
        except (SQLAlchemyError, *SHOWN) as err:
            log.error("a failure could not be told", process=process.id, error=str(err)[:300])
            self._end(process, handler, error, tell=False)

    def _end(self, process: Process, handler: Handler | None, error: str, *, tell: bool) -> None:
        with self._store.transaction() as tx:
            row = tx.get_one(ProcessRow, process.id)
            row.state, row.last_error, row.lease_until = "failed", error, 0.0
            tx.add(row)
            if handler is not None and handler.on_failure is not None and tell:
                handler.on_failure(tx, process, error)

    def _set(self, process: Process, **values: object) -> None:
        with self._store.transaction() as tx:
            row = tx.get_one(ProcessRow, process.id)
            row.lease_until = 0.0
            for name, value in values.items():
                setattr(row, name, value)
            tx.add(row)
        if values.get("state") == "done":
            self.wake()
