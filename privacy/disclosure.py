"""Disclosure control: the rules a result must satisfy before the disclosing party lets it go.

The party that would disclose applies the rule before its last frame, so a receiver cannot skip it.
What it decided travels as a verdict: one byte, and the result if it is released.
"""

from collections.abc import Sequence

from privacy.errors import InputRejected, ProtocolViolation, Withheld
from privacy.role import Steps, receive, send

MIN_COHORT = "ds:minCohort"
WITHHELD = b"\x00"
RELEASED = b"\x01"


def reaches_cohort(count: int, min_cohort: int) -> bool:
    """Tell whether a cohort of `count` members is large enough; `min_cohort` 0 allows any."""
    return count >= min_cohort


def is_small_group(count: int, min_cohort: int) -> bool:
    """Tell whether a group has members but too few to be shown. An empty group names nobody."""
    return 0 < count < min_cohort


def verify_cohort(count: int, min_cohort: int) -> None:
    """Raise Withheld unless `count` members reach `min_cohort`."""
    if not reaches_cohort(count, min_cohort):
        raise Withheld(MIN_COHORT)


def verify_released_cohort(count: int, min_cohort: int, discloser: str) -> None:
    """Raise ProtocolViolation if `discloser` released a cohort that it had to withhold."""
    if not reaches_cohort(count, min_cohort):
        raise ProtocolViolation(f"{discloser} released a cohort below the agreed minimum")


def verify_min_cohort_parameter(min_cohort: int) -> None:
    """Raise InputRejected unless `min_cohort` is an integer of at least 0 and below 2**31."""
    if type(min_cohort) is not int or not 0 <= min_cohort < 2**31:
        raise InputRejected("min_cohort: an integer from 0 to 2147483647 expected")


def released(body: bytes = b"") -> bytes:
    """Write a verdict that lets `body` go."""
    return RELEASED + body


def parse_verdict(payload: bytes, sender: str) -> bytes:
    """Return the body of a released verdict; Withheld if it is not released."""
    if payload == WITHHELD:
        raise Withheld(MIN_COHORT)
    if payload[:1] != RELEASED:
        raise ProtocolViolation(f"{sender} sent neither a released nor a withheld result")
    return payload[1:]


def receive_verdict(sender: str, name: str, body_bytes: int) -> Steps[bytes]:
    """Receive a verdict with a body of at most `body_bytes`; Withheld if it is not released."""
    payload = yield from receive(sender, name, 1 + body_bytes)
    return parse_verdict(payload, sender)


def withhold_below(count: int, min_cohort: int, *, tell: dict[str, str]) -> Steps[None]:
    """Raise Withheld unless `count` reaches `min_cohort`, after having told everyone who waits.

    `tell` is party to name of the frame it waits for; none of them learns `count`.
    """
    if not reaches_cohort(count, min_cohort):
        for party, name in tell.items():
            yield from send(party, name, WITHHELD)
        raise Withheld(MIN_COHORT)


def rounded(number: int, base: int) -> int:
    """Return the multiple of `base` nearest to `number`; of two as near, the even multiple."""
    quotient, rest = divmod(number, base)
    return (quotient + (2 * rest + quotient % 2 > base)) * base


def protected(withheld: Sequence[bool], rows: int, columns: int) -> tuple[bool, ...]:
    """Return which cells to withhold so that none of `withheld` can be had from true margins.

    Cells are numbered row by row. Margins are not told with a table, but may be known from
    elsewhere: a published total, or another table of the same rows. Where only one cell of a line
    is withheld, such a margin gives it away. So in a table of two or more rows and columns every
    withheld cell is a corner of a rectangle of withheld cells, and in a single line there is never
    one alone. The corners are chosen by what is withheld only, fewest cells first, as nobody knows
    the totals. A withheld cell can then not be computed, though bounds for it may be; and what is
    known to be empty protects nothing.

    Applied to its own result it changes nothing, so that a receiver can check it. Source:
    complementary suppression, Cox, JASA 75 (1980); the rectangles are the hypercube method of
    Repsilber, in Hundepool et al., Statistical Disclosure Control (Wiley 2012), chapter 4.
    """
    if rows == 1 or columns == 1:
        return _protected_line(withheld)
    lines = [
        sum(1 << column for column in range(columns) if withheld[row * columns + column])
        for row in range(rows)
    ]
    for cell in (cell for cell, hidden in enumerate(withheld) if hidden):
        row, column = divmod(cell, columns)
        other_row, other_column = _opposite_corner(lines, row, column, columns)
        corner = 1 << other_column
        lines[row] |= corner
        lines[other_row] |= corner | 1 << column
    return tuple(bool(line >> column & 1) for line in lines for column in range(columns))


def _protected_line(withheld: Sequence[bool]) -> tuple[bool, ...]:
    if sum(withheld) != 1 or len(withheld) == 1:
        return tuple(withheld)
    partner = 1 if withheld[0] else 0
    return tuple(hidden or cell == partner for cell, hidden in enumerate(withheld))


def _opposite_corner(lines: Sequence[int], row: int, column: int, columns: int) -> tuple[int, int]:
    """Return the corner that completes a rectangle with the fewest cells not withheld yet."""
    others = ((1 << columns) - 1) ^ (1 << column)
    best: tuple[int, int, int] | None = None
    for other, line in enumerate(lines):
        if other == row:
            continue
        missing = 1 - (line >> column & 1)
        for more, fitting in ((0, lines[row] & line), (1, lines[row] | line), (2, others)):
            candidates = fitting & others
            if candidates:
                found = (missing + more, other, (candidates & -candidates).bit_length() - 1)
                best = found if best is None or found < best else best
                break
    assert best is not None
    return best[1], best[2]
