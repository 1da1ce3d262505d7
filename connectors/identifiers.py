"""Identifiers in one spelling, so that the same person is the same string at every participant.

A canonicaliser is a pure function with a versioned name: two parties that agreed on `resident-id/1`
compare equal strings or none. A changed rule is a new name. Values that cannot be an identifier
are refused with a reason and never guessed: a wrong match is worse than a missing one.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import phonenumbers

from connectors.errors import ConnectorError, InputRejected

# No identifier is longer; a longer cell is a broken file, and would cost time to normalise.
MAX_VALUE_CHARACTERS = 256
# Enough to recognise what is wrong, too few to list people.
MAX_EXAMPLES_PER_REASON = 2


class Reason(StrEnum):
    """Why a value is no identifier."""

    BLANK = "blank"
    SCIENTIFIC_NOTATION = "scientific-notation"
    LENGTH = "length"
    CHARACTERS = "characters"
    DIVISION = "division"
    DATE = "date"
    CHECK_DIGIT = "check-digit"
    NOT_MOBILE = "not-mobile"


class InvalidIdentifier(ConnectorError):
    """A value is not an identifier of its kind; `reason` says why. The value is not in here."""

    def __init__(self, canonicaliser: str, reason: Reason) -> None:
        super().__init__(f"not a usable {canonicaliser} identifier: {reason}")
        self.canonicaliser = canonicaliser
        self.reason: str = reason.value


class _NotUsableError(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


# What people and spreadsheets put into or around a number: white space, characters without width,
# dashes, and the mark that makes a spreadsheet keep a cell as text.
_INVISIBLE = "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
_DIRT = re.compile(rf"[\s{_INVISIBLE}\-\u2010-\u2015\u2212'`\u2018\u2019\"]+")
_INVISIBLES = re.compile(rf"[{_INVISIBLE}]+")
_SPACES = re.compile(r"\s+")
# What `text/1` leaves as it is, but for words that stand for nothing: most columns hold no others.
_PLAIN_TEXT = re.compile(r"[a-z0-9][a-z0-9_-]*")
# 4.40E+17 is what a spreadsheet leaves of an 18-digit number: most digits are gone for good.
_SCIENTIFIC = re.compile(r"[0-9](\.[0-9]+)?e\+?[0-9]{1,3}")
_BLANK_WORDS = frozenset({"", "/", ".", "null", "none", "nan", "n/a", "#n/a", "\\n", "无", "空"})

# GB/T 2260: the 31 provinces, Taiwan 71, Hong Kong 81, Macao 82, and 83 for residence permits of
# Taiwan residents. County codes are not checked: they change every year, numbers keep the code of
# the day they were issued, and every gap in a list would drop a real person.
_PROVINCES = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 "
    "61 62 63 64 65 71 81 82 83".split()
)
_RESIDENT_18 = re.compile(r"[0-9]{17}[0-9X]")
_RESIDENT_15 = re.compile(r"[0-9]{15}")
# In the 15-digit form these order codes were kept for people born before 1900.
_CENTENARIANS = frozenset({"996", "997", "998", "999"})
_BORN_YEARS = range(1850, 2100)

# GB 32100: no I, O, S, V or Z. The value of a character is its place.
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC = re.compile(rf"[{_USCC_ALPHABET}]{{2}}[0-9]{{6}}[{_USCC_ALPHABET}]{{10}}")
_USCC_VALUES = {character: value for value, character in enumerate(_USCC_ALPHABET)}
_USCC_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))

_PHONE = re.compile(r"[0-9+() ./]+")
_MOBILE_TYPES = frozenset(
    {phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE}
)


def _bare(value: str) -> str:
    """`value` in NFKC without dirt. Raises for blanks and for damaged numbers."""
    bare = _DIRT.sub("", unicodedata.normalize("NFKC", value))
    lowered = bare.lower()
    if lowered in _BLANK_WORDS:
        raise _NotUsableError(Reason.BLANK)
    # The sign of the exponent may be gone with the dashes; digits before it are few either way.
    if _SCIENTIFIC.fullmatch(lowered):
        raise _NotUsableError(Reason.SCIENTIFIC_NOTATION)
    return bare


@lru_cache(maxsize=65_536)
def _verify_born(digits: str) -> None:
    try:
        born = datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        raise _NotUsableError(Reason.DATE) from None
    if born.year not in _BORN_YEARS:
        raise _NotUsableError(Reason.DATE)


def _resident_check_digit(body: str) -> str:
    """ISO 7064 MOD 11-2 over 17 digits."""
    # The weights are powers of two modulo 11, and 13 is 2 modulo 11: reading the digits in base 13
    # weighs them all in one conversion done in C.
    return "10X98765432"[2 * int(body, 13) % 11]


def _resident_id(value: str) -> str:
    """GB 11643 resident identity number, 18 characters; the 15-digit form is upgraded."""
    number = value if _RESIDENT_18.fullmatch(value) else _resident_shape(value)
    if number[:2] not in _PROVINCES:
        raise _NotUsableError(Reason.DIVISION)
    _verify_born(number[6:14])
    if number[17] != _resident_check_digit(number[:17]):
        raise _NotUsableError(Reason.CHECK_DIGIT)
    return number


def _resident_shape(value: str) -> str:
    """17 digits and a check character, from whatever was written."""
    number = _bare(value).upper()
    if _RESIDENT_15.fullmatch(number):
        century = "18" if number[12:] in _CENTENARIANS else "19"
        body = f"{number[:6]}{century}{number[6:]}"
        return body + _resident_check_digit(body)
    if len(number) != 18:
        raise _NotUsableError(Reason.LENGTH)
    if not _RESIDENT_18.fullmatch(number):
        raise _NotUsableError(Reason.CHARACTERS)
    return number


def _uscc(value: str) -> str:
    """GB 32100 unified social credit code, 18 characters.

    Unlike `stdnum.cn.uscc` this accepts a letter as registering authority: rural collectives are
    registered under N.
    """
    code = _bare(value).upper()
    if len(code) != 18:
        raise _NotUsableError(Reason.LENGTH)
    if not _USCC.fullmatch(code):
        raise _NotUsableError(Reason.CHARACTERS)
    weighted = sum(
        _USCC_VALUES[character] * weight
        for character, weight in zip(code[:17], _USCC_WEIGHTS, strict=True)
    )
    if code[17] != _USCC_ALPHABET[-weighted % 31]:
        raise _NotUsableError(Reason.CHECK_DIGIT)
    return code


def _mobile(value: str) -> str:
    """Mobile number in E.164; without a country code it is Chinese."""
    number = _bare(value)
    if not _PHONE.fullmatch(number):
        raise _NotUsableError(Reason.CHARACTERS)
    try:
        parsed = phonenumbers.parse(number, "CN")
    except phonenumbers.NumberParseException:
        raise _NotUsableError(Reason.LENGTH) from None
    if not phonenumbers.is_possible_number(parsed):
        raise _NotUsableError(Reason.LENGTH)
    if phonenumbers.number_type(parsed) not in _MOBILE_TYPES:
        raise _NotUsableError(Reason.NOT_MOBILE)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _division(value: str) -> str:
    """Six-digit code of an administrative division in the shape of GB/T 2260."""
    code = _bare(value)
    if len(code) != 6:
        raise _NotUsableError(Reason.LENGTH)
    if not (code.isascii() and code.isdigit()):
        raise _NotUsableError(Reason.CHARACTERS)
    if code[:2] not in _PROVINCES:
        raise _NotUsableError(Reason.DIVISION)
    return code


def _text(value: str) -> str:
    """Any other identifier: NFKC, case folded, outer white space gone, inner runs one space."""
    if _PLAIN_TEXT.fullmatch(value) and value not in _BLANK_WORDS:
        return value
    # Folding can undo normalisation and the other way round; two rounds settle every known
    # character, and the loop makes idempotence hold by construction.
    folded, before = value, None
    while folded != before:
        before = folded
        folded = _INVISIBLES.sub("", unicodedata.normalize("NFKC", folded)).casefold()
        folded = _SPACES.sub(" ", folded).strip()
    if folded in _BLANK_WORDS or not _DIRT.sub("", folded):
        raise _NotUsableError(Reason.BLANK)
    if "." in folded and _SCIENTIFIC.fullmatch(folded):
        raise _NotUsableError(Reason.SCIENTIFIC_NOTATION)
    return folded


_CANONICALISERS: Mapping[str, Callable[[str], str]] = {
    "resident-id/1": _resident_id,
    "uscc/1": _uscc,
    "mobile/1": _mobile,
    "division/1": _division,
    "text/1": _text,
}


def canonicalisers() -> tuple[str, ...]:
    """The names of all canonicalisers."""
    return tuple(_CANONICALISERS)


def canonicalise(name: str, value: str) -> str:
    """`value` in the one spelling of canonicaliser `name`; doing it again changes nothing.

    Raises InvalidIdentifier with a reason, and InputRejected for an unknown canonicaliser.
    """
    rule = _rule(name)
    try:
        return _apply(rule, value)
    except _NotUsableError as err:
        # The inner error is the same fact without the canonicaliser's name.
        raise InvalidIdentifier(name, err.reason) from None


def _apply(rule: Callable[[str], str], value: str) -> str:
    if len(value) > MAX_VALUE_CHARACTERS:
        raise _NotUsableError(Reason.LENGTH)
    return rule(value)


def _rule(name: str) -> Callable[[str], str]:
    rule = _CANONICALISERS.get(name)
    if rule is None:
        raise InputRejected(
            f"there is no canonicaliser {name[:100]}; use one of {', '.join(_CANONICALISERS)}"
        )
    return rule


@dataclass(frozen=True)
class QualityReport:
    """How usable an identifier column is.

    `rows` = `valid` + `blank` + the sum of `invalid` (reason → rows). `duplicates` counts valid
    rows whose identifier occurred in an earlier row. `examples` are a few invalid values by row
    number (from 1, without the header), masked to their outer characters.
    """

    column: str
    canonicaliser: str
    rows: int
    valid: int
    blank: int
    invalid: dict[str, int]
    duplicates: int
    examples: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The report as JSON values; the keys are the field names."""
        return {
            "column": self.column,
            "canonicaliser": self.canonicaliser,
            "rows": self.rows,
            "valid": self.valid,
            "blank": self.blank,
            "invalid": dict(self.invalid),
            "duplicates": self.duplicates,
            "examples": list(self.examples),
        }


