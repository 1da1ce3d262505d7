"""Personal data held by a trustee: rows are read under the consent of the people in them, or not.

A consent is a receipt (a subset of ISO/IEC TS 27560). Receipts lie in a JSON lines file beside the
data, readable by its owner only; giving and withdrawing replace that file in one step.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from connectors.conditions import Where, columns_read, keep, verify_readable
from connectors.errors import InputRejected
from connectors.files import (
    FileSource,
    open_path,
    reading,
    split_file_url,
    verify_is_file,
)
from connectors.identifiers import ColumnReader, canonicalise
from connectors.names import verify_columns
from connectors.receipts import ReceiptState
from connectors.use import Use
from connectors.values import texts

# A receipt is a few hundred bytes; a longer line is a broken file.
MAX_RECEIPT_BYTES = 64 * 1024
ANYONE = "*"
SCHEME = "personal+file"
_OPTIONS = frozenset({"consents", "subject", "canonicaliser", "sensitive"})


class Consent(BaseModel):
    """One receipt: a person allows some columns, for some purposes, to some recipients, for a time.

    `subject` is the canonical identifier of the person. `recipients` are DIDs, or `*` alone for
    anyone. Valid from `given_at` (included) to `expires_at` and `withdrawn_at` (excluded).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    receipt_id: str = Field(min_length=1, max_length=200)
    subject: str = Field(min_length=1, max_length=256)
    columns: tuple[str, ...] = Field(min_length=1, max_length=200)
    purposes: tuple[str, ...] = Field(min_length=1, max_length=100)
    recipients: tuple[str, ...] = Field(min_length=1, max_length=1000)
    given_at: AwareDatetime
    expires_at: AwareDatetime
    withdrawn_at: AwareDatetime | None = None
    # Sensitive columns for which consent was given separately (PIPL article 29).
    separate_consent: tuple[str, ...] = Field(default=(), max_length=200)

    @model_validator(mode="after")
    def _times_run_forward(self) -> Consent:
        if self.expires_at <= self.given_at:
            raise ValueError("expires_at must be later than given_at")
        if self.withdrawn_at is not None and self.withdrawn_at < self.given_at:
            raise ValueError("withdrawn_at must not be earlier than given_at")
        return self

    def covers(
        self,
        columns: Sequence[str],
        purpose: str,
        recipient: str,
        at: datetime,
        sensitive: frozenset[str] = frozenset(),
    ) -> bool:
        """Whether this receipt alone allows reading `columns` so at that time; those that are
        `sensitive` need separate consent."""
        in_time = self.given_at <= at < self.expires_at and (
            self.withdrawn_at is None or at < self.withdrawn_at
        )
        return (
            in_time
            and purpose in self.purposes
            and (ANYONE in self.recipients or recipient in self.recipients)
            and bool(columns)
            and set(columns) <= set(self.columns)
            and sensitive.intersection(columns) <= set(self.separate_consent)
        )


class ConsentBook:
    """All receipts of a trustee, found by person."""

    def __init__(self, consents: Iterable[Consent]) -> None:
        self._by_subject: dict[str, list[Consent]] = {}
        for consent in consents:
            self._by_subject.setdefault(consent.subject, []).append(consent)

    @classmethod
    def load(cls, path: Path) -> ConsentBook:
        """Read JSON lines. Raises InputRejected naming the line and the field that is wrong."""
        return cls(_receipts(path))

    def covers(
        self,
        subject: str,
        columns: Sequence[str],
        purpose: str,
        recipient: str,
        at: datetime,
        sensitive: frozenset[str] = frozenset(),
    ) -> bool:
        """Whether one receipt of `subject` allows all of this; `at` must have a time zone."""
        _verify_aware(at)
        return any(
            consent.covers(columns, purpose, recipient, at, sensitive)
            for consent in self._by_subject.get(subject, ())
        )


