"""Spans of a role's two costs: reading the rows, and the work of its workers.

Used only while spans are kept; each costs two looks at a clock for a batch of rows or a piece.
No span says how many rows or pieces there were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from dataspace.operations.tracing import Stopwatch
from privacy.computation import Rows
from privacy.kinds import Inputs
from privacy.workers import Workers

Piece = TypeVar("Piece")
Done = TypeVar("Done")


def _measured(found: Iterable[Done], name: str) -> Iterator[Done]:
    """`found`, with one span over all the time it took to make them."""
    watch, left = Stopwatch(name), iter(found)
    try:
        while True:
            with watch.running():
                try:
                    one = next(left)
                except StopIteration:
                    return
            yield one
    finally:
        watch.record()


@dataclass(frozen=True)
class MeasuredRows:
    """Rows whose reading is a span. An adapter to `privacy.computation.Rows`."""

    rows: Rows

    def batches(self) -> Iterator[Inputs]:
        yield from _measured(self.rows.batches(), "read source")


@dataclass(frozen=True)
class MeasuredWorkers:
    """Workers each of whose maps is a span. An adapter to `privacy.workers.Workers`."""

    workers: Workers

    @property
    def count(self) -> int:
        return self.workers.count

    def map(self, work: Callable[[Piece], Done], pieces: Iterable[Piece]) -> Iterator[Done]:
        yield from _measured(self.workers.map(work, pieces), "worker work")
