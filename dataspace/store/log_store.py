"""The evidence log's hashes in the node's database: an adapter to `ledger.log.NodeStore`."""

from __future__ import annotations

from sqlmodel import Session, select

from dataspace.store.tables import LogNodeRow, LogStateRow


class SqlNodeStore:
    """Perfect-subtree hashes of the log inside one transaction.

    The size row is read `FOR UPDATE`, so that on PostgreSQL two appending transactions queue; on
    SQLite the transaction already holds the write lock.
    """

    def __init__(self, tx: Session) -> None:
        self._tx = tx
        found = tx.exec(select(LogStateRow).where(LogStateRow.id == 1).with_for_update()).first()
        self._state = found or LogStateRow(id=1, size=0)

    def size(self) -> int:
        return self._state.size

    def set_size(self, size: int) -> None:
        self._state.size = size
        self._tx.add(self._state)

    def get(self, level: int, index: int) -> bytes:
        return self._tx.get_one(LogNodeRow, (level, index)).value

    def put(self, level: int, index: int, value: bytes) -> None:
        self._tx.add(LogNodeRow(level=level, position=index, value=value))
