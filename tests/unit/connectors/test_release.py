"""Rules under which rows leave: what they show, what they never show, and what is no rule."""

import hmac
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import InputRejected
from connectors.release import Release, parse_rules
from connectors.release_cells import keyed_hash
from connectors.release_rows import _hidden

KEY, OTHER_KEY = b"of one agreement", b"of another"
some = settings(max_examples=25, deadline=None)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
blocks = st.sampled_from(["440305", "440306", "440307", ""])


def released(
    rules: Sequence[str], columns: dict[str, list[object]], *, key: bytes = KEY, batch: int = 3
) -> dict[str, list[object]]:
    """What leaves of a table read in small batches; `where` is the source's to do."""
    release = parse_rules(rules, list(columns))
    table = pa.table(columns).select(list(release.reads))
    given = table.to_batches(max_chunksize=batch)
    left = list(release.apply(given, key))
    schema = release.schema(table.schema)
    return pa.Table.from_batches(left, schema=schema).to_pydict()


@pytest.mark.parametrize(
    ("rule", "cells", "expected"),
    [
        ("c:mask(3,4)", ["110101199003074515", "abcdefg"], ["110***********4515", "*" * 7]),
        ("c:mask(3,4)", ["", None], ["", None]),
        ("c:mask(0,0)", ["ab"], ["**"]),
        ("c:mask(1,0)", ["张三丰"], ["张**"]),
        ("c:prefix(6)", ["440305007", "44", None], ["440305", "44", None]),
        ("c:prefix(6)", [440305007, None], ["440305", None]),
        ("c:band(10)", ["29", "30", "-1", "29.5"], ["20-29", "30-39", "-10--1", "20-29"]),
        ("c:band(10)", ["", None], [None, None]),
        ("c:band(10)", [29, -10, None], ["20-29", "-10--1", None]),
        ("c:round(100)", ["149", "150", "-50", "-51"], [100, 200, 0, -100]),
        ("c:round(1)", [1.5, -1.5, None], [2, -1, None]),
        ("c:year", ["2024-05-31", "20240531", " ", None], ["2024", "2024", None, None]),
        ("c:month", ["2024-5-3", "2024/12/31 10:00"], ["2024-05", "2024-12"]),
        ("c:month", ["2024年3月1日", "2024-07"], ["2024-03", "2024-07"]),
    ],
)  # fmt: skip
def test_a_rule_changes_each_cell_of_its_column(
    rule: str, cells: list[object], expected: list[object]
) -> None:
    assert released([rule], {"c": cells}) == {"c": expected}


def test_without_rules_rows_leave_as_they_are() -> None:
    columns: dict[str, list[object]] = {"a": ["x", None], "b": [1, 2]}
    assert released([], columns) == columns


def test_a_dropped_column_is_not_even_read() -> None:
    release = parse_rules(["secret:drop"], ["name", "secret"])
    assert release.reads == release.leaves == ("name",)


@some
@given(st.lists(texts, max_size=10), st.integers(0, 5), st.integers(0, 5))
def test_a_mask_never_shows_more_than_it_allows(cells: list[str], first: int, last: int) -> None:
    left = released([f"c:mask({first},{last})"], {"c": list(cells) or [""]})["c"]
    for cell, shown in zip(cells, left, strict=False):
        assert isinstance(shown, str)
        assert len(shown) == len(cell)
        kept = [n for n, (a, b) in enumerate(zip(cell, shown, strict=True)) if a == b != "*"]
        assert all(n < first or n >= len(cell) - last for n in kept)
        assert not cell or "*" in shown


@some
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_the_keyed_hash_is_the_hmac_of_the_library(key: bytes, message: bytes) -> None:
    assert keyed_hash(key)(message) == hmac.digest(key, message, "sha256")


@some
@given(st.lists(texts, min_size=1, max_size=20))
def test_pseudonyms_are_equal_for_equal_values_only_and_for_no_other_agreement(
    cells: list[str],
) -> None:
    columns: dict[str, list[object]] = {"c": list(cells), "d": list(cells)}
    rules = ["c:pseudonym", "d:pseudonym"]
    mine, theirs = released(rules, columns), released(rules, columns, key=OTHER_KEY)
    assert mine["c"] == mine["d"]
    pairs = set(zip(cells, mine["c"], strict=True))
    assert len({one for one, _ in pairs}) == len(pairs) == len({one for _, one in pairs})
    assert all(a == b if not a else a != b for a, b in pairs)
    assert not {one for one in mine["c"] if one} & set(theirs["c"])


