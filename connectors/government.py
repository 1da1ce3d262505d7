"""Block data 块数据: rows with the code of a division and of a grid cell, and views of a division.

A division's code (GB/T 2260, GB/T 10114) says its place by its first digits:

    44 province, 4403 prefecture, 440305 county, 440305001 street, 440305001002 community

Zeros after them say nothing: 440300 is 4403. A grid cell (GB/T 30428, CJ/T 213) has its division's
code and a number of its own behind it. So a view of a division is a condition on how codes begin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from connectors.errors import InputRejected
from connectors.identifiers.numbers import PROVINCES

_CODE: Final = re.compile(r"[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{9}|[0-9]{12}")
# Divisions down to the community, and up to eight characters for the cell within it.
_GRID: Final = re.compile(r"[0-9]{6,12}[0-9A-Za-z]{1,8}")


class Level(IntEnum):
    """How large a division is, by the digits of its code."""

    PROVINCE = 2
    PREFECTURE = 4
    COUNTY = 6
    STREET = 9
    COMMUNITY = 12

    @property
    def below(self) -> Level | None:
        """The next level down; None below a community."""
        levels = list(Level)
        place = levels.index(self) + 1
        return levels[place] if place < len(levels) else None


@dataclass(frozen=True, order=True)
class Division:
    """One division by the shortest code that names it: `4403`, `440305`."""

    code: str

    @property
    def level(self) -> Level:
        return Level(len(self.code))

    @property
    def chain(self) -> tuple[str, ...]:
        """The codes of the divisions it lies in, from its province down to itself."""
        return tuple(self.code[: int(level)] for level in Level if level <= self.level)

    def is_within(self, other: Division) -> bool:
        """Whether it is `other` or lies in it."""
        return self.code.startswith(other.code)


def parse_division(text: str) -> Division:
    """The division with this code. Raises InputRejected saying what a code is."""
    code = text.strip()
    if not _CODE.fullmatch(code) or code[:2] not in PROVINCES:
        raise InputRejected(
            f"{text[:40]!r} is not the code of a division; write 2, 4, 6, 9 or 12 digits that "
            "begin with a province's, such as 440305 (GB/T 2260)"
        )
    # From the bottom up, as a community's zeros stand before its street's.
    for level in sorted(Level, reverse=True):
        above = max((one for one in Level if one < level), default=None)
        if above is not None and len(code) == level and not code[above:].strip("0"):
            code = code[:above]
    return Division(code)


def verify_grid(text: str, division: Division) -> None:
    """The code of a grid cell in the division, or the beginning of some. Raises InputRejected."""
    inside = _GRID.fullmatch(text) and text.startswith(division.code)
    if not inside:
        raise InputRejected(
            f"{text[:40]!r} is not the code of a grid cell in {division.code}; it begins with the "
            "code of its division and goes on with its own number"
        )


@dataclass(frozen=True)
class View:
    """What is shown of a division: its rows, or totals of `value` by the columns `by`.

    `division_column` and `grid_column` are those that hold the codes. Totals go by the next level
    down where `by` is empty, and leave out groups of fewer than `least` rows.
    """

    division: Division
    division_column: str
    grid_column: str | None = None
    grid: str | None = None
    value: str | None = None
    by: tuple[str, ...] = ()
    least: int = 20

    def rules(self) -> tuple[str, ...]:
        """The view as rules of a release. Raises InputRejected where it makes no sense."""
        rules = [f"rows:where({self.division_column}^={self.division.code})"]
        if self.grid is not None:
            if self.grid_column is None:
                raise InputRejected(
                    "no column holds the codes of grid cells; leave the cell out, or publish the "
                    "dataset with such a column"
                )
            verify_grid(self.grid, self.division)
            rules.append(f"rows:where({self.grid_column}^={self.grid})")
        if self.value is not None:
            rules += self._totals(self.value)
        return tuple(rules)

    def _totals(self, value: str) -> Sequence[str]:
        if self.by:
            return [f"rows:total({value};by={','.join(self.by)};min={self.least})"]
        below = self.division.level.below
        if below is None:
            return [f"rows:total({value};min={self.least})"]
        column = self.division_column
        return [
            f"{column}:prefix({int(below)})",
            f"rows:total({value};by={column};min={self.least})",
        ]
