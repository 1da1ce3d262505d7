"""The publication that a look at a source proposes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.classification import Grade, propose_classes, propose_grade
from connectors.quality import propose_canonicalisers
from contracts.authoring import parse_policy
from dataspace.cli.publication_draft import Seen, save_draft, write_draft
from dataspace.errors import InputRejected
from dataspace.publication import Publication

NOW = datetime(2026, 11, 30, tzinfo=UTC)
TABLE = pa.table(
    {
        "resident_id": ["11010519491231002X", "440524188001010014"] * 4,
        "街道": ["粤海", "粤海", "南头", "南头"] * 2,
        "street_code": ["440305001", "440305002"] * 4,
        "amount": ["12.50", "7", "3.1", "0"] * 2,
        "visits": [1, 2, 3, 4] * 2,
        "note": [f"free text {number}" for number in range(8)],
        "诊断": ["E11.9", "J45.0"] * 4,
    }
)


def seen(
    location: str = "data/residents.csv",
    table: pa.Table = TABLE,
    *,
    rows: int | None = None,
    keeps_consents: bool = False,
) -> Seen:
    classes = propose_classes(table.schema, table, today=NOW.date())
    return Seen(
        location=location,
        schema=table.schema,
        sample=table,
        classes=classes,
        grade=propose_grade(classes, rows=rows),
        canonicalisers=propose_canonicalisers(table),
        keeps_consents=keeps_consents,
    )


def read(draft: str) -> dict[str, Any]:
    return parse_policy(draft.replace("purposes: []", "purposes: [research]"))


def test_a_draft_is_a_publication_once_its_purposes_are_filled_in() -> None:
    written = read(write_draft(seen(), now=NOW))
    asked = Publication(**written)
    assert (asked.id, asked.source, asked.grade) == ("residents", "data/residents.csv", "general")
    roles = {one.name: (one.role, one.canonicaliser, one.scale) for one in asked.columns}
    assert roles == {
        "resident_id": ("identifier", "resident-id/1", 0),
        "街道": ("group", None, 0),
        "street_code": ("group", None, 0),
        "amount": ("value", None, 2),
        "visits": ("value", None, 0),
        "诊断": ("group", None, 0),
    }
    assert asked.columns[-1].column_class == "sensitive-personal"
    assert asked.confirmed is False
    assert asked.terms is not None
    assert asked.terms.not_after == datetime(2027, 11, 30, tzinfo=UTC)


def test_a_draft_says_why_and_what_may_then_be_allowed_in_both_languages() -> None:
    draft = write_draft(seen(), now=NOW)
    assert (
        "more than half of the cells are identity numbers · 超过半数的单元格为身份证号码" in draft
    )
    assert "# - {name: note, role: identifier, canonicaliser: text/1, class: business}" in draft
    assert "Sensitive personal data without consents need one (PIPL 13)" in draft
    assert "legal_basis: contract | statutory-duty" in draft
    assert "分类经人工确认后" in draft
    kept = write_draft(seen(keeps_consents=True), now=NOW)
    assert "legal_basis: consent | contract" in kept


def test_a_draft_never_overwrites_a_file(tmp_path: Path) -> None:
    path = tmp_path / "publication.yaml"
    save_draft(path, seen(), now=NOW)
    assert read(path.read_text(encoding="utf-8"))["id"] == "residents"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(InputRejected, match="already"):
        save_draft(path, seen(), now=NOW)
    assert path.read_text(encoding="utf-8") == "mine"


def test_many_people_make_the_draft_one_of_important_data() -> None:
    found = seen(rows=2_000_000)
    assert found.grade.grade is Grade.IMPORTANT
    assert Publication(**read(write_draft(found, now=NOW))).grade == "important"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("C:/data/My Residents 2026.xlsx", "my-residents-2026"),
        ("postgresql://db.example/city?table=people", "city"),
        ("sqlite:///tmp/x.db?table=t#frag", "x"),
        ("居民.csv", "dataset"),
    ],
)
def test_the_id_comes_from_the_last_part_of_the_address(location: str, expected: str) -> None:
    assert read(write_draft(seen(location), now=NOW))["id"] == expected


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@settings(max_examples=40)
@given(name=NAMES, location=NAMES)
def test_whatever_columns_and_files_are_called_the_draft_reads_back(
    name: str, location: str
) -> None:
    table = pa.table({name: [1, 2, 3]})
    written = read(write_draft(seen(location, table), now=NOW))
    assert written["source"] == location
    assert [one["name"] for one in written["columns"] or ()] in ([name], [])