@some
@given(st.lists(st.integers(-(10**16), 10**16), min_size=1), st.integers(2, 10**6))
def test_a_band_contains_its_value_and_a_rounded_number_is_the_nearest(
    numbers: list[int], step: int
) -> None:
    columns: dict[str, list[object]] = {"b": list(numbers), "r": [str(n) for n in numbers]}
    left = released([f"b:band({step})", f"r:round({step})"], columns)
    for number, band, near in zip(numbers, left["b"], left["r"], strict=True):
        lower, upper = map(int, re.fullmatch(r"(-?\d+)-(-?\d+)", str(band)).groups())  # type: ignore[union-attr]
        assert lower <= number <= upper
        assert (lower % step, upper - lower) == (0, step - 1)
        assert isinstance(near, int)
        assert near % step == 0
        assert abs(near - number) * 2 <= step


def test_a_sample_is_about_its_share_the_same_each_time_and_another_for_another_agreement() -> None:
    columns: dict[str, list[object]] = {"n": [str(n) for n in range(4000)], "v": ["1"] * 4000}
    once = released(["rows:sample(0.1)", "n:prefix(9)"], columns, batch=4000)
    assert once == released(["rows:sample(0.1)", "n:prefix(9)"], columns, batch=7)
    # Six standard deviations to each side.
    assert 286 < len(once["n"]) < 514
    assert once != released(["rows:sample(0.1)", "n:prefix(9)"], columns, key=OTHER_KEY, batch=4000)
    # The rows are told apart by a column that does not leave.
    assert len(released(["rows:sample(0.1)", "n:drop"], columns, batch=4000)["v"]) == len(once["n"])
    assert released(["rows:sample(1)"], columns, batch=4000) == columns


def test_the_first_rows_are_those_of_the_source() -> None:
    columns: dict[str, list[object]] = {"n": list(range(10))}
    assert released(["rows:first(4)"], columns)["n"] == [0, 1, 2, 3]
    assert released(["rows:first(40)"], columns)["n"] == list(range(10))


@some
@given(st.lists(st.tuples(st.integers(0, 60), blocks), min_size=1, max_size=60), st.integers(2, 5))
def test_rows_of_rare_combinations_are_left_out_as_they_would_leave(
    rows: list[tuple[int, str]], least: int
) -> None:
    columns: dict[str, list[object]] = {"age": [a for a, _ in rows], "block": [b for _, b in rows]}
    rules = [f"rows:atleast({least};by=age,block)", "age:band(20)"]
    left = released(rules, columns)
    banded = [(f"{a // 20 * 20}-{a // 20 * 20 + 19}", b) for a, b in rows]
    counts = Counter(banded)
    expected = [one for one in banded if counts[one] >= least]
    assert list(zip(left["age"], left["block"], strict=True)) == expected


def test_what_waits_to_be_counted_leaves_nothing_behind(tmp_path: Path) -> None:
    release = parse_rules(["rows:atleast(2;by=c)"], ["c"])
    given = pa.table({"c": ["a", "a", "b"]}).to_batches()
    left = list(release.apply(given, KEY, spill=tmp_path))
    assert [one.to_pydict() for one in left] == [{"c": ["a", "a"]}]
    assert list(tmp_path.iterdir()) == []


@some
@given(
    st.lists(
        st.tuples(blocks, st.sampled_from("xyz"), st.none() | st.decimals(-99, 99, places=2)),
        min_size=1,
        max_size=80,
    ),
    st.integers(1, 6),
)
def test_totals_are_those_of_a_plain_reference(
    rows: list[tuple[str, str, object]], least: int
) -> None:
    columns: dict[str, list[object]] = {
        "block": [b for b, _, _ in rows],
        "kind": [k for _, k, _ in rows],
        "value": ["" if v is None else str(v) for _, _, v in rows],
        "unused": ["?"] * len(rows),
    }
    left = released([f"rows:total(value;by=block,kind;min={least})"], columns)
    counts: Counter[tuple[str | None, ...]] = Counter()
    totals: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for block, kind, value in rows:
        if value is not None:
            counts[block, kind] += 1
            totals[block, kind] += Fraction(str(value))
    shown = sorted(set(counts) - _hidden(counts, least))
    assert list(left) == ["block", "kind", "rows", "value_total"]
    assert list(zip(left["block"], left["kind"], strict=True)) == shown
    assert left["rows"] == [counts[one] for one in shown]
    assert [Fraction(str(one)) for one in left["value_total"]] == [totals[one] for one in shown]  # type: ignore[index]


