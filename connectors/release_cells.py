"""What rules of a release do to the cells of one column; empty cells stay empty.

Everything works on whole columns by Arrow's own functions, but the pseudonym, which is an HMAC for
each distinct value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# 128 bits of a pseudonym: two values in a table of 10^9 share one with a chance of 10^-21.
PSEUDONYM_BYTES: Final = 16
_BLOCK_BYTES: Final = 64
_NUMBER: Final = r"^[+-]?[0-9]{1,17}(\.[0-9]{1,18})?$"
_EXACT: Final = pa.decimal128(36, 18)
_LARGEST: Final = 10**17
# 2024-1-5, 2024/01/05, 2024年1月5日, 20240105, each with anything after it.
_DATE: Final = (
    r"^\s*(?P<year>[0-9]{4})"
    r"(?:[-/.年](?P<apart>1[0-2]|0?[1-9])(?:[^0-9].*)?|(?P<close>0[1-9]|1[0-2])(?:[0-3][0-9].*)?)$"
)

Transformation = Callable[[pa.Array, bytes], pa.Array]


class UnfitCellError(Exception):
    """A cell that is not what the rule needs: its index in the array, and what was expected."""

    def __init__(self, index: int, expected: str) -> None:
        super().__init__(expected)
        self.index = index
        self.expected = expected


class UnfitColumnError(Exception):
    """A column of a type that the rule cannot work on."""


def mask(first: int, last: int) -> Transformation:
    """Keep `first` and `last` characters and write `*` for each other one.

    A text with no more characters than would be kept is masked whole: it would be shown whole.
    """

    def apply(cells: pa.Array, _: bytes) -> pa.Array:
        plain = as_text(cells)
        length = pc.utf8_length(plain)
        hidden = pc.subtract(length, first + last)
        masked = pc.binary_join_element_wise(
            pc.utf8_slice_codeunits(plain, start=0, stop=first),
            pc.binary_repeat("*", pc.max_element_wise(hidden, 0, skip_nulls=False)),
            _last(plain, last),
            "",
        )
        short = pc.binary_repeat("*", length)
        return pc.if_else(pc.greater(hidden, 0), masked, short)

    return apply


def pseudonym(cells: pa.Array, key: bytes) -> pa.Array:
    """HMAC-SHA-256 of each cell as it is written, shortened to 128 bits, in hexadecimal.

    Equal cells have equal pseudonyms under one key, in whichever column; under another key nothing
    links them. Blank cells stay blank, or everybody without a number would become one person.
    """
    digest = keyed_hash(key)
    coded = as_text(cells).dictionary_encode()
    made = [
        digest(value.encode())[:PSEUDONYM_BYTES].hex() if value else value
        for value in coded.dictionary.to_pylist()
    ]
    return pc.take(pa.array(made, pa.string()), coded.indices)


def prefix(length: int) -> Transformation:
    """The first `length` characters."""
    return lambda cells, _: pc.utf8_slice_codeunits(as_text(cells), start=0, stop=length)


def band(width: int) -> Transformation:
    """`20-29` for 20 up to below 30: bands of `width`, one of which begins at 0."""

    def apply(cells: pa.Array, _: bytes) -> pa.Array:
        lower = _multiples_below(_floors(cells), width)
        upper = pc.add(lower, width - 1)
        return pc.binary_join_element_wise(lower.cast(pa.string()), upper.cast(pa.string()), "-")

    return apply


def round_to(step: int) -> Transformation:
    """The nearest multiple of `step`, of two equally near ones the greater."""

    def apply(cells: pa.Array, _: bytes) -> pa.Array:
        exact = as_decimal(cells)
        half = pa.scalar(step, _EXACT).as_py() / 2
        raised = pc.floor(pc.add(exact, pa.scalar(half, _EXACT))).cast(pa.int64())
        return _multiples_below(raised, step)

    return apply


def year(cells: pa.Array, _: bytes) -> pa.Array:
    """The year of a date: 2024."""
    return _date_part(cells, "%Y", lambda parts: parts.field("year"))


def month(cells: pa.Array, _: bytes) -> pa.Array:
    """The month of a date with its year: 2024-05."""

    def joined(parts: pa.StructArray) -> pa.Array:
        # The one that did not match is empty text.
        digits = pc.binary_join_element_wise(parts.field("apart"), parts.field("close"), "")
        padded = pc.utf8_lpad(digits, width=2, padding="0")
        return pc.binary_join_element_wise(parts.field("year"), padded, "-")

    return _date_part(cells, "%Y-%m", joined)


def keyed_hash(key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA-256 (RFC 2104) under `key` of 32 bytes, with the key's part of it done once: several
    times as fast for many short messages as making each anew."""
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(message: bytes) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(message)
        second.update(first.digest())
        return second.digest()

    return digest


