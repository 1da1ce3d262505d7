"""Consents of the people whose records this node holds in trust: given, withdrawn, and recorded.

The receipts are in the trustee's own file, beside the records they are about. The evidence says
that a consent was given or withdrawn, and to whom; never whose it was.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlmodel import Session

from connectors.personal import Consent, PersonalFile
from connectors.source import open_source
from dataspace.errors import InputRejected
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

# As many recipients as an evidence entry names.
MAX_RECIPIENTS = 32


class ConsentGiven(BaseModel):
    """What a person allows: which columns of their record, for what, to whom, until when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str = Field(min_length=1, max_length=256, description="the person's identifier")
    columns: tuple[str, ...] = Field(min_length=1, max_length=200)
    purposes: tuple[str, ...] = Field(min_length=1, max_length=100)
    recipients: tuple[str, ...] = Field(min_length=1, max_length=MAX_RECIPIENTS)
    expires_at: AwareDatetime


class Consents:
    """Consents about the datasets this node offers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def give(self, dataset: str, given: ConsentGiven) -> str:
        """Record a consent; returns the receipt's id, which its giver needs to withdraw it."""
        receipt_id = str(uuid.uuid4())
        consent = Consent(receipt_id=receipt_id, given_at=datetime.now(UTC), **dict(given))
        with self._node.store.transaction() as tx:
            source = self._source(tx, dataset)
            self._node.evidence.record(
                tx, EntryType.CONSENT_GIVEN, recipients=given.recipients, legal_basis="consent"
            )
            # The file last: if it cannot be written, nothing has been recorded either.
            source.give(consent)
        return receipt_id

    def withdraw(self, dataset: str, receipt_id: str) -> None:
        """Withdraw a consent from now on: no later use sees that person's record through it."""
        with self._node.store.transaction() as tx:
            source = self._source(tx, dataset)
            self._node.evidence.record(tx, EntryType.CONSENT_WITHDRAWN, legal_basis="consent")
            source.withdraw(receipt_id, datetime.now(UTC))

    def _source(self, tx: Session, dataset: str) -> PersonalFile:
        source = open_source(self._node.datasets.get(tx, dataset).source)
        if not isinstance(source, PersonalFile):
            raise InputRejected(
                f"dataset {dataset} is not read under consent",
                remedy="publish it from a source personal+file:…?consents=…&subject=…",
            )
        return source
