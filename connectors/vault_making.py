"""Making a vault, and giving it another key."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from connectors.errors import InputRejected
from connectors.identifiers import ColumnReader
from connectors.local_file import reading
from connectors.vault import Vault, VaultSettings
from connectors.vault_heads import bound
from connectors.vault_keys import (
    KEY_BYTES,
    KEY_FILE,
    NEXT_KEY_FILE,
    VaultKey,
    load_vault_key,
    new_key_text,
    seal,
    unseal,
)
from connectors.vault_store import FORMAT, changed, put, value

# What of the vault itself is sealed under the wrapping key; the last one comes with an import.
WRAPPED_VALUES: Final = ("index key", "terms key", "settings", "last import")
# People whose keys are wrapped anew between two looks at the database.
_REWRAPPED_TOGETHER: Final = 10_000


def create_vault(
    folder: Path,
    *,
    subject: str,
    canonicaliser: str = "resident-id/1",
    sensitive: Sequence[str] = (),
    birth_column: str | None = None,
    death_column: str | None = None,
    regulator_key: str | None = None,
    key_reference: str | None = None,
) -> Vault:
    """Make an empty vault in `folder`, with a fresh key in its file `vault.key`, unless
    `key_reference` (`env:NAME`, `file:/path`) says where the key is.

    Rows belong to the person in column `subject`. `sensitive` columns need separate consent;
    columns that look sensitive by their names are added with the first import. `regulator_key` is
    an X25519 public key in hexadecimal. Raises InputRejected where a vault is there already.
    """
    # An unknown canonicaliser is said now, not at the first row.
    ColumnReader(canonicaliser, column=subject)
    if regulator_key is not None:
        _verify_public_key(regulator_key)
    folder = folder.expanduser().resolve()
    vault = Vault(folder, key_reference)
    with reading(folder):
        vault.store.create()
        if key_reference is None:
            _write_key(folder / KEY_FILE, new_key_text())
    vault_id = secrets.token_bytes(16)
    key = VaultKey.of(load_vault_key(folder, key_reference), vault_id)
    settings = VaultSettings(
        subject=subject,
        canonicaliser=canonicaliser,
        sensitive=tuple(sensitive),
        birth_column=birth_column,
        death_column=death_column,
        regulator=regulator_key,
    )
    with vault.store.writing() as db:
        put(db, "format", FORMAT)
        put(db, "id", vault_id)
        put(db, "check", key.check)
        for name, plain in (
            ("index key", secrets.token_bytes(KEY_BYTES)),
            ("terms key", secrets.token_bytes(KEY_BYTES)),
            ("settings", settings.model_dump_json().encode()),
        ):
            put(db, name, seal(key.wrapping, plain, bound(vault_id, name)))
        changed(db, records=True)
    return vault


def rotate_key(vault: Vault, new_reference: str | None = None) -> int:
    """Wrap everything under a new key: made here, or the one `new_reference` leads to.

    Returns how many people's keys were wrapped. Copies of the database made before open with the
    old key only: when that is destroyed, what they hold is gone. The new key file is in place
    before the database needs it, as `vault.key.next`; killed in between, run it again.
    """
    following = vault.folder / NEXT_KEY_FILE
    if new_reference is None:
        with reading(following):
            if not following.exists():
                _write_key(following, new_key_text())
    secret = load_vault_key(vault.folder, new_reference or f"file:{following}")
    wrapped = 0
    with vault.store.writing() as db:
        key = VaultKey.of(secret, value(db, "id"))
        # Killed after the commit, before the new key got its name: only that is left to do.
        if key.check != value(db, "check"):
            old = vault.opened(db)
            sealed_values = "SELECT name, value FROM meta WHERE name IN (?, ?, ?, ?)"
            for name, sealed in db.execute(sealed_values, WRAPPED_VALUES).fetchall():
                plain = unseal(old.key.wrapping, sealed, bound(old.id, name))
                put(db, name, seal(key.wrapping, plain, bound(old.id, name)))
            last = 0
            while rows := db.execute(
                "SELECT id, pseudonym, wrapped FROM person WHERE id > ? ORDER BY id LIMIT ?",
                (last, _REWRAPPED_TOGETHER),
            ).fetchall():
                fresh = [
                    (_rewrapped(old.person_key(pseudonym, sealed), key, old.id, pseudonym), person)
                    for person, pseudonym, sealed in rows
                ]
                db.executemany("UPDATE person SET wrapped = ? WHERE id = ?", fresh)
                last, wrapped = rows[-1][0], wrapped + len(rows)
            put(db, "check", key.check)
    if new_reference is None:
        following.replace(vault.folder / KEY_FILE)
    vault.store.scrub()
    return wrapped


def _rewrapped(person_key: bytes, key: VaultKey, vault_id: bytes, pseudonym: bytes) -> bytes:
    return seal(key.wrapping, person_key, bound(vault_id, "person", pseudonym))


def _verify_public_key(text: str) -> None:
    try:
        # What shares nothing (a point of low order) is no key either, and refused by this.
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(text)))
        good = True
    except ValueError:
        good = False
    if not good:
        raise InputRejected(
            "a regulator's key is an X25519 public key in 64 hexadecimal digits; make a pair with: "
            "dataspace vault regulator-key FILE"
        )


def _write_key(path: Path, text: str) -> None:
    """A new file, readable by its owner only, that has its name once it is whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike a renaming, this fails where there is one of that name already.
        os.link(name, path)
    finally:
        Path(name).unlink()
