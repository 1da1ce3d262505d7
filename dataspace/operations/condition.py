"""Whether a node can work: for load balancers, service managers and the owner.

*Live* is a node whose threads live; one that is not should be started again. *Ready* is a node that
should be given work; one that is not may become so by itself.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import text
from sqlmodel import Session

from dataspace.errors import NodeError, Unavailable
from dataspace.evidence import ANCHOR, read_space
from dataspace.operations.notifying import ALIVE, notify, watchdog_interval_s
from dataspace.processes import newest_unfinished
from dataspace.store.upgrading import newest_revision
from ledger.errors import LedgerError

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.condition")

CHAIN_EVERY_S: Final = 15.0
STOP_S: Final = 2.0
MEGABYTE: Final = 1024 * 1024
SET_BACK_REMEDY: Final = (
    "stop it, then restore a newer backup, or: dataspace log recover --from COPY; "
    "see docs/incidents.md, A node that was set back"
)


@dataclass(frozen=True)
class Unready:
    """One reason why a node should be given no work, and what would change that."""

    part: str
    sentence: str
    remedy: str


@dataclass(frozen=True)
class ChainSeen:
    """How the last look at the chain went; None while there was none."""

    reachable: bool | None = None
    since: float | None = None


class Condition:
    """Looks at what a node depends on, now and then, in a thread of its own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.chain = ChainSeen()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._watch, name="condition", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            # A chain that hangs must not hold up the end; the thread ends with the process.
            self._thread.join(STOP_S)

    def live(self) -> bool:
        """Whether every thread of the process engine works; one that must not work, because the log
        was rewound, needs no new start, which would change nothing."""
        return self._node.rewind.halted or self._node.engine.healthy()

    def unready(self) -> list[Unready]:
        """Why this node should be given no work now; nothing where it should."""
        node = self._node
        reasons = []
        if not self.live():
            reasons.append(
                Unready("workers", "a worker thread has ended", "start the node again; see its log")
            )
        if node.engine.draining:
            reasons.append(
                Unready("draining", "the node finishes its work and stops", "wait for its start")
            )
        floor_mb = node.home.settings.disk_floor_mb
        free = free_disk_bytes(node.home.path)
        if free is not None and free < floor_mb * MEGABYTE:
            reasons.append(
                Unready(
                    "disk",
                    f"less than {floor_mb} MB of disk are free where the home is",
                    "make room: see docs/incidents.md, A full disk",
                )
            )
        standing = node.rewind.standing
        if standing is not None and not standing.sound:
            reasons.append(
                Unready(
                    "evidence",
                    standing.sentence(),
                    SET_BACK_REMEDY,
                )
            )
        try:
            with node.store.look() as tx:
                reasons += self._unready_in(tx)
        except (Unavailable, NodeError) as err:
            remedy = "check the setting database, its server and the disk"
            reasons.append(Unready("database", str(err), remedy))
        return reasons

    def _unready_in(self, tx: Session) -> list[Unready]:
        reasons = []
        found = tx.connection().execute(text("SELECT version_num FROM alembic_version")).scalar()
        if found != newest_revision():
            reasons.append(
                Unready(
                    "migrations",
                    "the database's schema is not this version's",
                    "stop every process of the other version, and start this one again",
                )
            )
        if not self._node.member(tx):
            reasons.append(
                Unready(
                    "membership",
                    "the node has not joined its space",
                    "ask the operator for an invitation, then: dataspace join --invitation CODE",
                )
            )
        stopped = evidence_stopped(tx)
        if stopped is not None:
            reasons.append(
                Unready(
                    "evidence",
                    stopped,
                    SET_BACK_REMEDY,
                )
            )
        return reasons

    def _watch(self) -> None:
        watchdog_s = watchdog_interval_s(os.environ)
        wait_s = min(CHAIN_EVERY_S, watchdog_s or CHAIN_EVERY_S)
        looked_at = time.monotonic()
        while not self._stop.wait(wait_s):
            if watchdog_s is not None and self.live():
                notify(os.environ, ALIVE)
            if time.monotonic() - looked_at >= CHAIN_EVERY_S:
                looked_at = time.monotonic()
                self.look_at_chain()

    def look_at_chain(self) -> None:
        """Ask the chain for its newest block, and remember whether it answered."""
        try:
            with self._node.store.look() as tx:
                space = read_space(tx)
            if space is None:
                return
            with self._node.chain_access.open(space.rpc_url, space.contract) as registry:
                registry.head()
        except (LedgerError, NodeError) as err:
            self._saw_chain(reachable=False, why=str(err))
        except Exception as err:  # whatever a library makes of a wrong answer, the watch goes on
            self._saw_chain(reachable=False, why=type(err).__name__)
        else:
            self._saw_chain(reachable=True, why="")

    def _saw_chain(self, *, reachable: bool, why: str) -> None:
        if reachable is self.chain.reachable:
            return
        if not reachable:
            log.warning("the chain cannot be reached", error=why[:300])
        elif self.chain.reachable is False:
            log.info("the chain can be reached again")
        self.chain = ChainSeen(reachable, time.time())


def evidence_stopped(tx: Session) -> str | None:
    """Why this node's log is anchored no more: its process has failed, and none is scheduled."""
    row = newest_unfinished(tx, ANCHOR)
    return row.last_error if row is not None and row.state == "failed" else None


def free_disk_bytes(path: Path) -> int | None:
    """Free bytes where `path` is, as an ordinary user has them; None where nobody can say."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None