class ColumnReader:
    """Canonicalises a column that comes in pieces, and counts what it met.

    To count repetitions it remembers every identifier; without `repetitions` it does not, and its
    report says that there were none.
    """

    def __init__(self, canonicaliser: str, *, column: str, repetitions: bool = True) -> None:
        self._repetitions = repetitions
        self._rule = _rule(canonicaliser)
        self._canonicaliser = canonicaliser
        self._column = column
        self._rows = 0
        self._seen: set[str] = set()
        self._valid = 0
        self._reasons: Counter[Reason] = Counter()
        self._examples: list[tuple[Reason, str]] = []

    def feed(self, values: Iterable[str | None]) -> list[str | None]:
        """The canonical value of each of the next rows, None where it is blank or invalid."""
        rule = self._rule
        canonical: list[str | None] = []
        add = canonical.append
        row = self._rows
        for value in values:
            row += 1
            try:
                if value:
                    add(_apply(rule, value))
                else:
                    add(None)
                    self._reasons[Reason.BLANK] += 1
            except _NotUsableError as err:
                add(None)
                self._count(err.reason, value or "", row)
        usable = [identifier for identifier in canonical if identifier is not None]
        self._valid += len(usable)
        if self._repetitions:
            self._seen.update(usable)
        self._rows = row
        return canonical

    def report(self) -> QualityReport:
        """The report over everything fed so far."""
        invalid = {
            reason.value: self._reasons[reason]
            for reason in Reason
            if reason is not Reason.BLANK and self._reasons[reason]
        }
        return QualityReport(
            column=self._column,
            canonicaliser=self._canonicaliser,
            rows=self._rows,
            valid=self._valid,
            blank=self._reasons[Reason.BLANK],
            invalid=invalid,
            duplicates=self._valid - len(self._seen) if self._repetitions else 0,
            examples=tuple(text for _, text in self._examples),
        )

    def _count(self, reason: Reason, value: str, row: int) -> None:
        self._reasons[reason] += 1
        shown = sum(1 for known, _ in self._examples if known is reason)
        if reason is not Reason.BLANK and shown < MAX_EXAMPLES_PER_REASON:
            self._examples.append((reason, f"row {row}, {reason}: {_masked(value)}"))


