"""Work that was scheduled happens, in order, whatever dies in between."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from dataspace import processes
from dataspace.errors import InputRejected, Unavailable
from dataspace.leases import (
    LEASE_S,
    MAX_CANDIDATES,
    Outcome,
    lease,
    renew,
    set_right,
    write_outcomes,
)
from dataspace.processes import (
    MAX_AT_A_QUICK_PEER,
    MAX_AT_A_SLOW_PEER,
    WORKERS,
    Handler,
    Later,
    Pool,
    Process,
    ProcessEngine,
    hasten,
    is_kept,
    is_scheduled,
    schedule,
)
from dataspace.store.engine import Store
from dataspace.store.tables import ProcessRow, Setting


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'node.sqlite'}")
    opened.migrate()
    yield opened
    opened.close()


class Recorder:
    """A handler that notes what it was given and says when the last expected piece came."""

    def __init__(self, expected: int) -> None:
        self.seen: list[str] = []
        self.done = threading.Event()
        self._expected = expected
        self._lock = threading.Lock()

    def __call__(self, process: Process) -> None:
        with self._lock:
            self.seen.append(process.subject)
            if len(self.seen) == self._expected:
                self.done.set()


def run(store: Store, handlers: dict[str, Handler], done: threading.Event) -> None:
    engine = ProcessEngine(store, handlers)
    engine.start()
    assert done.wait(20)
    engine.stop()


def rows(store: Store) -> list[ProcessRow]:
    with store.transaction() as tx:
        return list(tx.exec(select(ProcessRow)).all())


def test_everything_scheduled_happens_once(store: Store) -> None:
    recorder = Recorder(30)
    with store.transaction() as tx:
        for number in range(30):
            schedule(tx, "work", str(number))
    run(store, {"work": Handler(recorder)}, recorder.done)
    assert sorted(recorder.seen, key=int) == [str(number) for number in range(30)]
    assert {row.state for row in rows(store)} == {"done"}


def test_a_lane_keeps_its_order(store: Store) -> None:
    recorder = Recorder(20)
    with store.transaction() as tx:
        for number in range(20):
            schedule(tx, "work", str(number), lane="one")
    run(store, {"work": Handler(recorder)}, recorder.done)
    assert recorder.seen == [str(number) for number in range(20)]


def test_a_rolled_back_transaction_schedules_nothing(store: Store) -> None:
    def scheduled_and_then_failed() -> None:
        with store.transaction() as tx:
            tx.add(Setting(name="a", value="b"))
            schedule(tx, "work", "never")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        scheduled_and_then_failed()
    assert rows(store) == []
    with store.transaction() as tx:
        assert tx.get(Setting, "a") is None


def test_what_is_unavailable_is_tried_again(store: Store) -> None:
    done = threading.Event()

    def flaky(process: Process) -> None:
        if process.attempts < 3:
            raise Unavailable("the peer is away")
        done.set()

    with store.transaction() as tx:
        schedule(tx, "work", "one")
    run(store, {"work": Handler(flaky)}, done)
    assert [(row.state, row.attempts) for row in rows(store)] == [("done", 3)]


def test_a_process_given_up_tells_the_state_that_waits_for_it(store: Store) -> None:
    told = threading.Event()
    reasons: list[str] = []

    def away(_: Process) -> None:
        raise Unavailable("the peer is away")

    def failed(tx: Session, process: Process, error: str) -> None:
        tx.add(Setting(name=process.subject, value=error))
        reasons.append(error)
        told.set()

    with store.transaction() as tx:
        schedule(tx, "work", "one", give_up_after_s=0.15)
    run(store, {"work": Handler(away, failed)}, told)
    assert reasons == ["the peer is away"]
    assert [row.state for row in rows(store)] == ["failed"]


def test_an_error_ends_the_process_and_not_the_engine(store: Store) -> None:
    recorder = Recorder(1)

    def broken(_: Process) -> None:
        raise InputRejected("it cannot be done")

    with store.transaction() as tx:
        schedule(tx, "broken", "one")
        schedule(tx, "unknown", "two")
        schedule(tx, "work", "three", after_s=0.1)
    run(store, {"broken": Handler(broken), "work": Handler(recorder)}, recorder.done)
    states = {row.subject: (row.state, row.last_error) for row in rows(store)}
    assert states["one"] == ("failed", "it cannot be done")
    assert states["two"][0] == "failed"
    assert states["three"][0] == "done"


def test_later_means_called_again(store: Store) -> None:
    calls: list[int] = []
    done = threading.Event()

    def slow(process: Process) -> Later | None:
        calls.append(process.attempts)
        if len(calls) < 3:
            return Later(0.01)
        done.set()
        return None

    with store.transaction() as tx:
        schedule(tx, "work", "one")
    run(store, {"work": Handler(slow)}, done)
    assert len(calls) == 3


def test_a_lease_of_an_earlier_life_is_taken_back_at_start(store: Store) -> None:
    recorder = Recorder(1)
    with store.transaction() as tx:
        schedule(tx, "work", "one")
    with store.transaction() as tx:
        row = tx.exec(select(ProcessRow)).one()
        row.lease_until = time.time() + 3600
        tx.add(row)
    run(store, {"work": Handler(recorder)}, recorder.done)
    assert recorder.seen == ["one"]


def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.sqlite'}"
    first = Store(url)
    first.migrate()
    with first.transaction() as tx:
        tx.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InputRejected, match="later version"):
        first.migrate()


def test_a_slow_peer_keeps_two_workers_at_most_and_local_work_goes_on(store: Store) -> None:
    release, both_busy, others_done = threading.Event(), threading.Semaphore(0), Recorder(6)

    def deliver(process: Process) -> None:
        if process.payload["to"] == "slow":
            both_busy.release()
            assert release.wait(20)
        else:
            others_done(process)

    local = Recorder(1)
    with store.transaction() as tx:
        for number in range(20):
            schedule(tx, "deliver", f"slow-{number}", {"to": "slow"}, target="slow")
    handlers = {
        "deliver": Handler(deliver, pool=Pool.PEERS),
        "work": Handler(local),
    }
    engine = ProcessEngine(store, handlers)
    engine.start()
    for _ in range(MAX_AT_A_SLOW_PEER):
        assert both_busy.acquire(timeout=20)
    with store.transaction() as tx:
        schedule(tx, "work", "local")
        for number in range(6):
            schedule(tx, "deliver", f"quick-{number}", {"to": "quick"}, target="quick")
    assert local.done.wait(20)
    assert others_done.done.wait(20)
    assert not both_busy.acquire(blocking=False)
    assert engine.healthy()
    release.set()
    engine.stop()


def test_a_peer_that_answers_quickly_may_keep_more_workers(store: Store) -> None:
    """It has to earn them: one more with each quick answer, and no more than the most."""
    quick, held, release = Recorder(10), threading.Semaphore(0), threading.Event()

    def deliver(process: Process) -> None:
        if process.kind == "quick":
            quick(process)
            return
        held.release()
        assert release.wait(20)

    with store.transaction() as tx:
        for number in range(10):
            schedule(tx, "quick", str(number), target="peer")
    handlers = {kind: Handler(deliver, pool=Pool.PEERS) for kind in ("quick", "slow")}
    engine = ProcessEngine(store, handlers)
    engine.start()
    assert quick.done.wait(20)
    with store.transaction() as tx:
        for number in range(20):
            schedule(tx, "slow", str(number), target="peer")
    for _ in range(MAX_AT_A_QUICK_PEER):
        assert held.acquire(timeout=20)
    assert not held.acquire(blocking=False)
    release.set()
    engine.stop()


def test_a_long_queue_for_one_peer_does_not_hide_the_others(store: Store) -> None:
    release, other = threading.Event(), Recorder(1)

    def deliver(process: Process) -> None:
        if process.target == "slow":
            assert release.wait(20)
        else:
            other(process)

    with store.transaction() as tx:
        for number in range(3 * MAX_CANDIDATES):
            schedule(tx, "deliver", str(number), target="slow")
        schedule(tx, "deliver", "last", target="quick")
    engine = ProcessEngine(store, {"deliver": Handler(deliver, pool=Pool.PEERS)})
    engine.start()
    assert other.done.wait(20)
    release.set()
    engine.stop()


def test_trouble_while_storing_outcomes_costs_neither_threads_nor_room(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More failures in a row than there are workers, each after rows were leased."""
    recorder = Recorder(2)
    engine = ProcessEngine(store, {"work": Handler(recorder)})
    troubles = iter([True] * (2 * WORKERS[Pool.LOCAL]))
    original = Session.commit

    def troubled(self: Session) -> None:
        if threading.current_thread().name == "dispatcher" and next(troubles, False):
            raise OperationalError("COMMIT", {}, Exception("database is locked"))
        original(self)

    monkeypatch.setattr(Session, "commit", troubled)
    monkeypatch.setattr(processes, "PAUSE_AFTER_TROUBLE_S", 0.01)
    with store.transaction() as tx:
        schedule(tx, "work", "one")
        schedule(tx, "work", "two")
    engine.start()
    assert recorder.done.wait(20)
    assert engine.healthy()
    engine.stop()
    assert {row.state for row in rows(store)} == {"done"}


