from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.errors import InputRejected
from connectors.source import open_source
from connectors.table import Extract, extract
from connectors.use import Use

GOLDEN = Path(__file__).parent / "golden"
USE = Use(
    purpose="public-health-research",
    recipient="did:web:institute.example",
    at=datetime(2026, 5, 1, tzinfo=UTC),
)


def test_rows_without_a_usable_identifier_are_excluded_whatever_their_value() -> None:
    got = extract(
        open_source(str(GOLDEN / "dirty-utf8.csv")),
        identifier="resident_id",
        value="amount_cents",
        group=None,
        canonicaliser="resident-id/1",
        use=USE,
    )
    assert list(zip(got.identifiers, got.values, strict=True)) == [
        ("44030519900101123X", 1250),
        ("44030519900101123X", 1),
        ("440303198506120047", 2),
        ("11010519491231002X", 3),
        ("440104195602290056", 4),
        ("440303198506120047", 6),
        ("440104185602299967", 7),
    ]
    assert (got.groups, got.rows, got.excluded) == ([], 16, 9)
    assert got.report is not None
    assert (got.report.column, got.report.valid) == ("resident_id", 7)


def test_decimals_are_scaled_and_groups_trimmed() -> None:
    got = extract(
        open_source(str(GOLDEN / "dirty-gbk.csv")),
        identifier="证件号码",
        value="金额",
        group="区",
        canonicaliser="resident-id/1",
        use=USE,
        scale=2,
    )
    assert got.identifiers == ["440303198506120047", "44030519900101123X"]
    assert got.values == [1250, 700]
    assert got.groups == ["南山区", "福田区"]
    assert (got.rows, got.excluded) == (3, 1)


def test_a_bad_value_is_named_by_its_row_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,n\n,x\na,1\nb,oops\n")
    with pytest.raises(InputRejected, match="column n, row 3: expected a whole number, found text"):
        extract(
            open_source(str(path)),
            identifier="id",
            value="n",
            group=None,
            canonicaliser=None,
            use=USE,
        )


def test_values_and_groups_are_read_without_identifiers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"n": pa.array([5, 6], pa.int32()), "g": pa.array([1, None], pa.int8())})
    pq.write_table(table, path)
    got = extract(
        open_source(str(path)), identifier=None, value="n", group="g", canonicaliser=None, use=USE
    )
    assert got == Extract([], [5, 6], ["1", ""], None, 2, 0)


def test_one_column_may_be_identifier_and_group(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("district\n440305\n bad \n440306\n")
    got = extract(
        open_source(str(path)),
        identifier="district",
        value=None,
        group="district",
        canonicaliser="division/1",
        use=USE,
    )
    assert got.identifiers == got.groups == ["440305", "440306"]


def test_whole_number_identifiers_of_a_typed_column_are_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    number = 440303198506120047
    pq.write_table(pa.table({"id": [number], "damaged": [float(number)]}), path)
    source = open_source(str(path))
    got = extract(
        source, identifier="id", value=None, group=None, canonicaliser="resident-id/1", use=USE
    )
    assert got.identifiers == [str(number)]
    with pytest.raises(InputRejected, match="1 with a wrong scientific-notation"):
        extract(
            source,
            identifier="damaged",
            value=None,
            group=None,
            canonicaliser="resident-id/1",
            use=USE,
        )


def test_a_column_without_identifiers_is_refused_naming_the_file() -> None:
    with pytest.raises(InputRejected, match=r"column amount_cents of dirty-utf8\.csv has no usab"):
        extract(
            open_source(str(GOLDEN / "dirty-utf8.csv")),
            identifier="amount_cents",
            value=None,
            group=None,
            canonicaliser="resident-id/1",
            use=USE,
        )


def test_more_rows_than_allowed_are_refused() -> None:
    source = open_source(str(GOLDEN / "dirty-utf8.csv"))
    with pytest.raises(InputRejected, match="more than the 15 rows allowed in one computation"):
        extract(
            source,
            identifier="resident_id",
            value=None,
            group=None,
            canonicaliser=None,
            use=USE,
            max_rows=15,
        )


def test_asking_for_nothing_is_refused() -> None:
    with pytest.raises(InputRejected, match="nothing to read"):
        extract(
            open_source(str(GOLDEN / "dirty-utf8.csv")),
            identifier=None,
            value=None,
            group=None,
            canonicaliser=None,
            use=USE,
        )


def test_personal_rows_nobody_consented_to_are_an_empty_extract(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("id,cost\n440303198506120047,5\n")
    (tmp_path / "c.jsonl").write_text("")
    source = open_source(f"personal+file:{tmp_path}/h.csv?consents={tmp_path}/c.jsonl&subject=id")
    got = extract(
        source, identifier="id", value="cost", group=None, canonicaliser="resident-id/1", use=USE
    )
    assert (got.identifiers, got.values, got.rows, got.excluded) == ([], [], 0, 0)


def test_an_identifier_may_be_a_key_of_several_columns(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("name,born,cost\n张 三,1990/1/5,1\n李四,yesterday,2\n张三,19900105,3\n")
    source = open_source(str(path))
    got = extract(
        source,
        identifier="name+born",
        value="cost",
        group=None,
        canonicaliser="name/1+date/1",
        use=USE,
    )
    assert got.identifiers == ["张三\x1f1990-01-05"] * 2
    assert (got.values, got.rows, got.excluded) == ([1, 3], 3, 1)
    assert got.report is not None
    assert (got.report.column, got.report.duplicates) == ("name+born", 1)


@pytest.mark.parametrize(
    ("identifier", "canonicaliser", "message"),
    [
        (
            "name+birth",
            "name/1+date/1",
            r"people\.csv has no column birth; its columns are name, born",
        ),
        ("name+born", "name/1", r"has 2 part\(s\) and the canonicaliser name/1 1; join as many"),
        ("name", "name/1+date/1", r"has 1 part\(s\) and the canonicaliser name/1\+date/1 2"),
    ],
)
def test_a_key_that_does_not_fit_its_table_is_refused(
    tmp_path: Path, identifier: str, canonicaliser: str, message: str
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("name,born\n张三,1990-01-05\n")
    with pytest.raises(InputRejected, match=message):
        extract(
            open_source(str(path)),
            identifier=identifier,
            value=None,
            group=None,
            canonicaliser=canonicaliser,
            use=USE,
        )
