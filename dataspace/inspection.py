"""Looking through a source before it is published: what its columns hold, how usable they are."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import pyarrow as pa

from connectors.classification import (
    CLASS_ORDER,
    SAMPLE_ROWS,
    ClassProposal,
    ColumnClass,
    propose_classes,
)
from connectors.conditions import Where, verify_readable
from connectors.identifiers import ColumnReader, canonicalise, require_identifiers
from connectors.identifiers import InvalidIdentifier as Unusable
from connectors.source import ConsentedSource, Source
from connectors.table import batches, key_columns
from connectors.use import Use
from connectors.values import parse_integers, texts
from contracts.comparison import region_code
from dataspace.errors import InputRejected
from dataspace.publication import BlocksSpec, ColumnSpec, verify_columns_exist

# A group column is a public key such as a district: few values, known to everybody.
MAX_GROUPS = 256
# Canonicalisers of what names one person or one organisation.
_OF_ONE: Final = frozenset(
    {"resident-id/1", "uscc/1", "mobile/1", "name/1", "plate/1", "passport/1", "email/1"}
)
# Of the filled cells sampled, the share that must be codes in a column of blocks.
_CODES_SHARE: Final = 0.5


@dataclass(frozen=True)
class Inspected:
    """What a look through a source found. `rows` is None where the rows are not to be seen, which
    are those under consent; classes are then proposed from names alone, and `reports` is empty.

    `columns` have the values of groups, `reports` are one for each identifier, `proposals` one for
    each column.
    """

    columns: tuple[ColumnSpec, ...]
    reports: tuple[dict[str, Any], ...]
    proposals: Mapping[str, ClassProposal]
    rows: int | None


def inspect(
    source: Source,
    columns: Sequence[ColumnSpec],
    *,
    where: Where = (),
    blocks: BlocksSpec | None = None,
    max_rows: int,
    reader: str,
) -> Inspected:
    """Read the columns once, of the rows that meet `where`, all of them in one pass.

    `reader` is the DID of who looks. Raises InputRejected for a column that is not there, a group
    of more than 256 values, a column of blocks without codes, no row at all, and whatever makes a
    column unusable.
    """
    schema, now = source.schema(), datetime.now(UTC)
    verify_columns_exist(columns, schema.names, source=source.name)
    besides = blocks.columns if blocks is not None else ()
    verify_readable(besides, where, schema.names, source=source.name)
    keys = {one.name: key_columns(source, one.name) for one in columns if one.role == "identifier"}
    wanted = list(
        dict.fromkeys(part for one in columns for part in keys.get(one.name, (one.name,)))
    )
    if isinstance(source, ConsentedSource):
        unseen = pa.table({name: pa.nulls(0) for name in wanted})
        proposals = _proposals(columns, keys, unseen, now.date())
        return Inspected(tuple(columns), (), proposals, None)
    looks = [_Look(column, keys.get(column.name, ())) for column in columns]
    use = Use(purpose="inspection", recipient=reader, at=now)
    rows, sample = 0, pa.table({name: pa.nulls(0) for name in (*wanted, *besides)})
    for batch in batches(source, list(dict.fromkeys((*wanted, *besides))), use, where):
        if rows == 0:
            sample = pa.Table.from_batches([batch.slice(0, SAMPLE_ROWS)])
        if rows + batch.num_rows > max_rows:
            raise InputRejected(
                f"{source.name} has more than the {max_rows} rows allowed in one dataset",
                remedy="publish a part of it (where), or raise the limit (max_rows)",
            )
        for look in looks:
            look.at(batch, first=rows + 1)
        rows += batch.num_rows
    if rows == 0:
        raise InputRejected(
            f"no row of {source.name} meets the conditions",
            remedy="compare the conditions (where) with the values the columns have",
        )
    for name in besides:
        _verify_codes(name, sample, division=name == (blocks and blocks.division))
    reports = tuple(report for look in looks if (report := look.report(source)) is not None)
    proposals = _proposals(columns, keys, sample, now.date())
    return Inspected(tuple(look.column for look in looks), reports, proposals, rows)


@dataclass
class _Look:
    """One column as it comes by."""

    column: ColumnSpec
    key: tuple[str, ...]
    _reader: ColumnReader | None = None
    _values: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.column.role == "identifier":
            form = self.column.canonicaliser or "text/1"
            self._reader = ColumnReader(form, column=self.column.name)

    def at(self, batch: pa.RecordBatch, *, first: int) -> None:
        """Look at the next rows, of which the first has this number. Raises InputRejected."""
        name = self.column.name
        if self._reader is not None:
            self._reader.feed(*(batch.column(part) for part in self.key))
        elif self.column.role == "value":
            parse_integers(
                batch.column(name),
                column_name=name,
                scale=self.column.scale,
                row_numbers=range(first, first + batch.num_rows),
            )
        else:
            self._see_groups(batch.column(name), first)

    def report(self, source: Source) -> dict[str, Any] | None:
        """After the last row: an identifier's quality; None for others. Raises InputRejected."""
        if self.column.role == "group":
            values = tuple(sorted(self._values))
            self.column = self.column.model_copy(update={"values": values})
        if self._reader is None:
            return None
        report = self._reader.report()
        require_identifiers(report, source=source.name)
        return report.to_json()

    def _see_groups(self, cells: pa.Array, first: int) -> None:
        found = {_group(text) for text in texts(cells.unique())}
        if "" in found:
            row = first + [_group(text) for text in texts(cells)].index("")
            raise InputRejected(
                f"column {self.column.name}, row {row}: the cell is blank, and a group has a value "
                "in every row",
                remedy="fill in a word such as unknown, or keep such rows out by a condition "
                "(where) on the column, which no blank cell meets",
            )
        self._values |= found
        if len(self._values) > MAX_GROUPS:
            raise InputRejected(
                f"column {self.column.name} has more than {MAX_GROUPS} different values: it is no "
                "public group",
                remedy="publish a coarser column, such as a district or an age band",
            )


