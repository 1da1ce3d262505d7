"""The quality of a whole table, seen by its owner before anything of it is published.

One pass over all columns in bounded memory. A report names rows and kinds of cells and shows
masked ends of unusable identifiers; least and largest values are left out, as they tell about
somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from connectors.conditions import Where
from connectors.identifiers import ColumnReader, InvalidIdentifier, QualityReport, canonicalise
from connectors.names import verify_columns
from connectors.source import Source
from connectors.table import batches, key_columns
from connectors.use import Use
from connectors.values import MISSING, kind_of_text, texts

# A group is a public key such as a district: few values, known to everybody.
MAX_GROUPS: Final = 256
# Different values of a column are counted up to here. A set of so many takes a megabyte.
MAX_DISTINCT: Final = 10_000
# Rows of a column of identifiers whose repetitions are counted, at sixteen bytes each.
MAX_REMEMBERED: Final = 10_000_000
# Enough to find what is wrong; a list of all would be as long as the table.
MAX_EXAMPLES: Final = 3
# A column of numbers has them in most of its filled cells; others are not looked at as numbers.
_NUMBERS_SHARE: Final = 0.5
_SAMPLE_CELLS: Final = 200
_IDENTIFIER_SHARE: Final = 0.5
# Told by their cells alone. What is a name, a day or a division a person must say.
_TELLING: Final = ("resident-id/1", "uscc/1", "mobile/1", "plate/1", "email/1")
_WHOLE = r"^[+-]?[0-9]{1,19}\z"
_DECIMAL = r"^[+-]?[0-9]{1,19}\.[0-9]{1,30}\z"


@dataclass(frozen=True)
class Oddity:
    """Cells of one kind that are no numbers, and the first rows that have one (from 1)."""

    kind: str
    count: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers: `scale` is how many decimals keep every one of them exactly."""

    whole: int
    decimal: int
    scale: int
    others: tuple[Oddity, ...]


@dataclass(frozen=True)
class ColumnReport:
    """What one column holds.

    `rows` are all, `blank` those without a value. There are `distinct` different values, or at
    least so many where that is not `exact`. `numbers` is None where most cells are none. `groups`
    says that the column could be published as a group: few values, each of several rows.
    """

    column: str
    type: str
    rows: int
    blank: int
    distinct: int
    exact: bool
    groups: bool
    numbers: Numbers | None


@dataclass(frozen=True)
class IdentifierReport:
    """An identifier: the report of its column, and the first rows that repeat an earlier one.

    `repeated` are pairs of the row and the earlier one. `exact` says that every row was compared.
    """

    quality: QualityReport
    repeated: tuple[tuple[int, int], ...]
    exact: bool


@dataclass(frozen=True)
class TableReport:
    """The quality of a table: one report for each column, and one for each identifier."""

    source: str
    rows: int
    columns: tuple[ColumnReport, ...]
    identifiers: tuple[IdentifierReport, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "source": self.source,
            "rows": self.rows,
            "columns": [asdict(one) for one in self.columns],
            "identifiers": [
                one.quality.to_json()
                | {"repeated": [list(pair) for pair in one.repeated], "exact": one.exact}
                for one in self.identifiers
            ],
        }


def inspect(
    source: Source,
    identifiers: Mapping[str, str],
    *,
    use: Use,
    values: Collection[str] = (),
    where: Where = (),
    progress: Callable[[int], None] | None = None,
) -> TableReport:
    """Read the table once and report on every column of it.

    `identifiers` are columns, or keys such as `name+born`, and the canonicaliser of each. `values`
    are columns to be looked at as numbers however few of them there are. `progress` is told how
    many rows were read. Of a consented source only the rows are looked at that may be used so.
    Raises InputRejected for an unknown column or canonicaliser, and whatever makes the source
    unreadable.
    """
    schema = source.schema()
    readers = [
        _Identifier(canonicaliser, column, key_columns(source, column))
        for column, canonicaliser in identifiers.items()
    ]
    for named in (values, *(reader.key for reader in readers)):
        verify_columns(list(named), schema.names, source=source.name)
    columns = [_Column(field, is_value=field.name in values) for field in schema]
    rows = 0
    for batch in batches(source, schema.names, use, where):
        for column in columns:
            column.feed(batch.column(column.name), rows)
        for reader in readers:
            reader.feed(batch, rows)
        rows += batch.num_rows
        if progress is not None:
            progress(rows)
    return TableReport(
        source.name,
        rows,
        tuple(column.report() for column in columns),
        tuple(reader.report() for reader in readers),
    )


def sample(source: Source, use: Use) -> pa.Table:
    """A few of the first rows, to look at what columns hold; an empty table where there is none."""
    for batch in batches(source, source.schema().names, use):
        return pa.Table.from_batches([batch.slice(0, _SAMPLE_CELLS)])
    return pa.table({})


def propose_canonicalisers(cells: pa.Table) -> dict[str, str]:
    """The canonicaliser of every column of a sample that more than half of its cells are for."""
    proposed: dict[str, str] = {}
    for name in cells.column_names:
        filled = [cell for cell in texts(cells.column(name).combine_chunks()) if cell]
        for canonicaliser in _TELLING:
            if sum(_is_one(canonicaliser, cell) for cell in filled) > _IDENTIFIER_SHARE * len(
                filled
            ):
                proposed[name] = canonicaliser
                break
    return proposed


def _is_one(canonicaliser: str, cell: str) -> bool:
    try:
        canonicalise(canonicaliser, cell)
    except InvalidIdentifier:
        return False
    return True


