"""Where the embedded chain keeps its state: one SQLite file.

`ChainStore` owns the connection and the transaction around a block; `KeyValue` is the table py-evm
reads and writes; the index tables answer what a chain is asked most without scanning blocks. A
block, its state and its index entries are committed together or not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from eth.db.backends.base import BaseDB

from ledger.errors import ChainUnavailable, InputRejected

SCHEMA_VERSION = "1"
# A query that finds more is refused, so that one request cannot fill the memory.
MAX_LOGS = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mined (hash BLOB PRIMARY KEY, block INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logs (
    block INTEGER NOT NULL, position INTEGER NOT NULL, address BLOB NOT NULL,
    topic0 BLOB, topic1 BLOB, topic2 BLOB, topic3 BLOB, data BLOB NOT NULL,
    PRIMARY KEY (block, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS logs_by_address ON logs (address, topic0, block);
CREATE INDEX IF NOT EXISTS logs_by_topic ON logs (topic0, block);
"""


@dataclass(frozen=True)
class IndexedLog:
    """One event: its block, its place in the block, and what the contract said."""

    block: int
    position: int
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


class KeyValue(BaseDB):
    """py-evm's database: one table of the store. Writes belong to the store's open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getitem__(self, key: bytes) -> bytes:
        row = self._connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        value: bytes = row[0]
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._connection.execute(
            "INSERT INTO state VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (bytes(key), bytes(value)),
        )

    def __delitem__(self, key: bytes) -> None:
        if self._connection.execute("DELETE FROM state WHERE key = ?", (key,)).rowcount == 0:
            raise KeyError(key)

    def _exists(self, key: bytes) -> bool:
        found = self._connection.execute("SELECT 1 FROM state WHERE key = ?", (key,)).fetchone()
        return found is not None


class ChainStore:
    """The file. One process owns it; within the process the caller keeps calls one at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises ChainUnavailable while another process has it open."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(
            path, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            # Two processes mining on one file would each believe in a head of their own.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_SCHEMA)
            with self.transaction():
                self._set_once("schema", SCHEMA_VERSION)
        except sqlite3.OperationalError as err:
            self._connection.close()
            raise ChainUnavailable(
                f"the chain file {path.name} cannot be opened: {err}; "
                "a chain has one owning process, stop the other one"
            ) from err
        self.state = KeyValue(self._connection)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside becomes durable together at the end, or nothing when it raises."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite itself may have rolled back already, on a full disk for instance.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def bind(self, chain_id: int) -> None:
        """Remember whose chain this is. Raises InputRejected for the file of another chain."""
        self._set_once("chain_id", str(chain_id))

    def index_block(self, number: int, transaction: bytes, logs: Sequence[IndexedLog]) -> None:
        """Note the block's transaction and events; part of the block's transaction."""
        self._connection.execute("INSERT INTO mined VALUES (?, ?)", (transaction, number))
        self._connection.executemany(
            "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    log.block,
                    log.position,
                    log.address,
                    *(*log.topics, None, None, None, None)[:4],
                    log.data,
                )
                for log in logs
            ],
        )

    def block_of(self, transaction: bytes) -> int | None:
        """The number of the block that holds this transaction, if one does."""
        row = self._connection.execute(
            "SELECT block FROM mined WHERE hash = ?", (transaction,)
        ).fetchone()
        return None if row is None else int(row[0])

    def logs(
        self,
        first: int,
        last: int,
        addresses: Sequence[bytes],
        topics: Sequence[Sequence[bytes]],
    ) -> list[IndexedLog]:
        """Events of the blocks first … last, from any of the addresses (none: all of them), with
        at each position any of the topics (none: whatever stands there).

        Raises InputRejected when more than MAX_LOGS match.
        """
        clauses = ["block BETWEEN ? AND ?"]
        arguments: list[object] = [first, last]
        alternatives = [("address", addresses)]
        alternatives += [(f"topic{at}", wanted) for at, wanted in enumerate(topics)]
        for column, wanted in alternatives:
            if wanted:
                clauses.append(f"{column} IN ({', '.join('?' * len(wanted))})")
                arguments += wanted
        # Only column names and question marks are put into the text.
        query = (
            "SELECT block, position, address, topic0, topic1, topic2, topic3, data FROM logs "  # noqa: S608
            f"WHERE {' AND '.join(clauses)} ORDER BY block, position LIMIT {MAX_LOGS + 1}"
        )
        rows = self._connection.execute(query, arguments).fetchall()
        if len(rows) > MAX_LOGS:
            raise InputRejected(f"more than {MAX_LOGS} events match: ask for fewer blocks")
        return [
            IndexedLog(row[0], row[1], row[2], tuple(t for t in row[3:7] if t is not None), row[7])
            for row in rows
        ]

    def copy_to(self, path: Path) -> None:
        """Write a copy of the file as it is now; between two transactions only."""
        with closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)

    def close(self) -> None:
        self._connection.close()

    def _set_once(self, name: str, value: str) -> None:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if row is None:
            self._connection.execute("INSERT INTO meta VALUES (?, ?)", (name, value))
        elif row[0] != value:
            raise InputRejected(f"the chain file has {name} {row[0]}, expected {value}")
