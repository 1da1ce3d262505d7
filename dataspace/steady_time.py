"""Time for durable work, of which a wall clock that jumps makes no end.

Due times are wall-clock times, as they outlive a process. A wall clock that is set ahead, and set
right again soon, must not let every deadline pass in between: what it says is taken only once it
has stood for a while. The clock that nobody sets, `time.monotonic`, measures that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Clocks differ by this much at most; what is further ahead has jumped.
CLOCKS_DIFFER_S = 60.0
# A clock that has jumped ahead is believed after so long.
BELIEVED_AFTER_S = 60.0
# Nothing is given up that has not failed for so long in this life of the node, or for a tenth of
# its time where that is shorter.
LEAST_TRIED_S = 60.0
# Of more pieces of failing work the oldest are forgotten, and tried for longer.
MAX_FAILING = 10_000


class SteadyClock:
    """Wall-clock time that follows a jump ahead only once it has stood for `BELIEVED_AFTER_S`."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._steady = wall, steady
        self._ahead_s = wall() - steady()
        self._jumped_at: float | None = None
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            steady, wall = self._steady(), self._wall()
            ahead_s = wall - steady
            if ahead_s <= self._ahead_s + CLOCKS_DIFFER_S:
                self._ahead_s, self._jumped_at = ahead_s, None
                return wall
            if self._jumped_at is None:
                self._jumped_at = steady
            if steady - self._jumped_at < BELIEVED_AFTER_S:
                return steady + self._ahead_s
            self._ahead_s, self._jumped_at = ahead_s, None
            return wall


class Patience:
    """Since when work has been failing in this life, whatever the wall clock says."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._failing: dict[int, float] = {}
        self._lock = threading.Lock()

    def is_over(self, work: int, lifetime_s: float) -> bool:
        """Whether `work`, which has failed again, has been tried for long enough to be given up."""
        with self._lock:
            now = self._steady()
            since = self._failing.setdefault(work, now)
            if len(self._failing) > MAX_FAILING:
                del self._failing[next(iter(self._failing))]
            return now - since >= min(LEAST_TRIED_S, lifetime_s / 10)

    def forget(self, work: int) -> None:
        """It has ended, or does not fail any more."""
        with self._lock:
            self._failing.pop(work, None)
