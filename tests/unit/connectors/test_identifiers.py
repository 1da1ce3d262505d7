from pathlib import Path

import pytest
from stdnum.cn import ric, uscc

from connectors.errors import InputRejected
from connectors.identifiers import (
    MAX_EXAMPLES_PER_REASON,
    MAX_VALUE_CHARACTERS,
    ColumnReader,
    InvalidIdentifier,
    QualityReport,
    canonicalise,
    canonicalise_column,
    canonicalisers,
    require_identifiers,
)
from connectors.source import open_source

GOLDEN = Path(__file__).parent / "golden"
# The worked example of GB 11643-1999: a woman born on the last day of 1949 in Chaoyang, Beijing.
STANDARD_EXAMPLE = "11010519491231002X"


def reason_of(canonicaliser: str, value: str) -> str:
    with pytest.raises(InvalidIdentifier) as refused:
        canonicalise(canonicaliser, value)
    reason = refused.value.reason
    assert str(refused.value) == f"not a usable {canonicaliser} identifier: {reason}"
    return reason


def test_the_canonicalisers_are_named_with_versions() -> None:
    assert " ".join(canonicalisers()) == (
        "resident-id/1 uscc/1 mobile/1 division/1 text/1 area/1 name/1 date/1 plate/1 passport/1 "
        "email/1"
    )


def test_an_unknown_canonicaliser_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(InputRejected, match=r"resident-id/2; use one of resident-id/1, uscc/1"):
        canonicalise("resident-id/2", STANDARD_EXAMPLE)


@pytest.mark.parametrize(
    "written",
    [
        STANDARD_EXAMPLE,
        "11010519491231002x",
        " 110105 19491231 002X\t",
        "110105-19491231-002x",
        "１１０１０５１９４９１２３１００２Ｘ",
        "\u200b11010519491231\u00a0002X\ufeff",
        "'11010519491231002X",
        "110105491231002",
    ],
)
def test_every_spelling_of_the_standards_example_is_one_identifier(written: str) -> None:
    assert canonicalise("resident-id/1", written) == STANDARD_EXAMPLE


def test_the_old_form_gets_the_check_digit_the_reference_library_computes() -> None:
    upgraded = canonicalise("resident-id/1", "440104560229005")
    assert upgraded == "440104195602290056"
    assert ric.calc_check_digit(upgraded) == "6"


def test_the_old_form_keeps_its_last_order_codes_for_people_born_before_1900() -> None:
    assert canonicalise("resident-id/1", "440104560229996")[6:14] == "18560229"


def test_people_born_before_their_county_had_its_code_are_not_dropped() -> None:
    # stdnum refuses this number, as Nanshan's code is from 1990; numbers were given out later.
    born_1955 = "44030519550101002"
    number = born_1955 + ric.calc_check_digit(born_1955 + "0")
    assert not ric.is_valid(number)
    assert canonicalise("resident-id/1", number) == number


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "blank"),
        ("  \u200b ", "blank"),
        ("NULL", "blank"),
        ("N/A", "blank"),
        ("无", "blank"),
        ("-", "blank"),
        ("4.40E+17", "scientific-notation"),
        ("4.40305199001011E+17", "scientific-notation"),
        ("4.4e17", "scientific-notation"),
        ("４.４Ｅ+17", "scientific-notation"),
        ("1101051949123100", "length"),
        ("张三", "length"),
        ("1" * (MAX_VALUE_CHARACTERS + 1), "length"),
        ("11010519491231002A", "characters"),
        ("X1010519491231002X", "characters"),
        ("١١٠١٠٥١٩٤٩١٢٣١٠٠٢X", "characters"),
        ("99010519491231002X", "division"),
        ("11010519490231002X", "date"),
        ("11010518000101002X", "date"),
        ("110105491331002", "date"),
        ("110105194912310021", "check-digit"),
        ("11010519491231020X", "check-digit"),
    ],
)
def test_a_number_that_is_nobodys_is_refused_with_its_reason(value: str, reason: str) -> None:
    assert reason_of("resident-id/1", value) == reason


@pytest.mark.parametrize(
    "code", ["91110000600037341L", "9 1 110000 600037341l", "９１１１００００６０００３７３４１Ｌ"]
)
def test_a_credit_code_has_one_spelling(code: str) -> None:
    assert canonicalise("uscc/1", code) == "91110000600037341L"
    assert uscc.is_valid("91110000600037341L")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "blank"),
        ("9111000060003734", "length"),
        ("91110000600037341I", "characters"),
        ("9A1100006O0037341L", "characters"),
        ("91110000600037342L", "check-digit"),
        ("9.111E+17", "scientific-notation"),
    ],
)
def test_a_malformed_credit_code_is_refused_with_its_reason(value: str, reason: str) -> None:
    assert reason_of("uscc/1", value) == reason


