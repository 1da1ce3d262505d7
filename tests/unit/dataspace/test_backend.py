"""Work comes back whole and in order, whatever happens to the processes that do it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

import pytest

from dataspace.computing import backend
from dataspace.computing.backend import ComputeBackend, LocalPool, compute_backend
from dataspace.errors import Unavailable
from privacy.errors import ProtocolViolation, Withheld
from privacy.workers import PIECE_ELEMENTS, pieces_of

from . import work_examples as work

Truth = TypeVar("Truth")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", autouse=True)
def found() -> Iterator[None]:
    """Worker processes look for modules where we do: the tests' own must be there."""
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    pool = LocalPool(2)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def dask() -> Iterator[ComputeBackend]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        workers = compute_backend(processes=None, memory_mb=None, cluster=cluster.scheduler_address)
        yield workers
        workers.close()


@pytest.fixture(params=["pool", pytest.param("dask", marks=pytest.mark.slow)])
def workers(request: pytest.FixtureRequest) -> ComputeBackend:
    found: ComputeBackend = request.getfixturevalue(request.param)
    return found


# ---- held by every backend -----------------------------------------------------------------------


def test_results_come_in_the_order_of_the_pieces(workers: ComputeBackend) -> None:
    elements = list(range(20 * PIECE_ELEMENTS + 1))
    done = list(workers.map(work.double, pieces_of(elements)))
    assert [number for piece in done for number in piece] == [2 * number for number in elements]


def test_no_pieces_give_no_results(workers: ComputeBackend) -> None:
    assert list(workers.map(work.double, [])) == []


def test_a_single_piece_is_done_in_the_calling_thread(workers: ComputeBackend) -> None:
    assert list(workers.map(work.process, [0])) == [[os.getpid()]]


def test_pieces_are_spread_over_the_workers(workers: ComputeBackend) -> None:
    used = {pid for done in workers.map(work.process, range(20)) for pid in done}
    assert len(used) == workers.count == 2
    assert os.getpid() not in used


def test_a_bounded_number_of_pieces_is_under_way(workers: ComputeBackend) -> None:
    drawn = count()
    results = workers.map(work.slow, (next(drawn) * 0.0 for _ in range(1000)))
    assert list(islice(results, 3)) == [0.0, 0.0, 0.0]
    results.close()  # type: ignore[attr-defined]
    assert next(drawn) <= 3 + 2 * workers.count


def test_an_error_of_the_work_comes_back_as_itself(workers: ComputeBackend) -> None:
    results = workers.map(work.blame, range(6))
    assert list(islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ProtocolViolation, match="right sent a point that is not on P-256"):
        next(results)
    with pytest.raises(Withheld) as withheld:
        list(workers.map(work.withhold, range(2)))
    assert withheld.value.rule == "ds:minCohort"


def test_an_error_that_cannot_be_sent_is_named(workers: ComputeBackend) -> None:
    with pytest.raises(RuntimeError, match="NotToBeSent"):
        list(workers.map(work.fail_unsendably, range(2)))


def test_a_worker_killed_in_the_middle_costs_only_its_piece(
    workers: ComputeBackend, tmp_path: Path
) -> None:
    marks = ["", str(tmp_path / "first"), "", "", str(tmp_path / "second"), "", ""]
    assert list(workers.map(work.die_once, marks)) == ["done"] * len(marks)
    assert (tmp_path / "second").exists()


def test_a_piece_that_kills_every_worker_ends_its_run_and_the_next_one_works(
    workers: ComputeBackend,
) -> None:
    with pytest.raises(Unavailable, match="died of the same piece"):
        list(workers.map(work.die, range(4)))
    assert list(workers.map(work.double, [[n] for n in range(50)])) == [[2 * n] for n in range(50)]


# ---- the pool's own ------------------------------------------------------------------------------


def test_a_worker_imports_nothing_of_the_node(pool: LocalPool) -> None:
    loaded = set(next(iter(pool.map(work.modules, range(2)))))
    heavy = {"fastapi", "sqlmodel", "sqlalchemy", "web3", "uvicorn", "dataspace.node", "asyncio"}
    assert not loaded & heavy
    assert "privacy.errors" in loaded


def test_a_piece_that_kills_every_worker_leaves_other_runs_alone(pool: LocalPool) -> None:
    others: list[list[int]] = []
    other = threading.Thread(
        target=lambda: others.extend(pool.map(work.double, [[n] for n in range(200)]))
    )
    other.start()
    with pytest.raises(Unavailable, match="died of the same piece"):
        list(pool.map(work.die, range(4)))
    other.join(60)
    assert others == [[2 * n] for n in range(200)]


def test_a_long_run_leaves_a_short_one_its_share(pool: LocalPool) -> None:
    long = pool.map(work.slow, [0.02] * 200)
    next(long)
    begun = time.monotonic()
    assert list(pool.map(work.slow, [0.02] * 4)) == [0.02] * 4
    # Four of its pieces beside at most as many of the other run; all two hundred would take 2 s.
    assert time.monotonic() - begun < 0.5
    long.close()  # type: ignore[attr-defined]


def test_a_closed_map_lets_go_of_what_is_waiting(pool: LocalPool) -> None:
    results = pool.map(work.slow, [0.05] * 1000)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not pool._runs
    assert not pool._open


def test_a_worker_that_wants_too_much_memory_is_refused_it_and_works_on() -> None:
    pool = LocalPool(1, memory_mb=256)
    try:
        with pytest.raises(Unavailable, match="not enough memory") as refused:
            list(pool.map(work.hoard, [1, 1024]))
        assert "worker_memory_mb" in str(refused.value.remedy)
        assert list(pool.map(work.hoard, [1, 2])) == [2**20, 2**21]
    finally:
        pool.close()


def test_a_worker_that_never_answers_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "PIECE_DEADLINE_S", 0.5)
    pool = LocalPool(1)
    try:
        list(pool.map(work.double, [[1], [2]]))
        (hand,) = pool._hands
        stopped = hand._process
        assert stopped is not None
        stopped.send_signal(signal.SIGSTOP)
        assert list(pool.map(work.double, [[1], [2]])) == [[2], [4]]
        assert stopped.poll() == -signal.SIGKILL
    finally:
        pool.close()


def test_an_idle_worker_goes_home_and_another_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "IDLE_S", 0.05)
    pool = LocalPool(1)
    try:
        first = list(pool.map(work.process, range(2)))[-1]
        (hand,) = pool._hands
        hand.thread.join(10)
        assert not pool._hands
        assert list(pool.map(work.process, range(2)))[-1] != first
    finally:
        pool.close()


def test_closing_the_pool_ends_its_workers_and_its_maps() -> None:
    pool = LocalPool(2)
    results = pool.map(work.process, range(1000))
    (pid,) = next(results)
    pool.close()
    with pytest.raises(Unavailable, match="stopping"):
        list(results)
    with pytest.raises(Unavailable, match="stopping"):
        list(pool.map(work.double, [[1], [2]]))
    assert not alive(pid)
    assert not pool._hands


def test_workers_end_with_a_node_that_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "worker"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from dataspace.computing.backend import LocalPool; "
        "from tests.unit.dataspace import work_examples as work; "
        "list(LocalPool(1).map(work.say_and_sleep, [sys.argv[2]] * 2))"
    )
    node = subprocess.Popen([sys.executable, "-c", program, str(ROOT), str(mark)])
    pid = int(eventually(lambda: mark.exists() and mark.read_text()))
    node.kill()
    node.wait()
    eventually(lambda: not alive(pid))


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(true: Callable[[], Truth], within_s: float = 10.0) -> Truth:
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found
