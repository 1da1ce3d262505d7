"""Whether one member that asks for very much delays another that asks for little.

Twice: a flood of computations, against one computation now and then of another consumer; and a
flood of catalogue requests, against another member's negotiations. The same is measured before the
flood begins, with the same node alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from dataspace.client import ENDED
from dataspace.store.tables import ComputationRow
from tests.faults import city
from tests.load.operations import Worker
from tests.load.plan import CONSUMERS, Asked, Work
from tests.load.space import FLOODED, FLOODER, LARGE, LoadedSpace
from tests.load.watching import pid_of, workers_of

OTHER = CONSUMERS[1]
ALONE = 5
AT_LEAST = 3
# So many of the flood's orders are given at the same moment.
ORDERING = 8
CATALOGUE_CLIENTS = 6
CATALOGUE_FLOOD_S = 8.0
LOOK_S = 0.02
FLOOD_S = 300.0

COMPUTATION: Any = ComputationRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Seen:
    """One computation as the flooded provider has it, in seconds."""

    consumer: str
    waited_s: float
    ran_s: float


@dataclass
class Concurrency:
    """The most that ran at once while somebody looked: of all, of one consumer, and workers."""

    running: int = 0
    of_one: int = 0
    workers: int = 0


@dataclass(frozen=True)
class Computations:
    """`alone` and `among` are how long the other consumer's whole computations took, before and
    during the flood; the waits and the round are of the provider's queue."""

    orders: int
    alone_s: Sequence[float]
    among_s: Sequence[float]
    other_waits_s: Sequence[float]
    flood_waits_s: Sequence[float]
    # How long a computation of the flood ran, in the middle: what a place in the queue costs.
    round_s: float
    # From the first order to the end of the last.
    flood_s: float
    concurrency: Concurrency = field(default_factory=Concurrency)

    @property
    def rounds_waited(self) -> float:
        """The longest wait of the other consumer, in rounds."""
        return max(self.other_waits_s, default=0.0) / self.round_s

    @property
    def rounds_delayed(self) -> float:
        """How much longer the other consumer's slowest took than one alone, in rounds: what it
        waited and what it computed more slowly, at all parties."""
        return (max(self.among_s) - median(self.alone_s)) / self.round_s


@dataclass(frozen=True)
class Catalogues:
    """Another member's negotiations before and during a flood of catalogue requests."""

    requests: int
    waits: int
    alone_s: Sequence[float]
    among_s: Sequence[float]

    @property
    def ratio(self) -> float:
        return median(self.among_s) / median(self.alone_s)


# ---- computations ---------------------------------------------------------------------------


def flood_of_computations(space: LoadedSpace, orders: int) -> Computations:
    """`orders` at once by one consumer, and one after the other by the other meanwhile."""
    worker = Worker(space)
    try:
        alone = [_timed(lambda: _compute(worker)) for _ in range(ALONE)]
        begun_at = time.time()
        with _Counting(space) as counted:
            with ThreadPoolExecutor(ORDERING) as pool:
                flood = list(pool.map(lambda _: _order(space), range(orders)))
            among: list[float] = []
            until = time.monotonic() + FLOOD_S
            while len(among) < AT_LEAST or _unfinished(space, flood):
                among.append(_timed(lambda: _compute(worker)))
                if time.monotonic() > until:
                    raise TimeoutError(f"{orders} computations took more than {FLOOD_S:g} s")
        flood_s = time.time() - begun_at
        seen = _seen(space, begun_at)
    finally:
        worker.close()
    flooder, other = space[FLOODER].did, space[OTHER].did
    ran = [one.ran_s for one in seen if one.consumer == flooder]
    return Computations(
        orders=orders,
        alone_s=alone,
        among_s=among,
        other_waits_s=[one.waited_s for one in seen if one.consumer == other],
        flood_waits_s=[one.waited_s for one in seen if one.consumer == flooder],
        round_s=median(ran),
        flood_s=flood_s,
        concurrency=counted,
    )


def _compute(worker: Worker) -> None:
    worker.do(Asked(Work.INTERSECTION, OTHER, FLOODED, 1))


