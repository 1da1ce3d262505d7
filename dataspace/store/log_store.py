"""The evidence log in the node's database: its hashes (`ledger.log.NodeStore`) and its entries.

Rows are written by plain inserts, many at once: an evidence row is never changed as an object, and
the unit of work would cost more than the hashing and the disk together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, select, update
from sqlmodel import Session, SQLModel

from dataspace.store.tables import EntryRow, LogNodeRow, LogStateRow
from ledger.entry import SealedEntry
from ledger.log import Log

_STATE_ID = 1


def _table(model: type[SQLModel]) -> Table:
    table: Any = model
    return table.__table__  # type: ignore[no-any-return]


_NODES, _STATE, _ENTRIES = _table(LogNodeRow), _table(LogStateRow), _table(EntryRow)
_READ_SIZE = select(_STATE.c.size).where(_STATE.c.id == _STATE_ID).with_for_update()
_GROW = (
    update(_STATE)
    .where(_STATE.c.id == _STATE_ID)
    .values(size=_STATE.c.size + bindparam("entries"))
    .returning(_STATE.c.size)
)
_READ_NODE = select(_NODES.c.value).where(
    _NODES.c.level == bindparam("at_level"), _NODES.c.position == bindparam("at_position")
)
_FIRST_SIZE = insert(_STATE).values(id=_STATE_ID, size=bindparam("new_size"))
_SET_SIZE = update(_STATE).where(_STATE.c.id == _STATE_ID).values(size=bindparam("new_size"))
_ADD_NODES, _ADD_ENTRIES = insert(_NODES), insert(_ENTRIES)


class SqlNodeStore:
    """Perfect-subtree hashes of the log inside one transaction.

    The size row is read `FOR UPDATE`, so that on PostgreSQL two appending transactions queue; on
    SQLite the transaction already holds the write lock. Nodes are written when the size is set,
    which a log does last.
    """

    def __init__(self, tx: Session) -> None:
        self._nodes = _Nodes(tx.connection())
        size = self._nodes.connection.execute(_READ_SIZE).scalar()
        self._exists = size is not None
        self._size: int = size or 0

    def size(self) -> int:
        return self._size

    def set_size(self, size: int) -> None:
        self._nodes.write()
        self._nodes.connection.execute(
            _SET_SIZE if self._exists else _FIRST_SIZE, {"new_size": size}
        )
        self._exists, self._size = True, size

    def get(self, level: int, index: int) -> bytes:
        return self._nodes.get(level, index)

    def put(self, level: int, index: int, value: bytes) -> None:
        self._nodes.put(level, index, value)


class _Nodes:
    """Nodes read one by one and written together."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._unwritten: dict[tuple[int, int], bytes] = {}

    def get(self, level: int, index: int) -> bytes:
        unwritten = self._unwritten.get((level, index))
        if unwritten is not None:
            return unwritten
        at = {"at_level": level, "at_position": index}
        return bytes(self.connection.execute(_READ_NODE, at).scalar_one())

    def put(self, level: int, index: int, value: bytes) -> None:
        self._unwritten[level, index] = value

    def write(self) -> None:
        if self._unwritten:
            self.connection.execute(
                _ADD_NODES,
                [
                    {"level": level, "position": position, "value": value}
                    for (level, position), value in self._unwritten.items()
                ],
            )
            self._unwritten.clear()


class _GrownStore(_Nodes):
    """The store of an append whose new size the database has already: reading and setting it were
    one statement."""

    def __init__(self, connection: Connection, entries: int) -> None:
        super().__init__(connection)
        grown = connection.execute(_GROW, {"entries": entries}).scalar()
        if grown is None:
            grown = entries
            connection.execute(_FIRST_SIZE, {"new_size": entries})
        self._size: int = grown - entries

    def size(self) -> int:
        return self._size

    def set_size(self, size: int) -> None:
        self.write()
        self._size = size


def append_entries(tx: Session, sealed: Sequence[SealedEntry]) -> int:
    """Append these entries to the log in this transaction; returns the index of the first."""
    return append_commitments(tx, [entry.commitment for entry in sealed], sealed)


def append_commitments(
    tx: Session, commitments: Sequence[bytes], shown: Sequence[SealedEntry | None]
) -> int:
    """`append_entries` where the content of some is not known: as if it had been erased."""
    connection = tx.connection()
    first = Log(_GrownStore(connection, len(commitments))).extend(commitments)
    if commitments:
        connection.execute(
            _ADD_ENTRIES,
            [
                {
                    "position": first + offset,
                    "commitment": commitment,
                    "body": entry.body if entry else None,
                    "salt": entry.salt if entry else None,
                }
                for offset, (commitment, entry) in enumerate(zip(commitments, shown, strict=True))
            ],
        )
    return first
