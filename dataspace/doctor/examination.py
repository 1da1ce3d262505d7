"""The whole examination, in the order in which a reader wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from dataspace.backups.databases import (
    is_postgresql,
    is_sqlite,
    reading,
    schema_revision,
    sqlite_path,
)
from dataspace.doctor.database import look_at_database, look_at_work
from dataspace.doctor.evidence import look_at_evidence
from dataspace.doctor.files import look_at_files, look_at_rows_and_files
from dataspace.doctor.finding import Finding, Findings, error, ok, warning
from dataspace.doctor.outside import is_running, look_at_sources, look_outside
from dataspace.errors import SHOWN, InputRejected
from dataspace.home import Home
from dataspace.outbound import outbound_client
from dataspace.store.upgrading import newest_revision


def examine(path: Path) -> Iterator[Finding]:
    """Look at everything of the home at `path`, running or not. Raises nothing that is known: what
    cannot be looked at is a finding."""
    try:
        home = Home(path)
    except InputRejected as err:
        yield error("settings", str(err), err.remedy or "correct node.toml")
        return
    yield ok("settings", "the settings are valid")
    yield from _all_of("files", lambda: look_at_files(home))
    if home.settings.url is None:
        # A regulator's home: an identity, and no node.
        return
    yield from _database(home)


def _database(home: Home) -> Findings:
    url = home.database_url
    if is_sqlite(url) and not sqlite_path(url).exists():
        yield warning("database", "there is no database yet", "start the node once")
        return
    if not is_sqlite(url) and not is_postgresql(url):
        yield error("database", "only SQLite and PostgreSQL are supported", "see `database`")
        return
    try:
        with reading(url) as connection:
            yield from _all_of("database", lambda: look_at_database(home, connection))
            if schema_revision(connection) == newest_revision():
                with outbound_client(home.settings.tls_ca) as http:
                    yield from _rows(home, connection, http)
    except (SQLAlchemyError, *SHOWN) as err:
        sentence = str(err) if isinstance(err, SHOWN) else "the database cannot be read"
        yield error("database", sentence, "check the setting 'database' and the disk")


def _rows(home: Home, connection: Connection, http: httpx2.Client) -> Findings:
    running = is_running(home, http)
    looks: dict[str, Callable[[], Findings]] = {
        "evidence": lambda: look_at_evidence(home, connection),
        "processes": lambda: look_at_work(connection, running=running),
        "files": lambda: look_at_rows_and_files(home, connection),
        "sources": lambda: look_at_sources(connection),
        "outside": lambda: look_outside(home, connection, http),
    }
    for check, look in looks.items():
        yield from _all_of(check, look)


def _all_of(check: str, look: Callable[[], Findings]) -> Findings:
    """The findings of one look; where it cannot go on, that is one. The others go on."""
    try:
        yield from look()
    except (OSError, SQLAlchemyError, *SHOWN) as err:
        yield error(check, *_why_not_looked_at(err))


def _why_not_looked_at(err: Exception) -> tuple[str, str]:
    """A sentence and its remedy; a driver's own text is not shown, as it may quote a row."""
    if isinstance(err, SHOWN):
        return str(err), getattr(err, "remedy", None) or "correct that, and run doctor again"
    if isinstance(err, SQLAlchemyError):
        return (
            f"the database cannot be read ({type(err).__name__})",
            "stop the node, keep a copy of the database, and restore the newest backup",
        )
    return f"cannot be looked at ({type(err).__name__})", "check the disk and who owns the files"
