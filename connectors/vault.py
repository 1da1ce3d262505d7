"""The vault: records of people held by a trustee, sealed under a key of each person's own.

`vault:/abs/folder` is a source that is only read under consent. A person's rows appear in a use if
one receipt of theirs covers all its columns, purpose, recipient and time, sensitive columns by
separate consent; not if the person has died, and a child's only by a guardian's consent. Who is
read leaves a trace, durable before the row is handed out.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from connectors.addresses import parse_address
from connectors.conditions import Where, verify_readable
from connectors.errors import InputRejected
from connectors.use import Use
from connectors.vault_heads import bound, record_bound
from connectors.vault_keys import NEXT_KEY_FILE, VaultKey, load_vault_key, unseal
from connectors.vault_scan import Scan
from connectors.vault_store import FORMAT, VaultStore, value

SCHEME: Final = "vault"


class VaultSettings(BaseModel):
    """What a vault is of; sealed in its database. `columns` come with the first import."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    canonicaliser: str
    columns: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    birth_column: str | None = None
    death_column: str | None = None
    # X25519, raw, in hexadecimal.
    regulator: str | None = None

    @property
    def regulator_key(self) -> bytes | None:
        return None if self.regulator is None else bytes.fromhex(self.regulator)

    def digest(self) -> bytes:
        """Names the set of columns that a record is sealed with."""
        return hashlib.sha256("\0".join(self.columns).encode()).digest()


@dataclass(frozen=True)
class OpenVault:
    """A vault's keys and settings, as they are in one transaction."""

    id: bytes
    key: VaultKey
    index_key: bytes
    terms_key: bytes
    settings: VaultSettings

    def person_key(self, pseudonym: bytes, wrapped: bytes) -> bytes:
        return unseal(self.key.wrapping, wrapped, bound(self.id, "person", pseudonym))

    def record_bound(self, pseudonym: bytes, number: int, seq: int) -> bytes:
        prefix = bound(self.id, "record", pseudonym)
        return record_bound(prefix, self.settings.digest(), number, seq)


class Vault:
    """A vault's folder and where its key is; opened by `open_vault`."""

    def __init__(self, folder: Path, key_reference: str | None = None) -> None:
        self.folder = folder
        self.store = VaultStore(folder)
        self._key_reference = key_reference

    @property
    def name(self) -> str:
        return f"vault {self.folder.name}"

    def schema(self) -> pa.Schema:
        with self.store.reading() as db:
            settings = self.opened(db).settings
        if not settings.columns:
            raise InputRejected(f"{self.name} holds no records; run: dataspace vault import")
        return pa.schema([(name, pa.string()) for name in settings.columns])

    def version(self) -> str:
        """Changes with records, consents and erasures."""
        with self.store.reading() as db:
            state = value(db, "id") + value(db, "state")
        return f"sha256:{hashlib.sha256(state).hexdigest()}"

    def description(self) -> Mapping[str, str]:
        return {"format": "vault", "read under": "consent", "encryption": "AES-256-GCM"}

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        """Raises InputRejected, always."""
        raise InputRejected(
            f"{self.name} holds personal data, which are only read under consent; use it in a "
            "computation with a purpose and a recipient"
        )

    def scan_consented(
        self, columns: Sequence[str], use: Use, where: Where = ()
    ) -> Iterator[pa.RecordBatch]:
        """Yield `columns` of the people whose consent covers them for this use, and leave a trace
        for each. What conditions look at has to be covered too.

        A withdrawal counts from the next batch on, whatever `use.at` says. Raises InputRejected as
        `Source.scan` does and for a time without zone, Unavailable where records were imported
        meanwhile.
        """
        if use.at.utcoffset() is None:
            raise InputRejected("the time of a use needs a time zone; pass an aware datetime")
        verify_readable(columns, where, self.schema().names, source=self.name)
        return Scan(self, tuple(columns), use, where).batches()

    def opened(self, db: sqlite3.Connection) -> OpenVault:
        """Keys and settings. Raises InputRejected for another vault's key."""
        vault_id = value(db, "id")
        if value(db, "format") != FORMAT:
            raise InputRejected(
                f"{self.name} is of a later version of this software; run that version"
            )
        key, check = self._key(vault_id, self._key_reference), value(db, "check")
        following = self.folder / NEXT_KEY_FILE
        if key.check != check and self._key_reference is None and following.exists():
            # A change of key that was killed after the commit: the file only lacks its name.
            key = self._key(vault_id, f"file:{following}")
        if key.check != check:
            raise InputRejected(
                f"the key given for {self.name} is not the one it is sealed with; restore its key"
            )
        index_key, terms_key, settings = (
            unseal(key.wrapping, value(db, name), bound(vault_id, name))
            for name in ("index key", "terms key", "settings")
        )
        return OpenVault(
            vault_id, key, index_key, terms_key, VaultSettings.model_validate_json(settings)
        )

    def _key(self, vault_id: bytes, reference: str | None) -> VaultKey:
        return VaultKey.of(load_vault_key(self.folder, reference), vault_id)


def open_vault(url: str) -> Vault:
    """`vault:/abs/folder`, the key in its file `vault.key` or where `secret=` says.

    Raises InputRejected for a folder that is no vault, or that others may enter.
    """
    address = parse_address(url, known={"secret"})
    if address.host or not address.path.startswith("/"):
        raise InputRejected(f"{SCHEME}: takes an absolute folder of this machine: vault:/srv/vault")
    vault = Vault(Path(address.path), address.options.get("secret"))
    vault.store.verify()
    return vault
