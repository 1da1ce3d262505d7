"""Several processes that serve one node on one database: who lives, and who takes over.

Each replica has a name of its own, raises a count in its row about once a second, and watches the
counts of the others with its own clock: one whose count has stood still for `DEAD_AFTER_S` is dead.
Whoever removes its row first takes over what it had, in the same transaction. A replica that finds
its own row removed was taken for dead: it lets go of all it had and begins again as new. One that
finds another life under its name has been replaced, and ends.

A node on SQLite has one process and none of this.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from dataspace.errors import Unavailable
from dataspace.leases import give_back_leases
from dataspace.store.engine import Store
from dataspace.store.tables import ReplicaRow

log = structlog.get_logger("dataspace.replicas")

BEAT_S = 1.0
# Longer than a replica may wait for its turn at a busy database, and than a server takes to come
# back; a request to it is repeated for longer.
DEAD_AFTER_S = 15.0


@dataclass(frozen=True)
class Duties:
    """What a replica does as the others come and go.

    `take_over` is called in the transaction that removes a dead replica's row; `let_go` when this
    one was taken for dead or replaced; `each_beat` after every beat.
    """

    take_over: Callable[[Session, str], None]
    let_go: Callable[[], None]
    each_beat: Callable[[], None]


@dataclass
class _Seen:
    """When the count of a replica's life was last seen to grow, by our own clock."""

    life: str
    beats: int
    at: float


class Replicas:
    """This process among those that serve its node."""

    def __init__(
        self, store: Store, *, name: str, address: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._address = address
        self._life = secrets.token_hex(8)
        self._seen: dict[str, _Seen] = {}
        self._others: dict[str, str] = {}
        self._beat_at: float | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._draining = False
        # Whether another process has begun under our name.
        self.replaced = False
        # Told once when that has happened; a server sets it to end.
        self.on_replaced: Callable[[], None] = lambda: None
        self.name = name

    @property
    def alone(self) -> bool:
        """Whether this node can have no other replicas."""
        return not self._store.shared

    def begin(self, duties: Duties) -> None:
        """Enter our row, in the place of an earlier life's, and beat from now on."""
        if self.alone:
            return
        with self._store.transaction() as tx:
            self._enter(tx)
        self._thread = threading.Thread(
            target=self._beat_on, args=(duties,), name="heartbeat", daemon=True
        )
        self._thread.start()

    def end(self, hand_over: Callable[[Session, str], None]) -> None:
        """Leave: `hand_over` what we had in the transaction that removes our row."""
        self._stopped.set()
        if self._thread is None:
            return
        self._thread.join(DEAD_AFTER_S)
        with self._store.transaction() as tx:
            if self._remove(tx, self.name, self._life):
                hand_over(tx, self.name)

    def drain(self) -> None:
        """Say with the next beat that we begin nothing new."""
        self._draining = True

    def address_of(self, name: str) -> str | None:
        """Where the replica `name` is reached by the others, None where it does not live."""
        return self._others.get(name)

    def others(self) -> dict[str, str]:
        """The other replicas that live, and their addresses."""
        return dict(self._others)

    def beat(self, duties: Duties) -> None:
        """Show that we live, and look who else does."""
        before, now = self._beat_at, self._clock()
        with self._store.transaction() as tx:
            alive = self._show(tx)
            rows = tx.exec(select(ReplicaRow).where(ReplicaRow.name != self.name)).all()
        if not alive:
            self._come_back(duties)
            return
        self._beat_at = now
        if before is None or now - before > DEAD_AFTER_S / 3:
            # While we could not look, they could not be seen.
            self._seen.clear()
        dead = self._look_at(rows, now)
        self._others = {row.name: row.address for row in rows if row.name not in dead}
        for name, life in dead.items():
            with self._store.transaction() as tx:
                if self._remove(tx, name, life):
                    log.warning("a replica is dead, and its work is taken over", replica=name)
                    duties.take_over(tx, name)
        duties.each_beat()

    def _look_at(self, rows: Sequence[ReplicaRow], now: float) -> dict[str, str]:
        """Note the counts; the names and lives of those whose count has stood still too long."""
        dead: dict[str, str] = {}
        for row in rows:
            seen = self._seen.get(row.name)
            if seen is None or (seen.life, seen.beats) != (row.life, row.beats):
                self._seen[row.name] = _Seen(row.life, row.beats, now)
            elif now - seen.at > DEAD_AFTER_S:
                dead[row.name] = row.life
        for name in set(self._seen) - {row.name for row in rows}:
            del self._seen[name]
        return dead

    def _enter(self, tx: Session) -> None:
        tx.merge(
            ReplicaRow(
                name=self.name,
                life=self._life,
                address=self._address,
                beats=0,
                draining=self._draining,
                started_at=time.time(),
            )
        )

    def _show(self, tx: Session) -> bool:
        """Raise our count; False where our row is gone, or another's."""
        shown = tx.exec(
            update(ReplicaRow)
            .where(col(ReplicaRow.name) == self.name, col(ReplicaRow.life) == self._life)
            .values(beats=ReplicaRow.beats + 1, draining=self._draining)
        )
        return bool(shown.rowcount)

    def _remove(self, tx: Session, name: str, life: str) -> bool:
        removed = tx.exec(
            delete(ReplicaRow).where(col(ReplicaRow.name) == name, col(ReplicaRow.life) == life)
        )
        return bool(removed.rowcount)

    def _come_back(self, duties: Duties) -> None:
        """We were taken for dead, or replaced: what we had is others' now."""
        with self._store.transaction() as tx:
            replaced = tx.get(ReplicaRow, self.name) is not None
        duties.let_go()
        if replaced:
            log.error("another process serves as this replica", replica=self.name)
            self.replaced = True
            self._stopped.set()
            self.on_replaced()
            return
        log.warning("this replica was taken for dead and begins again", replica=self.name)
        self._life = secrets.token_hex(8)
        with self._store.transaction() as tx:
            # What another had not leased yet is free already; this is for what came in between.
            give_back_leases(tx, self.name, bound=True)
            self._enter(tx)

    def _beat_on(self, duties: Duties) -> None:
        while not self._stopped.wait(BEAT_S):
            try:
                self.beat(duties)
            except Unavailable as err:
                log.warning("no heartbeat", replica=self.name, error=str(err))
            except Exception:  # the others must not take us for dead because of one bad beat
                log.exception("a heartbeat went wrong", replica=self.name)