def _group(text: str | None) -> str:
    return unicodedata.normalize("NFKC", text or "").strip()


def _proposals(
    columns: Sequence[ColumnSpec],
    keys: Mapping[str, Sequence[str]],
    sample: pa.Table,
    today: date,
) -> dict[str, ClassProposal]:
    """A class for each column; a key of several is of the class of the most delicate of them."""
    of_parts = propose_classes(sample.schema, sample, today=today)
    found: dict[str, ClassProposal] = {}
    for column in columns:
        parts = [of_parts[part] for part in keys.get(column.name, (column.name,))]
        most = max(parts, key=lambda one: CLASS_ORDER.index(one.column_class))
        form = column.canonicaliser or "text/1"
        below = CLASS_ORDER.index(most.column_class) < CLASS_ORDER.index(ColumnClass.IDENTIFIER)
        if column.role == "identifier" and below and _OF_ONE.intersection(form.split("+")):
            most = ClassProposal(
                ColumnClass.IDENTIFIER, f"it is published as {form}", f"以 {form} 发布"
            )
        # Published in two roles, it is what the more delicate one says.
        both = (most, found.get(column.name, most))
        found[column.name] = max(both, key=lambda one: CLASS_ORDER.index(one.column_class))
    return found


def _verify_codes(name: str, sample: pa.Table, *, division: bool) -> None:
    """A column by which rows belong to blocks holds codes, most of it. Raises InputRejected."""
    cells = [str(cell) for cell in sample.column(name).to_pylist() if cell not in (None, "")]
    is_one = _is_division if division else _is_code
    if sum(map(is_one, cells)) <= _CODES_SHARE * len(cells):
        expected = "codes of divisions (GB/T 2260)" if division else "codes of grid cells"
        raise InputRejected(
            f"blocks: most cells of column {name} are no {expected}",
            remedy="name the column with the codes, or add one to the source",
        )


def _is_division(cell: str) -> bool:
    code = region_code(cell.strip())
    if code is None:
        return False
    try:
        canonicalise("division/1", code.ljust(6, "0")[:6])
    except Unusable:
        return False
    return True


def _is_code(cell: str) -> bool:
    text = cell.strip()
    return 0 < len(text) <= 40 and text.replace("-", "").isalnum()