@some
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")), st.integers(1, 30), max_size=16
    )
)
def test_no_group_that_is_left_out_stands_alone_in_its_line(
    counts: dict[tuple[str, str], int],
) -> None:
    least = 10
    hidden = _hidden(Counter(counts), least)
    assert all(one in hidden for one, count in counts.items() if count < least)
    for n in (0, 1):
        for across in {one[n] for one in counts}:
            line = [one for one in counts if one[n] == across]
            out = [one for one in line if one in hidden]
            if out and len(out) < len(line):
                assert len(out) >= 2
                assert sum(counts[one] for one in out) >= least


def test_nothing_is_left_out_of_totals_whose_groups_are_all_large_enough() -> None:
    assert _hidden(Counter({("a",): 10, ("b",): 11}), 10) == set()


def test_rows_that_meet_no_condition_of_the_source_are_never_seen() -> None:
    release = parse_rules(
        ["rows:where(grid^=440305)", "rows:where(kind=a=b)"], ["kind"], filterable=["grid"]
    )
    assert [(one.column, one.comparison, one.values) for one in release.where] == [
        ("grid", "startsWith", ("440305",)),
        ("kind", "eq", ("a=b",)),
    ]
    assert release.reads == ("kind",)


@pytest.mark.parametrize(
    "rule",
    [
        "", "a", "a:", ":drop", "a:other", "a:drop(1)", "a:mask", "a:mask(1)", "a:mask(1,2,3)",
        "a:mask(-1,2)", "a:mask(1,2", "a:mask(99,0)", "a:prefix(0)", "a:band(1)", "a:band(x)",
        "a:band(99999999999999999)", "a:year(1)", "b:drop", "rows:other", "rows:where(a)",
        "rows:where(b=1)", "rows:where(a=)", "rows:sample(0)", "rows:sample(1.5)",
        "rows:sample(1e-3)", "rows:first(0)", "rows:first", "rows:atleast(5)",
        "rows:atleast(1;by=a)", "rows:atleast(5;by=b)", "rows:atleast(5;by=a,a)",
        "rows:atleast(5;by=a;by=a)",
        "rows:total(a;by=a;min=2)", "rows:total(b;min=2)", "rows:total(a)", "rows:total(a;min=0)",
        "rows:total(a;min=2;max=3)", "a:drop" + "x" * 500,
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_with_its_text_and_a_remedy(rule: str) -> None:
    with pytest.raises(InputRejected) as refused:
        parse_rules([rule], ["a"])
    assert repr(rule[:200]) in str(refused.value)
    assert "; " in str(refused.value)


@pytest.mark.parametrize(
    "rules",
    [
        ["a:drop", "a:year"],
        ["a:year", "a:month"],
        ["a:drop", "b:drop"],
        ["a:drop", "rows:atleast(2;by=a)"],
        ["a:drop", "rows:total(b;by=a;min=2)"],
        ["rows:first(1)", "rows:first(2)"],
        ["a:drop"] * 201,
    ],
)
def test_rules_that_do_not_fit_each_other_are_refused(rules: list[str]) -> None:
    with pytest.raises(InputRejected):
        parse_rules(rules, ["a", "b"])


@pytest.mark.parametrize("word", ["band(5)", "round(5)", "year", "month"])
def test_a_cell_that_is_not_what_a_rule_needs_is_named_by_its_row_and_not_shown(word: str) -> None:
    cells: list[object] = ["", "20240101", "20240101", "20240101", "secret"]
    with pytest.raises(InputRejected, match=f"c:{re.escape(word)}.* row 5 ") as refused:
        released([f"c:{word}"], {"c": cells})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ("c:band(5)", pa.bool_()),
        ("c:round(5)", pa.date32()),
        ("c:year", pa.int64()),
        ("c:mask(1,1)", pa.list_(pa.string())),
        ("rows:total(c;min=2)", pa.date32()),
    ],
)
def test_a_column_whose_type_a_rule_is_not_for_is_known_before_anything_is_read(
    rule: str, kind: pa.DataType
) -> None:
    with pytest.raises(InputRejected, match=re.escape(rule)):
        parse_rules([rule], ["c"]).schema(pa.schema([("c", kind)]))


@some
@given(st.lists(st.text(max_size=30), max_size=4))
def test_any_text_is_a_rule_or_refused(rules: list[str]) -> None:
    with suppress(InputRejected):
        assert isinstance(parse_rules(rules, ["a"]), Release)
