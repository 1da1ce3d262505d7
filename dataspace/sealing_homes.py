"""Sealing a home that was made without a passphrase, and giving a sealed one another passphrase.

Every step is whole or not done, and whatever has been done is found so when the work is begun
again: a kill in between leaves a home that opens with the old passphrase or, key by key, with the
new one, and the command repeated ends it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table, select, update
from sqlmodel import SQLModel

from dataspace.backups.databases import is_sqlite, sqlite_path
from dataspace.errors import InputRejected
from dataspace.home import Home
from dataspace.sealed_rows import RowSealing, sealing_suite_of_file
from dataspace.sealing_suites import SealingSuite
from dataspace.secret_files import ROOT_FILE, reseal_secret, sealing_suite_of
from dataspace.store.engine import Store
from dataspace.store.tables import ComputationRow, TransferRow

ROOT = ROOT_FILE
PAGE = 200
# The folders whose files hold rows of people.
FOLDERS = ("received", "results")


@dataclass(frozen=True)
class SealedHome:
    """How many keys, files and values of rows lie sealed under the new passphrase."""

    keys: int
    files: int
    values: int


def seal_home(
    home: Home, old: str | None, new: str, suite: SealingSuite | None = None
) -> SealedHome:
    """Seal keys, files and values of `home`, whose node does not run, with `suite`, or with the one
    it has. Raises InputRejected."""
    keys = home.path / "keys"
    if not (keys / ROOT).exists():
        raise InputRejected(
            "this home is of an earlier version and has no root key yet",
            remedy="start the node once with this version, stop it, and seal it then",
        )
    # The root last: until it is under the new passphrase, nothing else is sealed with it.
    names = sorted(
        path.name
        for path in keys.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.name != ROOT
    )
    chosen = suite or sealing_suite_of(keys / ROOT) or SealingSuite.AES
    for name in names:
        reseal_secret(keys / name, old, new, chosen)
    root = bytes.fromhex(reseal_secret(keys / ROOT, old, new, chosen))
    sealing = RowSealing(root, seals=True, suite=chosen)
    files = _seal_files(home.path, sealing)
    values = _seal_values(home.database_url, sealing) if home.settings.url else 0
    return SealedHome(len(names) + 1, files, values)


def _seal_files(home: Path, sealing: RowSealing) -> int:
    count = 0
    for folder in FOLDERS:
        for path in sorted((home / folder).rglob("*")):
            if path.is_symlink() or not path.is_file() or path.name.startswith("."):
                continue
            if sealing_suite_of_file(path) is not sealing.suite:
                sealing.seal_file(path, str(path.relative_to(home)))
            count += 1
    return count


def _seal_values(url: str, sealing: RowSealing) -> int:
    store = Store(url)
    try:
        store.migrate()
        store.use_sealing(sealing)
        count = _seal_column(store, ComputationRow, "id", "value")
        count += _seal_column(store, TransferRow, "pid", "data_address")
    finally:
        store.close()
    if is_sqlite(url):
        _forget_what_was(sqlite_path(url))
    return count


def _seal_column(store: Store, model: type[SQLModel], key: str, name: str) -> int:
    """Write every value of a column again, as the column writes it now."""
    table: Table = getattr(model, "__table__")  # noqa: B009 (not known to the type)
    at, column = table.c[key], table.c[name]
    count, after = 0, ""
    while True:
        with store.transaction() as tx:
            connection = tx.connection()
            wanted = select(at, column).where(at > after).order_by(at).limit(PAGE)
            rows: Any = connection.execute(wanted).all()
            for row_key, value in rows:
                if value is not None:
                    connection.execute(update(table).where(at == row_key).values({name: value}))
                    count += 1
        if not rows:
            return count
        after = rows[-1][0]


def _forget_what_was(path: Path) -> None:
    """Rewrite the file without what was overwritten, and remove the copy of before an upgrade."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for earlier in path.parent.glob(f"{path.name}.before-*"):
        earlier.unlink()