def as_text(cells: pa.Array) -> pa.Array:
    """The cells as text. Raises UnfitColumnError for a column of lists, objects or bytes."""
    if pa.types.is_string(cells.type):
        return cells
    kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise UnfitColumnError("text, numbers or dates")
    return cells.cast(pa.string())


def as_decimal(cells: pa.Array) -> pa.Array:
    """The cells as exact decimal numbers, blank text as null.

    Raises UnfitColumnError, and UnfitCellError for text that is no plain number below 10^17.
    """
    kind = cells.type
    if kind == _EXACT:
        return cells
    if pa.types.is_temporal(kind) or pa.types.is_boolean(kind):
        raise UnfitColumnError("numbers")
    plain = pc.utf8_trim_whitespace(as_text(cells))
    plain = pc.if_else(pc.equal(plain, ""), pa.scalar(None, pa.string()), plain)
    _verify(pc.match_substring_regex(plain, _NUMBER), "a plain number below 10^17")
    return plain.cast(_EXACT)


def _floors(cells: pa.Array) -> pa.Array:
    """The greatest whole numbers not above the cells, as 64-bit integers."""
    if not pa.types.is_signed_integer(cells.type):
        return pc.floor(as_decimal(cells)).cast(pa.int64())
    whole = cells.cast(pa.int64())
    within = pc.and_(pc.less(whole, _LARGEST), pc.greater(whole, -_LARGEST))
    _verify(within, "a plain number below 10^17")
    return whole


def _multiples_below(whole: pa.Array, step: int) -> pa.Array:
    """The greatest multiple of `step` not above each; Arrow's division would round towards 0."""
    absent = np.asarray(whole.is_null())
    numbers = np.asarray(pc.fill_null(whole, 0))
    return pa.array(numbers // step * step, pa.int64(), mask=absent)


def _date_part(
    cells: pa.Array, pattern: str, of_text: Callable[[pa.StructArray], pa.Array]
) -> pa.Array:
    if pa.types.is_date(cells.type) or pa.types.is_timestamp(cells.type):
        return pc.strftime(cells, format=pattern)
    if pa.types.is_temporal(cells.type) or not (
        pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)
    ):
        raise UnfitColumnError("dates, or text such as 2024-05-31")
    blank = pc.equal(pc.utf8_trim_whitespace(cells), "")
    plain = pc.if_else(blank, pa.scalar(None, pa.string()), as_text(cells))
    parts = pc.extract_regex(plain, _DATE)
    _verify(pc.or_(parts.is_valid(), plain.is_null()), "a date such as 2024-05-31")
    found = of_text(parts)
    return pc.if_else(plain.is_null(), pa.scalar(None, pa.string()), found)


def _last(plain: pa.Array, count: int) -> pa.Array:
    if count == 0:
        return pc.utf8_slice_codeunits(plain, start=0, stop=0)
    return pc.utf8_slice_codeunits(plain, start=-count)


def _verify(fits: pa.Array, expected: str) -> None:
    """Every cell fits or is null. Raises UnfitCellError naming the first that does not."""
    wrong = pc.index(fits, pa.scalar(False)).as_py()
    if wrong >= 0:
        raise UnfitCellError(wrong, expected)