def canonicalise_column(
    name: str, values: Iterable[str | None], *, column: str = "identifier"
) -> tuple[list[str | None], QualityReport]:
    """Every value by canonicaliser `name`, None for blank or invalid rows, and the report."""
    reader = ColumnReader(name, column=column)
    return reader.feed(values), reader.report()


def require_identifiers(report: QualityReport, *, source: str = "the source") -> None:
    """Raises InputRejected unless at least one row of the column has a usable identifier."""
    if report.valid:
        return
    found = [f"{report.blank} blank"] if report.blank else []
    found += [f"{count} with a wrong {reason}" for reason, count in report.invalid.items()]
    raise InputRejected(
        f"column {report.column} of {source} has no usable identifier: "
        f"{', '.join(found) or 'no rows'}; check that the column holds {report.canonicaliser} "
        f"identifiers, or choose another canonicaliser ({', '.join(_CANONICALISERS)})"
    )


def _masked(value: str) -> str:
    """Two characters from each end of a long value, nothing of a short one."""
    bare = _DIRT.sub("", unicodedata.normalize("NFKC", value[:MAX_VALUE_CHARACTERS]))
    if len(bare) < 10:
        return "****"
    shown = [c if c.isascii() and c.isalnum() else "*" for c in bare[:2] + bare[-2:]]
    return f"{shown[0]}{shown[1]}****…**{shown[2]}{shown[3]}"
