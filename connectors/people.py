"""What the law says of people by their age and life: children, minors, the deceased.

A child under 14 cannot consent alone: a guardian does (PIPL article 31). Minors under 18 are
flagged. Nobody reads the records of the deceased by a consent of theirs. Ages are those at the time
of a use, in the calendar of China; a year of age is full on the day after the birthday.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Final

CHILD_BELOW_YEARS: Final = 14
MINOR_BELOW_YEARS: Final = 18
# Nobody is known to have lived longer by more than two years; registers forget to note deaths.
LONGEST_LIFE_YEARS: Final = 120
# Somebody of whom it is only known that they have died.
DIED_SOMETIME: Final = date.min

_CHINA: Final = timezone(timedelta(hours=8))
_DATE = re.compile(r"(\d{4})\D?(\d{1,2})\D?(\d{1,2})(?!\d)")
_NO: Final = frozenset(
    {"", "0", "0.0", "n", "no", "f", "false", "alive", "living", "否", "无", "不是", "在世", "健在"}
    | {"/", "-", "none", "null", "nan", "n/a"}
)
_BORN_NAME = re.compile(r"birth|(^|_)(dob|born)($|_)|出生", re.IGNORECASE)
_DIED_NAME = re.compile(r"deceased|(^|_)(died|dead|death)($|_)|死亡|去世|身故", re.IGNORECASE)
# Words beside which a column of births or deaths says something else: a place, a cause.
_OTHER_NAME = re.compile(r"place|weight|cause|count|number|地|体重|原因|人数", re.IGNORECASE)


@dataclass(frozen=True)
class Standing:
    """What holds of a person at one time; whoever is a child is a minor too."""

    child: bool = False
    minor: bool = False
    deceased: bool = False


def standing(born: date | None, died: date | None, at: datetime) -> Standing:
    """What holds of somebody born and dead on those days (None: not known) at the time `at`."""
    return standing_on(born, died, day_of(at))


def day_of(at: datetime) -> date:
    """The day that it is in China."""
    return at.astimezone(_CHINA).date()


def standing_on(born: date | None, died: date | None, today: date) -> Standing:
    """As `standing`, on a day in China."""
    gone = died is not None and died <= today
    if born is None:
        return Standing(deceased=gone)
    age = full_years(born, today)
    return Standing(
        child=age < CHILD_BELOW_YEARS,
        minor=age < MINOR_BELOW_YEARS,
        deceased=gone or age >= LONGEST_LIFE_YEARS,
    )


def last_birthday_of_age(years: int, today: date) -> date:
    """The last day on which somebody was born who is at least that old `today`."""
    # Whoever was born then is a day short; a 29th of February shifts it by another.
    born = date(today.year - years, today.month, 28 if today.month == 2 else today.day)
    born += timedelta(days=2)
    while full_years(born, today) < years:
        born -= timedelta(days=1)
    return born


def full_years(born: date, today: date) -> int:
    """Full years of age; the birthday itself does not complete one."""
    return today.year - born.year - ((today.month, today.day) <= (born.month, born.day))


def born_by_resident_id(canonical: str) -> date:
    """The day of birth that a canonical `resident-id/1` holds."""
    return date(int(canonical[6:10]), int(canonical[10:12]), int(canonical[12:14]))


def parsed_day(text: str | None) -> date | None:
    """The day that a cell names as 1990-01-31, 1990/1/31, 19900131 or 1990年1月31日; else None."""
    match = _DATE.match((text or "").strip())
    if match is None:
        return None
    try:
        return date(*(int(part) for part in match.groups()))
    except ValueError:
        return None


def parsed_death(text: str | None) -> date | None:
    """None for the living. A cell that is neither a no nor a day means that somebody has died:
    an unclear mark must not keep a consent alive."""
    if text is None or text.strip().casefold() in _NO:
        return None
    return parsed_day(text) or DIED_SOMETIME


def birth_column(columns: Sequence[str]) -> str | None:
    """The column that by its name holds days of birth, where there is one."""
    return _named(columns, _BORN_NAME)


def death_column(columns: Sequence[str]) -> str | None:
    """The column that by its name says who has died, or when; where there is one."""
    return _named(columns, _DIED_NAME)


def _named(columns: Sequence[str], pattern: re.Pattern[str]) -> str | None:
    found = (one for one in columns if pattern.search(one) and not _OTHER_NAME.search(one))
    return next(found, None)
