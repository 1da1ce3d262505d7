"""How often an address may fail to prove who is calling, before it is told to wait.

Whoever proves it is never told to wait: codes and keys have 128 bits and more, so that the limit is
there to keep guessing from costing the node its time, not to stop the guess that succeeds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dataspace.rates import network_of

FAILURES_A_MINUTE, FAILURES_A_MINUTE_IN_ALL = 10, 300
MAX_ADDRESSES = 10_000
MINUTE_S = 60.0

Clock = Callable[[], float]


@dataclass
class Attempts:
    """Failed attempts of the last minute, by address and in all."""

    clock: Clock = time.monotonic
    _failed: dict[str, deque[float]] = field(default_factory=dict)
    _all: deque[float] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def allow(self, address: str) -> bool:
        with self._lock:
            return self._allows(network_of(address))

    def failed(self, address: str) -> None:
        network = network_of(address)
        with self._lock:
            if len(self._failed) >= MAX_ADDRESSES:
                self._failed.pop(next(iter(self._failed)))
            now = self.clock()
            self._failed.setdefault(network, deque()).append(now)
            self._all.append(now)

    def _allows(self, network: str) -> bool:
        since = self.clock() - MINUTE_S
        mine = self._failed.get(network, deque())
        for times in (mine, self._all):
            while times and times[0] < since:
                times.popleft()
        if not mine:
            self._failed.pop(network, None)
        return len(mine) < FAILURES_A_MINUTE and len(self._all) < FAILURES_A_MINUTE_IN_ALL
