"""What a wall clock says ends nothing until it has stood."""

import threading
import time

import pytest

from dataspace import processes
from dataspace.errors import Unavailable
from dataspace.processes import Handler, Process, ProcessEngine, schedule
from dataspace.steady_time import (
    BELIEVED_AFTER_S,
    LEAST_TRIED_S,
    MAX_FAILING,
    Patience,
    SteadyClock,
)
from dataspace.store.engine import Store

from .test_processes import rows, store  # noqa: F401


class Clocks:
    """A steady clock that goes on as it is told, and a wall clock that is wrong by so much."""

    def __init__(self) -> None:
        self.steady_s, self.wrong_by_s = 1000.0, 0.0

    def steady(self) -> float:
        return self.steady_s

    def wall(self) -> float:
        return 1_800_000_000.0 + self.steady_s + self.wrong_by_s

    @property
    def true(self) -> float:
        return 1_800_000_000.0 + self.steady_s


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_a_jump_ahead_that_is_set_right_is_never_followed(clocks: Clocks) -> None:
    clock = SteadyClock(clocks.wall, clocks.steady)
    clocks.wrong_by_s = 7200.0
    for _ in range(5):
        clocks.steady_s += BELIEVED_AFTER_S / 6
        assert clock.now() == clocks.true
    clocks.wrong_by_s = 0.0
    assert clock.now() == clocks.true
    # The next jump begins anew.
    clocks.wrong_by_s = 600.0
    clocks.steady_s += BELIEVED_AFTER_S / 2
    assert clock.now() == clocks.true


def test_a_clock_that_was_set_and_stands_is_believed(clocks: Clocks) -> None:
    clock = SteadyClock(clocks.wall, clocks.steady)
    clocks.wrong_by_s = 7200.0
    clock.now()
    clocks.steady_s += BELIEVED_AFTER_S
    assert clock.now() == clocks.wall()


@pytest.mark.parametrize("by_s", [-7200.0, -1.0, 1.0, 45.0])
def test_small_steps_and_those_back_are_followed_at_once(clocks: Clocks, by_s: float) -> None:
    clock = SteadyClock(clocks.wall, clocks.steady)
    clocks.wrong_by_s = by_s
    assert clock.now() == clocks.wall()


def test_work_is_tried_for_a_minute_of_this_life_or_a_tenth_of_its_time(clocks: Clocks) -> None:
    patience = Patience(clocks.steady)
    assert not patience.is_over(1, 600.0)
    assert not patience.is_over(2, 10.0)
    clocks.steady_s += 1.0
    assert not patience.is_over(1, 600.0)
    assert patience.is_over(2, 10.0)
    clocks.steady_s += LEAST_TRIED_S
    assert patience.is_over(1, 600.0)
    patience.forget(1)
    assert not patience.is_over(1, 600.0)


def test_of_too_much_failing_work_the_oldest_is_forgotten(clocks: Clocks) -> None:
    patience = Patience(clocks.steady)
    for work in range(MAX_FAILING + 1):
        patience.is_over(work, 600.0)
    clocks.steady_s += LEAST_TRIED_S
    assert not patience.is_over(0, 600.0)
    assert patience.is_over(MAX_FAILING, 600.0)


def test_an_engine_whose_clock_jumps_ahead_lets_no_deadline_pass_and_gives_nothing_up(
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, wrong_by_s = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + wrong_by_s[0])
    tried, jumped, begun = threading.Event(), threading.Event(), threading.Event()
    ended: list[str] = []

    def away(process: Process) -> None:
        if jumped.is_set() and process.attempts > 2:
            tried.set()
            return
        begun.set()
        raise Unavailable("the peer is away")

    with store.transaction() as tx:
        schedule(tx, "work", "one")
        schedule(tx, "expire", "two", after_s=3600.0)
    handlers = {
        "work": Handler(away),
        "expire": Handler(lambda process: ended.append(process.subject)),
        "new": Handler(lambda _: None),
    }
    engine = ProcessEngine(store, handlers)
    monkeypatch.setattr(processes, "IDLE_LOOK_S", 0.02)
    engine.start()
    assert begun.wait(20)
    wrong_by_s[0] = 7200.0
    jumped.set()
    with store.transaction() as tx:
        # What the wrong clock writes is begun all the same.
        schedule(tx, "new", "three")
    assert tried.wait(20)
    engine.stop()
    assert ended == []
    assert [(row.kind, row.state) for row in rows(store)] == [
        ("work", "done"),
        ("expire", "ready"),
        ("new", "done"),
    ]
