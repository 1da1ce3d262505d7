from decimal import Decimal

import pyarrow as pa
import pytest

from connectors.errors import InputRejected
from connectors.values import parse_integers


def rejection(cell: object, scale: int = 0) -> str:
    with pytest.raises(InputRejected) as refused:
        parse_integers(["1", cell], column_name="amount_cents", scale=scale)
    assert refused.value.__cause__ is None
    return str(refused.value)


def test_whole_numbers_of_every_column_type_are_kept() -> None:
    expected = [0, -7, 1250]
    for column in (
        ["0", "-7", "+1250"],
        [" 0", "-7 ", "01250"],
        pa.array(["0", "-7", "1250"]),
        pa.chunked_array([["0"], ["-7", "1250"]]),
        pa.array(["0", "-7", "1250"]).dictionary_encode(),
        pa.array(expected, pa.int16()),
        pa.array([0.0, -7.0, 1250.0]),
        pa.array([Decimal("0.00"), Decimal("-7.00"), Decimal("1250.00")]),
    ):
        assert parse_integers(column, column_name="n") == expected


def test_a_scale_keeps_that_many_decimals_exactly() -> None:
    texts = ["12.50", "12.5", "12", "-0.07", "0.29"]
    assert parse_integers(texts, column_name="n", scale=2) == [1250, 1250, 1200, -7, 29]
    # 0.29 * 100 is 28.999… in floating point.
    assert parse_integers(pa.array([0.29, 1.1]), column_name="n", scale=2) == [29, 110]
    assert parse_integers([Decimal("-1.005")], column_name="n", scale=3) == [-1005]


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("12.50", "a decimal number with 2 decimals; declare a larger scale"),
        ("12.0", "a decimal number with 1 decimal; declare a larger scale"),
        (12.5, "a decimal number with 1 decimal; declare a larger scale"),
        (Decimal("0.125"), "a decimal number with 3 decimals; declare a larger scale"),
        ("1,234", "a number with thousands separators; write the digits without separators"),
        ("1，234.50", "a number with thousands separators"),
        ("", "nothing (blank); fill the cell"),
        ("  ", "nothing (blank); fill the cell"),
        (None, "nothing (blank); fill the cell"),
        ("合计", "text; write plain digits"),
        ("12元", "a number with a unit; write the number alone, all in one unit"),
        ("￥12.50", "a number with a unit"),
        ("35%", "a number with a unit"),
        ("1e3", "a number in scientific notation; write all digits"),
        ("4.40E+17", "a number in scientific notation"),
        ("NULL", "a word for a missing value; fill the cell or remove the row"),
        ("NaN", "a word for a missing value"),
        ("-", "a word for a missing value"),
        ("1_000", "text; write plain digits"),
        ("0x10", "text; write plain digits"),
        ("--1", "text; write plain digits"),
        ("１２", "full-width digits; write plain digits"),
        (True, "true or false; write plain digits"),
        (float("nan"), "not a number (NaN or infinite)"),
        (float("inf"), "not a number (NaN or infinite)"),
        (2.0**60, "a floating point number too large to be exact"),
        ("9223372036854775808", "a number beyond 64 bits"),
        ("9" * 5000, "a number beyond 64 bits"),
        (2**63, "a number beyond 64 bits"),
        (b"12", "a bytes; write plain digits"),
    ],
)
def test_what_is_no_whole_number_is_named_by_kind(cell: object, found: str) -> None:
    assert f"column amount_cents, row 2: expected a whole number, found {found}" in rejection(cell)


def test_more_decimals_than_the_scale_are_never_rounded() -> None:
    assert rejection("12.505", scale=2).startswith(
        "column amount_cents, row 2: expected a number with at most 2 decimals, found a decimal "
        "number with 3 decimals"
    )
    assert "with 3 decimals" in rejection(12.505, scale=2)


def test_no_message_holds_the_value() -> None:
    for cell in ("secret-41", "41,414", "41.41", 41.41):
        assert "41" not in rejection(cell)


def test_the_limits_of_64_bits_are_values() -> None:
    edges = [2**63 - 1, -(2**63) + 1]
    assert parse_integers([str(edge) for edge in edges], column_name="n") == edges
    assert "beyond 64 bits" in rejection("92233720368547759", scale=2)


def test_errors_name_the_row_numbers_they_are_given() -> None:
    with pytest.raises(InputRejected, match="column n, row 19: "):
        parse_integers(["1", "x"], column_name="n", row_numbers=[17, 19])


@pytest.mark.parametrize("scale", [-1, 10])
def test_a_scale_out_of_range_is_refused(scale: int) -> None:
    with pytest.raises(InputRejected, match="scale must be between 0 and 9"):
        parse_integers([], column_name="n", scale=scale)