@pytest.mark.parametrize(
    "written",
    [
        "13800138000",
        "138 0013 8000",
        "+86 138-0013-8000",
        "0086 13800138000",
        "１３８００１３８０００",
    ],
)
def test_a_mobile_number_is_chinese_unless_it_says_otherwise(written: str) -> None:
    assert canonicalise("mobile/1", written) == "+8613800138000"


def test_a_mobile_number_of_hong_kong_keeps_its_country() -> None:
    assert canonicalise("mobile/1", "+852 5123 4567") == "+85251234567"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "blank"),
        ("1380013", "not-mobile"),
        ("1", "length"),
        ("010-62770334", "not-mobile"),
        ("1380013CODE", "characters"),
        ("13800138000 ext 5", "characters"),
        ("1.38E+10", "scientific-notation"),
    ],
)
def test_what_is_no_mobile_number_is_refused_with_its_reason(value: str, reason: str) -> None:
    assert reason_of("mobile/1", value) == reason


def test_a_division_code_has_six_digits_and_a_province() -> None:
    assert canonicalise("division/1", " ４４０３０５ ") == "440305"
    assert reason_of("division/1", "4403") == "length"
    assert reason_of("division/1", "44030A") == "characters"
    assert reason_of("division/1", "990305") == "division"
    assert reason_of("division/1", "") == "blank"


def test_text_differs_only_where_readers_would_say_so() -> None:
    assert canonicalise("text/1", " Straße\u00a0 ＡＢ-１２\u200b ") == "strasse ab-12"
    assert canonicalise("text/1", "0012") != canonicalise("text/1", "12")
    assert reason_of("text/1", " — ") == "blank"
    assert reason_of("text/1", "null") == "blank"
    assert reason_of("text/1", "4.40E+17") == "scientific-notation"


def test_a_dirty_export_is_reported_to_the_row() -> None:
    (batch,) = open_source(str(GOLDEN / "dirty-utf8.csv")).scan(["resident_id"])
    canonical, report = canonicalise_column(
        "resident-id/1", batch.column(0).to_pylist(), column="resident_id"
    )
    first, second = "44030519900101123X", "440303198506120047"
    assert canonical[:5] == [first, first, second, STANDARD_EXAMPLE, "440104195602290056"]
    assert canonical[5:14] == [None] * 9
    assert canonical[14:] == [second, "440104185602299967"]
    assert report == QualityReport(
        column="resident_id",
        canonicaliser="resident-id/1",
        rows=16,
        valid=7,
        blank=2,
        invalid={
            "scientific-notation": 1,
            "length": 1,
            "characters": 1,
            "division": 1,
            "date": 2,
            "check-digit": 1,
        },
        duplicates=2,
        examples=(
            "row 8, scientific-notation: 4*****…**17",
            "row 9, date: 44****…**11",
            "row 10, length: 44****…**12",
            "row 11, characters: 44****…**3A",
            "row 12, division: 99****…**3X",
            "row 13, date: 44****…**34",
            "row 14, check-digit: 44****…**30",
        ),
    )


def test_a_report_becomes_json_values() -> None:
    _, report = canonicalise_column("division/1", ["440305", "440305", None, "x"], column="code")
    assert report.to_json() == {
        "column": "code",
        "canonicaliser": "division/1",
        "rows": 4,
        "valid": 2,
        "blank": 1,
        "invalid": {"length": 1},
        "duplicates": 1,
        "examples": ["row 4, length: ****"],
    }


def test_a_column_read_in_pieces_has_the_report_of_the_whole() -> None:
    values = [STANDARD_EXAMPLE, "", "bad", STANDARD_EXAMPLE, "11010519490231002X", None]
    reader = ColumnReader("resident-id/1", column="identifier")
    pieces = reader.feed(values[:2]) + reader.feed(values[2:5]) + reader.feed(values[5:])
    assert (pieces, reader.report()) == canonicalise_column("resident-id/1", values)


def test_examples_are_few_and_hide_the_middle() -> None:
    wrong = [f"1101051949123100{n:02d}" for n in range(60)]
    _, report = canonicalise_column("resident-id/1", wrong)
    assert report.invalid["check-digit"] == len(wrong) - report.valid
    assert len(report.examples) == MAX_EXAMPLES_PER_REASON
    assert all("0105194912310" not in example for example in report.examples)


def test_a_column_without_any_identifier_is_refused_with_what_was_found() -> None:
    _, report = canonicalise_column("resident-id/1", ["", None, "A-17", "B-18"], column="号码")
    with pytest.raises(
        InputRejected,
        match=r"column 号码 of a\.csv has no usable identifier: 2 blank, 2 with a wrong length; "
        r"check that the column holds resident-id/1",
    ):
        require_identifiers(report, source="a.csv")


def test_one_usable_identifier_is_enough() -> None:
    _, report = canonicalise_column("resident-id/1", ["", STANDARD_EXAMPLE])
    require_identifiers(report)
    assert report.valid == 1
