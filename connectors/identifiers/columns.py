"""Columns of identifiers: made canonical as they come in, with a report on what was met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connectors.errors import InputRejected
from connectors.identifiers.registry import (
    CANONICALISERS,
    SEPARATOR,
    apply,
    parts_of,
    verify_key,
)
from connectors.identifiers.settled import SETTLED
from connectors.identifiers.spelling import NotUsableError, Reason, masked
from connectors.values import texts

# Enough to recognise what is wrong, too few to list people.
MAX_EXAMPLES_PER_REASON: Final = 2

# A column, or a piece of one.
Cells: TypeAlias = "pa.Array | Iterable[str | None]"


@dataclass(frozen=True)
class QualityReport:
    """How usable an identifier column is.

    `rows` = `valid` + `blank` + the sum of `invalid` (reason → rows). `duplicates` counts valid
    rows whose identifier occurred in an earlier row. `examples` are a few invalid values by row
    number (from 1, without the header), masked to their outer characters.
    """

    column: str
    canonicaliser: str
    rows: int
    valid: int
    blank: int
    invalid: dict[str, int]
    duplicates: int
    examples: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The report as JSON values; the keys are the field names."""
        return {
            "column": self.column,
            "canonicaliser": self.canonicaliser,
            "rows": self.rows,
            "valid": self.valid,
            "blank": self.blank,
            "invalid": dict(self.invalid),
            "duplicates": self.duplicates,
            "examples": list(self.examples),
        }


class ColumnReader:
    """Canonicalises a column that comes in pieces, and counts what it met.

    To count repetitions it remembers eight bytes of every identifier; without `repetitions` it does
    not, and its report says that there were none.
    """

    def __init__(self, canonicaliser: str, *, column: str, repetitions: bool = True) -> None:
        self._repetitions = repetitions
        self._parts = parts_of(canonicaliser)
        self._canonicaliser = canonicaliser
        self._column = column
        self._rows = 0
        # Python's hashes of strings are 64 bits under a key of this process: of ten million
        # different identifiers two are taken for one with a probability of one in 400,000.
        self._seen: list[NDArray[np.int64]] = []
        self._valid = 0
        self._reasons: Counter[Reason] = Counter()
        self._examples: list[tuple[Reason, str]] = []

    def feed(self, *columns: Cells) -> list[str | None]:
        """The canonical value of each of the next rows, None where it is blank or invalid.

        One column for each part of a joined canonicaliser; Arrow columns are fastest. A row without
        one of the parts has no identifier, for the reason of the first that is missing.
        """
        verify_key(self._canonicaliser, [self._column] * len(columns))
        canonical, failures = _canonical(self._parts[0], columns[0])
        for part, column in zip(self._parts[1:], columns[1:], strict=True):
            others, more = _canonical(part, column)
            failures = more | failures
            canonical = [
                None if one is None or other is None else f"{one}{SEPARATOR}{other}"
                for one, other in zip(canonical, others, strict=True)
            ]
        for index in sorted(failures):
            self._count(*failures[index], row=self._rows + index + 1)
        self._rows += len(canonical)
        self._valid += len(canonical) - len(failures)
        if self._repetitions:
            usable = filter(None, canonical) if failures else canonical
            count = len(canonical) - len(failures)
            self._seen.append(np.fromiter(map(hash, usable), dtype=np.int64, count=count))
        return canonical

    def report(self) -> QualityReport:
        """The report over everything fed so far."""
        invalid = {
            reason.value: self._reasons[reason]
            for reason in Reason
            if reason is not Reason.BLANK and self._reasons[reason]
        }
        return QualityReport(
            column=self._column,
            canonicaliser=self._canonicaliser,
            rows=self._rows,
            valid=self._valid,
            blank=self._reasons[Reason.BLANK],
            invalid=invalid,
            duplicates=self._repeated(),
            examples=tuple(text for _, text in self._examples),
        )

    def _repeated(self) -> int:
        if not self._seen:
            return 0
        self._seen = [np.concatenate(self._seen)]
        return self._valid - len(np.unique(self._seen[0]))

    def _count(self, reason: Reason, value: str, *, row: int) -> None:
        self._reasons[reason] += 1
        shown = sum(1 for known, _ in self._examples if known is reason)
        if reason is not Reason.BLANK and shown < MAX_EXAMPLES_PER_REASON:
            self._examples.append((reason, f"row {row}, {reason}: {masked(value)}"))


def _canonical(name: str, column: Cells) -> tuple[list[str | None], dict[int, tuple[Reason, str]]]:
    """Every cell by one canonicaliser, and by its place why a cell has none, and what it holds."""
    rule = CANONICALISERS[name]
    cells = texts(column) if isinstance(column, pa.Array) else list(column)
    canonical: list[str | None]
    unsettled: Iterable[int]
    settled = None
    if name in SETTLED and (array := _as_text(column, cells)) is not None:
        find, prefix = SETTLED[name]
        settled = find(array)
        canonical = [cell and prefix + cell for cell in cells] if prefix else list(cells)
        unsettled = np.flatnonzero(~settled).tolist()
    else:
        canonical, unsettled = list(cells), range(len(cells))
    failures: dict[int, tuple[Reason, str]] = {}
    for index in unsettled:
        cell = cells[index] or ""
        try:
            canonical[index] = apply(rule, cell)
        except NotUsableError as err:
            canonical[index] = None
            failures[index] = err.reason, cell
    return canonical, failures


def _as_text(column: Cells, cells: list[str | None]) -> pa.Array | None:
    if isinstance(column, pa.Array) and (
        pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ):
        return column
    try:
        return pa.array(cells, pa.string())
    except (UnicodeEncodeError, pa.ArrowException):
        # Half a character, which Arrow cannot hold; the rule refuses it.
        return None


def canonicalise_column(
    name: str, values: Cells, *, column: str = "identifier"
) -> tuple[list[str | None], QualityReport]:
    """Every value by canonicaliser `name`, None for blank or invalid rows, and the report."""
    reader = ColumnReader(name, column=column)
    return reader.feed(values), reader.report()


def require_identifiers(report: QualityReport, *, source: str = "the source") -> None:
    """Raises InputRejected unless at least one row of the column has a usable identifier."""
    if report.valid:
        return
    found = [f"{report.blank} blank"] if report.blank else []
    found += [f"{count} with a wrong {reason}" for reason, count in report.invalid.items()]
    raise InputRejected(
        f"column {report.column} of {source} has no usable identifier: "
        f"{', '.join(found) or 'no rows'}; check that the column holds {report.canonicaliser} "
        f"identifiers, or choose another canonicaliser ({', '.join(CANONICALISERS)})"
    )
