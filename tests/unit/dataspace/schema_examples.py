"""A database as each released revision of the schema left it, with rows that a node had then.

Made by the migrations up to that revision and filled with what nodes write: rows by name where they
mean something to a later migration, and for every other column a value of its type.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from dataspace.store import tables
from dataspace.store.upgrading import migrations
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.entry import Entry, EntryType, SealedEntry, seal
from ledger.log import Log, MemoryNodeStore

assert tables  # imported for its side effect: the tables register themselves
ORIGIN = "127.0.0.1:8001/tlog"
OFFER = {"@type": "Offer", "@id": "urn:uuid:offer", "permission": [{"action": "use"}]}
# What the rows of that table said, at whatever revision has the column.
ROWS: dict[str, dict[str, Any]] = {
    "setting": {"name": "space.operator", "value": "did:web:127.0.0.1%3A8001"},
    "dataset": {
        "id": "residents",
        "title": "Residents",
        "source": "/data/residents.csv",
        "columns": [{"name": "resident_id", "role": "identifier"}],
        "grade": "general",
        "offer": OFFER,
        "content_version": "5f" * 32,
    },
    "agreement": {
        "id": "urn:uuid:agreement",
        "role": "provider",
        "provider": "did:web:127.0.0.1%3A8001",
        "consumer": "did:web:127.0.0.1%3A8002",
        "dataset": "residents",
        "document": {**OFFER, "@type": "Agreement"},
        "document_h": "ab" * 32,
        "use_count": 3,
    },
    "participant": {
        "did": "did:web:127.0.0.1%3A8002",
        "kind": "enterprise",
        "name": "Insurer 保险",
        "zones": ["qianhai", "nanshan"],
        "credential": "a.b.c",
    },
    "invitation": {"code_h": "cd" * 32, "kind": "enterprise", "zones": ["guangming"]},
    "process": {"kind": "anchor", "subject": ORIGIN, "payload": {}, "state": "ready"},
}


def rows_of(found: sa.MetaData, revision: str) -> dict[str, dict[str, Any]]:
    """One row of every table of `found`, in its own columns, its key that of `revision`; those of
    the log are made by `Log`."""
    return {
        table.name: {
            column.name: _keyed(value, revision) if column.primary_key else value
            for column in table.columns
            for value in (ROWS.get(table.name, {}).get(column.name, _value(column)),)
            if column.name in ROWS.get(table.name, {}) or not column.nullable
        }
        for table in found.sorted_tables
        if table.name not in ("alembic_version", "log_state", "log_node", "entry", "checkpoint")
    }


def _keyed(value: Any, revision: str) -> Any:
    return int(revision) if isinstance(value, int) else f"{value}-{revision}"


def _value(column: sa.Column[Any]) -> Any:
    match column.type:
        case sa.JSON():
            return []
        case sa.Boolean():
            return True
        case sa.Integer() | sa.Float():
            return 1
        case sa.LargeBinary():
            return b"\x01"
    return f"{column.table.name}.{column.name}"


def signed_log(signer: NoteSigner) -> tuple[list[SealedEntry], MemoryNodeStore, str]:
    """Three entries, their hashes, and the checkpoint over them."""
    entries = [
        seal(
            Entry(
                log=ORIGIN,
                id=f"018f0000-0000-7000-8000-00000000000{number}",
                ts="2026-01-01T00:00:00.000Z",
                type=EntryType.PUBLISHED,
                actor="did:web:127.0.0.1%3A8001",
            ),
            bytes([number]) * 16,
        )
        for number in range(3)
    ]
    store = MemoryNodeStore()
    log = Log(store)
    log.extend([entry.commitment for entry in entries])
    note = sign_note(Checkpoint(ORIGIN, log.size, log.root()).body(), [signer])
    return entries, store, note


def fill(database: sa.Engine, revision: str) -> dict[str, dict[str, Any]]:
    """Write one row into every table that this revision has; returns what was written."""
    found = sa.MetaData()
    found.reflect(database)
    written = rows_of(found, revision)
    with database.begin() as connection:
        for name, row in written.items():
            connection.execute(sa.insert(found.tables[name]).values(**row))
    return written


def fill_log(database: sa.Engine, signer: NoteSigner) -> None:
    """Write a log of three entries with its checkpoint."""
    found = sa.MetaData()
    found.reflect(database, only=["log_state", "log_node", "entry", "checkpoint"])
    at, (entries, store, note) = found.tables, signed_log(signer)
    nodes = ((0, 0), (0, 1), (0, 2), (1, 0))
    with database.begin() as connection:
        connection.execute(sa.insert(at["log_state"]).values(id=1, size=len(entries)))
        for level, position in nodes:
            values = {"level": level, "position": position, "value": store.get(level, position)}
            connection.execute(sa.insert(at["log_node"]).values(**values))
        for position, entry in enumerate(entries):
            values = {"commitment": entry.commitment, "body": entry.body, "salt": entry.salt}
            connection.execute(sa.insert(at["entry"]).values(position=position, **values))
        values = {"size": 3, "root": Log(store).root(), "note": note}
        connection.execute(sa.insert(at["checkpoint"]).values(version=1, created_at=1.0, **values))


def upgrade(database: sa.Engine, revision: str) -> None:
    config = migrations()
    with database.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


def differences(database: sa.Engine) -> list[Any]:
    """What alembic would change to make this database's schema that of the tables."""
    with database.connect() as connection:
        options = {"compare_type": _other_type, "compare_server_default": _other_default}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, SQLModel.metadata))


def _other_type(
    context: MigrationContext, _c: Any, _m: Any, found: Any, wanted: Any
) -> bool | None:
    # SQLite has one integer of 64 bits under both names.
    integers = isinstance(found, sa.Integer) and isinstance(wanted, sa.Integer)
    return False if context.dialect.name == "sqlite" and integers else None


def _other_default(
    _context: MigrationContext, _c: Any, _m: Any, found: str | None, _d: Any, wanted: str | None
) -> bool | None:
    # As texts: alembic takes SQLite's empty one for another, and PostgreSQL compares no JSON.
    if found is None or wanted is None:
        return found is not wanted
    return found.partition("::")[0].strip("()'") != wanted.strip("()'")


def table_rows(path: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table as SQLite keeps them, JSON read."""
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        rows = database.execute(f'SELECT * FROM "{table}"').fetchall()
    return [{key: _read(value) for key, value in dict(row).items()} for row in rows]


def _read(value: Any) -> Any:
    is_json = isinstance(value, str) and value.startswith(("[", "{"))
    return json.loads(value) if is_json else value


def kept(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Whether one of `rows` says what `row` said, but for columns that are no more."""
    return any(all(one[key] == row[key] for key in row if key in one) for one in rows)
