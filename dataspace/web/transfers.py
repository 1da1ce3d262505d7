"""The owner's routes for transfers: ask for rows, and steer what is under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from contracts.party import Party
from contracts.transfer_strategy import PULL
from dataspace.access.permissions import Permission
from dataspace.errors import NotFound
from dataspace.node import Node
from dataspace.protocol.transfer_rows import described, refusal_of
from dataspace.return_rows import deliveries_of
from dataspace.store.paging import MAX_LISTED, Page
from dataspace.store.tables import AgreementRow, TransferRow
from dataspace.web.access import CurrentNode, Needs
from dataspace.web.positions import Limit, Position

router = APIRouter(prefix="/api", tags=["owner's API"])


class RowsRequest(BaseModel):
    """Rows to fetch under an agreement, and what for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agreement: str = Field(min_length=1, max_length=300)
    format: Literal["HttpData-PULL", "HttpData-PUSH"] = PULL
    purpose: str | None = Field(default=None, min_length=1, max_length=200)


class Reason(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=500)] = "The owner has asked for it."


@router.post("/transfers", status_code=202, dependencies=[Needs(Permission.TRANSFER_BEGIN)])
def begin(node: CurrentNode, asked: RowsRequest) -> dict[str, Any]:
    """Ask a provider for the rows themselves; poll the answer's id until it is COMPLETED."""
    with node.store.transaction() as tx:
        agreement = tx.get(AgreementRow, asked.agreement)
        if agreement is None or agreement.role != Party.CONSUMER.value:
            raise NotFound(
                "this node holds no such agreement as consumer",
                remedy="negotiate one first: dataspace negotiate PROVIDER DATASET",
            )
        ended = refusal_of(agreement)
        if ended is not None:
            raise ended
        pid = node.transfers.begin(tx, agreement, asked.format, purpose=asked.purpose)
        return described(node.transfers.get(tx, pid))


@router.get("/transfers", dependencies=[Needs(Permission.TRANSFER_READ)])
def transfers(
    node: CurrentNode, limit: Limit = MAX_LISTED, offset: Position = 0
) -> list[dict[str, Any]]:
    """Transfers, newest first: providers' parts in computations, and rows that leave."""
    return [described(row) for row in node.transfers.newest(Page(limit, offset))]


@router.get("/transfers/{pid}", dependencies=[Needs(Permission.TRANSFER_READ)])
def transfer(node: CurrentNode, pid: str) -> dict[str, Any]:
    """One transfer; `deliveries` where it is of a return 回流."""
    with node.store.transaction() as tx:
        row = node.transfers.get(tx, pid)
        return {**described(row), "deliveries": deliveries_of(tx, pid)}


@router.post("/transfers/{pid}/suspension", dependencies=[Needs(Permission.TRANSFER_STEER)])
def suspend(node: CurrentNode, pid: str, given: Reason) -> dict[str, Any]:
    """Interrupt a transfer; a computation stands still until it is resumed or its time is up."""
    return _steer(node, pid, lambda tx, row: node.transfers.suspend(tx, row, given.reason))


@router.post("/transfers/{pid}/resumption", dependencies=[Needs(Permission.TRANSFER_STEER)])
def resume(node: CurrentNode, pid: str) -> dict[str, Any]:
    """Go on with a suspended transfer."""
    return _steer(node, pid, node.transfers.resume)


@router.post("/transfers/{pid}/completion", dependencies=[Needs(Permission.TRANSFER_END)])
def complete(node: CurrentNode, pid: str) -> dict[str, Any]:
    """Say that a transfer of rows is done."""
    return _steer(node, pid, node.transfers.finish)


@router.post("/transfers/{pid}/termination", dependencies=[Needs(Permission.TRANSFER_END)])
def terminate(node: CurrentNode, pid: str, given: Reason) -> dict[str, Any]:
    """End a transfer, and the computation it belongs to."""
    return _steer(node, pid, lambda tx, row: node.transfers.end(tx, row, given.reason, by=node.did))


def _steer(node: Node, pid: str, act: Callable[[Session, TransferRow], None]) -> dict[str, Any]:
    with node.store.transaction() as tx:
        row = node.transfers.get(tx, pid)
        act(tx, row)
        return described(row)
