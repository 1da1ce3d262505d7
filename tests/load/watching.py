"""What a run costs, looked at once a second: processor time, memory, threads, files, sizes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.nursery import members_of_group
from tests.load.plan import NODES
from tests.load.space import LoadedSpace

LOOK_S = 1.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Look:
    """One node's own process at one moment, and how many processes it has besides."""

    at: float
    rss_mb: float
    threads: int
    files: int
    workers: int
    wal_mb: float


@dataclass
class Watched:
    """Looks at every node, in the order of time."""

    looks: dict[str, list[Look]] = field(default_factory=lambda: {name: [] for name in NODES})

    def series(self, node: str, what: str) -> list[tuple[float, float]]:
        return [(look.at, float(getattr(look, what))) for look in self.looks[node]]

    def most(self, node: str, what: str) -> float:
        return max((value for _, value in self.series(node, what)), default=0.0)


class Watch:
    """Looks at the nodes in a thread of its own for as long as its block lasts."""

    def __init__(self, space: LoadedSpace) -> None:
        self._space = space
        self._pids = {name: pid_of(space, name) for name in NODES}
        self.watched = Watched()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self.watched

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _look(self) -> None:
        begun = time.monotonic()
        while not self._ending.wait(LOOK_S):
            at = time.monotonic() - begun
            for name, pid in self._pids.items():
                wal_mb = self._space.wal_bytes(name) / 1e6
                self.watched.looks[name].append(_look_at(pid, at, wal_mb))


def pid_of(space: LoadedSpace, name: str) -> int:
    process = space[name].process
    assert process is not None
    return process.pid


def _look_at(pid: int, at: float, wal_mb: float) -> Look:
    status = _status(pid)
    return Look(
        at=at,
        rss_mb=int(status["VmRSS"].split()[0]) / 1024,
        threads=int(status["Threads"]),
        files=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        workers=len(workers_of(pid)),
        wal_mb=wal_mb,
    )


def workers_of(node: int) -> list[int]:
    """The processes that a node has started: those that compute for it."""
    return [pid for pid in members_of_group(node) if pid != node]


def cpu_s(space: LoadedSpace) -> Mapping[str, float]:
    """Processor seconds that every node, with all its processes, has had so far."""
    return {name: _cpu_of_group(pid_of(space, name)) for name in NODES}


def own_cpu_s() -> float:
    """Processor seconds of this process: the clients."""
    return time.process_time()


def _cpu_of_group(leader: int) -> float:
    ticks = 0
    for pid in members_of_group(leader):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except OSError:
            # It ended; its parent, a member too, has its time among its children's.
            continue
        # utime, stime, and those of children that have ended and were waited for.
        ticks += sum(int(one) for one in fields.rpartition(")")[2].split()[11:15])
    return ticks / TICKS_A_SECOND


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs}