class _Identifier:
    """An identifier column as it is read: how usable, and which rows repeat earlier ones."""

    def __init__(self, canonicaliser: str, column: str, key: Sequence[str]) -> None:
        self._reader = ColumnReader(canonicaliser, column=column, repetitions=False)
        self.key = key
        self._hashes: list[NDArray[np.int64]] = []
        self._rows: list[NDArray[np.int64]] = []
        self._remembered = 0
        self._exact = True

    def feed(self, batch: pa.RecordBatch, before: int) -> None:
        canonical = self._reader.feed(*(batch.column(name) for name in self.key))
        usable = [(hash(one), row) for row, one in enumerate(canonical, start=before + 1) if one]
        room = MAX_REMEMBERED - self._remembered
        self._exact = self._exact and len(usable) <= room
        kept = np.array(usable[:room], dtype=np.int64).reshape(-1, 2)
        self._remembered += len(kept)
        self._hashes.append(kept[:, 0])
        self._rows.append(kept[:, 1])

    def report(self) -> IdentifierReport:
        hashes = np.concatenate(self._hashes or [np.empty(0, dtype=np.int64)])
        rows = np.concatenate(self._rows or [np.empty(0, dtype=np.int64)])
        # A stable order keeps rows of one identifier as they came, so each but the first repeats.
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
        by_row = again[np.argsort(rows[order[again]])][:MAX_EXAMPLES]
        first = np.searchsorted(ordered, ordered[by_row], side="left")
        repeated = zip(rows[order[by_row]].tolist(), rows[order[first]].tolist(), strict=True)
        quality = replace(self._reader.report(), duplicates=len(again))
        return IdentifierReport(quality, tuple(repeated), self._exact)


class _Column:
    """Any column as it is read."""

    def __init__(self, field: pa.Field, *, is_value: bool) -> None:
        self.name = field.name
        self._type = field.type
        self._rows = self._blank = 0
        self._values: set[int] = set()
        self._exact = True
        self._is_value = is_value
        self._numbers: _Numbers | None = _Numbers()

    def feed(self, cells: pa.Array, before: int) -> None:
        self._rows += len(cells)
        trimmed = _trimmed(cells)
        filled = pc.fill_null(pc.not_equal(trimmed, ""), False)
        count = pc.sum(filled).as_py() or 0
        self._blank += len(cells) - count
        if not count:
            return
        if self._exact:
            self._values.update(map(hash, pc.unique(trimmed.filter(filled)).to_pylist()))
            if len(self._values) > MAX_DISTINCT:
                self._exact = False
        if self._numbers is not None:
            self._numbers.feed(trimmed, filled, before)
            # A column of text has no numbers to count the exceptions of.
            if not self._is_value and self._numbers.share() <= _NUMBERS_SHARE:
                self._numbers = None

    def report(self) -> ColumnReport:
        distinct = min(len(self._values), MAX_DISTINCT)
        filled = self._rows - self._blank
        groups = self._exact and 0 < distinct <= MAX_GROUPS and 2 * distinct <= filled
        numbers = self._numbers.report() if self._numbers is not None and filled else None
        return ColumnReport(
            self.name,
            str(self._type),
            self._rows,
            self._blank,
            distinct,
            self._exact,
            groups,
            numbers,
        )


class _Numbers:
    """Counts of the numbers of a column, and of what is none."""

    def __init__(self) -> None:
        self._whole = self._decimal = self._scale = 0
        self._others: dict[str, list[int]] = {}
        self._counts: dict[str, int] = {}

    def share(self) -> float:
        """Numbers among the cells that say anything; all of them where none does so far."""
        numbers = self._whole + self._decimal
        said = numbers + sum(self._counts.values()) - self._counts.get(MISSING, 0)
        return numbers / said if said else 1.0

    def feed(self, cells: pa.Array, filled: pa.Array, before: int) -> None:
        whole = pc.fill_null(pc.match_substring_regex(cells, _WHOLE), False)
        decimal = pc.fill_null(pc.match_substring_regex(cells, _DECIMAL), False)
        self._whole += pc.sum(whole).as_py()
        decimals = cells.filter(decimal)
        if len(decimals):
            self._decimal += len(decimals)
            places = pc.subtract(pc.utf8_length(decimals), pc.find_substring(decimals, "."))
            self._scale = max(self._scale, pc.max(places).as_py() - 1)
        others = pc.and_(filled, pc.invert(pc.or_(whole, decimal)))
        places = np.flatnonzero(others.to_numpy(zero_copy_only=False)).tolist()
        for place, cell in zip(places, cells.filter(others).to_pylist(), strict=True):
            kind = kind_of_text(cell)
            self._counts[kind] = self._counts.get(kind, 0) + 1
            rows = self._others.setdefault(kind, [])
            if len(rows) < MAX_EXAMPLES:
                rows.append(before + place + 1)

    def report(self) -> Numbers:
        others = sorted(self._counts, key=lambda kind: (-self._counts[kind], kind))
        return Numbers(
            self._whole,
            self._decimal,
            self._scale,
            tuple(Oddity(kind, self._counts[kind], tuple(self._others[kind])) for kind in others),
        )


def _trimmed(cells: pa.Array) -> pa.Array:
    """The cells as text without white space around it."""
    kind = cells.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        if pa.types.is_integer(kind):
            return cells.cast(pa.string())
        cells = pa.array([_plain(cell) for cell in cells.to_pylist()], pa.string())
    return pc.utf8_trim_whitespace(cells)


def _plain(cell: object) -> str | None:
    """A cell as it would stand in a file of text: numbers with all their digits."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, float):
        # The shortest decimal that reads back as the same number is the one that was written.
        exact = Decimal(repr(cell))
        if not exact.is_finite():
            return "NaN"
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, Decimal):
        return format(cell.normalize(), "f")
    return str(cell)
