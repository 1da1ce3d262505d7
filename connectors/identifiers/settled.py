"""Which cells of a column are canonical as they stand, found for a whole column at once.

Most cells of most columns are clean. Here they are recognised over Arrow's buffers at a fraction of
what the rules of `numbers` and `words` cost; every other cell, valid or not, goes to its rule. What
is found here must be what the rule says: `tests/properties` holds the one to the other.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from connectors.identifiers.numbers import BORN_YEARS, PROVINCES, mobile
from connectors.identifiers.spelling import BLANK_WORDS, NotUsableError

Mask = NDArray[np.bool_]

_ZERO = ord("0")
_CHECK_WEIGHTS = [pow(2, 17 - place, 11) for place in range(17)]
_CHECK_DIGITS = np.frombuffer(b"10X98765432", dtype=np.uint8) - _ZERO
_IS_PROVINCE = np.array([f"{code:02d}" in PROVINCES for code in range(100)])


def _days() -> Mask:
    days = np.zeros((len(BORN_YEARS), 10_000), dtype=np.bool_)
    for year in BORN_YEARS:
        day = datetime.date(year, 1, 1)
        while day.year == year:
            days[year - BORN_YEARS.start, day.month * 100 + day.day] = True
            day += datetime.timedelta(days=1)
    return days


_DAYS: list[Mask] = []


def _is_day(years: NDArray[np.int32], days: NDArray[np.int32]) -> Mask:
    if not _DAYS:
        _DAYS.append(_days())
    inside = (years >= BORN_YEARS.start) & (years < BORN_YEARS.stop)
    found: Mask = inside & _DAYS[0][np.where(inside, years - BORN_YEARS.start, 0), days]
    return found


def _cells(column: pa.Array, length: int) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """The rows whose cell has `length` bytes, and those bytes, one row of the matrix each."""
    _, ends, content = column.buffers()
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    offsets = np.frombuffer(ends, dtype=kind)[column.offset : column.offset + len(column) + 1]
    fits = np.diff(offsets) == length
    if column.null_count:
        fits &= column.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(fits)
    if not len(rows):
        return rows, np.empty((0, length), dtype=np.uint8)
    characters = np.frombuffer(content, dtype=np.uint8)
    if len(rows) == len(column):
        return rows, characters[offsets[0] : offsets[-1]].reshape(-1, length)
    starts: NDArray[np.int64] = offsets[rows].astype(np.int64)
    return rows, characters[starts[:, None] + np.arange(length)]


def _resident_id(column: pa.Array) -> Mask:
    settled = np.zeros(len(column), dtype=np.bool_)
    rows, characters = _cells(column, 18)
    # One row for each place of the number, so that its digits lie side by side.
    places = np.ascontiguousarray(characters.T) - _ZERO
    numeric = (places[:17] <= 9).all(axis=0)
    if not numeric.all():
        rows, places = rows[numeric], places[:, numeric]
    total = np.zeros(len(rows), dtype=np.uint16)
    for weight, place in zip(_CHECK_WEIGHTS, places[:17], strict=True):
        total += weight * place.astype(np.uint16)
    settled[rows] = (
        (places[17] == _CHECK_DIGITS[total % 11])
        & _IS_PROVINCE[_number(places[0:2])]
        & _is_day(_number(places[6:10]), _number(places[10:14]))
    )
    return settled


def _number(places: NDArray[np.uint8]) -> NDArray[np.int32]:
    """What up to nine digits say, the first one weighing most."""
    number: NDArray[np.int32] = places[0].astype(np.int32)
    for place in places[1:]:
        number = number * 10 + place
    return number


# Whether a Chinese mobile number may start so; filled as prefixes are met. The library's rules look
# at five digits, which a test holds them to; 1790 to 1799 may be a carrier's code before a number.
_MOBILE_PREFIXES: dict[int, bool] = {}


def _starts_a_mobile_number(prefix: int) -> bool:
    known = _MOBILE_PREFIXES.get(prefix)
    if known is None:
        number = f"{prefix}000000"
        try:
            known = number[1] > "2" and number[1:3] != "79" and mobile(number) == f"+86{number}"
        except NotUsableError:
            known = False
        _MOBILE_PREFIXES[prefix] = known
    return known


def _mobile(column: pa.Array) -> Mask:
    settled = np.zeros(len(column), dtype=np.bool_)
    rows, characters = _cells(column, 11)
    places = np.ascontiguousarray(characters.T) - _ZERO
    numeric = (places <= 9).all(axis=0) & (places[0] == 1)
    prefixes = _number(places[:5, numeric])
    different, which = np.unique(prefixes, return_inverse=True)
    known = np.array([_starts_a_mobile_number(int(prefix)) for prefix in different], dtype=np.bool_)
    settled[rows[numeric]] = known[which]
    return settled


def _matching(pattern: str) -> Callable[[pa.Array], Mask]:
    """Those that match, but for words that stand for nothing."""
    words = pa.array(sorted(BLANK_WORDS), pa.string())

    def match(column: pa.Array) -> Mask:
        found = pc.and_(
            pc.match_substring_regex(column, pattern),
            pc.invert(pc.is_in(column, value_set=words.cast(column.type))),
        )
        mask: Mask = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
        return mask

    return match


_PROVINCE = f"({'|'.join(sorted(PROVINCES))})"
# What finds the settled cells, and what the rule puts before them.
SETTLED: Final[Mapping[str, tuple[Callable[[pa.Array], Mask], str]]] = {
    "resident-id/1": (_resident_id, ""),
    "mobile/1": (_mobile, "+86"),
    "division/1": (_matching(rf"^{_PROVINCE}[0-9]{{4}}\z"), ""),
    # RE2 counts to a thousand at most; 256 characters are the most any rule sees.
    "text/1": (_matching(r"^[a-z0-9][a-z0-9_-]{0,255}\z"), ""),
    "name/1": (_matching(r"^[\x{4e00}-\x{9fa5}]{2,20}\z"), ""),
}
