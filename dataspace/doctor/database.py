"""What lies in the database: its integrity and revision, stuck work, the membership's end."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from sqlalchemy import Connection, Text, cast, func, literal_column, select, table, text

from dataspace.backups.databases import is_sqlite, schema_revision
from dataspace.doctor.finding import Finding, Findings, error, ok, warning
from dataspace.errors import InputRejected
from dataspace.home import Home
from dataspace.identity.tokens import credential_end
from dataspace.store.upgrading import newest_revision, revisions

# What has been due for so long is stuck, or the node does not run.
STUCK_S = 900.0
MAX_TOLD = 5
CREDENTIAL_DAYS = 10.0
DAY_S = 86400.0


def look_at_database(home: Home, connection: Connection) -> Findings:
    yield _integrity(home, connection)
    yield _revision(connection)


def look_at_work(connection: Connection, *, running: bool) -> Findings:
    """Processes and the membership; `running` says whether a node works on them."""
    yield from _processes(connection, running=running)
    yield _membership(connection)


def _integrity(home: Home, connection: Connection) -> Finding:
    """SQLite looks at every page; PostgreSQL reads every row of every table."""
    remedy = "stop the node, keep a copy of the file, and restore the newest backup"
    if is_sqlite(home.database_url):
        found = connection.exec_driver_sql("PRAGMA integrity_check(3)").scalars().all()
        if found != ["ok"]:
            return error("database", f"the database is damaged: {found[0]}", remedy)
        lost = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if lost:
            return error("database", f"{len(lost)} rows refer to others that are gone", remedy)
        return ok("database", "every page of the database is as it should be")
    tables = connection.execute(
        text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    ).scalars()
    # Every value is read: a damaged page, or a damaged long value, would tell only then.
    length = func.sum(func.length(cast(literal_column("t"), Text)))
    for name in tables.all():
        connection.execute(select(length).select_from(table(name).alias("t")))
    return ok("database", "every row of the database can be read")


def _revision(connection: Connection) -> Finding:
    found = schema_revision(connection)
    if found is None:
        return warning("schema", "the database has no tables yet", "start the node once")
    if found not in revisions():
        return error("schema", f"the schema {found} is a later version's", "run that version")
    if found != newest_revision():
        return warning(
            "schema",
            f"the schema is {found}, this version's is {newest_revision()}",
            "the node upgrades it when it starts; make a backup first",
        )
    return ok("schema", f"the schema is this version's ({found})")


def _processes(connection: Connection, *, running: bool) -> Findings:
    failed = connection.execute(
        text("SELECT kind, subject FROM process WHERE state = 'failed' ORDER BY id DESC")
    ).all()
    late = connection.execute(
        text(
            "SELECT kind, subject FROM process WHERE state = 'ready' AND due_at < :before "
            "AND lease_until < :now ORDER BY due_at"
        ),
        {"before": time.time() - STUCK_S, "now": time.time()},
    ).all()
    if failed:
        yield warning(
            "processes",
            f"{len(failed)} processes have failed: {_named(failed)}",
            "see: dataspace status",
        )
    if late and running:
        yield error(
            "processes",
            f"{len(late)} processes have been due for {int(STUCK_S // 60)} minutes: {_named(late)}",
            "see: dataspace status; start the node again if its workers have stopped",
        )
    elif late:
        yield ok("processes", f"{len(late)} processes wait for the node to start")
    if not failed and not late:
        yield ok("processes", "no process is stuck or has failed")


def _named(rows: object) -> str:
    assert isinstance(rows, list)
    kinds = list(dict.fromkeys(str(kind) for kind, _ in rows))
    return ", ".join(kinds[:MAX_TOLD])


def _membership(connection: Connection) -> Finding:
    credential = connection.execute(
        text("SELECT value FROM setting WHERE name = 'membership'")
    ).scalar()
    if credential is None:
        return warning(
            "membership",
            "the node has not joined its space",
            "ask the operator for an invitation, then: dataspace join --invitation CODE",
        )
    try:
        ends = credential_end(str(credential))
    except InputRejected as err:
        return error("membership", err.sentence, err.remedy or "restore a backup")
    told = f"the membership credential ends {datetime.fromtimestamp(ends, UTC).date().isoformat()}"
    days = (ends - time.time()) / DAY_S
    if days < 0:
        return error("membership", told, "start the node where it reaches its operator")
    if days < CREDENTIAL_DAYS:
        return warning("membership", told, "let the node reach its operator, which renews it")
    return ok("membership", told)
