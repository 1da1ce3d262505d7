"""The same workers on a Dask cluster of the node's owner, for those who outgrow one machine.

A cluster belongs to one party: keys and identifiers go to it as they would go to a process here, so
it stays inside that party's walls, and an address that begins with `tls://` keeps them there.
Workers need this package installed; one thread each (`--nthreads 1`) is best, as big-number
arithmetic holds the interpreter.
"""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TypeVar

from dataspace.computing.backend import PIECE_DEADLINE_S, PIECES_A_WORKER, unpack
from dataspace.computing.work_process import answer
from dataspace.errors import InputRejected, Unavailable

try:
    from distributed import Client, Future, KilledWorker
    from distributed.comm.core import CommClosedError
except ImportError as err:
    raise InputRejected(
        "the setting cluster needs Dask", remedy="pip install 'city-dataspace[cluster]'"
    ) from err

Piece = TypeVar("Piece")
Result = TypeVar("Result")

CONNECT_S = 10.0
# How long an answer may take before it is asked whether anybody still works on it.
LOOK_S = 5.0


@dataclass
class _Submitted:
    """A pickled piece, and its answer to come."""

    request: bytes
    future: Future[bytes]


class DaskWorkers:
    """The workers behind the scheduler at `address`, reached when there is work for them.

    A worker that dies costs the pieces it had; Dask gives them to others, as often as its setting
    `allowed-failures` says, and blames all of them. So a run whose pieces kill one worker after the
    other can make runs beside it fail too, which a `LocalPool` keeps apart. Dask divides the
    workers among the runs, each of which has a bounded number of pieces there. A single piece is
    done in the calling thread, as in a `LocalPool`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._closed = False

    @property
    def count(self) -> int:
        """Threads of all workers at this moment; Unavailable where the cluster has none."""
        return _count(self._connected(), self._address)

    def map(self, work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
        """See `privacy.workers.Workers`. Raises Unavailable when the cluster cannot be reached or
        its workers die of a piece again and again."""
        upcoming = iter(pieces)
        first = list(itertools.islice(upcoming, 2))
        if len(first) < 2:
            yield from map(work, first)
            return
        client = self._connected()
        most = PIECES_A_WORKER * _count(client, self._address)
        under_way: deque[_Submitted] = deque()
        try:
            for piece in itertools.chain(first, upcoming):
                if len(under_way) >= most:
                    yield unpack(self._next(client, under_way))
                request = pickle.dumps((work, piece), pickle.HIGHEST_PROTOCOL)
                under_way.append(_Submitted(request, self._submit(client, request)))
            while under_way:
                yield unpack(self._next(client, under_way))
        finally:
            for submitted in under_way:
                submitted.future.release()

    def close(self) -> None:
        """Leave the cluster; it goes on without us. Maps, under way or later, are Unavailable."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close(timeout=CONNECT_S)

    def _connected(self) -> Client:
        with self._lock:
            if self._closed:
                raise Unavailable("this node is stopping", remedy="order again when it runs")
            # A client whose scheduler went away never comes back by itself.
            if self._client is None or self._client.status != "running":
                try:
                    self._client = Client(self._address, timeout=CONNECT_S, set_as_default=False)
                except (OSError, ValueError) as err:
                    raise _away(self._address) from err
            return self._client

    def _submit(self, client: Client, request: bytes) -> Future[bytes]:
        try:
            # Not pure: masking draws randomness, so that equal pieces have different answers.
            return client.submit(answer, request, pure=False)
        except (OSError, CommClosedError, RuntimeError) as err:
            raise _away(self._address) from err

    def _next(self, client: Client, under_way: deque[_Submitted]) -> bytes:
        """The answer to the first of the pieces that are `under_way`.

        Dask blames a worker's death on every piece the worker had been given, also on those of
        other runs. So a piece is only believed to be the cause if workers die of it again while it
        is the only one of its run.
        """
        submitted = under_way.popleft()
        try:
            return self._result(client, submitted)
        except KilledWorker:
            for other in under_way:
                other.future.release()
        submitted.future = self._submit(client, submitted.request)
        try:
            answered = self._result(client, submitted)
        except KilledWorker as err:
            raise Unavailable(
                "several workers of the cluster died of the same piece of this computation",
                remedy="see the logs of its workers; they may need more memory",
            ) from err
        for other in under_way:
            other.future = self._submit(client, other.request)
        return answered

    def _result(self, client: Client, submitted: _Submitted) -> bytes:
        """The answer; raises KilledWorker, and Unavailable where there is none in time."""
        deadline = time.monotonic() + PIECE_DEADLINE_S
        while True:
            try:
                return submitted.future.result(timeout=LOOK_S)
            except TimeoutError as err:
                if time.monotonic() > deadline:
                    raise _away(self._address) from err
                if self._is_lost(client, submitted.future):
                    submitted.future = self._submit(client, submitted.request)
            except (OSError, CancelledError, CommClosedError) as err:
                raise _away(self._address) from err

    def _is_lost(self, client: Client, future: Future[bytes]) -> bool:
        """Whether the scheduler takes a piece for done whose answer does not come.

        A worker that dies when its answer is about to be fetched can leave the two waiting for each
        other. Work that merely waits for workers is left alone: to submit it anew would forget how
        many of them it has killed.
        """
        try:
            return any(client.who_has([future]).values())
        except (OSError, TimeoutError, CommClosedError) as err:
            raise _away(self._address) from err


def _count(client: Client, address: str) -> int:
    try:
        # Workers that died are started again: having none may be a matter of seconds.
        client.wait_for_workers(1, timeout=CONNECT_S)
        threads: int = sum(client.nthreads().values())
    except TimeoutError:
        threads = 0
    except (OSError, CommClosedError) as err:
        raise _away(address) from err
    if threads == 0:
        raise Unavailable(
            f"the cluster at {address} has no workers", remedy="start some: dask worker ADDRESS"
        )
    return threads


def _away(address: str) -> Unavailable:
    return Unavailable(
        f"the cluster at {address} does not answer",
        remedy="check that its scheduler runs and that the setting cluster names it",
    )
