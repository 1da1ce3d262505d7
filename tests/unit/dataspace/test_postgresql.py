"""What a node needs of PostgreSQL, of a real server: the same as of SQLite, and replicas."""

import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import Session, SQLModel, select

from dataspace.errors import InputRejected, Unavailable
from dataspace.leases import give_back_leases
from dataspace.processes import Handler, Later, Process, ProcessEngine, schedule
from dataspace.replicas import DEAD_AFTER_S, Duties, Replicas
from dataspace.store.engine import Store
from dataspace.store.tables import ProcessRow, ReplicaRow, Setting
from tests.servers_databases import Database, connect_postgresql, postgresql

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgresql")]


@pytest.fixture(scope="module")
def server() -> Iterator[Database]:
    with postgresql() as running:
        yield running


@pytest.fixture
def url(server: Database) -> str:
    """The address of an empty database."""
    name = f"d{secrets.token_hex(4)}"
    with connect_postgresql(server, "postgres", "postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER owner TEMPLATE template0")
    password = server.password("owner")
    return f"postgresql://owner:{password}@127.0.0.1:{server.port}/{name}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    opened.migrate()
    yield opened
    opened.close()


def beside(url: str, count: int, work: Callable[[Store, int], None]) -> None:
    """`work` in as many threads, each with a store of its own: what processes would do."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        own = Store(url)
        try:
            work(own, number)
        except BaseException as err:
            failures.append(err)
        finally:
            own.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_several_processes_migrate_an_empty_database_at_once(url: str) -> None:
    beside(url, 4, lambda own, _: own.migrate())
    store = Store(url)
    with store.transaction() as tx:
        context = MigrationContext.configure(tx.connection(), opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    store.close()


def test_read_modify_writes_of_several_processes_lose_nothing(store: Store) -> None:
    with store.transaction() as tx:
        tx.add(Setting(name="count", value="0"))

    def count(own: Store, _: int) -> None:
        for _turn in range(25):
            with own.transaction() as tx:
                row = tx.get_one(Setting, "count")
                row.value = str(int(row.value) + 1)
                tx.add(row)

    beside(store.url, 4, count)
    with store.transaction() as tx:
        assert tx.get_one(Setting, "count").value == "100"


def test_a_text_that_the_database_cannot_hold_is_refused_and_changes_nothing(store: Store) -> None:
    def write() -> None:
        with store.transaction() as tx:
            tx.add(Setting(name="fine", value="x"))
            tx.add(Setting(name="nul", value="a\0b"))

    with pytest.raises(InputRejected, match="cannot hold"):
        write()
    with store.transaction() as tx:
        assert tx.exec(select(Setting)).all() == []


def test_a_server_that_restarts_is_unavailable_and_then_there_again() -> None:
    with postgresql() as own:
        password = own.password("owner")
        store = Store(f"postgresql://owner:{password}@127.0.0.1:{own.port}/city")
        store.migrate()
        with store.transaction() as tx:
            tx.add(Setting(name="kept", value="1"))

        def interrupted() -> None:
            with store.transaction() as tx:
                tx.get(Setting, "kept")
                # As an administrator's restart does: the connection ends within the transaction.
                with connect_postgresql(own, "postgres", "postgres") as admin:
                    admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE usename = 'owner'"
                    )
                tx.add(Setting(name="lost", value="1"))

        with pytest.raises(Unavailable):
            interrupted()
        with store.transaction() as tx:
            assert [row.name for row in tx.exec(select(Setting)).all()] == ["kept"]
        own.process.send_signal(signal.SIGINT)
        own.process.wait(20)
        with pytest.raises(Unavailable), store.transaction() as tx:
            tx.get(Setting, "kept")
        store.close()


def test_engines_of_two_replicas_share_the_work_and_do_each_piece_once(store: Store) -> None:
    total = 120
    seen: list[str] = []
    lock, done = threading.Lock(), threading.Event()
    busy = threading.Barrier(2)

    def handler(me: str) -> Callable[[Process], None]:
        first = threading.Event()

        def work(process: Process) -> None:
            if not first.is_set():
                first.set()
                # Neither goes on before the other has something in hand too.
                busy.wait(20)
            with lock:
                seen.append(process.subject)
                if len(seen) == total:
                    done.set()

        return work

    with store.transaction() as tx:
        for number in range(total):
            schedule(tx, "work", str(number))
    other = Store(store.url)
    engines = [
        ProcessEngine(one, {"work": Handler(handler(name))}, me=name)
        for one, name in ((store, "a"), (other, "b"))
    ]
    for engine in engines:
        engine.start()
    assert done.wait(30)
    for engine in engines:
        engine.stop()
    other.close()
    assert sorted(seen, key=int) == [str(number) for number in range(total)]


class Watch:
    """A replica whose clock and beats are the test's."""

    def __init__(self, store: Store, name: str) -> None:
        self.now = 100.0
        self.taken: list[str] = []
        self.gone = 0
        self.replicas = Replicas(store, name=name, address=f"http://{name}", clock=lambda: self.now)
        self.duties = Duties(take_over=self._take, let_go=self._let_go, each_beat=lambda: None)
        with store.transaction() as tx:
            self.replicas._enter(tx)

    def _take(self, tx: Session, name: str) -> None:
        give_back_leases(tx, name, bound=True)
        self.taken.append(name)

    def _let_go(self) -> None:
        self.gone += 1

    def beat(self, at: float) -> None:
        self.now = at
        self.replicas.beat(self.duties)


