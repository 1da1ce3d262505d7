"""Finding a person in a vault: by identifier, as the trustee does, or by access code."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connectors.errors import InputRejected
from connectors.identifiers import canonicalise
from connectors.vault import OpenVault
from connectors.vault_heads import Head, head_bound, read_heads
from connectors.vault_keys import Access, person_tag, unseal


@dataclass(frozen=True)
class Person:
    """A person found, in one transaction."""

    row: int
    pseudonym: bytes
    secret: bytes
    key: AESGCM
    head: Head
    version: int


def tag_of(opened: OpenVault, identifier: str) -> bytes:
    """Raises InvalidIdentifier."""
    return person_tag(opened.index_key, canonicalise(opened.settings.canonicaliser, identifier))


def find(db: sqlite3.Connection, opened: OpenVault, who: str | Access) -> Person:
    """Raises InputRejected where the vault holds nobody of that name."""
    if isinstance(who, str):
        query, name = "SELECT id FROM person WHERE tag = ?", tag_of(opened, who)
    else:
        query, name = "SELECT id FROM person WHERE locator = ?", who.locator
    row = db.execute(query, (name,)).fetchone()
    if row is None:
        raise unknown()
    return person_at(db, opened, row[0])


def person_at(db: sqlite3.Connection, opened: OpenVault, row: int) -> Person:
    pseudonym, wrapped, sealed, version = db.execute(
        "SELECT pseudonym, wrapped, head, head_version FROM person WHERE id = ?", (row,)
    ).fetchone()
    secret = opened.person_key(pseudonym, wrapped)
    key = AESGCM(secret)
    (head,) = read_heads([unseal(key, sealed, head_bound(opened.id, pseudonym, version))])
    return Person(row, pseudonym, secret, key, head, version)


def unknown() -> InputRejected:
    return InputRejected(
        "the vault holds nobody of that identifier or code; check it, or import the records first"
    )
