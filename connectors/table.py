"""Everything a computation needs from a source, in one call."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from connectors.errors import InputRejected
from connectors.identifiers import ColumnReader, QualityReport, require_identifiers
from connectors.personal import ConsentedSource, texts
from connectors.source import Source
from connectors.values import parse_integers

# About 2 GB of Python strings and integers; larger tables are computed on in parts.
MAX_ROWS = 10_000_000


@dataclass(frozen=True)
class Use:
    """Who reads and why, as consents ask; `at` has a time zone."""

    purpose: str
    recipient: str
    at: datetime


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


def extract(
    source: Source,
    *,
    identifier: str | None,
    value: str | None,
    group: str | None,
    canonicaliser: str | None,
    use: Use,
    scale: int = 0,
    max_rows: int = MAX_ROWS,
) -> Extract:
    """Read the named columns: identifiers canonical, values times 10^`scale`, groups trimmed.

    One column may serve in several parts. Identifiers are read by `text/1` where `canonicaliser` is
    None. Rows without a usable identifier are excluded and counted; their value is not looked at. A
    consented source gives its consented rows only, possibly none.
    Raises InputRejected for a missing column, no usable identifier at all, a value that is not a
    whole number, malformed data, and more than `max_rows` rows.
    """
    columns = list(dict.fromkeys(name for name in (identifier, value, group) if name is not None))
    if not columns:
        raise InputRejected("nothing to read; name an identifier, a value or a group column")
    reader = (
        ColumnReader(canonicaliser or "text/1", column=identifier)
        if identifier is not None
        else None
    )
    identifiers: list[str] = []
    values: list[int] = []
    groups: list[str] = []
    rows = excluded = 0
    for batch in batches(source, columns, use):
        first = rows + 1
        rows += batch.num_rows
        if rows > max_rows:
            raise InputRejected(
                f"{source.name} has more than the {max_rows} rows allowed in one computation; "
                "split it, or raise the limit"
            )
        kept: Sequence[int] = range(batch.num_rows)
        if reader is not None:
            canonical = reader.feed(texts(batch.column(identifier)))
            usable = [(n, one) for n, one in enumerate(canonical) if one is not None]
            kept = [n for n, _ in usable]
            identifiers.extend(one for _, one in usable)
            excluded += batch.num_rows - len(kept)
        if value is not None:
            cells = batch.column(value).to_pylist()
            values += parse_integers(
                [cells[n] for n in kept],
                column_name=value,
                scale=scale,
                row_numbers=[first + n for n in kept],
            )
        if group is not None:
            names = texts(batch.column(group))
            groups += [_group(names[n]) for n in kept]
    report = reader.report() if reader is not None else None
    if report is not None and not isinstance(source, ConsentedSource):
        require_identifiers(report, source=source.name)
    return Extract(identifiers, values, groups, report, rows, excluded)


def batches(source: Source, columns: Sequence[str], use: Use) -> Iterator[pa.RecordBatch]:
    """The rows that may be used so: all of them, or of a consented source the consented ones."""
    if isinstance(source, ConsentedSource):
        return source.scan_consented(columns, use.purpose, use.recipient, use.at)
    return source.scan(columns)


def _group(name: str | None) -> str:
    return unicodedata.normalize("NFKC", name or "").strip()
