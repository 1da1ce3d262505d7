"""Which rows of a source are wanted: conditions on columns that must all hold.

A condition compares a column with text as somebody wrote it; a column of another type has the text
read as its own type first. An empty cell meets no condition, not even an inequality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from connectors.errors import InputRejected
from connectors.names import verify_columns

# A condition that names more values is a join, which belongs into the source.
MAX_VALUES: Final = 1_000


class Comparison(StrEnum):
    """How a column is compared."""

    EQ = "eq"
    NEQ = "neq"
    IS_ANY_OF = "isAnyOf"
    STARTS_WITH = "startsWith"
    LT = "lt"
    LTEQ = "lteq"
    GT = "gt"
    GTEQ = "gteq"


@dataclass(frozen=True)
class Condition:
    """`column` compared with `values`; all comparisons but `isAnyOf` have exactly one.

    `startsWith` is for text: `440305` of a grid code `440305007`. Raises InputRejected for a number
    of values that the comparison does not have, and for a value that is half a character.
    """

    column: str
    comparison: Comparison
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        most = MAX_VALUES if self.comparison is Comparison.IS_ANY_OF else 1
        if not 1 <= len(self.values) <= most:
            raise InputRejected(
                f"a condition {self.comparison} on column {self.column} has {len(self.values)} "
                f"values, it takes {'1' if most == 1 else f'1 to {most}'}"
            )
        try:
            "".join(self.values).encode()
        except UnicodeEncodeError:
            raise InputRejected(
                f"a condition on column {self.column} holds half a character, which no text does; "
                "write the value again"
            ) from None


# All must hold; the empty one holds of every row.
Where = tuple[Condition, ...]

_ORDERED: Final[Mapping[Comparison, Callable[[pa.Array, pa.Scalar], pa.Array]]] = {
    Comparison.EQ: pc.equal,
    Comparison.NEQ: pc.not_equal,
    Comparison.LT: pc.less,
    Comparison.LTEQ: pc.less_equal,
    Comparison.GT: pc.greater,
    Comparison.GTEQ: pc.greater_equal,
}


def columns_read(columns: Sequence[str], where: Where) -> list[str]:
    """`columns` and, after them, those that only the conditions look at."""
    return list(dict.fromkeys((*columns, *(condition.column for condition in where))))


def keep(batch: pa.RecordBatch, where: Where) -> pa.RecordBatch:
    """The rows of `batch` that meet every condition. Raises InputRejected for a condition that the
    type of its column cannot be compared with."""
    if not where:
        return batch
    held = [_holds(batch.column(one.column), one) for one in where]
    return batch.filter(reduce(pc.and_, held), null_selection_behavior="drop")


def filtered(
    read: Callable[[list[str]], Iterator[pa.RecordBatch]], columns: Sequence[str], where: Where
) -> Iterator[pa.RecordBatch]:
    """What a source that cannot choose rows by itself yields: `columns` of the rows that meet
    `where`, from a `read` that yields all rows of the columns it is given."""
    for batch in read(columns_read(columns, where)):
        kept = keep(batch, where)
        if kept.num_rows:
            yield kept.select(list(columns))


def verify_readable(
    columns: Sequence[str], where: Where, present: Sequence[str], *, source: str
) -> None:
    """Raises InputRejected naming the first column, asked for or compared, that is not there."""
    verify_columns(columns, present, source=source)
    verify_columns(columns_read((), where), present, source=source)


def _holds(cells: pa.Array, condition: Condition) -> pa.Array:
    if pa.types.is_dictionary(cells.type):
        # How a Parquet file keeps repeated text, not what it is.
        cells = cells.cast(cells.type.value_type)
    if pa.types.is_null(cells.type):
        return pa.nulls(len(cells), pa.bool_())
    if condition.comparison is Comparison.STARTS_WITH:
        if not _is_text(cells.type):
            raise _mismatch(condition, cells.type)
        return pc.starts_with(cells, condition.values[0])
    try:
        values = pa.array(condition.values, pa.string()).cast(cells.type)
        if condition.comparison is Comparison.IS_ANY_OF:
            return pc.and_(_is_in(cells, values), pc.is_valid(cells))
        return _ORDERED[condition.comparison](cells, values[0])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise _mismatch(condition, cells.type) from None


def _is_in(cells: pa.Array, values: pa.Array) -> pa.Array:
    if pa.types.is_floating(cells.type):
        # As `eq` has it: not a number equals nothing, and zero has no sign.
        cells = pc.add(cells, pa.scalar(0.0, cells.type))
        values = pc.add(values, pa.scalar(0.0, cells.type)).filter(pc.invert(pc.is_nan(values)))
    return pc.is_in(cells, value_set=values)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _mismatch(condition: Condition, kind: pa.DataType) -> InputRejected:
    return InputRejected(
        f"column {condition.column} holds {kind}; the condition {condition.comparison} on it "
        "compares with something else: write the value as the column has it"
    )