def test_a_draining_engine_begins_nothing_but_what_is_bound_to_it(store: Store) -> None:
    recorder = Recorder(1)
    engine = ProcessEngine(store, {"work": Handler(recorder)}, me="a")
    engine.start()
    engine.drain()
    with store.transaction() as tx:
        schedule(tx, "work", "anybodys")
        schedule(tx, "work", "another's", bound_to="b")
        schedule(tx, "work", "its own", bound_to="a")
    assert recorder.done.wait(20)
    engine.stop()
    assert recorder.seen == ["its own"]
    assert engine.draining
    assert {row.subject for row in rows(store) if row.state == "ready"} == {"anybodys", "another's"}


def test_an_engine_is_idle_once_what_came_of_its_work_is_written(store: Store) -> None:
    began, go = threading.Event(), threading.Event()

    def work(_: Process) -> None:
        began.set()
        assert go.wait(20)

    with store.transaction() as tx:
        schedule(tx, "work", "one")
    engine = ProcessEngine(store, {"work": Handler(work)})
    engine.start()
    assert began.wait(20)
    assert not engine.idle()
    go.set()
    deadline = time.monotonic() + 20
    while not engine.idle():
        assert time.monotonic() < deadline
    assert [row.state for row in rows(store)] == ["done"]
    engine.stop()


