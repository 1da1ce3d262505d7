"""Carries faults out: kills, clocks, disks, networks, databases."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.load import Load
from tests.faults.plan import Fault, Kind
from tests.faults.space import FaultyNode, FaultySpace
from tests.faults.worlds import NotHere

# How long a biased kill waits for its moment before it strikes anyhow.
MOMENT_S = 1.5
# No fault takes longer; one that does is told, and waited for no more.
STRIKE_S = 180.0
REMEMBERED = 200


@dataclass
class Strikes:
    """Runs faults in threads and undoes them; `done` counts those that struck."""

    space: FaultySpace
    load: Load
    done: Counter[Kind] = field(default_factory=Counter)
    kills: int = 0
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    def begin(self, fault: Fault) -> None:
        thread = threading.Thread(target=self._run, args=(fault,), name=f"fault {fault.number}")
        thread.daemon = True
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        until = time.monotonic() + STRIKE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        left = [thread.name for thread in self._threads if thread.is_alive()]
        self.trouble += [f"{name} did not end" for name in left]
        self._threads.clear()

    def _run(self, fault: Fault) -> None:
        node = self.space[fault.node]
        awaited = self.load.next_request_to(node.name) if fault.kind is Kind.KILL_ASKED else None
        time.sleep(fault.after_s)
        try:
            if awaited is not None:
                awaited.wait(MOMENT_S)
            _STRIKES[fault.kind](self, node, fault)
        except Exception as err:
            self.trouble.append(f"{fault.kind} at {fault.node}: {type(err).__name__}: {err}")

    def _note(self, fault: Fault, what: str = "") -> None:
        with self._lock:
            self.done[fault.kind] += 1
            at = time.monotonic() - self._begun
            self.recent.append(f"{at:7.1f} s  {fault.kind} at {fault.node} {what}".rstrip())

    def _kill(self, node: FaultyNode, fault: Fault) -> None:
        if node.running():
            node.kill()
            with self._lock:
                self.kills += 1
            self._note(fault)

    def _killed(self, node: FaultyNode, fault: Fault) -> None:
        self._kill(node, fault)
        time.sleep(fault.for_s)
        node.start()

    def _killed_committing(self, node: FaultyNode, fault: Fault) -> None:
        log = node.home.path / "node.sqlite-wal"
        before, until = _changed(log), time.monotonic() + MOMENT_S
        while _changed(log) == before and time.monotonic() < until:
            time.sleep(0.0005)
        self._killed(node, fault)

    def _killed_asked(self, node: FaultyNode, fault: Fault) -> None:
        # The request is on its way; how far it comes is up to the machine.
        time.sleep(fault.for_s % 0.03)
        self._killed(node, fault)

    def _killed_starting(self, node: FaultyNode, fault: Fault) -> None:
        self._kill(node, fault)
        node.start()
        time.sleep(fault.for_s)
        self._kill(node, fault)
        node.start()

    def _away(self, node: FaultyNode, fault: Fault) -> None:
        with node.lock:
            process = node.process
        if process is None or process.ended:
            return
        if not process.stop():
            self.trouble.append(f"{node.name} did not end when it was asked to")
        self._note(fault)
        time.sleep(fault.for_s)
        node.start()

    def _frozen(self, node: FaultyNode, fault: Fault) -> None:
        process = node.process
        if process is None or process.ended:
            return
        process.signal(signal.SIGSTOP)
        self._note(fault)
        time.sleep(fault.for_s)
        process.signal(signal.SIGCONT)

    def _clock(self, node: FaultyNode, fault: Fault) -> None:
        if node.clock is None:
            return
        node.clock.set_wrong_by(fault.clock_s)
        self._note(fault, f"by {fault.clock_s:+.0f} s")
        time.sleep(fault.for_s)
        node.clock.set_wrong_by(0.0)

    def _disk(self, node: FaultyNode, fault: Fault) -> None:
        if node.disk is None:
            return
        node.disk.fill()
        self._note(fault)
        time.sleep(fault.for_s)
        node.disk.free()

    def _partition(self, node: FaultyNode, fault: Fault) -> None:
        if node.network is None:
            return
        node.network.cut()
        self._note(fault)
        time.sleep(fault.for_s)
        node.network.mend()

    def _database(self, node: FaultyNode, fault: Fault) -> None:
        if self.space.server is None:
            return
        with self._lock:
            self.space.server.stop()
        self._note(fault)
        time.sleep(fault.for_s)
        with self._lock:
            self.space.server.start()

    def mend_everything(self) -> None:
        """Whatever a fault may have left: clocks right, disks free, lines up."""
        for node in self.space.nodes.values():
            if node.clock is not None:
                node.clock.set_wrong_by(0.0)
            if node.disk is not None:
                node.disk.free()
            if node.network is not None:
                with suppress(NotHere):
                    node.network.mend()


_STRIKES: dict[Kind, Callable[[Strikes, FaultyNode, Fault], None]] = {
    Kind.KILL: Strikes._killed,
    Kind.KILL_COMMITTING: Strikes._killed_committing,
    Kind.KILL_ASKED: Strikes._killed_asked,
    Kind.KILL_STARTING: Strikes._killed_starting,
    Kind.AWAY: Strikes._away,
    Kind.FROZEN: Strikes._frozen,
    Kind.CLOCK: Strikes._clock,
    Kind.DISK: Strikes._disk,
    Kind.PARTITION: Strikes._partition,
    Kind.DATABASE: Strikes._database,
}


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
