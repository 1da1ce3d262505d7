"""Bringing records into a vault: all rows of an import or none, each under its person's key.

What an import has of a person replaces what was there of that person; others stay. The same import
again changes nothing. People who had their data erased are left out, for good.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import sha256
from typing import Annotated, Any, Final

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.classification import SAMPLE_ROWS, ColumnClass, propose_classes
from connectors.errors import InputRejected
from connectors.identifiers import ColumnReader, require_identifiers
from connectors.names import verify_columns
from connectors.people import (
    birth_column,
    born_by_resident_id,
    death_column,
    parsed_day,
    parsed_death,
    standing,
)
from connectors.source import ConsentedSource, Source
from connectors.values import texts
from connectors.vault import OpenVault, Vault, VaultSettings
from connectors.vault_heads import Head, bound, head_bound, read_heads, written_head
from connectors.vault_keys import KEY_BYTES, person_tag, seal, unseal
from connectors.vault_store import changed, put, value

# More records of one person are a column that does not name people.
MAX_RECORDS_A_PERSON: Final = 10_000
EXPORT_FORMAT: Final = "city-dataspace-personal-export/1"
MAX_EXPORT_BYTES: Final = 64 * 1024 * 1024

# Called with how many rows have been read so far.
Progress = Callable[[int], None]


@dataclass
class ImportReport:
    """What an import did. Children, minors and deceased are counted as of the time of the import;
    uses look at their own time."""

    rows: int = 0
    records: int = 0
    people_added: int = 0
    people_replaced: int = 0
    erased_left_out: int = 0
    children: int = 0
    minors: int = 0
    deceased: int = 0
    unchanged: bool = False
    sensitive: tuple[str, ...] = ()
    quality: dict[str, object] = field(default_factory=dict)


class PersonalExport(BaseModel):
    """One person's data as a file: what people take with them, and bring to a vault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[str, Field(pattern=f"^{EXPORT_FORMAT}$")] = EXPORT_FORMAT
    subject: Annotated[str, Field(min_length=1, max_length=256)]
    provenance: Annotated[str, Field(max_length=500)] = ""
    records: tuple[dict[str, str | None], ...] = Field(min_length=1)


class ExportSource:
    """A personal export as a source of rows."""

    def __init__(self, export: PersonalExport, content: bytes, *, subject: str) -> None:
        columns = list(dict.fromkeys(name for record in export.records for name in record))
        self._columns = list(dict.fromkeys((subject, *columns)))
        self._rows = [{subject: export.subject, **record} for record in export.records]
        self._content = content
        self.name = export.provenance or "personal export"

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self._columns])

    def scan(self, columns: Any, where: Any = ()) -> Iterator[pa.RecordBatch]:
        arrays = [pa.array([row.get(name) for row in self._rows], pa.string()) for name in columns]
        yield pa.RecordBatch.from_arrays(arrays, names=list(columns))

    def version(self) -> str:
        return f"sha256:{sha256(self._content).hexdigest()}"

    def description(self) -> Mapping[str, str]:
        return {"format": EXPORT_FORMAT}


def read_export(content: bytes, *, subject: str) -> ExportSource:
    """A personal export file. Raises InputRejected naming the field that is wrong."""
    if len(content) > MAX_EXPORT_BYTES:
        raise InputRejected(f"a personal export has at most {MAX_EXPORT_BYTES} bytes")
    try:
        export = PersonalExport.model_validate_json(content)
    except ValidationError as err:
        first = err.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"][:2]) or "the file"
        raise InputRejected(
            f"personal export: {where}: {first['type'].replace('_', ' ')}; its form is in "
            "docs/sources/vault.md"
        ) from None
    return ExportSource(export, content, subject=subject)


