"""Everything a computation needs from a source, in one call."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from connectors.conditions import Where
from connectors.errors import InputRejected
from connectors.identifiers import (
    ColumnReader,
    QualityReport,
    columns_of,
    require_identifiers,
    verify_key,
)
from connectors.names import verify_columns
from connectors.source import ConsentedSource, Source
from connectors.use import Use
from connectors.values import parse_integers, texts

# About 2 GB of Python strings and integers; larger tables are computed on in parts.
MAX_ROWS = 10_000_000


@dataclass(frozen=True)
class Extract:
    """Columns of equal length (empty where not asked for), in the order of the source.

    `rows` is how many rows were read, under consent where that is needed. `excluded` of them had
    no usable identifier and are in no list. `report` is None where no identifier was asked for.
    """

    identifiers: list[str]
    values: list[int]
    groups: list[str]
    report: QualityReport | None
    rows: int
    excluded: int


@dataclass(frozen=True)
class Batch:
    """Some rows of a table: columns of equal length, empty where not asked for."""

    identifiers: list[str]
    values: list[int]
    groups: list[str]
    across: list[str]


class Reading:
    """The named columns of a source, of the rows that meet `where`, read as they are asked for.

    `identifier`, `value`, `group` and `across` (a second group) are columns; one may serve in
    several parts. Identifiers are made canonical (by `text/1` where `canonicaliser` is None); one
    of several columns is named `name+born` and made canonical by `name/1+date/1`. Values are
    taken times 10^`scale`, groups trimmed. Rows without a usable identifier are excluded
    and counted; their value is not looked at. A consented source gives its consented rows only,
    possibly none. Memory does not grow with the rows, unless the report is to count `repetitions`.
    """

    def __init__(
        self,
        source: Source,
        *,
        identifier: str | None,
        value: str | None,
        group: str | None,
        canonicaliser: str | None,
        use: Use,
        where: Where = (),
        across: str | None = None,
        scale: int = 0,
        max_rows: int = MAX_ROWS,
        repetitions: bool = False,
    ) -> None:
        self._canonicaliser = canonicaliser or "text/1"
        self._key: tuple[str, ...] = ()
        if identifier is not None:
            self._key = key_columns(source, identifier)
            verify_key(self._canonicaliser, self._key)
        named = (*self._key, value, group, across)
        self._columns = list(dict.fromkeys(name for name in named if name is not None))
        if not self._columns:
            raise InputRejected("nothing to read; name an identifier, a value or a group column")
        self._source, self._use, self._max_rows = source, use, max_rows
        self._where = where
        self._identifier, self._value, self._scale = identifier, value, scale
        self._group, self._across = group, across
        self._repetitions = repetitions
        # What has been read so far; all of it once `batches` has ended.
        self.rows = self.excluded = 0
        self.report: QualityReport | None = None

    def batches(self) -> Iterator[Batch]:
        """Yield the rows from the first one on, in the order of the source.

        Raises InputRejected for a missing column, a value that is not a whole number, malformed
        data, more than `max_rows` rows, and at the end where there was no usable identifier at all.
        """
        self.rows = self.excluded = 0
        reader = (
            ColumnReader(
                self._canonicaliser, column=self._identifier, repetitions=self._repetitions
            )
            if self._identifier is not None
            else None
        )
        for batch in batches(self._source, self._columns, self._use, self._where):
            first = self.rows + 1
            self.rows += batch.num_rows
            if self.rows > self._max_rows:
                raise InputRejected(
                    f"{self._source.name} has more than the {self._max_rows} rows allowed in one "
                    "computation; split it, or raise the limit"
                )
            yield self._batch(batch, first, reader)
        self.report = reader.report() if reader is not None else None
        if self.report is not None and not isinstance(self._source, ConsentedSource):
            require_identifiers(self.report, source=self._source.name)

    def _batch(self, batch: pa.RecordBatch, first: int, reader: ColumnReader | None) -> Batch:
        kept: Sequence[int] = range(batch.num_rows)
        identifiers: list[str] = []
        if reader is not None:
            canonical = reader.feed(*(batch.column(name) for name in self._key))
            identifiers = [one for one in canonical if one is not None]
            if len(identifiers) < len(canonical):
                kept = [n for n, one in enumerate(canonical) if one is not None]
            self.excluded += batch.num_rows - len(kept)
        values: list[int] = []
        if self._value is not None:
            cells = batch.column(self._value).to_pylist()
            values = parse_integers(
                [cells[n] for n in kept],
                column_name=self._value,
                scale=self._scale,
                row_numbers=[first + n for n in kept],
            )
        return Batch(
            identifiers,
            values,
            _groups(batch, self._group, kept),
            _groups(batch, self._across, kept),
        )


def key_columns(source: Source, column: str) -> tuple[str, ...]:
    """The columns of `source` that `column` names: one, or those that `name+born` joins.

    Raises InputRejected naming the first of several that is not there.
    """
    # Only a name that may join columns is worth a look at those there are.
    if "+" not in column:
        return (column,)
    present = source.schema().names
    columns = columns_of(column, present)
    verify_columns(columns, present, source=source.name)
    return columns


def extract(
    source: Source,
    *,
    identifier: str | None,
    value: str | None,
    group: str | None,
    canonicaliser: str | None,
    use: Use,
    where: Where = (),
    scale: int = 0,
    max_rows: int = MAX_ROWS,
) -> Extract:
    """Read the named columns whole; see `Reading`, which raises what this raises."""
    reading = Reading(
        source,
        identifier=identifier,
        value=value,
        group=group,
        canonicaliser=canonicaliser,
        use=use,
        where=where,
        scale=scale,
        max_rows=max_rows,
        repetitions=True,
    )
    identifiers: list[str] = []
    values: list[int] = []
    groups: list[str] = []
    for batch in reading.batches():
        identifiers += batch.identifiers
        values += batch.values
        groups += batch.groups
    return Extract(identifiers, values, groups, reading.report, reading.rows, reading.excluded)


def batches(
    source: Source, columns: Sequence[str], use: Use, where: Where = ()
) -> Iterator[pa.RecordBatch]:
    """The rows that may be used so: all of them, or of a consented source the consented ones."""
    if isinstance(source, ConsentedSource):
        return source.scan_consented(columns, use, where)
    return source.scan(columns, where)


def _groups(batch: pa.RecordBatch, column: str | None, kept: Sequence[int]) -> list[str]:
    if column is None:
        return []
    names = texts(batch.column(column))
    return [unicodedata.normalize("NFKC", names[n] or "").strip() for n in kept]
