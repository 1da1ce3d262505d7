"""One reading of a vault for one use: whose consent covers it, their rows, and their traces."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic_core import from_json

from connectors.conditions import Where, columns_read, keep
from connectors.errors import Unavailable
from connectors.receipts import Terms
from connectors.traces import UseWriter
from connectors.use import Use
from connectors.vault_heads import Coverage, bound, record_bound
from connectors.vault_keys import unseal
from connectors.vault_store import value

if TYPE_CHECKING:
    from connectors.vault import OpenVault, Vault

# People read together: their traces are sealed and made durable in one transaction.
BATCH_PEOPLE: Final = 2048
# Rows handed out together, so that people with many records do not fill the memory.
BATCH_ROWS: Final = 16_384
# A vault that changes more often than a batch can be read is too busy to be read from.
MAX_ATTEMPTS: Final = 20


class _Reader(NamedTuple):
    """Somebody whose consent covers the use."""

    pseudonym: bytes
    public: bytes
    key: AESGCM
    # What binds each of the person's records begins so.
    record_prefix: bytes


@dataclass(frozen=True)
class _Read:
    """Rows with their people, by places in `people`, and the state they were read in."""

    people: list[_Reader]
    rows: list[list[str | None]]
    owners: list[int]
    state: bytes
    resume: tuple[int, int]


class Scan:
    """One reading of a vault for one use, from the first person on."""

    def __init__(self, vault: Vault, columns: tuple[str, ...], use: Use, where: Where) -> None:
        self._vault, self._columns, self._use, self._where = vault, columns, use, where
        self._used = columns_read(columns, where)
        self._records = b""
        self._writer: UseWriter | None = None
        self._use_row = 0
        self._batch = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        place = (0, -1)
        with self._vault.store.held_open():
            while True:
                read = self._traced(place)
                if read is None:
                    return
                place, kept = read
                if kept.num_rows:
                    yield kept

    def _traced(self, place: tuple[int, int]) -> tuple[tuple[int, int], pa.RecordBatch] | None:
        """The next rows after `place`, their traces on the disk; None after the last."""
        for _ in range(MAX_ATTEMPTS):
            with self._vault.store.reading() as db:
                opened = self._vault.opened(db)
                read = self._read(db, opened, place)
            if read is None:
                return None
            if not read.rows:
                return read.resume, _batch_of([], [], self._used)
            kept = keep(_batch_of(read.rows, read.owners, self._used), self._where)
            owners = sorted(set(kept.column(len(self._used)).to_pylist()))
            people = [read.people[owner] for owner in owners]
            if not people or self._leave_traces(opened, people, read.state):
                return read.resume, kept.select(list(self._columns))
        raise Unavailable(f"{self._vault.name} changes faster than it can be read; try again")

    def _read(
        self, db: sqlite3.Connection, opened: OpenVault, place: tuple[int, int]
    ) -> _Read | None:
        records = value(db, "records")
        if self._records not in (b"", records):
            raise Unavailable(f"records were imported into {self._vault.name} meanwhile; try again")
        self._records = records
        # Whoever was read in part comes again, with the records that are left.
        found = db.execute(
            "SELECT id, pseudonym, wrapped, head, head_version, public FROM person "
            "WHERE id >= ? AND consents > 0 ORDER BY id LIMIT ?",
            (place[0], BATCH_PEOPLE),
        ).fetchall()
        if not found:
            return None
        readers = self._covered(db, opened, found)
        people: list[_Reader] = []
        plain: list[bytes] = []
        owners: list[int] = []
        last = found[-1][0]
        resume = (last + 1, -1)
        cursor = db.execute(
            "SELECT person, seq, import, sealed FROM record WHERE (person, seq) > (?, ?) "
            "AND person <= ? ORDER BY person, seq",
            (*place, last),
        )
        columns = opened.settings.digest()
        reader, of = None, None
        for person, seq, number, sealed in cursor:
            if person != of:
                reader, of = readers.get(person), person
                if reader is not None:
                    people.append(reader)
            if reader is None:
                continue
            where = record_bound(reader.record_prefix, columns, number, seq)
            plain.append(unseal(reader.key, sealed, where))
            owners.append(len(people) - 1)
            if len(plain) == BATCH_ROWS:
                resume = (person, seq)
                break
        names = [opened.settings.columns.index(name) for name in self._used]
        cells = from_json(b"[" + b",".join(plain) + b"]")
        rows = [[row[name] for name in names] for row in cells]
        return _Read(people, rows, owners, value(db, "state"), resume)

    def _covered(
        self,
        db: sqlite3.Connection,
        opened: OpenVault,
        found: list[tuple[int, bytes, bytes, bytes, int, bytes]],
    ) -> dict[int, _Reader]:
        fitting = fitting_terms(db, opened, self._used, self._use)
        if not fitting:
            return {}
        readers, packed = [], []
        # Prefixes are made once: this is done for every person of a city.
        wrapping, of_person, of_head, of_record = (
            opened.key.wrapping,
            *(bound(opened.id, kind, b"") for kind in ("person", "head", "record")),
        )
        for _, pseudonym, wrapped, head, version, public in found:
            key = AESGCM(unseal(wrapping, wrapped, of_person + pseudonym))
            packed.append(unseal(key, head, of_head + pseudonym + b"\0" + version.to_bytes(8)))
            readers.append(_Reader(pseudonym, public, key, of_record + pseudonym))
        covered = Coverage(fitting, self._use.at).of(packed)
        return {
            row[0]: reader
            for row, reader, allowed in zip(found, readers, covered, strict=True)
            if allowed
        }

    def _leave_traces(self, opened: OpenVault, people: list[_Reader], state: bytes) -> bool:
        """Write the traces, unless the vault has changed since `state`: somebody may have withdrawn
        consent, and what was read is then read anew."""
        writer = self._writer or UseWriter(self._use, self._used, opened.settings.regulator_key)
        traces = writer.traces([person.public for person in people])
        told = writer.people([person.pseudonym for person in people], self._batch)
        with self._vault.store.writing() as db:
            if value(db, "state") != state:
                return False
            if self._writer is None:
                use = writer.use
                self._use_row = (
                    db.execute(
                        "INSERT INTO use (name, ephemeral, sealed, regulator) VALUES (?, ?, ?, ?)",
                        (use.name, use.ephemeral, use.sealed, use.regulator),
                    ).lastrowid
                    or 0
                )
            # Somebody with many records comes in several batches, and has one trace.
            db.executemany(
                "INSERT OR IGNORE INTO trace VALUES (?, ?, ?)",
                [(self._use_row, trace.tag, trace.wrapped) for trace in traces],
            )
            if told is not None:
                db.execute(
                    "INSERT INTO traced VALUES (?, ?, ?)", (self._use_row, self._batch, told)
                )
        self._writer = writer
        self._batch += 1
        return True


def _batch_of(
    rows: list[list[str | None]], owners: list[int], names: Sequence[str]
) -> pa.RecordBatch:
    """The rows, and after their columns the places of their people."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrays = [pa.array(column, pa.string()) for column in columns]
    # No column of a source can have a name with this in it.
    return pa.RecordBatch.from_arrays(
        [*arrays, pa.array(owners, pa.int64())], names=[*names, "\0person"]
    )


def fitting_terms(
    db: sqlite3.Connection, vault: OpenVault, columns: Sequence[str], use: Use
) -> frozenset[int]:
    """The terms, of all that were ever given, that cover this use."""
    sealed_with, sensitive = AESGCM(vault.terms_key), frozenset(vault.settings.sensitive)
    fitting = set()
    for number, digest, sealed in db.execute("SELECT id, digest, sealed FROM terms"):
        terms = Terms.model_validate_json(
            unseal(sealed_with, sealed, bound(vault.id, "terms", digest))
        )
        if terms.cover(columns, use.purpose, use.recipient, sensitive):
            fitting.add(number)
    return frozenset(fitting)
