"""Our own next move in a transfer of rows: what the node's strategy chooses, done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlmodel import Session

from contracts.party import Party
from contracts.transfer import TERMINAL, TransferState
from contracts.transfer_strategy import TransferAction, TransferSituation, TransferVerb
from dataspace.processes import Handler, Process, schedule
from dataspace.protocol.data_plane import MOVE
from dataspace.sight import NotAsPublished, Sight
from dataspace.store.tables import TransferRow

if TYPE_CHECKING:
    from dataspace.node import Node

STEP = "transfer-step"


class TransferMoves:
    """Plays this node's side of transfers that carry no computation order."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def handlers(self) -> dict[str, Handler]:
        return {STEP: Handler(self._step, self._step_failed)}

    def move_on(self, tx: Session, row: TransferRow) -> None:
        """What a state that was just reached leads to: now, or after the node's pause; and where
        the source has to be looked at first, outside of this transaction."""
        if row.computation or TransferState(row.state) in TERMINAL:
            return
        pause_s = self._node.behaviour.pause_s
        if pause_s > 0 or _is_decided(row):
            reached = {"state": row.state}
            schedule(tx, STEP, row.pid, reached, lane=f"{STEP}:{row.pid}", after_s=pause_s)
            return
        self._choose_and_act(tx, row, None)

    def _step(self, process: Process) -> None:
        with self._node.store.transaction() as tx:
            row = tx.get_one(TransferRow, process.subject)
        # A state that was left meanwhile has had its own step.
        if row.state != process.payload["state"]:
            return
        sight = None
        if _is_decided(row):
            try:
                sight = self._node.leaving.look(row)
            except NotAsPublished as err:
                with self._node.store.transaction() as tx:
                    row = tx.get_one(TransferRow, process.subject)
                    self._node.transfers.terminate(
                        tx, row, str(err), code="unavailable", remedy=err.remedy
                    )
                return
        with self._node.store.transaction() as tx:
            row = tx.get_one(TransferRow, process.subject)
            if row.state == process.payload["state"]:
                self._choose_and_act(tx, row, sight)

    def _step_failed(self, tx: Session, process: Process, error: str) -> None:
        row = tx.get_one(TransferRow, process.subject)
        self._node.transfers.terminate(tx, row, error, code="failed")

    def _choose_and_act(self, tx: Session, row: TransferRow, sight: Sight | None) -> None:
        party, state = Party(row.role), TransferState(row.state)
        decision = None
        if sight is not None:
            decision = self._node.leaving.decide(tx, row, sight)
            if decision is None:
                return
        situation = TransferSituation(party, state, row.agreement, row.format, decision)
        self._act(tx, row, self._node.behaviour.transfer(situation))

    def _act(self, tx: Session, row: TransferRow, action: TransferAction) -> None:
        transfers = self._node.transfers
        if action.verb is TransferVerb.START:
            transfers.start(tx, row, self._node.data_plane.start_address(row))
        elif action.verb is TransferVerb.SUSPEND:
            transfers.suspend(tx, row, action.reason or "The transfer is suspended.")
        elif action.verb is TransferVerb.COMPLETE:
            transfers.complete(tx, row)
        elif action.verb is TransferVerb.TERMINATE:
            transfers.terminate(
                tx,
                row,
                action.reason or "The transfer was ended.",
                code=action.code or "ended",
                clause=action.clause,
                remedy=action.remedy,
            )
        elif action.verb is TransferVerb.MOVE and not self._node.returns.begin(tx, row):
            # Counted apart from messages to the same peer: they must get through meanwhile.
            schedule(tx, MOVE, row.pid, lane=f"{MOVE}:{row.pid}", target=f"rows at {row.peer}")


def _is_decided(row: TransferRow) -> bool:
    """Whether our next move is to ask the policy."""
    return row.role == Party.PROVIDER.value and row.state == TransferState.REQUESTED