def import_records(
    vault: Vault, source: Source, at: datetime, *, progress: Progress | None = None
) -> ImportReport:
    """Bring all rows of `source` with a usable identifier into the vault, or, on an error, none.

    The first import says which columns the vault has; later ones must have the same. Raises
    InputRejected for other columns, for a source without a usable identifier, and for a person with
    more than `MAX_RECORDS_A_PERSON` rows.
    """
    if isinstance(source, ConsentedSource):
        raise InputRejected("a source read under consent cannot be imported; import its rows' file")
    names = source.schema().names
    version = source.version()
    with vault.store.writing() as db:
        opened = vault.opened(db)
        settings = _settings_for(opened.settings, source, names)
        report = ImportReport(sensitive=settings.sensitive)
        done = sha256(f"{version}\0{source.name}".encode()).digest()
        if opened.settings.columns and _last(db, opened) == done:
            report.unchanged = True
            return report
        run = _Import(db, opened, settings, source.name, at, report)
        reader = ColumnReader(settings.canonicaliser, column=settings.subject, repetitions=False)
        for batch in source.scan(settings.columns):
            report.rows += batch.num_rows
            run.take(batch, reader.feed(texts(batch.column(settings.subject))))
            if progress is not None:
                progress(report.rows)
        quality = reader.report()
        require_identifiers(quality, source=source.name)
        report.quality = quality.to_json()
        wrapping = opened.key.wrapping
        text = settings.model_dump_json().encode()
        put(db, "settings", seal(wrapping, text, bound(opened.id, "settings")))
        put(db, "last import", seal(wrapping, done, bound(opened.id, "last import")))
        changed(db, records=True)
    vault.store.scrub()
    return report


def _last(db: sqlite3.Connection, opened: OpenVault) -> bytes | None:
    if db.execute("SELECT 1 FROM meta WHERE name = 'last import'").fetchone() is None:
        return None
    return unseal(opened.key.wrapping, value(db, "last import"), bound(opened.id, "last import"))


def _settings_for(settings: VaultSettings, source: Source, names: list[str]) -> VaultSettings:
    if settings.columns:
        if set(names) != set(settings.columns):
            raise InputRejected(
                f"{source.name} has other columns than the vault, whose columns are "
                f"{', '.join(settings.columns)[:400]}; bring the same columns"
            )
        return settings
    named = (settings.birth_column, settings.death_column, *settings.sensitive)
    wanted = [settings.subject, *(one for one in named if one is not None)]
    verify_columns(list(dict.fromkeys(wanted)), names, source=source.name)
    sample = next(iter(source.scan(names)))
    classes = propose_classes(source.schema(), sample.slice(0, SAMPLE_ROWS))
    sensitive = {
        name for name in names if classes[name].column_class is ColumnClass.SENSITIVE_PERSONAL
    }
    return settings.model_copy(
        update={
            "columns": tuple(names),
            "sensitive": tuple(sorted(sensitive | set(settings.sensitive))),
            "birth_column": settings.birth_column or birth_column(names),
            "death_column": settings.death_column or death_column(names),
        }
    )


@dataclass
class _Known:
    """A person met in this import: the key, and what the head will say."""

    person: int
    pseudonym: bytes
    key: AESGCM
    records: int
    born: date | None
    died: date | None


