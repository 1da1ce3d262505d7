from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.multiset import RowsDigest

CELL = st.none() | st.sampled_from(["", "-", "a", "1:a", "0:", "a1:", "\0", ":"])
ROWS = st.lists(st.tuples(CELL, CELL), max_size=6)


def digest(*batches: pa.RecordBatch) -> str:
    rows = RowsDigest()
    for batch in batches:
        rows.add(batch)
    return rows.text()


def batch(rows: list[tuple[str | None, str | None]]) -> pa.RecordBatch:
    columns = {name: [row[place] for row in rows] for place, name in enumerate("ab")}
    return pa.record_batch({name: pa.array(c, pa.string()) for name, c in columns.items()})


@settings(max_examples=60)
@given(one=ROWS, other=ROWS)
def test_two_digests_are_the_same_where_the_rows_are_the_same_in_any_order(
    one: list[tuple[str | None, str | None]], other: list[tuple[str | None, str | None]]
) -> None:
    def ordered(rows: list[tuple[str | None, str | None]]) -> list[str]:
        return sorted(repr(row) for row in rows)

    assert (digest(batch(one)) == digest(batch(other))) == (ordered(one) == ordered(other))
    assert digest(batch(one)) == digest(batch(one[::-1]))
    assert digest(batch(one), batch(other)) == digest(batch(other + one))


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        (pa.float64(), [0.1, 0.1 + 2**-56, -0.0, 0.0, float("nan"), None]),
        (pa.float32(), [0.5, 0.25, None]),
        (pa.int64(), [0, 1, -1, 2**62, None]),
        (pa.bool_(), [True, False, None]),
        (pa.decimal128(20, 2), [Decimal("0.10"), Decimal("0.01"), None]),
        (pa.decimal256(60, 2), [Decimal(10) ** 50, Decimal(1), None]),
        (pa.date32(), [date(2026, 1, 1), date(2026, 1, 2), None]),
        (
            pa.timestamp("us", tz="UTC"),
            [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 1, UTC), None],
        ),
        (pa.binary(), [b"\xff", b"", None]),
    ],
    ids=str,
)
def test_every_value_of_every_type_counts(kind: pa.DataType, cells: list[object]) -> None:
    seen = {digest(pa.record_batch({"a": pa.array([cell], kind)})) for cell in cells}
    assert len(seen) == len(cells)
