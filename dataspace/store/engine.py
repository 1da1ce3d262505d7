"""Opens the database and gives transactions, one at a time.

On either database two transactions of a node never run at once, so that one that reads before it
writes cannot lose an update. SQLite runs with WAL, synchronous=FULL and `BEGIN IMMEDIATE`; the
driver's own transaction handling is switched off for that. On PostgreSQL every transaction begins
by taking one advisory lock, which its end gives back: replicas on one database queue there, and no
serialisation failure can come up that a `with` block could not repeat. It costs little, because
nearly every transaction appends to the evidence log and would wait for the others there anyhow
(docs/decisions/0015). A commit that scheduled work wakes the process engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from alembic import command
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import NullPool
from sqlmodel import Session

from dataspace.errors import InputRejected, Unavailable
from dataspace.sealed_rows import RowSealing
from dataspace.store.sealed import use_sealing
from dataspace.store.upgrading import keep_before_upgrade, migrations

BUSY_TIMEOUT_MS = 10_000
# A statement of a node takes milliseconds; one that takes this long is stuck.
STATEMENT_TIMEOUT_MS = 30_000
# A process that hangs within a transaction must not hold up the other replicas for ever.
IDLE_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_S = 5
# Transactions use one at a time; the others are for who only looks.
MAX_CONNECTIONS = 4
# The advisory locks of a node in its database: of each transaction, and of what `Exclusive` guards.
_TRANSACTIONS = int.from_bytes(b"dataspac", "big")
_EXCLUSIVE = int.from_bytes(b"ds-x", "big")
# Marks a connection that only looks, and so takes part in no queue.
_LOOKING = {"dataspace_looking": True}
# Besides operational errors: a server that has become a standby, and transactions that the server
# ended because they idled or lasted.
_AWAY = frozenset({"25006", "25P03", "25P04"})


Companion = Callable[[Session], None]
# What is to be written with the next change that this request or thread makes, and in which store.
_companion: ContextVar[tuple[Store, Companion] | None] = ContextVar("companion", default=None)


class Store:
    """A node's database: `transaction()` is the way to change it, `look()` to see how it stands."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = _open(url)
        # Who waits for SQLite's writer sleeps ever longer, and for PostgreSQL's lock each would
        # keep a connection; here the next is woken, and one connection is enough.
        self._writer = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._measured: Callable[[float], None] | None = None

    @property
    def shared(self) -> bool:
        """Whether several processes may work on this database at a time."""
        return shares(self.url)

    def migrate(self) -> None:
        """Bring the schema to this version's; refuses a database of a later version.

        Several processes may begin at once: one migrates, and the others wait for it.
        """
        config = migrations()
        # Without the limits of a running node: a migration may take as long as it takes.
        patient = _open(self.url, patient=True)
        try:
            keep_before_upgrade(self.url)
            with patient.connect() as connection:
                _verify_encoding(connection)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except CommandError as err:
            raise InputRejected(
                "the node's database was written by a later version of this software",
                remedy="run that version or a newer one",
            ) from err
        except OperationalError as err:
            raise InputRejected(
                "the node's database cannot be opened or migrated",
                remedy="check the setting 'database', the disk or the server, and the permissions",
            ) from err
        finally:
            patient.dispose()

    def exclusive(self, name: str) -> Exclusive:
        """A lock of this name that all processes on this database share."""
        return Exclusive(self.url if self.shared else None, name)

    def use_sealing(self, sealing: RowSealing) -> None:
        """From now on seal and open the values of people's rows with these keys."""
        use_sealing(self._engine.dialect, sealing)

    def on_scheduled(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every commit that scheduled a process."""
        self._listeners.append(listener)

    @contextmanager
    def accompanied(self, companion: Companion) -> Iterator[None]:
        """Within the block, call `companion` in every transaction that changes something here,
        before it is committed: what it writes stands or falls with the change."""
        token = _companion.set((self, companion))
        try:
            yield
        finally:
            _companion.reset(token)

    def on_transaction(self, measured: Callable[[float], None]) -> None:
        """Call `measured` with the seconds of every transaction, its wait for a turn included."""
        self._measured = measured

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises Unavailable where the database is locked or gone: nothing is changed then, unless
        its connection broke during the commit itself, so that who tries again finds it done. So
        does a versioned row that another transaction changed at the same time.
        Raises InputRejected for a value that the database cannot hold.
        """
        with self._turn(), Session(self._engine, expire_on_commit=False) as session:
            try:
                yield session
                self._accompany(session)
                session.commit()
            except DataError as err:
                session.rollback()
                raise InputRejected(
                    "a text or a number is one that the node's database cannot hold",
                    remedy="leave out the character U+0000, and numbers beyond 64 bits",
                ) from err
            except DBAPIError as err:
                session.rollback()
                if not _is_away(err):
                    raise
                raise Unavailable(
                    "the node's database is busy or away", remedy="try again"
                ) from err
            except (StaleDataError, PoolTimeout) as err:
                session.rollback()
                raise Unavailable("the node's database is busy", remedy="try again") from err
            except BaseException:
                session.rollback()
                raise
            scheduled = session.info.pop("scheduled", False)
        if scheduled:
            for listener in self._listeners:
                listener()

    @contextmanager
    def look(self) -> Iterator[Session]:
        """Read what was committed, for whoever only looks: nobody waits for it, and it waits for
        nobody. What the block changes is not kept, and the rows it has read stay readable. Raises
        Unavailable."""
        with Session(self._engine.execution_options(**_LOOKING)) as session:
            try:
                yield session
            except PoolTimeout as err:
                raise Unavailable("the node's database is busy", remedy="try again") from err
            except DBAPIError as err:
                if not _is_away(err):
                    raise
                raise Unavailable(
                    "the node's database is busy or away", remedy="try again"
                ) from err
            finally:
                session.expunge_all()
                session.rollback()

    def _accompany(self, session: Session) -> None:
        store, companion = _companion.get() or (None, None)
        noted = session.info.pop(_NOTE, False)
        if store is self and companion is not None and _changes(session) and not noted:
            companion(session)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        began = time.perf_counter()
        # With an end, as SQLite's own wait has: a transaction within another would wait for ever.
        if not self._writer.acquire(timeout=BUSY_TIMEOUT_MS / 1000):
            raise Unavailable("the node's database is busy", remedy="try again")
        try:
            yield
        finally:
            self._writer.release()
            if self._measured is not None:
                self._measured(time.perf_counter() - began)

    def close(self) -> None:
        self._engine.dispose()


class Exclusive:
    """A `with` block that at most one thread of all processes on a database is in.

    On PostgreSQL it is an advisory lock of a connection of its own; one that breaks loses the lock,
    so what is done inside must be safe to be done twice and is only cheaper done once.
    """

    def __init__(self, url: str | None, name: str) -> None:
        self._within = threading.Lock()
        self._engine = _open(url, patient=True) if url is not None else None
        self._name = name
        self._held: Connection | None = None

    def __enter__(self) -> None:
        self._within.acquire()
        if self._engine is None:
            return
        try:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql(
                "SELECT pg_advisory_lock(%s, hashtext(%s))", (_EXCLUSIVE, self._name)
            )
        except DBAPIError as err:
            self._within.release()
            raise Unavailable("the node's database is busy or away", remedy="try again") from err
        except BaseException:
            self._within.release()
            raise
        self._held = connection

    def __exit__(self, *_: object) -> None:
        held, self._held = self._held, None
        try:
            if held is not None:
                # Closing the connection, which no pool keeps, gives the lock back.
                held.close()
        finally:
            self._within.release()


def _changes(session: Session) -> bool:
    """Whether a transaction changes anything, flushed already or not."""
    waiting = session.new or session.dirty or session.deleted
    return bool(waiting) or bool(session.info.get(_CHANGED))


_CHANGED = "changed"
_NOTE = "note"


def only_notes(tx: Session) -> None:
    """What this transaction writes is a note of ours about work under way, and not what somebody
    asked for: no companion goes with it."""
    tx.info[_NOTE] = True


@event.listens_for(Session, "after_flush")
def _flushed(session: Any, _context: object) -> None:
    session.info[_CHANGED] = True


@event.listens_for(Session, "do_orm_execute")
def _executed(state: Any) -> None:
    if not state.is_select:
        state.session.info[_CHANGED] = True


def shares(url: str) -> bool:
    """Whether several processes may serve one node on the database at `url`."""
    return not url.startswith("sqlite")


def _is_away(err: DBAPIError) -> bool:
    """Whether an error says that the database was locked or gone, and nothing about the work."""
    if isinstance(err, OperationalError) or err.connection_invalidated:
        return True
    return getattr(err.orig, "sqlstate", None) in _AWAY


def _is_looking(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("dataspace_looking"))


def _verify_encoding(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise InputRejected(
            f"the node's database has the encoding {encoding}, which cannot hold every name",
            remedy="create it anew: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
        )


def _open(url: str, *, patient: bool = False) -> Engine:
    """`patient`: without the limits of time, and without a pool."""
    try:
        named = make_url(url)
    except ArgumentError as err:
        raise InputRejected(
            "the setting 'database' is no address of a database",
            remedy="leave it out, or write postgresql://USER@HOST/DATABASE?passfile=/abs/file",
        ) from err
    kind = named.get_backend_name()
    if kind == "sqlite":
        return _open_sqlite(url)
    if kind != "postgresql":
        raise InputRejected(
            f"a node's database is SQLite or PostgreSQL, not {kind[:40]}",
            remedy="see docs/operations.md, Database",
        )
    try:
        return _open_postgresql(
            named.set(drivername="postgresql+psycopg").render_as_string(hide_password=False),
            patient=patient,
        )
    except ModuleNotFoundError as err:
        raise InputRejected(
            "PostgreSQL needs the driver psycopg, which is not installed",
            remedy="install the extra `postgres`",
        ) from err


def _open_postgresql(url: str, *, patient: bool) -> Engine:
    limits = {
        "lock_timeout": BUSY_TIMEOUT_MS,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT_MS,
    }
    if patient:
        limits = dict.fromkeys(limits, 0)
    pool: dict[str, Any] = (
        {"poolclass": NullPool}
        if patient
        else {"pool_size": MAX_CONNECTIONS, "max_overflow": 0, "pool_timeout": 10}
    )
    engine = create_engine(
        url,
        # Each statement sees what was committed before it: so one that waited for the lock sees
        # all that the holder did. Whatever the server's own default is.
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        connect_args={
            "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
            "connect_timeout": CONNECT_TIMEOUT_S,
            "client_encoding": "utf8",
            "application_name": "dataspace",
            # A connection whose other end has vanished is noticed within half a minute.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
        **pool,
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("isolation_level") != "AUTOCOMMIT" and not _is_looking(connection):
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_TRANSACTIONS,))

    return engine


def _open_sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if _is_looking(connection) else "BEGIN IMMEDIATE")

    return engine
