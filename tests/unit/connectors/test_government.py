"""Divisions by their codes, and views of one."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import InputRejected
from connectors.government import Division, Level, View, parse_division, verify_grid
from connectors.release import parse_rules

digits = st.integers(1, 9).map(str)
codes = st.builds(
    lambda parts, depth: "44" + "".join(parts[:depth]),
    st.tuples(
        *(st.integers(1, 10**n - 1).map(lambda k, n=n: f"{k:0{n}}") for n in (2, 2, 3, 3))  # type: ignore[misc]
    ),
    st.integers(0, 4),
)
some = settings(max_examples=30, deadline=None)


@pytest.mark.parametrize(
    ("written", "code", "level"),
    [
        ("44", "44", Level.PROVINCE),
        ("440000", "44", Level.PROVINCE),
        ("440300", "4403", Level.PREFECTURE),
        (" 440305 ", "440305", Level.COUNTY),
        ("440305000", "440305", Level.COUNTY),
        ("440305001000", "440305001", Level.STREET),
        ("440305000000", "440305", Level.COUNTY),
        ("440000000000", "44", Level.PROVINCE),
        ("440305001002", "440305001002", Level.COMMUNITY),
        ("440305010", "440305010", Level.STREET),
    ],
)
def test_a_division_has_the_shortest_code_that_names_it(
    written: str, code: str, level: Level
) -> None:
    division = parse_division(written)
    assert (division.code, division.level) == (code, level)


@pytest.mark.parametrize(
    "text", ["", "4", "440", "99", "00", "44030", "4403051", "44０305", "shenzhen"]
)
def test_what_is_no_division_is_refused(text: str) -> None:
    with pytest.raises(InputRejected, match="such as 440305"):
        parse_division(text)


@some
@given(codes, codes)
def test_a_division_lies_in_exactly_those_of_its_chain(one: str, other: str) -> None:
    inner, outer = parse_division(one), parse_division(other)
    assert inner.code == one
    assert inner.is_within(outer) == (outer.code in inner.chain)
    assert inner.is_within(inner)
    assert not (inner.is_within(outer) and outer.is_within(inner)) or inner == outer
    assert parse_division(one.ljust(12, "0") if len(one) in (6, 9) else one) == inner


def test_a_grid_cell_begins_with_its_division() -> None:
    for cell in ("4403050010001", "44030500100201", "440305A7"):
        verify_grid(cell, Division("440305"))
    for cell in ("440305", "440306001", "440305-1", ""):
        with pytest.raises(InputRejected, match="grid cell in 440305"):
            verify_grid(cell, Division("440305"))


ROWS = {
    "place": ["440305001", "440305001", "440305002", "440305002", "440306001"],
    "cell": ["44030500101", "44030500102", "44030500201", "44030500202", "44030600101"],
    "people": ["1", "2", "3", "4", "100"],
}


def shown(view: View) -> dict[str, list[object]]:
    release = parse_rules(view.rules(), list(ROWS))
    (condition,) = release.where
    kept = [cell.startswith(condition.values[0]) for cell in ROWS[condition.column]]
    table = pa.table(ROWS).filter(pa.array(kept))
    left = release.apply(table.select(list(release.reads)).to_batches(), b"k")
    return pa.Table.from_batches(left).to_pydict()


def test_the_rows_of_a_division_are_those_whose_codes_begin_so() -> None:
    assert shown(View(Division("440305"), "place"))["people"] == ["1", "2", "3", "4"]


def test_totals_of_a_division_go_by_the_next_level_down() -> None:
    assert shown(View(Division("440305"), "place", value="people", least=2)) == {
        "place": ["440305001", "440305002"],
        "rows": [2, 2],
        "people_total": ["3", "7"],
    }
    assert shown(View(Division("4403"), "place", value="people", least=1))["rows"] == [4, 1]


def test_totals_go_by_other_columns_where_some_are_named_and_by_none_in_a_community() -> None:
    by_cell = View(Division("440305"), "place", value="people", by=("cell",), least=1)
    assert len(shown(by_cell)["cell"]) == 4
    community = View(Division("440305001002"), "place", value="people", least=1)
    assert community.rules()[1] == "rows:total(people;min=1)"


def test_a_cell_is_shown_where_there_is_a_column_of_cells() -> None:
    view = View(Division("440305"), "place", "cell", "44030500101")
    assert view.rules() == ("rows:where(place^=440305)", "rows:where(cell^=44030500101)")
    with pytest.raises(InputRejected, match="no column"):
        View(Division("440305"), "place", grid="44030500101").rules()
