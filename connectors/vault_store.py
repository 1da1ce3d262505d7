"""The vault's database: one SQLite file whose contents are sealed, and its transactions.

In clear are numbers of rows, pseudonyms without a meaning outside, digests under keys, public keys,
sizes, and how many consents a person has given.
"""

from __future__ import annotations

import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from connectors.errors import InputRejected, Unavailable

DATABASE: Final = "vault.sqlite"
FORMAT: Final = b"city-dataspace-vault/1"
BUSY_TIMEOUT_S: Final = 10.0

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE person (
  id INTEGER PRIMARY KEY,
  pseudonym BLOB NOT NULL UNIQUE,
  tag BLOB NOT NULL UNIQUE,
  wrapped BLOB NOT NULL,
  head BLOB NOT NULL,
  head_version INTEGER NOT NULL,
  consents INTEGER NOT NULL DEFAULT 0,
  import INTEGER NOT NULL,
  public BLOB NOT NULL,
  private BLOB NOT NULL,
  locator BLOB UNIQUE
);
CREATE INDEX person_consenting ON person (id) WHERE consents > 0;
CREATE TABLE record (
  person INTEGER NOT NULL, seq INTEGER NOT NULL, import INTEGER NOT NULL, sealed BLOB NOT NULL,
  PRIMARY KEY (person, seq)
) WITHOUT ROWID;
CREATE TABLE terms (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL);
CREATE TABLE receipt (
  id BLOB PRIMARY KEY, person INTEGER NOT NULL, given BLOB NOT NULL, withdrawn BLOB
) WITHOUT ROWID;
CREATE INDEX receipt_person ON receipt (person);
CREATE TABLE use (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, ephemeral BLOB NOT NULL,
  sealed BLOB NOT NULL, regulator BLOB);
CREATE TABLE trace (use INTEGER NOT NULL, tag BLOB NOT NULL, wrapped BLOB NOT NULL,
  PRIMARY KEY (use, tag)) WITHOUT ROWID;
CREATE TABLE traced (use INTEGER NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL,
  PRIMARY KEY (use, number)) WITHOUT ROWID;
CREATE TABLE erased (tag BLOB PRIMARY KEY, certificate TEXT NOT NULL) WITHOUT ROWID;
"""


class VaultStore:
    """Opens the database anew for every piece of work: vaults are used by several processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / DATABASE

    def create(self) -> None:
        """Make folder (0700) and empty tables. Raises InputRejected where a vault is already."""
        if self.path.exists():
            raise InputRejected(f"{self.folder} already is a vault; choose another folder")
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        self.path.touch(mode=0o600)
        with self._connected() as db:
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")

    def verify(self) -> None:
        """Raises InputRejected where there is no vault, or others may enter its folder."""
        if not self.path.is_file():
            raise InputRejected(f"{self.folder} is no vault; make one with: dataspace vault create")
        mode = stat.S_IMODE(self.folder.stat().st_mode)
        if mode & 0o077:
            raise InputRejected(
                f"the vault {self.folder} can be entered by others (mode {mode:04o}); run: "
                f"chmod 700 {self.folder}"
            )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the vault for as long as the block lasts."""
        with self._connected() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when the block has ended, undone when it raises."""
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def held_open(self) -> Iterator[None]:
        """Keeps the write-ahead log for the block: SQLite folds it into the database whenever the
        last connection closes, which would be done for every batch."""
        with self._connected() as db:
            db.execute("SELECT 1 FROM meta").fetchone()
            yield

    def scrub(self) -> bool:
        """Take what was deleted out of the write-ahead log; False while a reader still needs it."""
        with self._connected() as db:
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        self.verify()
        try:
            db = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                    db.execute(f"PRAGMA {pragma}")
                yield db
            finally:
                db.close()
        except sqlite3.OperationalError as err:
            # Its text names tables and files, never values.
            raise Unavailable(
                f"the vault {self.folder.name} is busy or cannot be written ({err}); try again"
            ) from err
        except sqlite3.DatabaseError as err:
            raise InputRejected(
                f"the database of the vault {self.folder.name} is damaged; restore your backup"
            ) from err


def value(db: sqlite3.Connection, name: str) -> bytes:
    """A value of the vault's own. Raises InputRejected where the database is no vault's."""
    found = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if found is None:
        raise InputRejected("this database is not a vault's; name the folder of a vault")
    return bytes(found[0])


def put(db: sqlite3.Connection, name: str, content: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, content))


def changed(db: sqlite3.Connection, *, records: bool = False) -> None:
    """Give the vault's state a new name, in the transaction of the change."""
    put(db, "state", secrets.token_bytes(16))
    if records:
        put(db, "records", secrets.token_bytes(16))