def test_a_lease_is_renewed_while_its_work_is_in_hand_and_given_back_when_nobody_has_it(
    store: Store,
) -> None:
    with store.transaction() as tx:
        schedule(tx, "work", "in hand")
        schedule(tx, "work", "lost")
        schedule(tx, "work", "another's")
    now = time.time()
    with store.transaction() as tx:
        for row in tx.exec(select(ProcessRow)).all():
            row.lease_until, row.attempts = now + 1, 3
            row.leased_by = "b" if row.subject == "another's" else "a"
            tx.add(row)
    ids = {row.subject: row.id or 0 for row in rows(store)}
    with store.transaction() as tx:
        renew(tx.connection(), {ids["in hand"]: 3}, by="a", now=now)
    until = {row.subject: row.lease_until - now for row in rows(store)}
    assert until == {
        "in hand": pytest.approx(LEASE_S, abs=0.01),
        "lost": pytest.approx(-now),
        "another's": pytest.approx(1, abs=0.01),
    }


def test_what_came_of_an_earlier_lease_changes_nothing(store: Store) -> None:
    with store.transaction() as tx:
        schedule(tx, "work", "one")
    (row,) = rows(store)
    with store.transaction() as tx:
        for name in ("a", "b"):
            lease(tx.connection(), [row.id or 0], by=name, now=time.time())
        write_outcomes(tx.connection(), [Outcome(row.id or 0, 1), Outcome(row.id or 0, 1, 0.0)])
    (kept,) = rows(store)
    assert (kept.state, kept.leased_by, kept.attempts) == ("ready", "b", 2)