class _Import:
    """One import within its transaction. Remembers nobody: whom it has met, the database tells."""

    def __init__(
        self,
        db: sqlite3.Connection,
        opened: OpenVault,
        settings: VaultSettings,
        provenance: str,
        at: datetime,
        report: ImportReport,
    ) -> None:
        self._db, self._settings, self._report, self._at = db, settings, report, at
        self._vault = OpenVault(opened.id, opened.key, opened.index_key, opened.terms_key, settings)
        self._provenance = f"{provenance}, {at.isoformat(timespec='seconds')}"
        found = db.execute("SELECT MAX(import) FROM person").fetchone()[0]
        self._number = (found or 0) + 1
        self._places = {name: n for n, name in enumerate(settings.columns)}

    def take(self, batch: pa.RecordBatch, subjects: list[str | None]) -> None:
        rows: dict[str, list[list[str | None]]] = {}
        columns = [texts(batch.column(name)) for name in self._settings.columns]
        for subject, *row in zip(subjects, *columns, strict=True):
            if subject is not None:
                rows.setdefault(subject, []).append(row)
        records: list[tuple[int, int, int, bytes]] = []
        for subject, theirs in rows.items():
            tag = person_tag(self._vault.index_key, subject)
            if self._db.execute("SELECT 1 FROM erased WHERE tag = ?", (tag,)).fetchone():
                self._report.erased_left_out += len(theirs)
                continue
            records += self._sealed(subject, tag, theirs)
        self._db.executemany("INSERT INTO record VALUES (?, ?, ?, ?)", records)
        self._report.records += len(records)

    def _sealed(
        self, subject: str, tag: bytes, rows: list[list[str | None]]
    ) -> Iterator[tuple[int, int, int, bytes]]:
        born, died = self._days(subject, rows)
        row = self._db.execute(
            "SELECT id, pseudonym, wrapped, head, head_version, import FROM person WHERE tag = ?",
            (tag,),
        ).fetchone()
        if row is None:
            person, pseudonym, key = self._added(subject, tag, born, died)
            first = 0
        else:
            person, pseudonym, key, first = self._replaced(row, born, died)
        if first + len(rows) > MAX_RECORDS_A_PERSON:
            raise InputRejected(
                f"column {self._settings.subject} gives one person more than "
                f"{MAX_RECORDS_A_PERSON} rows; check that it names people"
            )
        for seq, cells in enumerate(rows, start=first):
            place = self._vault.record_bound(pseudonym, self._number, seq)
            plain = json.dumps(cells, ensure_ascii=False, separators=(",", ":")).encode()
            yield person, seq, self._number, seal(key, plain, place)

    def _added(
        self, subject: str, tag: bytes, born: date | None, died: date | None
    ) -> tuple[int, bytes, AESGCM]:
        pseudonym, secret = secrets.token_bytes(16), os.urandom(KEY_BYTES)
        key, trace_key = AESGCM(secret), X25519PrivateKey.generate()
        vault_id = self._vault.id
        head = Head(subject, born, died, self._provenance, ())
        private = seal(key, trace_key.private_bytes_raw(), bound(vault_id, "trace", pseudonym))
        cursor = self._db.execute(
            "INSERT INTO person (pseudonym, tag, wrapped, head, head_version, import, public, "
            "private) VALUES (?, ?, ?, ?, 1, ?, ?, ?)",
            (
                pseudonym,
                tag,
                seal(self._vault.key.wrapping, secret, bound(vault_id, "person", pseudonym)),
                seal(key, written_head(head), head_bound(vault_id, pseudonym, 1)),
                self._number,
                trace_key.public_key().public_bytes_raw(),
                private,
            ),
        )
        self._report.people_added += 1
        self._flag(born, died)
        return cursor.lastrowid or 0, pseudonym, key

    def _replaced(
        self,
        row: tuple[int, bytes, bytes, bytes, int, int],
        born: date | None,
        died: date | None,
    ) -> tuple[int, bytes, AESGCM, int]:
        """The person, whose earlier records are gone unless they came with this import."""
        person, pseudonym, wrapped, sealed, version, number = row
        key = AESGCM(self._vault.person_key(pseudonym, wrapped))
        first = 0
        (head,) = read_heads([unseal(key, sealed, head_bound(self._vault.id, pseudonym, version))])
        if number == self._number:
            first = self._db.execute(
                "SELECT MAX(seq) + 1 FROM record WHERE person = ?", (person,)
            ).fetchone()[0]
            born, died = head.born or born, head.died or died
        else:
            self._db.execute("DELETE FROM record WHERE person = ?", (person,))
            self._report.people_replaced += 1
            self._flag(born, died)
        fresh = Head(head.subject, born, died, self._provenance, head.consents)
        self._db.execute(
            "UPDATE person SET head = ?, head_version = ?, import = ? WHERE id = ?",
            (
                seal(key, written_head(fresh), head_bound(self._vault.id, pseudonym, version + 1)),
                version + 1,
                self._number,
                person,
            ),
        )
        return person, pseudonym, key, first

    def _flag(self, born: date | None, died: date | None) -> None:
        now = standing(born, died, self._at)
        self._report.children += now.child
        self._report.minors += now.minor
        self._report.deceased += now.deceased

    def _days(self, subject: str, rows: list[list[str | None]]) -> tuple[date | None, date | None]:
        """The first day of birth and of death that these rows, or the identifier, tell."""
        settings = self._settings
        born = died = None
        if settings.canonicaliser == "resident-id/1":
            born = born_by_resident_id(subject)
        elif settings.birth_column is not None:
            at = self._places[settings.birth_column]
            born = next((day for row in rows if (day := parsed_day(row[at]))), None)
        if settings.death_column is not None:
            at = self._places[settings.death_column]
            died = next((day for row in rows if (day := parsed_death(row[at]))), None)
        return born, died
