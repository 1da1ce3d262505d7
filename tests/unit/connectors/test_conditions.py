from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.conditions import (
    MAX_VALUES,
    Comparison,
    Condition,
    columns_read,
    filtered,
    keep,
    verify_readable,
)
from connectors.errors import InputRejected

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


def kept(cells: pa.Array, comparison: Comparison, *values: str) -> list[object]:
    batch = pa.record_batch({"x": cells})
    read: list[object] = keep(batch, (Condition("x", comparison, values),)).column(0).to_pylist()
    return read


def meets(cell: str | None, comparison: Comparison, values: tuple[str, ...]) -> bool:
    """The same in plain Python: text compares by its bytes in UTF-8."""
    if cell is None:
        return False
    mine, other = cell.encode(), values[0].encode()
    return {
        Comparison.EQ: mine == other,
        Comparison.NEQ: mine != other,
        Comparison.IS_ANY_OF: cell in values,
        Comparison.STARTS_WITH: mine.startswith(other),
        Comparison.LT: mine < other,
        Comparison.LTEQ: mine <= other,
        Comparison.GT: mine > other,
        Comparison.GTEQ: mine >= other,
    }[comparison]


@settings(max_examples=60)
@given(
    cells=st.lists(st.none() | TEXT, max_size=8),
    comparison=st.sampled_from(list(Comparison)),
    values=st.lists(TEXT, min_size=1, max_size=3),
)
def test_text_compares_by_its_bytes_and_an_empty_cell_never(
    cells: list[str | None], comparison: Comparison, values: list[str]
) -> None:
    named = tuple(values if comparison is Comparison.IS_ANY_OF else values[:1])
    assert kept(pa.array(cells, pa.string()), comparison, *named) == [
        cell for cell in cells if meets(cell, comparison, named)
    ]


@pytest.mark.parametrize(
    ("cells", "value", "expected"),
    [
        pytest.param(pa.array([9, 10, 11, None]), "10", [11], id="whole"),
        pytest.param(pa.array([9.5, 10.5, None]), "10", [10.5], id="floating"),
        pytest.param(
            pa.array([Decimal("9.99"), Decimal("10.01"), None], pa.decimal128(12, 2)),
            "10.00",
            [Decimal("10.01")],
            id="decimal",
        ),
        pytest.param(
            pa.array([date(2026, 1, 9), date(2026, 1, 11), None]),
            "2026-01-10",
            [date(2026, 1, 11)],
            id="date",
        ),
        pytest.param(
            pa.array([datetime(2026, 1, 11, tzinfo=UTC), None], pa.timestamp("us", tz="UTC")),
            "2026-01-10 23:59:59Z",
            [datetime(2026, 1, 11, tzinfo=UTC)],
            id="moment",
        ),
        pytest.param(pa.array(["10", "9", None]).dictionary_encode(), "10", ["9"], id="dictionary"),
    ],
)
def test_a_value_is_read_as_the_type_of_its_column(
    cells: pa.Array, value: str, expected: list[object]
) -> None:
    assert kept(cells, Comparison.GT, value) == expected
    assert set(expected) <= set(kept(cells, Comparison.NEQ, value))


def test_any_of_one_value_is_equality_for_numbers_too() -> None:
    numbers = pa.array([float("nan"), 0.0, -0.0, 1.0, None])
    for value in ("nan", "0", "-0", "1"):
        equal = kept(numbers, Comparison.EQ, value)
        assert kept(numbers, Comparison.IS_ANY_OF, value) == equal
    assert kept(numbers, Comparison.IS_ANY_OF, "nan", "1") == [1.0]


def test_a_column_without_any_value_meets_nothing() -> None:
    for comparison in Comparison:
        assert kept(pa.nulls(3), comparison, "x") == []


@pytest.mark.parametrize("comparison", list(Comparison))
@pytest.mark.parametrize("kind", [pa.int64(), pa.date32(), pa.list_(pa.int64()), pa.float16()])
def test_a_value_of_another_type_is_refused_without_being_shown(
    kind: pa.DataType, comparison: Comparison
) -> None:
    with pytest.raises(InputRejected, match="column x holds") as refused:
        kept(pa.nulls(1, kind), comparison, "secret")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("comparison", "count"),
    [
        (Comparison.EQ, 0),
        (Comparison.EQ, 2),
        (Comparison.IS_ANY_OF, 0),
        (Comparison.IS_ANY_OF, MAX_VALUES + 1),
    ],
)
def test_a_comparison_takes_as_many_values_as_it_has(comparison: Comparison, count: int) -> None:
    with pytest.raises(InputRejected, match=f"has {count} values"):
        Condition("x", comparison, ("v",) * count)


def test_half_a_character_is_no_value() -> None:
    with pytest.raises(InputRejected, match="half a character"):
        Condition("x", Comparison.EQ, ("\ud800",))


def test_all_conditions_must_hold() -> None:
    batch = pa.record_batch({"a": ["1", "1", "2"], "b": ["x", "y", "x"]})
    both = (Condition("a", Comparison.EQ, ("1",)), Condition("b", Comparison.EQ, ("x",)))
    assert keep(batch, both).to_pylist() == [{"a": "1", "b": "x"}]
    assert keep(batch, ()) is batch


def test_columns_that_only_conditions_look_at_are_read_but_not_given() -> None:
    asked: list[list[str]] = []

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        asked.append(names)
        yield pa.record_batch({"a": ["1", "2"], "b": ["x", "y"]}).select(names)
        yield pa.record_batch({"a": ["3"], "b": ["y"]}).select(names)

    where = (Condition("b", Comparison.EQ, ("x",)),)
    assert [batch.to_pylist() for batch in filtered(read, ["a"], where)] == [[{"a": "1"}]]
    assert asked == [["a", "b"]]
    assert columns_read(["b", "a"], where) == ["b", "a"]


def test_a_column_that_is_not_there_is_named_with_the_nearest_one() -> None:
    where = (Condition("distrct", Comparison.EQ, ("x",)),)
    with pytest.raises(InputRejected, match=r"no column distrct.*did you mean district"):
        verify_readable(["id"], where, ["id", "district"], source="t")
    with pytest.raises(InputRejected, match="no column di"):
        verify_readable(["di"], (), ["id", "district"], source="t")
