import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataspace.cli import app

GOLDEN = Path(__file__).parents[1] / "connectors" / "golden" / "dirty-table.csv"


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["source", *arguments])
    return done.exit_code, done.output


def test_a_source_is_inspected_without_a_node() -> None:
    code, shown = run("inspect", str(GOLDEN), "--column", "金额:value")
    assert code == 0
    for line in (
        "dirty-table.csv delimited text, UTF-8, comma",
        "12 rows",
        "identifier, proposed: resident-id/1, 6 usable, 2 blank, 4 invalid, 2 repeated",
        "row 2 repeats row 1, row 11 repeats row 3",
        "numbers: 2 whole, 2 with decimals (publish with scale 3)",
        "no number: a word for a missing value, 2 cells: row 4, 6",
        "grade proposed: general",
    ):
        assert line in shown


def test_an_inspection_prints_json_for_programs() -> None:
    code, shown = run("inspect", str(GOLDEN), "--column", "姓名+出生日期:name/1+date/1", "--json")
    found = json.loads(shown)
    assert code == 0
    assert found["kept"]["encoding"] == "UTF-8"
    assert found["proposed"] == {"证件号码": "resident-id/1", "手机": "mobile/1"}
    assert found["classes"]["证件号码"]["class"] == "identifier"
    assert found["grade"]["grade"] == "general"
    assert [one["column"] for one in found["identifiers"]] == ["证件号码", "手机", "姓名+出生日期"]


def test_a_preview_says_what_of_ones_own_can_match() -> None:
    arguments = ("preview", str(GOLDEN), "--id", "手机", "--as", "mobile/1", "--theirs", "text/1")
    code, shown = run(*arguments)
    assert code == 0
    assert "at most 3 of 3 different identifiers can match" in shown
    assert "warning: the dataset is published by text/1" in shown
    found = json.loads(run(*arguments, "--their-identifiers", "2", "--json")[1])
    assert (found["identifiers"], found["at_most"]) == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "no/such.csv"), "error: there is no file such.csv in no"),
        (("inspect", str(GOLDEN), "--column", "区"), "error: NAME:CANONICALISER expected"),
        (("inspect", str(GOLDEN), "--column", "区:text/9"), "there is no canonicaliser text/9"),
        (("preview", str(GOLDEN), "--id", "no", "--as", "text/1"), "has no column no"),
    ],
)
def test_what_cannot_be_looked_at_is_said_in_one_sentence(
    arguments: tuple[str, ...], message: str
) -> None:
    code, shown = run(*arguments)
    assert code == 1
    assert message in shown
