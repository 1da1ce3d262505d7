"""The vaults this node holds in trust: their people, what these are told, and what they end.

The evidence says that consents were given and withdrawn, and that personal data were erased; never
whose.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import structlog
from sqlmodel import Session, col, select

from connectors.errors import ConnectorError
from connectors.receipts import (
    ERASURE_TYPE,
    ErasureCertificate,
    EvidenceRef,
    Given,
    parsed_statement,
)
from connectors.traces import UseTold
from connectors.vault import SCHEME, Vault, open_vault
from connectors.vault_consents import SignedConsent, Trustee, VaultConsents
from connectors.vault_keys import Access
from connectors.vault_people import Destroyed, PersonalRecord, VaultPeople
from contracts.jws import read_compact
from dataspace.errors import InputRejected, NotFound, Unavailable
from dataspace.statements import MAX_FILE_BYTES, signer_of, statement_file
from dataspace.store.tables import AgreementRow, DatasetRow, ErasureRow
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.vaults")

# What people are asked, by agreements in force; a page shows no more.
MAX_ASKED = 100


@dataclass(frozen=True)
class Guest:
    """A person who has shown an access code, and the vault it opens."""

    vault: Vault
    source: str
    access: Access


@dataclass(frozen=True)
class Asked:
    """A use that an agreement allows to a consumer as soon as people consent."""

    dataset: str
    recipient: str
    purposes: tuple[str, ...]
    columns: tuple[str, ...]


class Vaults:
    """The vaults that datasets of this node are published from."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._trustee = Trustee(node.did, signer_of(lambda: node.identity), f"{node.home.url}/me")

    # ---- who it is --------------------------------------------------------------------------

    def guest(self, code: str) -> Guest | None:
        """The person whose access code this is; None where it is nobody's. Raises Unavailable while
        a vault that might know it cannot be read."""
        away: ConnectorError | None = None
        for source in self._sources():
            try:
                vault = open_vault(source)
                access = VaultPeople(vault).access(code)
            except ConnectorError as err:
                # One vault that is away must not lock out the people of another.
                log.error("a vault cannot be opened", error=str(err))
                away = err
                continue
            if access is not None:
                return Guest(vault, source, access)
        if away is not None:
            raise Unavailable(
                "the records cannot be opened at the moment", remedy="try again in a moment"
            ) from away
        return None

    def vault_of(self, dataset: str) -> Vault:
        """The vault a dataset comes from. Raises InputRejected where it comes from elsewhere."""
        with self._node.store.transaction() as tx:
            source = self._node.datasets.get(tx, dataset).source
        if not is_vault(source):
            raise InputRejected(
                f"dataset {dataset} is not in a vault",
                remedy="make one with: dataspace vault create",
            )
        return open_vault(source)

    def enrol(self, dataset: str, identifier: str) -> str:
        """A new access code for a person, shown this once."""
        return VaultPeople(self.vault_of(dataset)).enrol(identifier)

    def counts(self, dataset: str) -> dict[str, int]:
        return VaultPeople(self.vault_of(dataset)).counts()

    # ---- what they see ----------------------------------------------------------------------

    def record(self, guest: Guest) -> PersonalRecord:
        return VaultPeople(guest.vault).record(guest.access, datetime.now(UTC))

    def consents(self, vault: Vault, who: str | Access) -> list[SignedConsent]:
        return VaultConsents(vault).consents(who)

    def uses(self, guest: Guest) -> list[UseTold]:
        return VaultPeople(guest.vault).uses(guest.access)

    def asked(self, guest: Guest) -> list[Asked]:
        """What agreements in force would use of this person's record."""
        present = guest.vault.schema().names
        with self._node.store.transaction() as tx:
            datasets = tx.exec(select(DatasetRow).where(DatasetRow.source == guest.source)).all()
            columns = {
                row.id: tuple(one["name"] for one in row.columns if one["name"] in present)
                for row in datasets
            }
            rows = tx.exec(
                select(AgreementRow)
                .where(
                    AgreementRow.role == "PROVIDER",
                    col(AgreementRow.dataset).in_(columns),
                    col(AgreementRow.ended_at).is_(None),
                )
                .order_by(col(AgreementRow.finalized_at).desc())
                .limit(MAX_ASKED)
            ).all()
        found = [
            Asked(row.dataset, row.consumer, purposes_in(row.document), columns[row.dataset])
            for row in rows
        ]
        return list(dict.fromkeys(found))

    def file_of(self, consent: SignedConsent) -> dict[str, Any]:
        """A consent as the file its giver keeps."""
        return statement_file(
            self._node.identity, receipt=consent.receipt, withdrawal=consent.withdrawal
        )

    # ---- what they decide -------------------------------------------------------------------

    def give(self, vault: Vault, who: str | Access, given: Given) -> SignedConsent:
        """Keep a consent and sign its receipt, with the evidence that one was given."""
        receipt_id = uuid.uuid4()
        return self._node.consent_evidence.give(
            vault,
            str(receipt_id),
            given.terms.recipients,
            lambda: VaultConsents(vault).give(
                who, given, self._trustee, datetime.now(UTC), receipt_id=receipt_id
            ),
        )

    def withdraw(self, vault: Vault, receipt: str, *, by: Access | None = None) -> str:
        """End a consent for every reading from now on; the signed withdrawal."""
        return self._node.consent_evidence.withdraw(
            vault,
            receipt,
            lambda: VaultConsents(vault).withdraw(receipt, self._trustee, datetime.now(UTC), by=by),
        )

    def erase(self, vault: Vault, who: str | Access) -> dict[str, Any]:
        """Destroy a person's key, and with it all that is held of the person; the certificate."""
        with self._node.store.transaction() as tx:
            signed = VaultPeople(vault).erase(who, lambda what: self._certified(tx, what))
        return statement_file(self._node.identity, certificate=signed)

    def certificate(self, certificate_id: str) -> dict[str, Any]:
        """A certificate with its entry in the evidence and the proof. Raises NotFound."""
        with self._node.store.transaction() as tx:
            row = tx.get(ErasureRow, certificate_id)
        if row is None:
            raise NotFound(
                "there is no certificate of that number",
                remedy="look at the certificate_id in your file",
            )
        evidence = self._node.evidence
        proof = evidence.prove(row.log_index).proof.to_text()
        entry = evidence.entry(row.log_index).to_json()
        return statement_file(
            self._node.identity,
            certificate=row.certificate,
            evidence={"entry": entry, "proof": proof, "vkey": evidence.vkey},
        )

    def recover(self) -> None:
        """Finish erasures whose evidence an earlier life of this node did not get to write."""
        for source in self._sources():
            try:
                self._recover(VaultPeople(open_vault(source)))
            except ConnectorError as err:
                log.error("a vault cannot be opened", error=str(err))

    def _recover(self, people: VaultPeople) -> None:
        for signed in people.certificates():
            certificate = _read(signed)
            with self._node.store.transaction() as tx:
                if tx.get(ErasureRow, certificate.certificate_id) is None:
                    # What was destroyed stays so; where the evidence stands is another place now.
                    fresh = self._signed(tx, certificate)
                    people.replace_certificate(signed, fresh)

    def _certified(self, tx: Session, what: Destroyed) -> str:
        certificate = ErasureCertificate(
            certificate_id=str(uuid.uuid4()),
            vault_id=what.vault_id,
            pii_principal_id=what.pseudonym,
            pii_controllers=(self._node.did,),
            key_commitment=what.key_commitment,
            records=what.records,
            receipts=what.receipts,
            erased_at=datetime.now(UTC),
        )
        return self._signed(tx, certificate)

    def _signed(self, tx: Session, certificate: ErasureCertificate) -> str:
        """The certificate signed, with its evidence in the caller's transaction."""
        evidence = self._node.evidence
        place = EvidenceRef(origin=evidence.origin, index=evidence.size_in(tx))
        placed = certificate.model_copy(update={"evidence": place})
        signed = self._trustee.sign(placed.to_bytes(), ERASURE_TYPE)
        index = evidence.record(
            tx,
            EntryType.ERASED,
            outcome="personal data",
            outputs_c=(sha256(signed.encode()).hexdigest(),),
        )
        # The transaction has the only writer's turn, so nothing came between.
        assert index == place.index, "the log grew during a transaction that writes it"
        tx.add(
            ErasureRow(
                id=certificate.certificate_id,
                certificate=signed,
                log_index=index,
                erased_at=certificate.erased_at.timestamp(),
            )
        )
        return signed

    def _sources(self) -> list[str]:
        with self._node.store.transaction() as tx:
            rows = tx.exec(
                select(DatasetRow.source).where(col(DatasetRow.source).startswith(f"{SCHEME}:"))
            ).all()
        return list(dict.fromkeys(rows))


def is_vault(source: str) -> bool:
    return source.lower().startswith(f"{SCHEME}:")


def purposes_in(policy: Mapping[str, Any]) -> tuple[str, ...]:
    """The purposes that a policy's clauses name."""
    return tuple(dict.fromkeys(_purposes(policy)))


def _purposes(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if str(part.get("leftOperand", "")).rpartition(":")[2] == "purpose":
            named = part.get("rightOperand")
            yield from (named,) if isinstance(named, str) else map(str, named or ())
        for inner in part.values():
            yield from _purposes(inner)
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _purposes(inner)


def _read(signed: str) -> ErasureCertificate:
    _, payload = read_compact(signed, typ=ERASURE_TYPE, what="certificate", limit=MAX_FILE_BYTES)
    certificate = parsed_statement(payload, ERASURE_TYPE)
    assert isinstance(certificate, ErasureCertificate)
    return certificate