def test_work_that_comes_again_by_itself_is_known_while_it_is_in_hand(store: Store) -> None:
    with store.transaction() as tx:
        assert not is_kept(tx, "work", "one")
        schedule(tx, "work", "one")
    (row,) = rows(store)
    with store.transaction() as tx:
        lease(tx.connection(), [row.id or 0], by="a", now=time.time())
        assert is_kept(tx, "work", "one")
        assert not is_scheduled(tx, "work", "one")


def test_what_a_clock_that_was_ahead_has_written_waits_no_longer_than_it_was_to(
    store: Store,
) -> None:
    now, ahead_s = time.time(), 7200.0
    with store.transaction() as tx:
        for subject in ("new", "tried", "planned"):
            schedule(tx, "work", subject, after_s=5.0)
        tx.flush()
        new, tried, planned = tx.exec(select(ProcessRow).order_by(ProcessRow.id)).all()  # type: ignore[arg-type]
        new.created_at += ahead_s
        new.due_at += ahead_s
        new.give_up_at += ahead_s
        tried.due_at, tried.attempts = now + ahead_s, 3
        planned.due_at = now + ahead_s
        for row in (new, tried, planned):
            tx.add(row)
        tx.flush()
        set_right(tx.connection(), now, seen=True)
    new, tried, planned = rows(store)
    assert new.due_at - now == pytest.approx(5.0, abs=1.0)
    assert new.give_up_at - now == pytest.approx(605.0, abs=1.0)
    assert tried.due_at == now
    # What was meant to wait that long does.
    assert planned.due_at == now + ahead_s


def test_an_engine_sets_right_at_its_start_what_was_tried_by_a_wrong_clock(store: Store) -> None:
    with store.transaction() as tx:
        schedule(tx, "work", "one")
        tx.flush()
        row = tx.exec(select(ProcessRow)).one()
        row.due_at, row.attempts = row.due_at + 7200.0, 1
        row.last_error = "its peer was away"
        tx.add(row)
    recorder = Recorder(expected=1)
    run(store, {"work": Handler(recorder)}, recorder.done)
    assert recorder.seen == ["one"]


def test_work_that_waits_for_its_time_is_done_at_once_when_it_is_called(store: Store) -> None:
    recorder = Recorder(1)
    with store.transaction() as tx:
        for subject in ("called", "not called"):
            schedule(tx, "run", subject, after_s=3600.0)
        schedule(tx, "other", "called", after_s=3600.0)
    engine = ProcessEngine(store, {"run": Handler(recorder), "other": Handler(recorder)})
    engine.start()
    with store.transaction() as tx:
        hasten(tx, "run", ["called", "unknown"])
    assert recorder.done.wait(20)
    engine.stop()
    assert recorder.seen == ["called"]
    assert {row.subject for row in rows(store) if row.state == "done"} == {"called"}


def test_work_in_hand_is_not_called_again(store: Store) -> None:
    with store.transaction() as tx:
        schedule(tx, "run", "in hand", after_s=3600.0)
    (before,) = rows(store)
    assert before.id is not None
    with store.transaction() as tx:
        lease(tx.connection(), [before.id], by="main", now=time.time())
        hasten(tx, "run", ["in hand"])
    (after,) = rows(store)
    assert after.due_at == before.due_at
