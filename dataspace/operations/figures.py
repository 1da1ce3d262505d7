"""Figures that a node counts while it works: cheap to add to, read when somebody asks.

What can be read from the database when asked (`dataspace.operations.metrics`) is not counted here.
Labels come from closed sets: route templates, statuses, kinds, outcomes. None is a name, an id or
a number of rows.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# Upper bounds in seconds. Requests are small or carry 8 MiB; computations take up to an order's
# life; a transaction waits for another at most.
REQUEST_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
COMPUTATION_BOUNDS: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
TRANSACTION_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0)
# Label sets of one histogram or counter; more than all routes and statuses there are.
MAX_SERIES = 4096
Labels = tuple[str, ...]


@dataclass
class Buckets:
    """One series: how many were at most each bound (the last: more than all), and their sum."""

    counts: list[int]
    total: float = 0.0


class Histogram:
    """Durations by labels."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._lock = threading.Lock()
        self._series: dict[Labels, Buckets] = {}

    def add(self, labels: Labels, value: float) -> None:
        with self._lock:
            series = self._series.get(labels)
            if series is None:
                if len(self._series) >= MAX_SERIES:
                    return
                series = self._series[labels] = Buckets([0] * (len(self.bounds) + 1))
            series.counts[bisect_left(self.bounds, value)] += 1
            series.total += value

    def series(self) -> dict[Labels, Buckets]:
        """All series as they are now."""
        with self._lock:
            return {
                labels: Buckets(list(one.counts), one.total) for labels, one in self._series.items()
            }


class Tally:
    """Numbers that only grow, by labels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Labels] = Counter()

    def add(self, labels: Labels, number: int = 1) -> None:
        with self._lock:
            if labels in self._counts or len(self._counts) < MAX_SERIES:
                self._counts[labels] += number

    def counts(self) -> Mapping[Labels, int]:
        with self._lock:
            return dict(self._counts)


@dataclass
class Figures:
    """What one node counts."""

    # By method, route and status.
    requests: Tally = field(default_factory=Tally)
    # By route.
    request_s: Histogram = field(default_factory=lambda: Histogram(REQUEST_BOUNDS))
    # By kind and outcome.
    computation_s: Histogram = field(default_factory=lambda: Histogram(COMPUTATION_BOUNDS))
    # In one series.
    transaction_s: Histogram = field(default_factory=lambda: Histogram(TRANSACTION_BOUNDS))
    # By face and direction: what requests and answers carried, headers not counted
    carried_bytes: Tally = field(default_factory=Tally)
    # By kind and outcome: what came of attempts at processes
    attempts: Tally = field(default_factory=Tally)
    # By the answer's status or "unreachable": what became of our requests to peers
    outgoing: Tally = field(default_factory=Tally)
