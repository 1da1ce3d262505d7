"""Where a node's computations do their work: a pool of processes of its own.

The pool is not `concurrent.futures`' one, for three reasons: that one runs the program's main
module again in every worker, loses every piece under way when a single worker dies, and starts its
processes from whatever thread happens to ask, so that they cannot be tied to the node's life.
"""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe
from typing import Any, Protocol, TypeVar

import structlog

from dataspace.computing.work_process import DONE
from dataspace.errors import Unavailable
from privacy.workers import Workers

log = structlog.get_logger("dataspace.workers")

Piece = TypeVar("Piece")
Result = TypeVar("Result")

# Pieces of one run that are waiting, worked on or done and not yet taken, for each worker: one is
# worked on while the next is ready, and memory stays bounded however long the run is.
PIECES_A_WORKER = 2
# A worker may be killed for what it did not do, by an operator or for want of memory, but a piece
# that has cost this many workers is itself the cause.
MAX_ATTEMPTS = 3
# A piece takes a fraction of a second; one that takes this long will never end.
PIECE_DEADLINE_S = 600.0
# A worker without work keeps its memory, and tables made from keys; not for ever.
IDLE_S = 120.0
STOP_S = 5.0

# The program of a worker: find modules where this process finds them, then serve.
_PROGRAM = (
    "import json, sys; fd, parent, memory_mb, sys.path = json.loads(sys.argv[1]); "
    "from dataspace.computing.work_process import serve; serve(fd, parent, memory_mb)"
)


class ComputeBackend(Workers, Protocol):
    """Workers that a node owns and lets go of when it stops."""

    def close(self) -> None:
        """End all workers. Maps under way, and later ones, raise Unavailable."""


def compute_backend(
    *, processes: int | None, memory_mb: int | None, cluster: str | None
) -> ComputeBackend:
    """The workers a node's settings ask for: processes here, or the cluster at an address.

    Raises InputRejected where the cluster's extra is not installed.
    """
    if cluster is None:
        return LocalPool(processes, memory_mb=memory_mb)
    # Dask takes half a second to import, and few nodes have a cluster.
    from dataspace.computing.cluster import DaskWorkers

    return DaskWorkers(cluster)


def unpack(answer: bytes) -> Any:
    """The result in a worker's answer; raises the error that is in it instead.

    A worker that ran out of memory is the owner's business: Unavailable, with what to do.
    """
    state, value = pickle.loads(answer)  # noqa: S301 - made by our own worker
    if state == DONE:
        return value
    if isinstance(value, MemoryError):
        raise Unavailable(
            "a worker had not enough memory for a piece of this computation",
            remedy="raise worker_memory_mb in node.toml",
        ) from value
    raise value


