"""Consents of the people whose records this node holds in trust: given, withdrawn, and recorded.

They are kept by the source of the records: a receipts' file beside the data, or the vault. The
evidence says that a consent was given or withdrawn, and to whom; never whose it was.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from sqlmodel import Session

from connectors.personal import Consent, PersonalFile
from connectors.receipts import Given, Guardian, Method, Terms
from connectors.source import open_source
from connectors.vault import Vault
from dataspace.errors import InputRejected

if TYPE_CHECKING:
    from dataspace.node import Node

# As many recipients as an evidence entry names.
MAX_RECIPIENTS = 32


class ConsentTerms(BaseModel):
    """What is allowed: which columns of a record, for what, to whom, until when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...] = Field(min_length=1, max_length=200)
    purposes: tuple[str, ...] = Field(min_length=1, max_length=100)
    recipients: tuple[str, ...] = Field(min_length=1, max_length=MAX_RECIPIENTS)
    expires_at: AwareDatetime
    separate_consent: tuple[str, ...] = Field(
        default=(), max_length=200, description="sensitive columns consented to separately"
    )
    guardian: Guardian | None = Field(default=None, description="who consents for a child")
    privacy_notice: str = Field(default="", max_length=2000, description="the notice's address")
    language: str = Field(default="zh-CN", max_length=35)

    def given(self, method: Method) -> Given:
        """As the vault takes it. Raises InputRejected."""
        try:
            terms = Terms(
                columns=self.columns,
                purposes=self.purposes,
                recipients=self.recipients,
                separate_consent=self.separate_consent,
            )
            return Given(
                terms=terms,
                expires_at=self.expires_at,
                method=method,
                guardian=self.guardian,
                privacy_notice=self.privacy_notice,
                language=self.language,
            )
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the consent"
            raise InputRejected(
                f"{where}: {first['msg']}", remedy="correct the field and send again"
            ) from None


class ConsentGiven(ConsentTerms):
    """A consent as the trustee records it."""

    subject: str = Field(min_length=1, max_length=256, description="the person's identifier")


class Consents:
    """Consents about the datasets this node offers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def give(self, dataset: str, given: ConsentGiven) -> dict[str, Any]:
        """Record a consent: {"receipt": its id, which withdraws it}, and for a vault {"signed": the
        file for its giver}."""
        with self._node.store.transaction() as tx:
            source = self._source(tx, dataset)
        if isinstance(source, Vault):
            kept = self._node.vaults.give(source, given.subject, given.given("trustee"))
            return {"receipt": kept.receipt_id, "signed": self._node.vaults.file_of(kept)}
        return {"receipt": self._give_beside(source, given)}

    def withdraw(self, dataset: str, receipt_id: str) -> dict[str, Any]:
        """Withdraw a consent from now on: no later use sees that person's record through it."""
        with self._node.store.transaction() as tx:
            source = self._source(tx, dataset)
        if isinstance(source, Vault):
            signed = self._node.vaults.withdraw(source, receipt_id)
            return {"withdrawn": receipt_id, "signed": signed}
        self._node.consent_evidence.withdraw(
            source, receipt_id, lambda: source.withdraw(receipt_id, datetime.now(UTC))
        )
        return {"withdrawn": receipt_id}

    def of(self, dataset: str, subject: str) -> list[dict[str, Any]]:
        """The consents of one person in a vault, as files for the person."""
        vault = self._node.vaults.vault_of(dataset)
        held = self._node.vaults.consents(vault, subject)
        return [consent_json(one, self._node.vaults.file_of(one)) for one in held]

    def _give_beside(self, source: PersonalFile, given: ConsentGiven) -> str:
        if given.guardian is not None:
            raise InputRejected(
                "a receipts' file keeps no guardians", remedy="keep the records in a vault"
            )
        receipt_id = str(uuid.uuid4())
        consent = Consent(
            receipt_id=receipt_id,
            given_at=datetime.now(UTC),
            subject=given.subject,
            columns=given.columns,
            purposes=given.purposes,
            recipients=given.recipients,
            expires_at=given.expires_at,
            separate_consent=given.separate_consent,
        )
        self._node.consent_evidence.give(
            source, receipt_id, given.recipients, lambda: source.give(consent)
        )
        return receipt_id

    def _source(self, tx: Session, dataset: str) -> PersonalFile | Vault:
        source = open_source(self._node.datasets.get(tx, dataset).source)
        if not isinstance(source, PersonalFile | Vault):
            raise InputRejected(
                f"dataset {dataset} is not read under consent",
                remedy="publish it from a vault, or from personal+file:…?consents=…&subject=…",
            )
        return source


def consent_json(consent: Any, file: dict[str, Any]) -> dict[str, Any]:
    """A consent of a vault as the API shows it, with the file for its giver."""
    return {
        "receipt": consent.receipt_id,
        **consent.terms.model_dump(mode="json"),
        "expires_at": consent.expires_at.isoformat(),
        "withdrawn": consent.withdrawal is not None,
        "signed": file,
    }
