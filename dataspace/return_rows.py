"""What the rows of returns and deliveries say."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, select

from dataspace.store.tables import (
    AgreementRow,
    DeliveryRow,
    NegotiationRow,
    ReturnRow,
    TransferRow,
)


def deliveries_of(tx: Session, transfer: str) -> list[dict[str, Any]]:
    """What has been delivered in a transfer, in order, as its owner sees it."""
    return [
        {
            "number": one.number,
            "due_at": one.due_at,
            "began_at": one.began_at,
            "finished_at": one.finished_at,
            "moved": one.moved,
        }
        for one in _rows_of(tx, transfer)
    ]


def _rows_of(tx: Session, transfer: str) -> list[DeliveryRow]:
    found = select(DeliveryRow).where(DeliveryRow.transfer == transfer)
    return list(tx.exec(found.order_by(col(DeliveryRow.number))).all())


def unfinished(tx: Session, transfer: str) -> DeliveryRow | None:
    """The delivery that has begun and has not come yet."""
    open_ = (one for one in _rows_of(tx, transfer) if one.finished_at is None)
    return next(open_, None)


def finished(tx: Session, transfer: str) -> int:
    """How many have come."""
    return sum(one.finished_at is not None for one in _rows_of(tx, transfer))


def count(tx: Session, transfer: str) -> int:
    """How many there are."""
    return len(_rows_of(tx, transfer))


def state_of(
    row: ReturnRow,
    negotiation: NegotiationRow,
    agreement: AgreementRow | None,
    transfer: TransferRow | None,
) -> str:
    """Where a return stands, in one word."""
    if row.ended_at is not None:
        return "ended"
    if transfer is not None:
        words = {"STARTED": "running", "SUSPENDED": "paused", "REQUESTED": "requested"}
        return words.get(transfer.state, "stopped")
    if agreement is not None:
        return "ended" if agreement.ended_at is not None else "accepted"
    return "declined" if negotiation.state == "TERMINATED" else "offered"
