"""People of a vault: enrolled, shown their records, told who used them, forgotten.

A person is named by identifier (the trustee does) or by access code (the person does). What needs a
signature gets it from the caller's `Signer`; times are the caller's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic_core import from_json

from connectors.errors import InputRejected
from connectors.people import Standing, standing
from connectors.traces import (
    SUITE,
    RegulatorsUse,
    SealedUse,
    TraceReader,
    UseTold,
    open_for_regulator,
)
from connectors.vault import OpenVault, Vault
from connectors.vault_heads import bound
from connectors.vault_keys import (
    Access,
    code_bytes,
    commitment,
    new_access_code,
    person_tag,
    unseal,
)
from connectors.vault_persons import Person, find, tag_of, unknown
from connectors.vault_store import changed, value

# The newest uses that people are shown; each costs a key agreement to look for.
MAX_USES_SEARCHED: Final = 20_000
_EARLIER_KEY: Final = b"city-dataspace/vault/1/earlier trace key\0"


@dataclass(frozen=True)
class PersonalRecord:
    """What a vault holds of a person, as the person may see it."""

    pseudonym: str
    subject: str
    provenance: str
    columns: tuple[str, ...]
    sensitive: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    standing: Standing


@dataclass(frozen=True)
class Destroyed:
    """What an erasure destroys, for its certificate."""

    vault_id: str
    pseudonym: str
    key_commitment: str
    records: int
    receipts: int


class VaultPeople:
    """The people of one vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._store = vault.store

    def counts(self) -> dict[str, int]:
        """How many people, records, enrolled people, people with a consent, and uses there are."""
        asked = {
            "people": "SELECT COUNT(*) FROM person",
            "records": "SELECT COUNT(*) FROM record",
            "enrolled": "SELECT COUNT(*) FROM person WHERE locator IS NOT NULL",
            "consenting": "SELECT COUNT(*) FROM person WHERE consents > 0",
            "erased": "SELECT COUNT(*) FROM erased",
            "uses": "SELECT COUNT(*) FROM use",
        }
        with self._store.reading() as db:
            return {name: int(db.execute(query).fetchone()[0]) for name, query in asked.items()}

    def enrol(self, identifier: str) -> str:
        """A fresh access code for the person, which is kept nowhere: only the person gets it.

        An earlier code no longer works. Traces from before the first enrolment become readable to
        the new code alone; traces for a code that was lost are lost with it.
        """
        code = new_access_code()
        with self._store.writing() as db:
            opened = self._vault.opened(db)
            who = find(db, opened, identifier)
            access = Access.of(code_bytes(code) or b"", opened.id)
            locator, private = db.execute(
                "SELECT locator, private FROM person WHERE id = ?", (who.row,)
            ).fetchone()
            earlier = b""
            if locator is None:
                held = unseal(who.key, private, bound(opened.id, "trace", who.pseudonym))
                earlier = SUITE.encrypt(
                    held, access.trace_key.public_key(), info=_EARLIER_KEY + who.pseudonym
                )
            db.execute(
                "UPDATE person SET locator = ?, public = ?, private = ? WHERE id = ?",
                (
                    access.locator,
                    access.trace_key.public_key().public_bytes_raw(),
                    earlier,
                    who.row,
                ),
            )
            changed(db)
        self._store.scrub()
        return code

    def access(self, code: str) -> Access | None:
        """What a code gives here; None where it is nobody's."""
        secret = code_bytes(code)
        if secret is None:
            return None
        with self._store.reading() as db:
            access = Access.of(secret, value(db, "id"))
            found = db.execute(
                "SELECT locator FROM person WHERE locator = ?", (access.locator,)
            ).fetchone()
        # The index compares digests of secrets of 128 bits; what it found is compared once more.
        return access if found and compare_digest(found[0], access.locator) else None

    def record(self, who: str | Access, at: datetime) -> PersonalRecord:
        """Everything the vault holds of the person. Raises InputRejected for an unknown one."""
        with self._store.reading() as db:
            opened = self._vault.opened(db)
            found = find(db, opened, who)
            rows = [
                tuple(from_json(unseal(found.key, sealed, place)))
                for sealed, place in _sealed_records(db, opened, found)
            ]
        head, settings = found.head, opened.settings
        return PersonalRecord(
            found.pseudonym.hex(),
            head.subject,
            head.provenance,
            settings.columns,
            settings.sensitive,
            tuple(rows),
            standing(head.born, head.died, at),
        )

    # ---- traces and erasure -----------------------------------------------------------------

    def uses(self, access: Access) -> list[UseTold]:
        """Who used the person's data, newest first."""
        with self._store.reading() as db:
            found = db.execute(
                "SELECT pseudonym, private FROM person WHERE locator = ?", (access.locator,)
            ).fetchone()
            if found is None:
                raise unknown()
            readers = [TraceReader(access.trace_key)]
            if found[1]:
                readers.append(TraceReader(_earlier_key(access, found[0], found[1])))
            told = []
            for row, use in _sealed_uses(db):
                for reader in readers:
                    tag, pad = reader.parts(use)
                    trace = db.execute(
                        "SELECT wrapped FROM trace WHERE use = ? AND tag = ?", (row, tag)
                    ).fetchone()
                    if trace is not None:
                        told.append(reader.open(use, pad, trace[0]))
        return told

    def regulators_uses(self, key: X25519PrivateKey) -> list[RegulatorsUse]:
        """All uses with the pseudonyms of all people in them, newest first, for the regulator."""
        with self._store.reading() as db:
            return [
                open_for_regulator(
                    use,
                    db.execute(
                        "SELECT number, sealed FROM traced WHERE use = ? ORDER BY number", (row,)
                    ).fetchall(),
                    key,
                )
                for row, use in _sealed_uses(db)
            ]

    def erase(self, who: str | Access, certify: Callable[[Destroyed], str]) -> str:
        """Destroy the person's key and all that is sealed under it; the signed certificate.

        `certify` makes the certificate before anything is destroyed, and its error keeps
        everything. For somebody named by identifier who was erased before: that certificate.
        """
        with self._store.writing() as db:
            opened = self._vault.opened(db)
            if isinstance(who, str):
                earlier = db.execute(
                    "SELECT certificate FROM erased WHERE tag = ?", (tag_of(opened, who),)
                ).fetchone()
                if earlier is not None:
                    return str(earlier[0])
            found = find(db, opened, who)
            counted = {
                name: db.execute(
                    f"SELECT COUNT(*) FROM {name} WHERE person = ?",  # noqa: S608
                    (found.row,),
                ).fetchone()[0]
                for name in ("record", "receipt")
            }
            certificate = certify(
                Destroyed(
                    opened.id.hex(),
                    found.pseudonym.hex(),
                    commitment(found.secret),
                    counted["record"],
                    counted["receipt"],
                )
            )
            # secure_delete overwrites with zeros what these leave.
            for statement in (
                "DELETE FROM record WHERE person = ?",
                "DELETE FROM receipt WHERE person = ?",
                "DELETE FROM person WHERE id = ?",
            ):
                db.execute(statement, (found.row,))
            db.execute(
                "INSERT INTO erased VALUES (?, ?)",
                (person_tag(opened.index_key, found.head.subject), certificate),
            )
            changed(db)
        self._store.scrub()
        return certificate

    def certificates(self) -> list[str]:
        """The certificates of all erasures."""
        with self._store.reading() as db:
            return [str(row[0]) for row in db.execute("SELECT certificate FROM erased")]

    def replace_certificate(self, old: str, new: str) -> None:
        """Where the node could not finish what a certificate says of its evidence."""
        with self._store.writing() as db:
            db.execute("UPDATE erased SET certificate = ? WHERE certificate = ?", (new, old))


def _sealed_records(
    db: sqlite3.Connection, opened: OpenVault, found: Person
) -> Iterator[tuple[bytes, bytes]]:
    for seq, number, sealed in db.execute(
        "SELECT seq, import, sealed FROM record WHERE person = ? ORDER BY seq", (found.row,)
    ):
        yield sealed, opened.record_bound(found.pseudonym, number, seq)


def _sealed_uses(db: sqlite3.Connection) -> Iterator[tuple[int, SealedUse]]:
    rows = db.execute(
        "SELECT id, name, ephemeral, sealed, regulator FROM use ORDER BY id DESC LIMIT ?",
        (MAX_USES_SEARCHED,),
    ).fetchall()
    for row, *parts in rows:
        yield row, SealedUse(*parts)


def _earlier_key(access: Access, pseudonym: bytes, sealed: bytes) -> X25519PrivateKey:
    try:
        raw = SUITE.decrypt(sealed, access.trace_key, info=_EARLIER_KEY + pseudonym)
    except InvalidTag:
        raise InputRejected(
            "the key to earlier traces was altered; restore the vault from your backup"
        ) from None
    return X25519PrivateKey.from_private_bytes(raw)
