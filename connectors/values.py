"""Values as whole numbers. What is computed on is an integer in a declared unit, never a float."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, NoReturn

import pyarrow as pa

from connectors.errors import InputRejected

# 64-bit signed, what a slot of a packed ciphertext and an Arrow column both hold.
LIMIT = 2**63
MAX_SCALE = 9
# A double holds every integer up to here, and not every one beyond.
_EXACT_FLOAT = 2**53
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_DECIMAL = re.compile(r"([+-]?)([0-9]{1,19})\.([0-9]{1,30})")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}([,，][0-9]{3})+(\.[0-9]+)?")
_SCIENTIFIC = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]{1,3}")
_WITH_UNIT = re.compile(
    r"[¥￥$€£]\s*[+-]?[0-9][0-9.,]*|[+-]?[0-9][0-9.,]*\s*(%|％|‰|元|万元|亿元|万|亿)"
)
_MISSING_WORDS = frozenset("null none nan n/a na #n/a \\n - -- / 无".split())
_LONG = re.compile(r"[+-]?[0-9]{20,}(\.[0-9]+)?")
_BLANK = "nothing (blank)"
MISSING: Final = "a word for a missing value"


def parse_integers(
    column: pa.Array | pa.ChunkedArray | Iterable[object],
    *,
    column_name: str,
    scale: int = 0,
    row_numbers: Sequence[int] | None = None,
) -> list[int]:
    """Every value times 10^`scale`, exactly: with `scale=2`, "12.50" is 1250 and "12" is 1200.

    Text must be plain digits with an optional sign, and not more decimals than `scale`; floating
    point and decimal numbers must be a multiple of 10^-`scale`. Nothing is rounded or guessed.
    `row_numbers` are the numbers errors shall name, from 1 in order when not given.
    Raises InputRejected naming column, row and the kind of what was found, never the value.
    """
    if not 0 <= scale <= MAX_SCALE:
        raise InputRejected(f"scale must be between 0 and {MAX_SCALE}, got {scale}")
    cells: Iterable[object] = (
        column.to_pylist() if isinstance(column, pa.Array | pa.ChunkedArray) else column
    )
    factor = 10**scale
    parsed: list[int] = []
    for index, cell in enumerate(cells):
        try:
            parsed.append(_integer(cell, scale, factor))
        except _FoundError as err:
            row = row_numbers[index] if row_numbers is not None else index + 1
            _reject(column_name, row, scale, err.what)
    return parsed


def texts(column: pa.Array) -> list[str | None]:
    """The cells of a column as text, null as None; a whole number has no decimal point."""
    cells: list[str | None] = column.to_pylist()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return cells
    return [cell if cell is None or isinstance(cell, str) else _text(cell) for cell in cells]


def _text(cell: object) -> str:
    # A column of whole numbers becomes floating point where one of them is missing. Beyond what a
    # double holds exactly it stays 4.4e+17, to be refused: digits are gone.
    if isinstance(cell, float) and cell.is_integer() and abs(cell) <= _EXACT_FLOAT:
        return str(int(cell))
    if isinstance(cell, Decimal) and cell.is_finite() and cell == cell.to_integral_value():
        return str(int(cell))
    return str(cell)


class _FoundError(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def _integer(cell: object, scale: int, factor: int) -> int:
    if isinstance(cell, str):
        number = _from_text(cell.strip(), scale, factor)
    elif isinstance(cell, bool):
        raise _FoundError("true or false")
    elif isinstance(cell, int):
        number = cell * factor
    elif isinstance(cell, float | Decimal):
        number = _from_number(cell, factor)
    elif cell is None:
        raise _FoundError(_BLANK)
    else:
        raise _FoundError(f"a {type(cell).__name__}")
    if not -LIMIT < number < LIMIT:
        raise _FoundError("a number beyond 64 bits")
    return number


def _from_text(text: str, scale: int, factor: int) -> int:
    if _WHOLE.fullmatch(text):
        return int(text) * factor
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise _FoundError(kind_of_text(text))
    sign, whole, decimals = match.groups()
    if len(decimals) > scale:
        raise _FoundError(_decimals(len(decimals)))
    return int(f"{sign}{whole}{decimals.ljust(scale, '0')}")


def _from_number(cell: float | Decimal, factor: int) -> int:
    # The shortest text that reads back as the same float is the decimal that was written.
    number = Decimal(repr(cell)) if isinstance(cell, float) else cell
    if not number.is_finite():
        raise _FoundError("not a number (NaN or infinite)")
    if isinstance(cell, float) and abs(cell) > _EXACT_FLOAT:
        raise _FoundError("a floating point number too large to be exact")
    numerator, denominator = number.as_integer_ratio()
    scaled, rest = divmod(numerator * factor, denominator)
    if rest:
        exponent = number.normalize().as_tuple().exponent
        raise _FoundError(_decimals(-exponent if isinstance(exponent, int) else 0))
    return scaled


def _decimals(count: int) -> str:
    return f"a decimal number with {count} decimal{'s' if count > 1 else ''}"


def kind_of_text(text: str) -> str:
    """What text without outer white space is that is no plain number, as messages name it."""
    if not text:
        return _BLANK
    if text.lower() in _MISSING_WORDS:
        return MISSING
    if _SCIENTIFIC.fullmatch(text):
        return "a number in scientific notation"
    if _WITH_UNIT.fullmatch(text):
        return "a number with a unit"
    if _GROUPED.fullmatch(text):
        return "a number with thousands separators"
    if _LONG.fullmatch(text):
        return "a number beyond 64 bits"
    return "full-width digits" if text.isdecimal() else "text"


def _reject(column: str, row: int, scale: int, what: str) -> NoReturn:
    expected = f"a number with at most {scale} decimals" if scale else "a whole number"
    if what.startswith("a decimal number"):
        remedy = "declare a larger scale for the column (2 keeps cents), or store whole cents"
    elif what in (_BLANK, MISSING):
        remedy = "fill the cell or remove the row; a missing value is not zero"
    elif "separators" in what:
        remedy = "write the digits without separators"
    elif "unit" in what:
        remedy = "write the number alone, all in one unit"
    elif "scientific" in what:
        remedy = "write all digits; a spreadsheet that shows such numbers may have lost some"
    else:
        remedy = "write plain digits, and check that this is the value column"
    raise InputRejected(
        f"column {column}, row {row}: expected {expected}, found {what}; {remedy}"
    ) from None