class _Run:
    """The pieces of one `map`. Guarded by the pool's lock.

    Invariant: every number from `taken` up to `put`, exclusive, is in exactly one of `waiting`
    (not begun), a worker's hands, and `answers`.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        self.waiting: deque[_Piece] = deque()
        self.answers: dict[int, bytes] = {}
        self.error: Unavailable | None = None
        self.put = 0
        self.taken = 0


class _Piece:
    """One pickled (work, piece) of a run."""

    def __init__(self, run: _Run, number: int, request: bytes) -> None:
        self.run, self.number, self.request = run, number, request
        self.attempts = 0


class LocalPool:
    """Processes on this machine, started when there is work for them.

    All of a node's computations share it. `map` may be called from any thread; a free worker takes
    the next piece of the run that has waited longest, so that each run gets an equal share of the
    workers whatever the size of the others. A map of a single piece is done in the calling thread:
    small computations never wait for a process to start. `memory_mb` is the most one worker may
    allocate.
    """

    def __init__(self, processes: int | None = None, *, memory_mb: int | None = None) -> None:
        self._count = processes or _processors()
        self._memory_mb = memory_mb
        self._lock = threading.Lock()
        self._work_came = threading.Condition(self._lock)
        # Runs with a piece to begin, the one that has waited longest first.
        self._runs: deque[_Run] = deque()
        # Runs that have begun and not ended, for `close` to wake.
        self._open: set[_Run] = set()
        self._hands: set[_Hand] = set()
        self.closed = False

    @property
    def count(self) -> int:
        return self._count

    def map(self, work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
        """See `privacy.workers.Workers`. Raises Unavailable when workers die of a piece again and
        again, run out of memory, or the pool is closed."""
        upcoming = iter(pieces)
        first = list(itertools.islice(upcoming, 2))
        if len(first) < 2:
            yield from map(work, first)
            return
        run = self._begin()
        try:
            for piece in itertools.chain(first, upcoming):
                if run.put - run.taken >= PIECES_A_WORKER * self._count:
                    yield unpack(self._take(run))
                self._put(run, pickle.dumps((work, piece), pickle.HIGHEST_PROTOCOL))
            while run.taken < run.put:
                yield unpack(self._take(run))
        finally:
            self._end(run)

    def close(self) -> None:
        """End all workers at once. Maps under way, and later ones, raise Unavailable."""
        with self._lock:
            self.closed = True
            hands = list(self._hands)
            for run in self._open:
                run.error = run.error or _closed()
                run.changed.notify_all()
            self._work_came.notify_all()
        for hand in hands:
            hand.kill()
        for hand in hands:
            hand.thread.join(STOP_S)

    # ---- the side of a run --------------------------------------------------------------------

    def _begin(self) -> _Run:
        run = _Run(self._lock)
        with self._lock:
            if self.closed:
                raise _closed()
            self._open.add(run)
        return run

    def _put(self, run: _Run, request: bytes) -> None:
        with self._lock:
            run.waiting.append(_Piece(run, run.put, request))
            run.put += 1
            if run not in self._runs:
                self._runs.append(run)
            self._call_a_hand()

    def _take(self, run: _Run) -> bytes:
        """The next answer in order, once it is there."""
        with self._lock:
            run.changed.wait_for(lambda: run.taken in run.answers or run.error is not None)
            if run.error is not None:
                raise run.error
            answer = run.answers.pop(run.taken)
            run.taken += 1
            return answer

    def _end(self, run: _Run) -> None:
        with self._lock:
            self._open.discard(run)
            run.waiting.clear()
            if run in self._runs:
                self._runs.remove(run)

    def _call_a_hand(self) -> None:
        """See that somebody does the piece that was just put. The lock is held."""
        waiting = sum(len(run.waiting) for run in self._runs)
        idle = sum(not hand.busy for hand in self._hands)
        if waiting > idle and len(self._hands) < self._count and not self.closed:
            hand = _Hand(self, self._memory_mb)
            hand.thread.start()
            self._hands.add(hand)
        self._work_came.notify()

    # ---- the side of a worker -----------------------------------------------------------------

    def next_piece(self, hand: _Hand) -> _Piece | None:
        """A piece to do, waiting for one; None where the worker is to go home."""
        with self._lock:
            hand.busy = False
            self._work_came.wait_for(lambda: self._runs or self.closed, IDLE_S)
            if self.closed or not self._runs:
                self._hands.discard(hand)
                return None
            run = self._runs.popleft()
            piece = run.waiting.popleft()
            if run.waiting:
                self._runs.append(run)
            hand.busy = True
            return piece

    def finished(self, piece: _Piece, answer: bytes) -> None:
        with self._lock:
            piece.run.answers[piece.number] = answer
            piece.run.changed.notify()

    def lost(self, piece: _Piece, why: str) -> None:
        """A worker died in the middle of `piece`: it is done again, by another, a few times."""
        with self._lock:
            run = piece.run
            if run not in self._open or self.closed:
                return
            piece.attempts += 1
            log.warning("a worker was lost", why=why, attempts=piece.attempts)
            if piece.attempts < MAX_ATTEMPTS:
                run.waiting.appendleft(piece)
                if run not in self._runs:
                    self._runs.appendleft(run)
                self._call_a_hand()
                return
            run.error = run.error or Unavailable(
                f"{piece.attempts} worker processes died of the same piece of this computation",
                remedy="see the node's log; it may need more memory, or fewer worker_processes",
            )
            run.changed.notify()


class _Hand:
    """A thread with one worker process, which it starts, feeds and starts again when it dies.

    The process is told to end with the thread that started it, so that thread has to live as long.
    """

    def __init__(self, pool: LocalPool, memory_mb: int | None) -> None:
        self._pool = pool
        self._memory_mb = memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None
        # Guarded by the pool's lock.
        self.busy = False
        self.thread = threading.Thread(target=self._serve, name="worker", daemon=True)

    def kill(self) -> None:
        process = self._process
        if process is not None:
            process.kill()

    def _serve(self) -> None:
        try:
            while (piece := self._pool.next_piece(self)) is not None:
                try:
                    answer = self._ask(piece.request)
                except Exception as error:
                    # Whatever it is, the run must not wait for an answer that will not come.
                    self._stop()
                    self._pool.lost(piece, str(error) or type(error).__name__)
                else:
                    self._pool.finished(piece, answer)
        finally:
            self._stop()

    def _ask(self, request: bytes) -> bytes:
        """The worker's answer; raises an OSError or EOFError where it has none to give."""
        channel = self._channel or self._start()
        channel.send_bytes(request)
        if not channel.poll(PIECE_DEADLINE_S):
            raise TimeoutError(f"no answer in {PIECE_DEADLINE_S:.0f} s")
        return channel.recv_bytes()

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        try:
            told = [theirs.fileno(), os.getpid(), self._memory_mb, [*map(str, sys.path)]]
            self._process = subprocess.Popen(
                # -P: the working directory is not where modules are looked for.
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps(told)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        finally:
            theirs.close()
        self._channel = ours
        # `close` first says that it closes and then kills: one of us sees the other.
        if self._pool.closed:
            raise _closed()
        return ours

    def _stop(self) -> None:
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is not None:
            process.kill()
            process.wait()


def _processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _closed() -> Unavailable:
    return Unavailable("this node is stopping", remedy="order again when it runs")