class PersonalFile:
    """A data file, its consent receipts, and the column that says whose row it is."""

    def __init__(
        self,
        data: FileSource,
        *,
        consents: Path,
        subject: str,
        canonicaliser: str,
        sensitive: Sequence[str] = (),
    ) -> None:
        self._data = data
        self._sensitive = frozenset(sensitive)
        self._consents = consents
        self._subject = subject
        self._canonicaliser = canonicaliser

    @property
    def name(self) -> str:
        return self._data.name

    @property
    def receipts_file(self) -> Path:
        """Where the receipts lie."""
        return self._consents

    def schema(self) -> pa.Schema:
        schema = self._data.schema()
        wanted = dict.fromkeys((self._subject, *sorted(self._sensitive)))
        verify_columns(list(wanted), schema.names, source=self.name)
        return schema

    def version(self) -> str:
        """Changes with the data and with every consent given or withdrawn."""
        # Whatever was derived from the rows of someone who has withdrawn must not be used again.
        digest = hashlib.sha256(self._data.version().encode("ascii"))
        with reading(self._consents):
            digest.update(hashlib.sha256(self._consents.read_bytes()).digest())
        return f"sha256:{digest.hexdigest()}"

    def description(self) -> Mapping[str, str]:
        return {**self._data.description(), "read under": "consent"}

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        """Raises InputRejected, always."""
        raise InputRejected(
            f"{self.name} holds personal data, which are only read under consent; use it in a "
            "computation with a purpose and a recipient"
        )

    def scan_consented(
        self, columns: Sequence[str], use: Use, where: Where = ()
    ) -> Iterator[pa.RecordBatch]:
        """Yield `columns` of the people whose consent covers them for this use at this time.

        Rows without a valid subject belong to nobody who could consent, and never appear. Consent
        covers what conditions look at too: they tell about whoever is chosen by them.
        Raises InputRejected as `Source.scan` does, and for a time without zone.
        """
        _verify_aware(use.at)
        verify_readable(columns, where, self.schema().names, source=self.name)
        return self._consented(tuple(columns), use, where)

    def give(self, consent: Consent) -> None:
        """Keep this receipt; its subject is canonicalised first.

        Raises InvalidIdentifier for its subject, InputRejected for an unknown column or a taken id.
        """
        verify_columns(consent.columns, self.schema().names, source=self.name)
        subject = canonicalise(self._canonicaliser, consent.subject)
        append_consent(self._consents, consent.model_copy(update={"subject": subject}))

    def withdraw(self, receipt_id: str, at: datetime) -> None:
        """End a receipt from `at` on. Raises InputRejected where there is none of that id."""
        withdraw(self._consents, receipt_id, at)

    def _consented(
        self, columns: tuple[str, ...], use: Use, where: Where
    ) -> Iterator[pa.RecordBatch]:
        book = ConsentBook.load(self._consents)
        reader = ColumnReader(self._canonicaliser, column=self._subject, repetitions=False)
        used = columns_read(columns, where)
        for batch in self._data.scan(columns_read((self._subject, *columns), where)):
            subjects = reader.feed(texts(batch.column(self._subject)))
            allowed = [
                subject is not None
                and book.covers(subject, used, use.purpose, use.recipient, use.at, self._sensitive)
                for subject in subjects
            ]
            kept = keep(batch.filter(pa.array(allowed, type=pa.bool_())), where)
            if kept.num_rows:
                yield kept.select(list(columns))


