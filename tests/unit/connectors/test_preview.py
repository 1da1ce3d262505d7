import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.errors import InputRejected
from connectors.preview import Published, preview
from connectors.source import Source, open_source
from connectors.use import Use

USE = Use("preview", "did:web:own.example", datetime(2026, 5, 1, tzinfo=UTC))
ROWS = """id,name,born,phone
44030519900101123X,张三,1990-01-01,13800138000
44030519900101123x,张 三,1990/1/1,138 0013 8000
４４０３０３１９８５０６１２００４７,李四,1985-06-12,+8613912345678
440104560229005,Ann O’Neill,19560229,x
 11010519491231002X,李四,19850612,
4.40305E+17,李四,x,13912345678
"""


@pytest.fixture
def own(tmp_path: Path) -> Source:
    path = tmp_path / "own.csv"
    path.write_text(ROWS, encoding="utf-8")
    return open_source(str(path))


def test_a_preview_says_what_can_match_and_how_it_is_written(own: Source) -> None:
    seen = preview(own, "id", "resident-id/1", use=USE)
    assert (seen.quality.valid, seen.identifiers, seen.at_most) == (5, 4, 4)
    assert seen.forms == {
        "as it should be": 1,
        "other case of letters": 1,
        "full-width or otherwise compatible characters": 1,
        "15 digits, upgraded to 18": 1,
        "spaces, dashes, quotation marks or invisible characters": 1,
    }
    assert seen.warnings == (
        "1 rows hold what a spreadsheet left of a long number; their last digits are lost, export "
        "the column again as text",
        "1 rows repeat the identifier of an earlier row; an intersection counts each identifier "
        "once",
    )


def test_no_more_can_match_than_the_other_side_says_it_has(own: Source) -> None:
    seen = preview(own, "id", "resident-id/1", Published("resident-id/1", 3), use=USE)
    assert (seen.identifiers, seen.at_most) == (4, 3)


def test_another_canonicaliser_of_the_dataset_is_warned_of(own: Source) -> None:
    seen = preview(own, "phone", "text/1", Published("mobile/1"), use=USE)
    assert seen.warnings[0] == (
        "the dataset is published by mobile/1 and this column was read by text/1: an order is "
        "refused unless both name the same; read it by mobile/1"
    )


def test_a_key_is_previewed_part_by_part(own: Source) -> None:
    seen = preview(own, "name+born", "name/1+date/1", use=USE)
    assert (seen.quality.valid, seen.identifiers) == (5, 3)
    assert seen.forms["name: as it should be"] == 3
    assert seen.forms["born: another way to write a day"] == 1
    assert seen.forms["born: spaces, dashes, quotation marks or invisible characters"] == 2


def test_a_column_of_something_else_is_warned_of(own: Source) -> None:
    seen = preview(own, "name", "mobile/1", use=USE)
    assert seen.warnings == (
        "only 0 of 6 rows have a usable identifier; check that column name holds mobile/1 "
        "identifiers",
    )


def test_a_preview_shows_no_cell(own: Source) -> None:
    shown = json.dumps(preview(own, "id", "resident-id/1", use=USE).to_json(), ensure_ascii=False)
    for line in ROWS.splitlines()[1:]:
        assert line.split(",")[0].strip() not in shown


def test_a_missing_column_is_refused(own: Source) -> None:
    with pytest.raises(InputRejected, match=r"own\.csv has no column no"):
        preview(own, "no", "text/1", use=USE)
