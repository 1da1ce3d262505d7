import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import quality
from connectors.errors import InputRejected
from connectors.identifiers import QualityReport, canonicalise
from connectors.quality import (
    ColumnReport,
    IdentifierReport,
    Numbers,
    Oddity,
    TableReport,
    inspect,
    propose_canonicalisers,
    sample,
)
from connectors.source import open_source
from connectors.use import Use

GOLDEN = Path(__file__).parent / "golden" / "dirty-table.csv"
USE = Use(
    purpose="inspection", recipient="did:web:owner.example", at=datetime(2026, 5, 1, tzinfo=UTC)
)
IDENTIFIERS = {
    "证件号码": "resident-id/1",
    "手机": "mobile/1",
    "区": "division/1",
    "姓名+出生日期": "name/1+date/1",
}


def text_column(name: str, *, blank: int, distinct: int, numbers: Numbers | None) -> ColumnReport:
    return ColumnReport(
        column=name,
        type="string",
        rows=12,
        blank=blank,
        distinct=distinct,
        exact=True,
        groups=False,
        numbers=numbers,
    )


def identifier(
    name: str,
    *,
    valid: int,
    blank: int,
    invalid: dict[str, int],
    duplicates: int,
    examples: tuple[str, ...],
    repeated: tuple[tuple[int, int], ...],
) -> IdentifierReport:
    canonicaliser = IDENTIFIERS[name]
    return IdentifierReport(
        QualityReport(name, canonicaliser, 12, valid, blank, invalid, duplicates, examples),
        repeated,
        exact=True,
    )


def test_a_dirty_table_is_reported_to_the_row() -> None:
    report = inspect(open_source(str(GOLDEN)), IDENTIFIERS, values=["金额"], use=USE)
    amounts = Numbers(
        whole=2,
        decimal=2,
        scale=3,
        others=(
            Oddity("a word for a missing value", 2, (4, 6)),
            Oddity("a number beyond 64 bits", 1, (11,)),
            Oddity("a number in scientific notation", 1, (7,)),
            Oddity("a number with a unit", 1, (9,)),
            Oddity("a number with thousands separators", 1, (3,)),
            Oddity("full-width digits", 1, (12,)),
            Oddity("text", 1, (10,)),
        ),
    )
    assert report == TableReport(
        source="dirty-table.csv",
        rows=12,
        columns=(
            text_column("证件号码", blank=1, distinct=11, numbers=None),
            text_column("姓名", blank=0, distinct=11, numbers=None),
            text_column("出生日期", blank=1, distinct=11, numbers=None),
            text_column("手机", blank=1, distinct=10, numbers=None),
            text_column("区", blank=1, distinct=7, numbers=Numbers(11, 0, 0, ())),
            text_column("金额", blank=0, distinct=12, numbers=amounts),
            text_column("备注", blank=8, distinct=4, numbers=None),
        ),
        identifiers=(
            identifier(
                "证件号码",
                valid=6,
                blank=2,
                invalid={
                    "scientific-notation": 1,
                    "characters": 1,
                    "date": 1,
                    "check-digit": 1,
                },
                duplicates=2,
                examples=(
                    "row 7, scientific-notation: 4*****…**17",
                    "row 8, characters: 44****…**3A",
                    "row 9, date: 44****…**34",
                    "row 10, check-digit: 44****…**30",
                ),
                repeated=((2, 1), (11, 3)),
            ),
            identifier(
                "手机",
                valid=7,
                blank=2,
                invalid={"scientific-notation": 1, "not-mobile": 2},
                duplicates=4,
                examples=(
                    "row 7, scientific-notation: ****",
                    "row 8, not-mobile: 01****…**34",
                    "row 9, not-mobile: ****",
                ),
                repeated=((2, 1), (4, 3), (10, 1)),
            ),
            identifier(
                "区",
                valid=9,
                blank=1,
                invalid={"length": 1, "division": 1},
                duplicates=4,
                examples=("row 8, length: ****", "row 9, division: ****"),
                repeated=((2, 1), (6, 1), (7, 1)),
            ),
            identifier(
                "姓名+出生日期",
                valid=7,
                blank=2,
                invalid={"date": 2, "characters": 1},
                duplicates=2,
                examples=(
                    "row 7, date: ****",
                    "row 8, characters: ****",
                    "row 9, date: ****",
                ),
                repeated=((2, 1), (11, 3)),
            ),
        ),
    )


def test_a_report_shows_no_cell_but_masked_ends() -> None:
    report = inspect(open_source(str(GOLDEN)), IDENTIFIERS, values=["金额"], use=USE)
    shown = json.dumps(report.to_json(), ensure_ascii=False)
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()[1:]
    for cell in {cell.strip() for line in lines for cell in line.split(",") if len(cell) > 4}:
        assert cell not in shown


