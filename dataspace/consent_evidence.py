"""The evidence of consents: that one was given or withdrawn, wherever its receipt is kept.

Receipts lie outside the node's database, so that no commit has both. What is about to be done is
written down first, by the receipt's id and never whose it is; then it is done; then it is told in
the evidence. What a kill leaves in between is told at the next start, before anything is read under
it: a consent counts only once the evidence tells of it, a withdrawal from its very moment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from sqlmodel import col, select

from connectors.errors import ConnectorError
from connectors.personal import PersonalFile, receipt_state
from connectors.receipts import ReceiptState
from connectors.vault import Vault
from connectors.vault_consents import VaultConsents
from dataspace.errors import Unavailable
from dataspace.processes import Handler, Process, schedule
from dataspace.store.engine import only_notes
from dataspace.store.tables import ProcessRow
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.consents")

TELL = "tell-consent"
# Whoever began it has ended it long before, or was killed.
ENDED_S = 30.0
GIVE_UP_S = 7 * 86400.0
Result = TypeVar("Result")


class ConsentEvidence:
    """Changes receipts so that each change has one entry of evidence, whatever dies meanwhile."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # What is under way must not be taken for what a kill left.
        self._turn = threading.Lock()

    def handlers(self) -> dict[str, Handler]:
        return {TELL: Handler(self._tell)}

    def give(
        self,
        source: PersonalFile | Vault,
        receipt_id: str,
        recipients: Sequence[str],
        change: Callable[[], Result],
    ) -> Result:
        """Do `change`, which keeps the receipt in `source`, and tell that a consent was given."""
        with self._turn:
            self._intend(source, receipt_id, EntryType.CONSENT_GIVEN, recipients)
            return self._done(receipt_id, change)

    def withdraw(
        self, source: PersonalFile | Vault, receipt_id: str, change: Callable[[], Result]
    ) -> Result:
        """Do `change`, which ends the receipt, and tell so; a second withdrawal is not told."""
        with self._turn:
            if _state(_place(source), receipt_id) is ReceiptState.GIVEN:
                self._intend(source, receipt_id, EntryType.CONSENT_WITHDRAWN, ())
            return self._done(receipt_id, change)

    def recover(self) -> None:
        """Tell what an earlier life of this node did and did not get to tell."""
        with self._turn:
            with self._node.store.transaction() as tx:
                found = select(ProcessRow.subject).where(
                    ProcessRow.kind == TELL, ProcessRow.state == "ready"
                )
                left = list(dict.fromkeys(tx.exec(found).all()))
            for receipt_id in left:
                try:
                    # What has not happened may be under way in another replica.
                    self._settle(receipt_id, drop=False)
                except ConnectorError as err:
                    log.error("a consent cannot be told yet", receipt=receipt_id, error=str(err))

    def _intend(
        self,
        source: PersonalFile | Vault,
        receipt_id: str,
        type_: EntryType,
        recipients: Sequence[str],
    ) -> None:
        payload = {"in": _place(source), "type": type_.value, "recipients": list(recipients)}
        with self._node.store.transaction() as tx:
            only_notes(tx)
            schedule(tx, TELL, receipt_id, payload, after_s=ENDED_S, give_up_after_s=GIVE_UP_S)

    def _done(self, receipt_id: str, change: Callable[[], Result]) -> Result:
        try:
            return change()
        finally:
            try:
                self._settle(receipt_id, drop=True)
            except (Unavailable, ConnectorError) as err:
                # It has happened or not; the process finds out, and tells.
                log.warning("a consent will be told later", receipt=receipt_id, error=str(err))

    def _tell(self, process: Process) -> None:
        try:
            with self._turn:
                self._settle(process.subject, drop=True)
        except ConnectorError as err:
            raise Unavailable(str(err), remedy="see that the receipts can be read") from err

    def _settle(self, receipt_id: str, *, drop: bool) -> None:
        """Tell what has happened to a receipt and is not told; `drop` what has not happened."""
        with self._node.store.transaction() as tx:
            rows = tx.exec(
                select(ProcessRow)
                .where(
                    ProcessRow.kind == TELL,
                    ProcessRow.subject == receipt_id,
                    ProcessRow.state == "ready",
                )
                .order_by(col(ProcessRow.id))
                .with_for_update()
            ).all()
            told: set[EntryType] = set()
            for row in rows:
                type_ = EntryType(row.payload["type"])
                happened = _happened(type_, _state(row.payload["in"], receipt_id))
                # It was meant more often than once where a kill came before it happened.
                if happened and type_ not in told:
                    told.add(type_)
                    self._node.evidence.record(
                        tx,
                        type_,
                        recipients=tuple(row.payload["recipients"]),
                        legal_basis="consent",
                    )
                if happened or drop:
                    row.state, row.lease_until, row.leased_by = "done", 0.0, ""
                    tx.add(row)
            if not told:
                only_notes(tx)


def _happened(type_: EntryType, state: ReceiptState) -> bool:
    if type_ is EntryType.CONSENT_WITHDRAWN:
        return state is ReceiptState.WITHDRAWN
    return state is not ReceiptState.ABSENT


def _place(source: PersonalFile | Vault) -> dict[str, Any]:
    """Where a source keeps its receipts, as it is read again without the source's key."""
    if isinstance(source, Vault):
        return {"vault": str(source.folder)}
    return {"file": str(source.receipts_file)}


def _state(place: dict[str, Any], receipt_id: str) -> ReceiptState:
    if "vault" in place:
        return VaultConsents(Vault(Path(place["vault"]))).state(receipt_id)
    return receipt_state(Path(place["file"]), receipt_id)