def _order(space: LoadedSpace) -> str:
    own = {"source": str(space.large.file("own")), "identifier": "person"}
    body = {
        "kind": Work.INTERSECTION.value,
        "agreements": [space.agreements[FLOODER, FLOODED, LARGE]],
        "purpose": city.PURPOSE,
        "parameters": {"bucketElements": 1024},
        "own": own,
    }
    return str(space[FLOODER].client.call("POST", "/api/computations", body)["id"])


def _unfinished(space: LoadedSpace, flood: Sequence[str]) -> bool:
    with space.database(FLOODER).connect() as connection:
        ended = select(COMPUTATION.c.id).where(COMPUTATION.c.status.in_(ENDED))
        known = set(connection.execute(ended).scalars())
    return not known.issuperset(flood)


def _seen(space: LoadedSpace, since: float) -> list[Seen]:
    """The computations of the flood and those among it. Raises ValueError where one has failed."""
    with space.database(FLOODED).connect() as connection:
        rows = connection.execute(
            select(
                COMPUTATION.c.consumer,
                COMPUTATION.c.status,
                COMPUTATION.c.created_at,
                COMPUTATION.c.started_at,
                COMPUTATION.c.finished_at,
            ).where(COMPUTATION.c.created_at >= since)
        ).all()
    failed = [row.status for row in rows if row.status != "COMPLETED"]
    if failed:
        raise ValueError(f"{len(failed)} of {len(rows)} computations ended as {set(failed)}")
    return [
        Seen(row.consumer, row.started_at - row.created_at, row.finished_at - row.started_at)
        for row in rows
    ]


class _Counting:
    """Looks how many computations run at the flooded provider, again and again."""

    def __init__(self, space: LoadedSpace) -> None:
        self._space = space
        self._counted = Concurrency()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look, name="counting", daemon=True)

    def __enter__(self) -> Concurrency:
        self._thread.start()
        return self._counted

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _look(self) -> None:
        running = select(COMPUTATION.c.consumer).where(COMPUTATION.c.status == "RUNNING")
        counted, pid = self._counted, pid_of(self._space, FLOODED)
        with self._space.database(FLOODED).connect() as connection:
            while not self._ending.wait(LOOK_S):
                try:
                    of = Counter(connection.execute(running).scalars())
                    connection.rollback()
                except SQLAlchemyError:
                    # A reader of SQLite may find its log being put back; the next look sees.
                    continue
                counted.running = max(counted.running, of.total())
                counted.of_one = max([counted.of_one, *of.values()])
                counted.workers = max(counted.workers, len(workers_of(pid)))


# ---- catalogues -----------------------------------------------------------------------------


def flood_of_catalogues(space: LoadedSpace) -> Catalogues:
    """Negotiations of one member alone, and while another reads the catalogue as fast as it can."""
    negotiating = Worker(space)
    floods = [Worker(space) for _ in range(CATALOGUE_CLIENTS)]
    ending = threading.Event()
    requests: list[int] = [0] * len(floods)
    failed: list[BaseException] = []

    def flood(number: int) -> None:
        try:
            while not ending.is_set():
                floods[number].do(Asked(Work.CATALOGUE, FLOODER, FLOODED, number))
                requests[number] += 1
        except BaseException as err:  # raised again below, in the thread that waits for it
            failed.append(err)

    def negotiate() -> None:
        negotiating.do(Asked(Work.NEGOTIATION, OTHER, FLOODED, 1))

    try:
        alone = [_timed(negotiate) for _ in range(2 * ALONE)]
        threads = [
            threading.Thread(target=flood, args=(number,), name=f"flood {number}")
            for number in range(len(floods))
        ]
        for thread in threads:
            thread.start()
        among: list[float] = []
        until = time.monotonic() + CATALOGUE_FLOOD_S
        while len(among) < AT_LEAST or time.monotonic() < until:
            among.append(_timed(negotiate))
    finally:
        ending.set()
        for thread in threads:
            thread.join()
        for worker in (negotiating, *floods):
            worker.close()
    if failed:
        raise failed[0]
    return Catalogues(sum(requests), sum(one.waits for one in floods), alone, among)


def _timed(act: Callable[[], None]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun
