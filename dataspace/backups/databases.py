"""Copies of a database in one state, while others write to it: of SQLite and of PostgreSQL."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from glob import glob
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from dataspace.backups.manifest import LogState
from dataspace.errors import InputRejected, Unavailable
from dataspace.evidence import origin_of_url
from dataspace.home import Home
from ledger.log import Log

BUSY_TIMEOUT_S, LOCK_TIMEOUT_S = 30.0, 1.0
# Of a program's complaint; it may quote what it was given.
MAX_TOLD = 300


def is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def is_postgresql(url: str) -> bool:
    return make_url(url).get_backend_name() == "postgresql"


def sqlite_path(url: str) -> Path:
    """The file of a SQLite URL. Raises InputRejected for one in memory."""
    name = make_url(url).database
    if not name or name == ":memory:":
        raise InputRejected("a database in memory cannot be backed up", remedy="use a file")
    return Path(name)


def copy_sqlite(source: Path, target: Path) -> None:
    """A copy of one state of a SQLite database, checked, whatever others write meanwhile.

    All pages in one step: under a write-ahead log that keeps no writer waiting, while a copy in
    steps begins anew with each of their commits. Raises InputRejected where it is damaged.
    """
    if not source.is_file():
        raise InputRejected(f"{source} is missing", remedy="check the home and `database`")
    address = f"file:{quote(str(source))}?mode=rw"
    try:
        with (
            closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S)) as old,
            closing(sqlite3.connect(target, isolation_level=None)) as new,
        ):
            target.chmod(0o600)
            # Having read, it has its place among the readers: `backup` would wait for ever for a
            # lock that is not let go of.
            old.execute("BEGIN")
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
            old.backup(new)
            new.execute("PRAGMA journal_mode=DELETE")
            _verify_integrity(new, source.name)
    except sqlite3.Error as err:
        raise InputRejected(
            f"{source.name} cannot be copied: {err}", remedy="see: dataspace doctor"
        ) from err


def is_locked(path: Path) -> bool:
    """Whether another process has a SQLite database for itself."""
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_S)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        return True
    return False


def _verify_integrity(database: sqlite3.Connection, name: str) -> None:
    found = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise InputRejected(
            f"the database {name} is damaged, so no backup was made of it",
            remedy="keep the earlier backups; see: dataspace doctor",
        )


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """One state of the database at `url`, for as long as the block lasts; nothing is written.

    Raises Unavailable where it cannot be opened.
    """
    if is_sqlite(url):
        address = f"file:{quote(str(sqlite_path(url)))}"
        engine = create_engine(f"sqlite:///{address}?mode=rw&uri=true", poolclass=NullPool)
    else:
        named = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(named, poolclass=NullPool, isolation_level="REPEATABLE READ")
    try:
        with engine.connect() as connection:
            if is_sqlite(url):
                connection.exec_driver_sql("PRAGMA query_only=ON")
                connection.exec_driver_sql("BEGIN")
            elif is_postgresql(url):
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            yield connection
    except OperationalError as err:
        raise Unavailable(
            "the node's database cannot be opened", remedy="check the setting 'database'"
        ) from err
    finally:
        engine.dispose()


class StoredNodes:
    """The log's hashes in a database, to read from: a `ledger.log.NodeStore`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        found = connection.execute(text("SELECT size FROM log_state WHERE id = 1")).scalar()
        self._size = int(found or 0)

    def size(self) -> int:
        return self._size

    def get(self, level: int, index: int) -> bytes:
        query = text("SELECT value FROM log_node WHERE level = :level AND position = :position")
        found = self._connection.execute(query, {"level": level, "position": index}).scalar()
        if found is None:
            raise InputRejected(
                f"the evidence log lacks the hash {index} of level {level}",
                remedy="restore a backup; see: dataspace doctor",
            )
        return bytes(found)

    def set_size(self, size: int) -> None:
        raise InputRejected("this log is only read")

    def put(self, level: int, index: int, value: bytes) -> None:
        raise InputRejected("this log is only read")


def log_state(connection: Connection, home: Home) -> LogState:
    """The evidence log in this database."""
    nodes = StoredNodes(connection)
    newest = connection.execute(
        text("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1")
    ).scalar()
    anchored = connection.execute(
        text("SELECT max(size) FROM checkpoint WHERE block IS NOT NULL")
    ).scalar()
    return LogState(
        origin=origin_of_url(home.url),
        size=nodes.size(),
        root=Log(nodes).root().hex(),
        checkpoint=newest,
        anchored=anchored or 0,
    )


def schema_revision(connection: Connection) -> str | None:
    """The database's revision, None where it has none yet."""
    try:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError:
        return None
    return None if found is None else str(found)


def settings_in(connection: Connection, prefix: str) -> dict[str, str]:
    """What the node remembers under names that begin so, the prefix left out."""
    rows = connection.execute(
        text("SELECT name, value FROM setting WHERE name LIKE :wanted"), {"wanted": f"{prefix}%"}
    )
    return {name.removeprefix(prefix): value for name, value in rows}


# ---- PostgreSQL's own programs ------------------------------------------------------------------


def dump_postgresql(url: str, connection: Connection, target: Path) -> None:
    """Dump the database as it is in the transaction of `connection`, in pg_dump's own format."""
    server = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
    program = _program("pg_dump", at_least=server)
    snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
    arguments = [
        program,
        "--format=custom",
        "--compress=0",
        "--no-owner",
        "--no-privileges",
        f"--snapshot={snapshot}",
        f"--file={target}",
    ]
    _run(arguments, make_url(url), "the database cannot be dumped")
    target.chmod(0o600)


def restore_postgresql(url: str, dump: Path) -> None:
    """Bring a dump into an empty database: all of it or nothing. Raises InputRejected."""
    with reading(url) as connection:
        server = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
        tables = connection.execute(
            text(
                "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname NOT LIKE 'pg\\_%' "
                "AND n.nspname <> 'information_schema'"
            )
        ).scalar_one()
    if tables:
        raise InputRejected(
            f"the database has {tables} tables already", remedy="restore into an empty database"
        )
    arguments = [
        _program("pg_restore", at_least=server),
        "--single-transaction",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        str(dump),
    ]
    _run(arguments, make_url(url), "the database cannot be restored")


def _program(name: str, *, at_least: int) -> str:
    """One of PostgreSQL's programs, of the server's version or a later one."""
    installed = [*glob(f"/usr/lib/postgresql/*/bin/{name}")]
    on_path = shutil.which(name)
    # Debian's pg_dump on the path is a script that chooses a version by itself.
    candidates = [*installed, *([on_path] if on_path else [])]
    if not candidates:
        raise InputRejected(
            f"PostgreSQL's program {name} is not installed here",
            remedy=f"install PostgreSQL's client programs, version {at_least} or later",
        )
    found = {candidate: _version(candidate) for candidate in candidates}
    best = max(found, key=lambda candidate: found[candidate])
    if found[best] < at_least:
        raise InputRejected(
            f"{name} is of version {found[best]}, the server of {at_least}",
            remedy=f"install PostgreSQL's client programs, version {at_least} or later",
        )
    return best


def _version(program: str) -> int:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\b(\d+)(?:\.\d+)*", told.stdout)
    return int(match[1]) if match else 0


def _run(arguments: list[str], url: URL, sentence: str) -> None:
    """Run one of PostgreSQL's programs on the database of `url`; its password is in no command
    line, where others could see it."""
    # psycopg comes with the extra `postgres`, which whoever has such a database has.
    from psycopg.conninfo import make_conninfo

    options: Mapping[str, Any] = url.translate_connect_args(username="user", database="dbname")
    named = {name: str(value) for name, value in options.items() if name != "password"}
    for name, value in url.query.items():
        named[name] = value if isinstance(value, str) else value[-1]
    environment = dict(os.environ)
    if url.password is not None:
        environment["PGPASSWORD"] = str(url.password)
    done = subprocess.run(
        [*arguments, f"--dbname={make_conninfo(**named)}"],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason was told"]
        raise Unavailable(f"{sentence}: {lines[-1][:MAX_TOLD]}", remedy="see what it says")
