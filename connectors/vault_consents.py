"""Consents of the people of a vault: given and withdrawn, each with what the trustee signed.

What needs a signature gets it from the caller's `Signer`; times are the caller's.
"""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connectors.errors import InputRejected
from connectors.names import verify_columns
from connectors.people import standing
from connectors.receipts import (
    RECEIPT_TYPE,
    WITHDRAWAL_TYPE,
    ConsentEvent,
    Given,
    ReceiptState,
    Signer,
    Terms,
    Withdrawal,
    receipt_of,
)
from connectors.vault import OpenVault, Vault
from connectors.vault_heads import ConsentHeld, bound, head_bound, written_head
from connectors.vault_keys import Access, commitment, seal, unseal
from connectors.vault_persons import Person, find, person_at
from connectors.vault_store import changed

MAX_CONSENTS_A_PERSON: Final = 500


@dataclass(frozen=True)
class Trustee:
    """Who holds the vault: its DID, how it signs, and where people withdraw."""

    did: str
    sign: Signer
    withdrawal_method: str


@dataclass(frozen=True)
class SignedConsent:
    """A consent with what was signed of it."""

    receipt_id: str
    terms: Terms
    expires_at: datetime
    receipt: str
    withdrawal: str | None


class VaultConsents:
    """The consents in one vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._store = vault.store

    def give(
        self,
        who: str | Access,
        given: Given,
        trustee: Trustee,
        at: datetime,
        *,
        receipt_id: uuid.UUID | None = None,
    ) -> SignedConsent:
        """Keep a consent and sign its receipt, of a new id where none is given.

        Raises InputRejected for an unknown column, an end before `at`, somebody who has died, and a
        child without a guardian.
        """
        receipt_id = receipt_id or uuid.uuid4()
        with self._store.writing() as db:
            opened = self._vault.opened(db)
            found = find(db, opened, who)
            terms = given.terms.normal()
            self._verify(opened, found, given, at)
            receipt = receipt_of(
                given.model_copy(update={"terms": terms}),
                record_id=str(receipt_id),
                pseudonym=found.pseudonym.hex(),
                controller=trustee.did,
                sensitive=frozenset(opened.settings.sensitive),
                key_commitment=commitment(found.secret),
                withdrawal_method=trustee.withdrawal_method,
                at=at,
            )
            signed = trustee.sign(receipt.to_bytes(), RECEIPT_TYPE)
            held = ConsentHeld(
                receipt_id.hex,
                self._terms_row(db, opened, terms),
                _milliseconds(at),
                _milliseconds(given.expires_at),
                withdrawn=False,
                guardian=given.guardian is not None,
            )
            db.execute(
                "INSERT INTO receipt (id, person, given) VALUES (?, ?, ?)",
                (
                    receipt_id.bytes,
                    found.row,
                    seal(found.key, signed.encode(), _receipt_bound(found, receipt_id, b"given")),
                ),
            )
            self._set_consents(db, opened, found, (*found.head.consents, held))
        return SignedConsent(str(receipt_id), terms, given.expires_at, signed, None)

    def withdraw(
        self, receipt_id: str, trustee: Trustee, at: datetime, *, by: Access | None = None
    ) -> str:
        """End a consent for every reading from now on; the signed withdrawal. Again, the first one.

        `by` is the person, who ends their own only. Raises InputRejected where there is none such.
        """
        try:
            name = uuid.UUID(receipt_id)
        except ValueError:
            raise _no_receipt() from None
        with self._store.writing() as db:
            opened = self._vault.opened(db)
            row = db.execute(
                "SELECT person, given, withdrawn FROM receipt WHERE id = ?", (name.bytes,)
            ).fetchone()
            if row is None:
                raise _no_receipt()
            found = person_at(db, opened, row[0])
            if by is not None and find(db, opened, by).row != found.row:
                raise _no_receipt()
            if row[2] is not None:
                return unseal(found.key, row[2], _receipt_bound(found, name, b"withdrawn")).decode()
            given = unseal(found.key, row[1], _receipt_bound(found, name, b"given"))
            statement = Withdrawal(
                record_id=str(name),
                pii_principal_id=found.pseudonym.hex(),
                pii_controllers=(trustee.did,),
                receipt_sha256=sha256(given).hexdigest(),
                event=ConsentEvent(
                    event_state="withdrawn",
                    event_time=at.astimezone(UTC),
                    entity_id=trustee.did if by is None else found.pseudonym.hex(),
                ),
            )
            signed = trustee.sign(statement.to_bytes(), WITHDRAWAL_TYPE)
            db.execute(
                "UPDATE receipt SET withdrawn = ? WHERE id = ?",
                (
                    seal(found.key, signed.encode(), _receipt_bound(found, name, b"withdrawn")),
                    name.bytes,
                ),
            )
            ended = tuple(
                replace(one, withdrawn=True) if one.receipt == name.hex else one
                for one in found.head.consents
            )
            self._set_consents(db, opened, found, ended)
        return signed

    def state(self, receipt_id: str) -> ReceiptState:
        """What has become of a receipt; the vault's key is not needed."""
        try:
            name = uuid.UUID(receipt_id)
        except ValueError:
            return ReceiptState.ABSENT
        with self._store.reading() as db:
            row = db.execute(
                "SELECT withdrawn IS NOT NULL FROM receipt WHERE id = ?", (name.bytes,)
            ).fetchone()
        if row is None:
            return ReceiptState.ABSENT
        return ReceiptState.WITHDRAWN if row[0] else ReceiptState.GIVEN

    def consents(self, who: str | Access) -> list[SignedConsent]:
        """The person's consents, those that have ended too, oldest first."""
        with self._store.reading() as db:
            opened = self._vault.opened(db)
            found = find(db, opened, who)
            return [self._signed(db, opened, found, held) for held in found.head.consents]

    def _signed(
        self, db: sqlite3.Connection, opened: OpenVault, found: Person, held: ConsentHeld
    ) -> SignedConsent:
        name = uuid.UUID(held.receipt)
        given, withdrawn = db.execute(
            "SELECT given, withdrawn FROM receipt WHERE id = ?", (name.bytes,)
        ).fetchone()
        digest_, sealed = db.execute(
            "SELECT digest, sealed FROM terms WHERE id = ?", (held.terms,)
        ).fetchone()
        terms = unseal(AESGCM(opened.terms_key), sealed, bound(opened.id, "terms", digest_))
        return SignedConsent(
            str(name),
            Terms.model_validate_json(terms),
            datetime.fromtimestamp(held.expires_ms / 1000, UTC),
            unseal(found.key, given, _receipt_bound(found, name, b"given")).decode(),
            None
            if withdrawn is None
            else unseal(found.key, withdrawn, _receipt_bound(found, name, b"withdrawn")).decode(),
        )

    def _verify(self, opened: OpenVault, found: Person, given: Given, at: datetime) -> None:
        verify_columns(given.terms.columns, opened.settings.columns, source=self._vault.name)
        if given.expires_at <= at:
            raise InputRejected("expires_at: a consent must end later than it is given")
        now = standing(found.head.born, found.head.died, at)
        if now.deceased:
            raise InputRejected(
                "by the records this person has died, and consents no more; correct the records if "
                "they are wrong"
            )
        if now.child and given.guardian is None:
            raise InputRejected(
                "guardian: this person is under 14; a guardian has to consent, name who and what "
                "was checked"
            )
        if len(found.head.consents) >= MAX_CONSENTS_A_PERSON:
            raise InputRejected(f"one person gives at most {MAX_CONSENTS_A_PERSON} consents")

    def _terms_row(self, db: sqlite3.Connection, opened: OpenVault, terms: Terms) -> int:
        plain = terms.model_dump_json().encode()
        name = digest(opened.terms_key, plain, "sha256")
        found = db.execute("SELECT id FROM terms WHERE digest = ?", (name,)).fetchone()
        if found is not None:
            return int(found[0])
        sealed = seal(AESGCM(opened.terms_key), plain, bound(opened.id, "terms", name))
        cursor = db.execute("INSERT INTO terms (digest, sealed) VALUES (?, ?)", (name, sealed))
        return cursor.lastrowid or 0

    def _set_consents(
        self,
        db: sqlite3.Connection,
        opened: OpenVault,
        found: Person,
        consents: tuple[ConsentHeld, ...],
    ) -> None:
        version = found.version + 1
        place = head_bound(opened.id, found.pseudonym, version)
        head = replace(found.head, consents=consents)
        db.execute(
            "UPDATE person SET head = ?, head_version = ?, consents = ? WHERE id = ?",
            (
                seal(found.key, written_head(head), place),
                version,
                sum(not one.withdrawn for one in consents),
                found.row,
            ),
        )
        changed(db)


def _receipt_bound(found: Person, name: uuid.UUID, which: bytes) -> bytes:
    return b"\0".join((b"receipt", which, found.pseudonym, name.bytes))


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _no_receipt() -> InputRejected:
    return InputRejected("there is no consent of that receipt; check the receipt's id")