def test_a_replica_that_beats_no_more_is_taken_over_once_and_told_when_it_comes_back(
    store: Store,
) -> None:
    a, b, c = (Watch(store, name) for name in "abc")
    with store.transaction() as tx:
        schedule(tx, "work", "leased", bound_to="c")
        row = tx.exec(select(ProcessRow)).one()
        row.lease_until, row.leased_by, row.attempts = time.time() + 999, "c", 1
        tx.add(row)
    for turn in range(int(DEAD_AFTER_S) + 3):
        a.beat(100.0 + turn)
        b.beat(100.0 + turn)
    assert a.taken + b.taken == ["c"]
    assert set(a.replicas.others()) == {"b"}
    with store.transaction() as tx:
        row = tx.exec(select(ProcessRow)).one()
        assert (row.lease_until, row.leased_by, row.bound_to) == (0.0, "", "")
    c.beat(130.0)
    assert c.gone == 1
    a.beat(119.0)
    assert set(a.replicas.others()) == {"b", "c"}


def test_a_replica_that_could_not_look_takes_nobody_for_dead(store: Store) -> None:
    a, _ = Watch(store, "a"), Watch(store, "b")
    a.beat(100.0)
    # The database was away: nobody could beat, and it is not the other's fault.
    a.beat(100.0 + 10 * DEAD_AFTER_S)
    assert a.taken == []


def test_the_second_process_under_one_name_takes_the_place_of_the_first(store: Store) -> None:
    first = Watch(store, "a")
    told = threading.Event()
    first.replicas.on_replaced = told.set
    Watch(store, "a")
    first.beat(101.0)
    assert told.is_set()
    assert first.replicas.replaced
    assert first.gone == 1


def test_a_late_outcome_is_not_written_over_a_later_lease(store: Store) -> None:
    began, go, done = threading.Event(), threading.Event(), threading.Event()

    def slow(process: Process) -> Later:
        began.set()
        assert go.wait(20)
        return Later(3600.0)

    with store.transaction() as tx:
        schedule(tx, "work", "one")
    late = ProcessEngine(store, {"work": Handler(slow)}, me="late")
    late.start()
    assert began.wait(20)
    # The others took it for dead, and another has done its work since.
    with store.transaction() as tx:
        give_back_leases(tx, "late", bound=True)
    other_store = Store(store.url)
    other = ProcessEngine(other_store, {"work": Handler(lambda _: done.set())}, me="other")
    other.start()
    assert done.wait(20)
    other.stop()
    go.set()
    late.stop()
    other_store.close()
    with store.transaction() as tx:
        row = tx.exec(select(ProcessRow)).one()
        assert (row.state, row.attempts) == ("done", 2)


def test_an_exclusive_block_has_one_process_in_it_and_is_free_when_that_dies(
    store: Store, tmp_path: Path
) -> None:
    script = tmp_path / "hold.py"
    script.write_text(
        "import sys, time\n"
        "from dataspace.store.engine import Store\n"
        "with Store(sys.argv[1]).exclusive('x'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, str(script), store.url], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    entered = threading.Event()

    def enter() -> None:
        with store.exclusive("x"):
            entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    with store.exclusive("y"):
        assert not entered.is_set()
    holder.kill()
    holder.wait(20)
    waiting.join(20)
    assert entered.is_set()


def test_a_replicas_row_says_where_it_is_reached(store: Store) -> None:
    Watch(store, "a")
    with store.transaction() as tx:
        assert tx.get_one(ReplicaRow, "a").address == "http://a"