def test_what_cells_tell_is_proposed_and_the_rest_is_for_a_person_to_say() -> None:
    cells = sample(open_source(str(GOLDEN)), USE)
    assert propose_canonicalisers(cells) == {"证件号码": "resident-id/1", "手机": "mobile/1"}


def test_typed_columns_are_reported_like_the_text_of_them(tmp_path: Path) -> None:
    path = tmp_path / "typed.parquet"
    columns = {
        "n": pa.array([1, None, 3, 3], pa.int32()),
        "f": [1.0, 0.25, float("nan"), None],
        "d": pa.array([Decimal("1.500"), Decimal("2.000"), None, None]),
        "day": [date(2026, 1, 1)] * 4,
        "flag": [True, False, True, False],
        "group": pa.array(["a", "b", "a", "b"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), path)
    report = {one.column: one for one in inspect(open_source(str(path)), {}, use=USE).columns}
    assert report["n"].numbers == Numbers(3, 0, 0, ())
    missing = Oddity("a word for a missing value", 1, (3,))
    assert report["f"].numbers == Numbers(1, 1, 2, (missing,))
    assert report["d"].numbers == Numbers(1, 1, 1, ())
    assert (report["n"].blank, report["f"].blank, report["d"].blank) == (1, 1, 2)
    groups = {name for name, one in report.items() if one.groups}
    assert groups == {"day", "flag", "group"}


def test_beyond_a_bound_a_report_says_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.csv"
    path.write_text("id,n\n" + "".join(f"x{n // 2},1\n" for n in range(400)))
    monkeypatch.setattr(quality, "MAX_DISTINCT", 100)
    monkeypatch.setattr(quality, "MAX_REMEMBERED", 150)
    report = inspect(open_source(str(path)), {"id": "text/1"}, use=USE)
    assert (report.columns[0].distinct, report.columns[0].exact) == (100, False)
    assert (report.columns[1].distinct, report.columns[1].exact) == (1, True)
    (identifiers,) = report.identifiers
    assert (identifiers.quality.duplicates, identifiers.exact) == (75, False)
    assert identifiers.repeated == ((2, 1), (4, 3), (6, 5))


def test_progress_is_told_as_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"n": range(150_000)}), path)
    told: list[int] = []
    inspect(open_source(str(path)), {}, use=USE, progress=told.append)
    assert told == [65_536, 131_072, 150_000]


@pytest.mark.parametrize(
    ("identifiers", "values", "message"),
    [
        ({"no": "text/1"}, [], "has no column no"),
        ({"区": "text/9"}, [], "no canonicaliser text/9"),
        ({"区+姓名": "text/1"}, [], r"has 2 part\(s\)"),
        ({}, ["no"], "has no column no"),
    ],
)
def test_what_cannot_be_inspected_is_refused(
    identifiers: dict[str, str], values: list[str], message: str
) -> None:
    with pytest.raises(InputRejected, match=message):
        inspect(open_source(str(GOLDEN)), identifiers, values=values, use=USE)


cells = st.sampled_from(
    ["", " ", "1", " 2", "-3.50", "0.1", "x", "NULL", "1,000", "１", "1e5", "a b"]
)


class Cells:
    """A source that is a list of cells, in batches of three."""

    name = "cells"

    def __init__(self, cells: list[str]) -> None:
        self.table = pa.table({"c": pa.array(cells, pa.string())})

    def schema(self) -> pa.Schema:
        return self.table.schema

    def scan(self, columns: object, where: object = ()) -> object:
        return iter(self.table.to_batches(max_chunksize=3))


@settings(max_examples=40, deadline=None)
@given(st.lists(cells, max_size=20))
def test_every_cell_is_counted_once(written: list[str]) -> None:
    report = inspect(Cells(written), {"c": "text/1"}, values=["c"], use=USE)  # type: ignore[arg-type]
    (column,) = report.columns
    filled = [cell.strip() for cell in written if cell.strip()]
    assert (column.rows, column.blank) == (len(written), len(written) - len(filled))
    assert (column.distinct, column.exact) == (len(set(filled)), True)
    if filled:
        assert column.numbers is not None
        counted = column.numbers.whole + column.numbers.decimal
        assert counted + sum(one.count for one in column.numbers.others) == len(filled)
        assert all(written[row - 1].strip() for one in column.numbers.others for row in one.rows)
    (found,) = report.identifiers
    for row, earlier in found.repeated:
        assert earlier < row
        again, first = (canonicalise("text/1", written[n - 1]) for n in (row, earlier))
        assert again == first
