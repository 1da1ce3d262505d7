"""Figures of asking a large set that is masked once: the first time, later times, after a change.

`figures` gives the rows. Both parties are in this process and take turns, with the workers of one
node between them, and their caches are directories, as at a node. A second time with the version
unknown reads the provider's rows to see that they are the same; with it known it does not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from ledger_figures import Figure, figure

from dataspace.computing.backend import LocalPool
from dataspace.computing.spools import DirectorySpool
from privacy.cached import CACHED
from privacy.computation import CONSUMER, Inputs, Parameters
from privacy.intersection import SENDER
from privacy.role import run_in_memory
from privacy.spool import Cache
from privacy.workers import Workers

ROUNDS = 3
BATCH_ROWS = 65_536
# Rows removed and as many added: a day's changes in a register of residents of that size.
CHANGED_PER_MILLION = 500
# Held to: a hundredth. The small set has too few rows for that beside what every run costs.
MOST_OF_FIRST = 1 / 100


@dataclass(frozen=True)
class Numbered:
    """Identifiers of so many people, those of `removed` numbers left out."""

    count: int
    removed: int = 0

    def batches(self) -> Iterator[Inputs]:
        for start in range(self.removed, self.count, BATCH_ROWS):
            stop = min(self.count, start + BATCH_ROWS)
            yield Inputs(tuple(person(number) for number in range(start, stop)))


def person(number: int) -> str:
    return f"11010119900101{number:08d}"


@dataclass(frozen=True)
class Two:
    """A provider and a consumer with their caches."""

    caches: dict[str, Cache]
    workers: Workers

    def ask(self, rows: Numbered, query: Sequence[int], version: str | None) -> float:
        """The seconds a whole run takes. Its result is compared with the plain one."""
        wanted = sorted(person(n) for n in query if rows.removed <= n < rows.count)
        inputs = {SENDER: rows, CONSUMER: Inputs(tuple(person(number) for number in query))}
        start = time.perf_counter()
        outcomes = run_in_memory(
            {
                party: CACHED.start(
                    party,
                    (SENDER, CONSUMER),
                    inputs[party],
                    Parameters(min_cohort=10),
                    None,
                    workers=self.workers,
                    cache=replace(self.caches[party], version=version),
                )
                for party in (SENDER, CONSUMER)
            }
        )
        seconds = time.perf_counter() - start
        if outcomes[CONSUMER].value != {"count": len(wanted), "identifiers": wanted}:
            raise AssertionError("the cached comparison gave a wrong result")
        return seconds


def figures(small: bool) -> list[Figure]:
    """All rows; `small` asks 200 of 20,000, in seconds, and has no aim for the ratio."""
    asked, held = (200, 20_000) if small else (1_000, 1_000_000)
    workers = LocalPool(2)
    try:
        # The processes of a node are there before a computation begins.
        list(workers.map(len, [b"", b"", b"", b""]))
        with tempfile.TemporaryDirectory() as directory:
            caches = {
                party: Cache(DirectorySpool(Path(directory) / party))
                for party in (SENDER, CONSUMER)
            }
            return measured(Two(caches, workers), asked, held, aims=not small)
    finally:
        workers.close()


def measured(two: Two, asked: int, held: int, *, aims: bool) -> list[Figure]:
    rows = Numbered(held)
    # Half of those asked about are in the set, and in each round they are others.
    queries = [
        [held - asked // 2 - asked * number + each for each in range(asked // 2)]
        + [held + asked * number + each for each in range(asked - asked // 2)]
        for number in range(ROUNDS + 1)
    ]
    first = two.ask(rows, queries[0], "1")
    second = median(two.ask(rows, query, "1") for query in queries[1:])
    unknown = median(two.ask(rows, query, None) for query in queries[1:])
    moved = held * CHANGED_PER_MILLION // 1_000_000
    changed = two.ask(Numbered(held + moved, removed=moved), queries[0], "2")
    after = median(two.ask(Numbered(held + moved, moved), query, "2") for query in queries[1:])
    of = f"psi-cached/1, {asked:,} against {held:,}"
    most = MOST_OF_FIRST if aims else None
    return [
        figure(f"{of}: the first time", first, "s"),
        figure(f"{of}: from the second time on", second, "s"),
        figure(f"{of}: second time / first time", second / first, "×", most=most),
        figure(f"{of}: second time, version of the rows unknown", unknown, "s"),
        figure(f"{of}: {moved} rows removed and {moved} added before", changed, "s"),
        figure(f"{of}: the next time", after, "s"),
        figure(f"{of}: the next time / first time", after / first, "×", most=most),
    ]