def open_personal_file(url: str) -> PersonalFile:
    """`personal+file:/abs/health.csv?consents=/abs/consents.jsonl&subject=resident_id`.

    The subject is canonicalised by `resident-id/1` unless `canonicaliser=` says otherwise;
    `sensitive=a,b` names columns that need separate consent. Raises InputRejected for missing or
    unknown options and missing files.
    """
    path, options = split_file_url(url, scheme=SCHEME)
    unknown = sorted(set(options) - _OPTIONS)
    if unknown or not options.get("consents") or not options.get("subject"):
        raise InputRejected(
            f"{SCHEME}: needs the options consents= (the receipts) and subject= (the column with "
            "the person), and allows canonicaliser= and sensitive=; found "
            f"{', '.join(sorted(options)) or 'none'}"
        )
    consents = Path(options["consents"])
    verify_is_file(consents)
    canonicaliser = options.get("canonicaliser", "resident-id/1")
    # An unknown canonicaliser is said now, not at the first row.
    ColumnReader(canonicaliser, column=options["subject"])
    return PersonalFile(
        open_path(path),
        consents=consents,
        subject=options["subject"],
        canonicaliser=canonicaliser,
        sensitive=[name for name in options.get("sensitive", "").split(",") if name],
    )


def append_consent(path: Path, consent: Consent) -> None:
    """Add a receipt to the file at `path`, creating it readable by its owner only.

    Raises InputRejected where the receipt's id is taken.
    """
    with _exclusive(path):
        receipts = list(_receipts(path)) if path.exists() else []
        if any(known.receipt_id == consent.receipt_id for known in receipts):
            raise InputRejected(
                f"{path.name} already holds a receipt of that id; give every receipt its own"
            )
        _replace(path, [*receipts, consent])


def receipt_state(path: Path, receipt_id: str) -> ReceiptState:
    """What has become of a receipt in the file at `path`. Raises InputRejected."""
    for receipt in _receipts(path) if path.exists() else ():
        if receipt.receipt_id == receipt_id:
            return ReceiptState.GIVEN if receipt.withdrawn_at is None else ReceiptState.WITHDRAWN
    return ReceiptState.ABSENT


def withdraw(path: Path, receipt_id: str, at: datetime) -> None:
    """Withdraw a receipt from `at` on. Doing so again keeps the earlier time.

    Raises InputRejected where there is no such receipt, or `at` has no zone or precedes the giving.
    """
    _verify_aware(at)
    verify_is_file(path)
    with _exclusive(path):
        receipts = list(_receipts(path))
        found = [n for n, known in enumerate(receipts) if known.receipt_id == receipt_id]
        if not found:
            raise InputRejected(f"{path.name} holds no receipt of that id; check the receipt")
        receipt = receipts[found[0]]
        if at < receipt.given_at:
            raise InputRejected("a consent cannot be withdrawn before it was given; check the time")
        if receipt.withdrawn_at is not None and receipt.withdrawn_at <= at:
            return
        receipts[found[0]] = receipt.model_copy(update={"withdrawn_at": at})
        _replace(path, receipts)


def _receipts(path: Path) -> Iterator[Consent]:
    seen: set[str] = set()
    with reading(path), path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_RECEIPT_BYTES):
            number += 1
            if not line.strip():
                continue
            consent = _receipt(line, path.name, number)
            # A second receipt of one id could hide a withdrawal of the first.
            if consent.receipt_id in seen:
                raise InputRejected(f"{path.name}, line {number}: the receipt's id occurs twice")
            seen.add(consent.receipt_id)
            yield consent


def _receipt(line: bytes, name: str, number: int) -> Consent:
    try:
        return Consent.model_validate_json(line)
    except ValidationError as err:
        # Only the field and the rule: the error itself quotes the person's data.
        first = err.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the receipt"
        raise InputRejected(
            f"{name}, line {number}: {field}: {first['type'].replace('_', ' ')}; write a consent "
            "receipt as one JSON object a line"
        ) from None


def _verify_aware(at: datetime) -> None:
    if at.utcoffset() is None:
        raise InputRejected("the time of a use needs a time zone; pass an aware datetime")


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`: two writers would lose one another's receipt."""
    lock = path.with_name(f".{path.name}.lock")
    with reading(path):
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, receipts: Iterable[Consent]) -> None:
    """Write a new file and put it in the place of the old: a reader sees one or the other."""
    target = path.resolve()
    with reading(path):
        # mkstemp gives 0600 from the first byte on.
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                for receipt in receipts:
                    file.write(receipt.model_dump_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
