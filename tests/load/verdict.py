"""Is everything as it must be? Rules over what was measured; they know no node and no clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dataspace.computing.running import MAX_RUNNING, MAX_RUNNING_A_CONSUMER
from tests.load.fairness import Catalogues, Computations
from tests.load.figures import Growth

# After the warm-up a node's memory may grow by this much from the first third to the last: what an
# allocator keeps in hand between two looks. A run of minutes must not need more than a short one.
GROWN_MB = 12.0
GROWN_PART = 0.05
# Threads come and go with requests, up to the server's pool of 40; files with connections.
GROWN_THREADS = 8.0
GROWN_FILES = 24.0
# SQLite puts its log back at 1,000 pages of 4 kB where no reader is in the way.
MAX_WAL_MB = 32.0
# The longest wait of who orders little, in the time that a computation runs: one has to end.
MAX_ROUNDS = 1.5
# A negotiation takes six messages of two nodes; with the flood's, and its catalogues, on the same
# two processors it may take so many times as long. Behind the flood it would take far longer.
MAX_RATIO = 8.0


@dataclass(frozen=True)
class Ended:
    """How the nodes stand some time after the last operation."""

    outbox: Mapping[str, int]
    unanchored: Mapping[str, int]
    failed: Mapping[str, int]
    settled_s: float


@dataclass(frozen=True)
class Measured:
    """What the verdict is about."""

    errors: Mapping[str, int]
    told: tuple[str, ...]
    operations: int
    memory: Mapping[str, Growth]
    threads: Mapping[str, Growth]
    files: Mapping[str, Growth]
    wal_mb: Mapping[str, float]
    workers: Mapping[str, float]
    worker_processes: int
    ended: Ended
    computations: Computations | None = None
    catalogues: Catalogues | None = None
    harness: tuple[str, ...] = field(default=())


def judge(measured: Measured) -> list[str]:
    """What is not as it must be, a sentence for each."""
    return [*_errors(measured), *_flat(measured), *_settled(measured), *_fair(measured)]


def _errors(measured: Measured) -> Iterator[str]:
    yield from measured.harness
    if not measured.operations:
        yield "nothing was done"
    for work, count in measured.errors.items():
        if count:
            yield f"{count} x {work} had an unexpected answer"


def _flat(measured: Measured) -> Iterator[str]:
    for name, grown in measured.memory.items():
        allowed = max(GROWN_MB, GROWN_PART * grown.first)
        if grown.gained > allowed:
            yield (
                f"{name} grew by {grown.gained:.1f} MB from {grown.first:.0f} MB "
                f"(allowed: {allowed:.1f}), {grown.a_minute:+.1f} MB a minute"
            )
    for what, series, allowed in (
        ("threads", measured.threads, GROWN_THREADS),
        ("open files", measured.files, GROWN_FILES),
    ):
        for name, grown in series.items():
            if grown.gained > allowed:
                yield f"{name} has {grown.gained:.0f} more {what} than it had ({allowed:.0f})"
    for name, most in measured.wal_mb.items():
        if most > MAX_WAL_MB:
            yield f"the write-ahead log of {name} reached {most:.0f} MB ({MAX_WAL_MB:.0f})"
    for name, count in measured.workers.items():
        if count > measured.worker_processes:
            yield f"{name} had {count:.0f} workers, and {measured.worker_processes} are configured"


def _settled(measured: Measured) -> Iterator[str]:
    for name, depth in measured.ended.outbox.items():
        if depth:
            yield f"{depth} messages of {name} wait {measured.ended.settled_s:.0f} s after the end"
    for name, count in measured.ended.unanchored.items():
        if count:
            yield f"{count} entries of {name} are not anchored"
    for name, count in measured.ended.failed.items():
        if count:
            yield f"{count} processes of {name} have failed"


def _fair(measured: Measured) -> Iterator[str]:
    flood = measured.computations
    if flood is not None:
        if flood.rounds_waited > MAX_ROUNDS:
            yield (
                f"a computation beside the flood waited {flood.rounds_waited:.1f} rounds "
                f"({MAX_ROUNDS})"
            )
        if flood.rounds_delayed > MAX_ROUNDS:
            yield (
                f"a computation beside the flood took {flood.rounds_delayed:.1f} rounds more than "
                f"one alone ({MAX_ROUNDS})"
            )
        counted = flood.concurrency
        if counted.running > MAX_RUNNING or counted.of_one > MAX_RUNNING_A_CONSUMER:
            yield (
                f"{counted.running} computations ran at once, {counted.of_one} of one consumer "
                f"({MAX_RUNNING}, {MAX_RUNNING_A_CONSUMER})"
            )
        if counted.workers > measured.worker_processes:
            yield f"{counted.workers} workers ran, {measured.worker_processes} are configured"
    catalogues = measured.catalogues
    if catalogues is not None and catalogues.ratio > MAX_RATIO:
        yield (
            f"beside a flood of catalogue requests a negotiation took {catalogues.ratio:.1f} times "
            f"as long ({MAX_RATIO})"
        )
