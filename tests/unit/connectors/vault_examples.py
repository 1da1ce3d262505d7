"""A small vault for tests: people with valid resident numbers, a trustee with a real key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from joserfc.jwk import OKPKey

from connectors.receipts import MAX_STATEMENT_BYTES, Given, Guardian, Terms
from connectors.source import open_source
from connectors.use import Use
from connectors.vault import Vault
from connectors.vault_consents import Trustee, VaultConsents
from connectors.vault_import import ImportReport, import_records
from connectors.vault_making import create_vault
from connectors.vault_people import VaultPeople
from contracts.jws import sign_compact

NOON = datetime(2026, 11, 30, 4, tzinfo=UTC)
DID, PURPOSE = "did:web:trustee.example", "research"
CONSUMER = "did:web:consumer.example"
COLUMNS = ("resident_id", "district", "diagnosis", "cost")


def number(born: date, order: int = 101) -> str:
    """A valid resident number of somebody born that day."""
    body = f"440305{born:%Y%m%d}{order:03d}"
    return body + "10X98765432"[2 * int(body, 13) % 11]


ANN, BOB, CID = (number(date(1980, 1, day)) for day in (1, 2, 3))


def trustee(key: Ed25519PrivateKey | None = None) -> Trustee:
    """Signs as a node does."""
    jwk = OKPKey.import_key(key or Ed25519PrivateKey.generate())

    def sign(payload: bytes, typ: str) -> str:
        return sign_compact(
            payload, jwk, f"{DID}#key", "Ed25519", typ=typ, limit=MAX_STATEMENT_BYTES
        )

    return Trustee(DID, sign, "https://trustee.example/me")


def use(at: datetime = NOON, **changes: str) -> Use:
    asked = {
        "purpose": PURPOSE,
        "recipient": CONSUMER,
        "agreement": "urn:uuid:agreement",
        "computation": "psi/1",
        **changes,
    }
    return Use(at=at, **asked)


def given(
    *columns: str, days: float = 30, guardian: bool = False, separate: tuple[str, ...] = ()
) -> Given:
    return Given(
        terms=Terms(
            columns=columns or ("resident_id", "district"),
            purposes=(PURPOSE,),
            recipients=(CONSUMER,),
            separate_consent=separate,
        ),
        expires_at=NOON + timedelta(days=days),
        method="trustee",
        guardian=Guardian(relationship="mother", reference="file 7") if guardian else None,
    )


@dataclass
class Example:
    """A vault, its folder, and what acts on it."""

    folder: Path
    vault: Vault
    people: VaultPeople
    consents: VaultConsents
    trustee: Trustee
    regulator: X25519PrivateKey

    def bring(
        self, rows: list[tuple[str, ...]], columns: tuple[str, ...] = COLUMNS
    ) -> ImportReport:
        """Import these rows, as a file of a name that tells them apart."""
        file = self.folder.parent / f"rows-{abs(hash(tuple(rows)))}.csv"
        lines = [",".join(columns), *(",".join(row) for row in rows)]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return import_records(self.vault, open_source(str(file)), NOON)

    def give(self, who: str, *columns: str, at: datetime = NOON, **options: object) -> str:
        terms = given(*columns, **options)  # type: ignore[arg-type]
        return self.consents.give(who, terms, self.trustee, at).receipt_id

    def withdraw(self, receipt: str, at: datetime = NOON) -> str:
        return self.consents.withdraw(receipt, self.trustee, at)

    def read(self, *columns: str, at: datetime = NOON, **changes: str) -> list[tuple[str, ...]]:
        """The rows that a use sees."""
        source = open_source(f"vault:{self.folder}")
        batches = source.scan_consented(columns or ("resident_id",), use(at, **changes))  # type: ignore[attr-defined]
        return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def example(directory: Path, **options: object) -> Example:
    """An empty vault with a regulator's key."""
    regulator = X25519PrivateKey.generate()
    folder = directory / "vault"
    public = regulator.public_key().public_bytes_raw().hex()
    vault = create_vault(folder, subject="resident_id", regulator_key=public, **options)  # type: ignore[arg-type]
    return Example(folder, vault, VaultPeople(vault), VaultConsents(vault), trustee(), regulator)
