"""Rules for numbers that a state or an operator gives out: people, organisations, telephones,
divisions."""

from __future__ import annotations

import datetime
import re
from functools import lru_cache
from typing import Final

import phonenumbers

from connectors.identifiers.spelling import NotUsableError, Reason, bare

# GB/T 2260: the 31 provinces, Taiwan 71, Hong Kong 81, Macao 82, and 83 for residence permits of
# Taiwan residents. County codes are not checked: they change every year, numbers keep the code of
# the day they were issued, and every gap in a list would drop a real person.
PROVINCES: Final = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 "
    "61 62 63 64 65 71 81 82 83".split()
)
_RESIDENT_18 = re.compile(r"[0-9]{17}[0-9X]")
_RESIDENT_15 = re.compile(r"[0-9]{15}")
# In the 15-digit form these order codes were kept for people born before 1900.
_CENTENARIANS = frozenset({"996", "997", "998", "999"})
BORN_YEARS: Final = range(1850, 2100)

# GB 32100: no I, O, S, V or Z. The value of a character is its place.
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC = re.compile(rf"[{_USCC_ALPHABET}]{{2}}[0-9]{{6}}[{_USCC_ALPHABET}]{{10}}")
_USCC_VALUES = {character: value for value, character in enumerate(_USCC_ALPHABET)}
_USCC_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))

_PHONE = re.compile(r"[0-9+() ./]+")
_MOBILE_TYPES = frozenset(
    {phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE}
)
_DIGITS = re.compile(r"[0-9]+")


@lru_cache(maxsize=65_536)
def _verify_born(digits: str) -> None:
    try:
        born = datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        raise NotUsableError(Reason.DATE) from None
    if born.year not in BORN_YEARS:
        raise NotUsableError(Reason.DATE)


def _resident_check_digit(body: str) -> str:
    """ISO 7064 MOD 11-2 over 17 digits."""
    # The weights are powers of two modulo 11, and 13 is 2 modulo 11: reading the digits in base 13
    # weighs them all in one conversion done in C.
    return "10X98765432"[2 * int(body, 13) % 11]


def resident_id(value: str) -> str:
    """GB 11643 resident identity number, 18 characters; the 15-digit form is upgraded."""
    number = value if _RESIDENT_18.fullmatch(value) else _resident_shape(value)
    if number[:2] not in PROVINCES:
        raise NotUsableError(Reason.DIVISION)
    _verify_born(number[6:14])
    if number[17] != _resident_check_digit(number[:17]):
        raise NotUsableError(Reason.CHECK_DIGIT)
    return number


def _resident_shape(value: str) -> str:
    """17 digits and a check character, from whatever was written."""
    number = bare(value).upper()
    if _RESIDENT_15.fullmatch(number):
        century = "18" if number[12:] in _CENTENARIANS else "19"
        body = f"{number[:6]}{century}{number[6:]}"
        return body + _resident_check_digit(body)
    if len(number) != 18:
        raise NotUsableError(Reason.LENGTH)
    if not _RESIDENT_18.fullmatch(number):
        raise NotUsableError(Reason.CHARACTERS)
    return number


def uscc(value: str) -> str:
    """GB 32100 unified social credit code, 18 characters.

    Unlike `stdnum.cn.uscc` this accepts a letter as registering authority: rural collectives are
    registered under N.
    """
    code = bare(value).upper()
    if len(code) != 18:
        raise NotUsableError(Reason.LENGTH)
    if not _USCC.fullmatch(code):
        raise NotUsableError(Reason.CHARACTERS)
    weighted = sum(
        _USCC_VALUES[character] * weight
        for character, weight in zip(code[:17], _USCC_WEIGHTS, strict=True)
    )
    if code[17] != _USCC_ALPHABET[-weighted % 31]:
        raise NotUsableError(Reason.CHECK_DIGIT)
    return code


def mobile(value: str) -> str:
    """Mobile number in E.164; without a country code it is Chinese."""
    number = bare(value)
    if not _PHONE.fullmatch(number):
        raise NotUsableError(Reason.CHARACTERS)
    try:
        parsed = phonenumbers.parse(number, "CN")
    except phonenumbers.NumberParseException:
        raise NotUsableError(Reason.LENGTH) from None
    if not phonenumbers.is_possible_number(parsed):
        raise NotUsableError(Reason.LENGTH)
    if phonenumbers.number_type(parsed) not in _MOBILE_TYPES:
        raise NotUsableError(Reason.NOT_MOBILE)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def division(value: str) -> str:
    """Six-digit code of an administrative division in the shape of GB/T 2260."""
    code = bare(value)
    if len(code) != 6:
        raise NotUsableError(Reason.LENGTH)
    return _in_a_province(code)


def area(value: str) -> str:
    """A division from province to community: 6, 9 or 12 digits, the shortest that say it.

    2 and 4 digits are the short forms of a province and a city in GB/T 2260; 9 add the street of
    GB/T 10114 and 12 the community. Zeros at the end of 12 or 9 digits name the level above.
    """
    code = bare(value)
    if len(code) not in (2, 4, 6, 9, 12):
        raise NotUsableError(Reason.LENGTH)
    code = _in_a_province(code.ljust(6, "0"))
    while len(code) > 6 and code.endswith("000"):
        code = code[:-3]
    return code


def _in_a_province(code: str) -> str:
    if not _DIGITS.fullmatch(code):
        raise NotUsableError(Reason.CHARACTERS)
    if code[:2] not in PROVINCES:
        raise NotUsableError(Reason.DIVISION)
    return code
