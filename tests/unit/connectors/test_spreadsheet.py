import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from connectors import spreadsheet, workbook_xml
from connectors.errors import InputRejected, Unavailable
from connectors.source import Source, open_source

MOMENT = datetime(1990, 1, 5, 6, 7, 8, tzinfo=UTC).replace(tzinfo=None)
Fill = Callable[[Any, Any], None]


@pytest.fixture
def workbook(tmp_path: Path) -> Callable[..., str]:
    """Write a workbook whose sheets are filled by functions; the path of it."""

    def write(*sheets: Fill, name: str = "a.xlsx") -> str:
        path = tmp_path / name
        with xlsxwriter.Workbook(str(path)) as book:
            for number, fill in enumerate(sheets, start=1):
                fill(book, book.add_worksheet(f"S{number}"))
        return str(path)

    return write


def table(*rows: tuple[object, ...], at: tuple[int, int] = (0, 0)) -> Fill:
    def fill(_: Any, sheet: Any) -> None:
        for n, row in enumerate(rows):
            sheet.write_row(at[0] + n, at[1], row)

    return fill


def empty(_: Any, __: Any) -> None:
    return None


def rows(source: Source, *columns: str) -> list[tuple[object, ...]]:
    names = columns or tuple(source.schema().names)
    read: list[tuple[object, ...]] = []
    for batch in source.scan(names):
        read += zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return read


def rejection(url: str, *columns: str) -> str:
    with pytest.raises(InputRejected) as refused:
        rows(open_source(url), *columns)
    return str(refused.value)


def test_cells_are_text_as_people_read_them(workbook: Callable[..., str]) -> None:
    def fill(book: Any, sheet: Any) -> None:
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        sheet.write_row(0, 0, ["id", "n", "share", "small", "born", "at", "yes", "sum"])
        sheet.write_string(1, 0, "044030519900101123")
        sheet.write_row(1, 1, [1250, 0.1 + 0.2, 0.0000001])
        sheet.write_datetime(1, 4, MOMENT.replace(hour=0, minute=0, second=0), day)
        sheet.write_datetime(1, 5, MOMENT, day)
        sheet.write_boolean(1, 6, True)
        sheet.write_formula(1, 7, "=1+1", None, 2)
        sheet.write_string(2, 0, " 张三 ")

    source = open_source(workbook(fill))
    assert rows(source) == [
        (*"044030519900101123 1250 0.3 0.0000001 1990-01-05".split(), str(MOMENT), "true", "2"),
        (" 张三 ", "", "", "", "", "", "", ""),
    ]
    assert source.description() == {"format": "Excel", "sheet": "S1"}
    assert {str(kind) for kind in source.schema().types} == {"string"}


def test_a_number_that_lost_its_digits_is_refused_by_row_with_the_remedy(
    workbook: Callable[..., str],
) -> None:
    path = workbook(table(("id", "n"), ("440305199001011234", 1), (440305199001011234, 2)))
    message = rejection(path, "id")
    assert message == (
        "a.xlsx, sheet S1, row 3 of the sheet: column id holds a number of more than 15 digits, "
        "and a spreadsheet keeps no more of a number: the others are lost. Format the column as "
        "text where the numbers come from, and enter or export them again"
    )
    # What is not asked for is not looked at.
    assert rows(open_source(path), "n") == [("1",), ("2",)]


def test_a_table_may_stand_anywhere_and_blank_rows_are_none(workbook: Callable[..., str]) -> None:
    path = workbook(table(("id", "n"), ("x", 1), (None, None), ("y", 2), at=(3, 2)))
    assert rows(open_source(path), "n", "id") == [("1", "x"), ("2", "y")]


