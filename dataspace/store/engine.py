"""Opens the database and gives transactions.

SQLite runs with WAL, synchronous=FULL and `BEGIN IMMEDIATE`, so that a transaction that reads
before it writes cannot lose an update; the driver's own transaction handling is switched off for
that. A commit that scheduled work wakes the process engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from dataspace.errors import InputRejected, Unavailable

BUSY_TIMEOUT_MS = 10_000


class Store:
    """A node's database. `transaction()` is the only way to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = _open(url)
        # SQLite has one writer, and who waits for it there sleeps ever longer; here the next is
        # woken. Other databases take as many as come.
        self._writer = threading.Lock() if url.startswith("sqlite") else None
        self._listeners: list[Callable[[], None]] = []

    def migrate(self) -> None:
        """Bring the schema to this version's; refuses a database of a later version."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        try:
            with self._engine.connect() as connection:
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
                remedy="check the setting 'database', the disk, and the file's permissions",
            ) from err

    def on_scheduled(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every commit that scheduled a process."""
        self._listeners.append(listener)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises Unavailable where the database is locked or gone; nothing is changed then.
        """
        with self._turn(), Session(self._engine, expire_on_commit=False) as session:
            try:
                yield session
                session.commit()
            except OperationalError as err:
                session.rollback()
                raise Unavailable(
                    "the node's database is busy or away", remedy="try again"
                ) from err
            except BaseException:
                session.rollback()
                raise
            scheduled = session.info.pop("scheduled", False)
        if scheduled:
            for listener in self._listeners:
                listener()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._writer is None:
            yield
            return
        # With an end, as SQLite's own wait has: a transaction within another would wait for ever.
        if not self._writer.acquire(timeout=BUSY_TIMEOUT_MS / 1000):
            raise Unavailable("the node's database is busy", remedy="try again")
        try:
            yield
        finally:
            self._writer.release()

    def close(self) -> None:
        self._engine.dispose()


def _open(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
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
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
