"""Clients in a closed loop: each asks for the next thing when it has the answer to the last."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dataspace.client import ApiError, Failed, Refused, Waiting
from ledger.errors import LedgerError
from tests.load.operations import Unexpected, Worker
from tests.load.plan import Asked, Work
from tests.load.space import LoadedSpace

# Whatever goes wrong a thousand times is understood by then.
MAX_ERRORS_KEPT = 50
# What an answer that is not the expected one shows itself as; everything else is a mistake here.
WRONG = (Unexpected, ApiError, Refused, Failed, Waiting, TimeoutError, LedgerError)


@dataclass
class Done:
    """What clients did: seconds of every operation by its sort, and what went wrong."""

    seconds: dict[Work, list[float]] = field(default_factory=lambda: {work: [] for work in Work})
    errors: Counter[Work] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    waits: int = 0
    elapsed_s: float = 0.0

    @property
    def count(self) -> int:
        return sum(len(one) for one in self.seconds.values())


class Crew:
    """Some clients over one space, each a thread."""

    def __init__(self, space: LoadedSpace) -> None:
        self._space = space
        self._lock = threading.Lock()
        self.done = Done()
        self._ending = threading.Event()

    def run(self, plans: Iterable[Iterable[Asked]], seconds: float) -> Done:
        """One client a plan, for so long or until every plan is done; what is in hand then is
        finished."""
        begun = time.monotonic()
        threads = [
            threading.Thread(target=self._client, args=(plan,), name=f"client {number}")
            for number, plan in enumerate(plans)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, begun + seconds - time.monotonic()))
        self._ending.set()
        for thread in threads:
            thread.join()
        self.done.elapsed_s = time.monotonic() - begun
        return self.done

    def _client(self, plan: Iterable[Asked]) -> None:
        worker = Worker(self._space)
        try:
            for asked in plan:
                if self._ending.is_set():
                    return
                self._one(worker, asked)
        except Exception as err:  # a mistake of ours is one error, and must not end as a success
            self._wrong(asked, f"{type(err).__name__}: {err}")
            self._ending.set()
            raise
        finally:
            with self._lock:
                self.done.waits += worker.waits
            worker.close()

    def _one(self, worker: Worker, asked: Asked) -> None:
        begun = time.perf_counter()
        try:
            worker.do(asked)
        except WRONG as err:
            self._wrong(asked, f"{type(err).__name__}: {err}")
            return
        took = time.perf_counter() - begun
        with self._lock:
            self.done.seconds[asked.work].append(took)

    def _wrong(self, asked: Asked, sentence: str) -> None:
        where = f"{asked.work.value} {asked.number}, {asked.consumer} of {asked.provider}"
        with self._lock:
            self.done.errors[asked.work] += 1
            if len(self.done.told) < MAX_ERRORS_KEPT:
                self.done.told.append(f"{where}: {sentence}")