def test_a_title_above_the_names_is_passed_over_by_naming_their_row(
    workbook: Callable[..., str],
) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.merge_range(0, 0, 0, 1, "2026年统计表")
        sheet.write_row(1, 0, ["id", "n"])
        sheet.write_row(2, 0, ["x", 1])

    path = workbook(fill)
    assert "row 2 of the sheet: cell B2 is filled and its column has no name" in rejection(path)
    assert rows(open_source(f"file:{path}?header=2")) == [("x", "1")]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?header=0", "header= is the row that names the columns, from 1"),
        ("?header=x", "header= is the row that names the columns, from 1"),
        ("?header=9", "a.xlsx, sheet S1 has no row 9 of column names"),
        ("?sheet=S9", "a.xlsx has no sheet S9; it has S1"),
        ("?tab=S1", "a.xlsx: file: takes header, sheet for .xlsx, found tab"),
    ],
)
def test_an_option_that_leads_nowhere_is_refused(
    workbook: Callable[..., str], query: str, message: str
) -> None:
    path = workbook(table(("id",), ("x",)))
    assert message in rejection(f"file:{path}{query}")


def test_the_only_filled_visible_sheet_is_read(workbook: Callable[..., str]) -> None:
    def hidden(book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["hidden"])
        sheet.write_row(1, 0, ["h"])
        sheet.hide()

    path = workbook(empty, table(("id",), ("x",)), hidden)
    assert rows(open_source(path)) == [("x",)]
    assert open_source(path).description()["sheet"] == "S2"
    assert rows(open_source(f"file:{path}?sheet=S3"), "hidden") == [("h",)]
    several = workbook(table(("id",), ("x",)), table(("id",), ("y",)))
    assert rejection(several).startswith("a.xlsx has several filled sheets; name one of S1, S2, as")
    assert rows(open_source(f"file:{several}?sheet=S2")) == [("y",)]
    assert "a.xlsx has no visible sheet that is filled" in rejection(workbook(empty, empty))


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        (empty, "a.xlsx, sheet S1 is empty; it needs a row of column names, and rows"),
        (table(("id", "n")), "a.xlsx has columns but no rows"),
        (table(("id", None, "n"), ("x", 1, 2)), "cell B1 among the column names is blank or"),
        (table(("id", "id"), ("x", 1)), "a.xlsx, sheet S1 names the column id more than once"),
        (table(("440305199001011234",), ("x",)), "row 1 of the sheet: data instead of column"),
        (table(("id",), ("x", 1)), "row 2 of the sheet: cell B2 is filled and its column has no"),
    ],
)
def test_an_unusable_sheet_is_refused_naming_row_and_remedy(
    workbook: Callable[..., str], sheet: Fill, message: str
) -> None:
    assert message in rejection(workbook(sheet), "id")


def test_a_formula_that_failed_is_never_an_empty_cell(workbook: Callable[..., str]) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_row(0, 1, ["id", "n"])
        sheet.write_row(1, 1, ["x", 1])
        sheet.write_string(2, 1, "y")
        sheet.write_formula(2, 2, "=NA()", None, "#N/A")

    path = workbook(fill)
    assert rejection(path, "n") == (
        "a.xlsx, row 3 of the sheet: the formula in column n failed (#N/A, #REF!…); repair it, or "
        "enter a value instead"
    )
    assert rows(open_source(path), "id") == [("x",), ("y",)]


def test_merged_cells_among_the_rows_are_refused(workbook: Callable[..., str]) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["district", "n"])
        sheet.merge_range(1, 0, 2, 0, "南山区")
        sheet.write_column(1, 1, [1, 2])

    path = workbook(fill)
    assert "row 2 of the sheet: cells A2 to A3 are merged" in rejection(path, "district")
    assert rows(open_source(path), "n") == [("1",), ("2",)]


def test_a_cell_in_the_far_corner_is_refused_before_the_sheet_is_loaded(
    workbook: Callable[..., str],
) -> None:
    def far(_: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["id"])
        sheet.write(19_999, 16_383, "x")

    path = workbook(far)
    assert "a.xlsx, sheet S1 reaches to cell XFD20000, more than can be loaded" in rejection(path)


