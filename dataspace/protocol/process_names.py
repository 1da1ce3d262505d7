"""A process has two names; the peer's is learned from its first message."""

from __future__ import annotations

from sqlmodel import Session, select

from dataspace.errors import ProtocolViolation
from dataspace.store.tables import NegotiationRow, TransferRow


def learn_pid(tx: Session, row: NegotiationRow | TransferRow, pid: str | None) -> None:
    """Keep the peer's name for the process, which it must not have given to another.

    Does nothing where we know it already or the message does not say. Raises ProtocolViolation.
    """
    if row.peer_pid is not None or pid is None:
        return
    table = type(row)
    taken = select(table.pid).where(
        table.role == row.role, table.peer == row.peer, table.peer_pid == pid
    )
    if tx.exec(taken).first() is not None:
        raise ProtocolViolation("the peer's pid is that of another process")
    row.peer_pid = pid