@pytest.mark.parametrize("name", ["a.xlsx", "a.xlsm", "a.xls", "a.ods"])
@pytest.mark.parametrize("content", [b"", b"id\n1\n", b"PK\x03\x04", bytes(4096)])
def test_what_is_no_spreadsheet_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert f"{name} is no readable spreadsheet, or a damaged one" in rejection(str(path))


def test_a_damaged_workbook_is_refused_or_read_and_never_anything_else(
    workbook: Callable[..., str], tmp_path: Path
) -> None:
    content = Path(workbook(table(("id", "n"), ("x", 1)))).read_bytes()
    path = tmp_path / "b.xlsx"
    for at in range(0, len(content), 97):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x5A]) + content[at + 1 :])
        with suppress(InputRejected):
            rows(open_source(str(path)))


def test_a_workbook_that_unpacks_to_too_much_is_refused(
    workbook: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workbook(table(("id",), ("x",)))
    monkeypatch.setattr(workbook_xml, "MAX_UNPACKED_BYTES", 100)
    assert "a.xlsx unpacks to more than" in rejection(path)
    monkeypatch.setattr(spreadsheet, "MAX_FILE_BYTES", 100)
    assert "a.xlsx is larger than" in rejection(path)


def test_parts_of_a_workbook_declare_no_entities(
    workbook: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "b.xlsx"
    with (
        zipfile.ZipFile(workbook(table(("id",), ("x",)))) as old,
        zipfile.ZipFile(path, "w") as new,
    ):
        for part in old.namelist():
            content = old.read(part)
            if part == "xl/workbook.xml":
                content = content.replace(b"<workbook", b'<!DOCTYPE a [<!ENTITY b "c">]><workbook')
            new.writestr(part, content)
    assert "b.xlsx is no readable spreadsheet" in rejection(str(path))


def test_a_workbook_replaced_before_its_rows_are_read_is_not_mixed(
    workbook: Callable[..., str],
) -> None:
    source = open_source(workbook(table(("id",), ("x",))))
    scan = source.scan(["id"])
    workbook(table(("other",), ("y",), ("z",)))
    with pytest.raises(Unavailable, match="was written to or replaced"):
        list(scan)
    assert source.schema().names == ["other"]


def write_ods(path: Path, cells: str) -> None:
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text")
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml",
            '<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>',
        )
        archive.writestr(
            "content.xml",
            f'<office:document-content {spaces} xmlns:calcext="urn:x"><office:body>'
            f'<office:spreadsheet><table:table table:name="S1">{cells}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )


def row_of_ods(*cells: str) -> str:
    text = ""
    for cell in cells:
        failed = ' calcext:value-type="error"' if cell == "#N/A" else ""
        text += f'<table:table-cell office:value-type="string"{failed}><text:p>{cell}</text:p>'
        text += "</table:table-cell>"
    return f"<table:table-row>{text}</table:table-row>"


def test_an_opendocument_spreadsheet_is_read_and_its_failed_formulas_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.ods"
    write_ods(path, row_of_ods("id", "n") + row_of_ods("440305199001011234", "1"))
    source = open_source(str(path))
    assert rows(source) == [("440305199001011234", "1")]
    assert source.description() == {"format": "OpenDocument spreadsheet", "sheet": "S1"}
    write_ods(path, row_of_ods("id", "n") + row_of_ods("x", "#N/A"))
    assert "a.ods has 1 cell(s) whose formula failed" in rejection(str(path))


def test_columns_are_lettered_as_spreadsheets_do() -> None:
    letters = {0: "A", 25: "Z", 26: "AA", 701: "ZZ", 702: "AAA", 16_383: "XFD"}
    for index, name in letters.items():
        assert workbook_xml.column_letters(index) == name
        assert workbook_xml._column_index(name.encode()) == index
    assert re.fullmatch("[A-Z]+", workbook_xml.column_letters(9999))
