"""Comparing a fact with the right operand of a constraint, when the two can be compared at all.

Every comparison either answers True or False or raises Incomparable with a reason; it never
guesses. Values arrive as strings from policies that peers wrote, so each kind says which strings
it understands.
"""

import operator as op
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from contracts.odrl import Operator
from contracts.profile import GRADE_ORDER, ValueKind

Fact = str | bool | int | Decimal | datetime | tuple[str, ...]


class Why(StrEnum):
    """Why two values cannot be compared; the text completes a sentence after a semicolon."""

    NO_SUCH_OPERATOR = "these values do not have that operator"
    NOT_A_CODE = "the policy's value is not a GB/T 2260 code"
    NOT_A_REGION = "the region has to be a GB/T 2260 code, as the policy's is"
    ONLY_REQUIRED = "the only thing a policy can say here is that it is required"
    NOT_ONE_TEXT = "the policy has to name one value here, as text"
    NOT_TEXTS = "the policy has to list values here, as text"
    NOT_A_NUMBER = "the policy's value is not a number"
    NOT_A_MOMENT = "the policy's value is not a date and time with a time zone"
    NO_SUCH_MOMENT = "the policy's value is not a date and time that exists"
    NOT_A_GRADE = "a grade has to be general, important or core"
    UNREAD = "it has properties that this space does not read"


class Incomparable(Exception):
    """The two values cannot be compared; the text is a `Why`."""


_ORDER: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    Operator.EQ: op.eq,
    Operator.NEQ: op.ne,
    Operator.GT: op.gt,
    Operator.GTEQ: op.ge,
    Operator.LT: op.lt,
    Operator.LTEQ: op.le,
}
_EQUALITY: Final = (Operator.EQ, Operator.NEQ)
_LISTS: Final = (Operator.IS_ANY_OF, Operator.IS_NONE_OF, Operator.IS_ALL_OF)


def compare(kind: ValueKind, operator: Operator, fact: Fact, expected: object) -> bool:
    """Whether `fact` stands in the relation `operator` to the right operand `expected`.

    Raises Incomparable for an operator the kind does not have, or an operand it cannot read.
    """
    return COMPARISONS[kind](operator, fact, expected)


def _number(operator: Operator, fact: Fact, expected: object) -> bool:
    return _ordered(operator, fact, expected, parse_decimal)


def _time(operator: Operator, fact: Fact, expected: object) -> bool:
    return _ordered(operator, fact, expected, parse_moment)


def _grade(operator: Operator, fact: Fact, expected: object) -> bool:
    return _ordered(operator, grade_place(str(fact)), expected, grade_place)


def _ordered(operator: Operator, fact: Fact, expected: object, read: Callable[[str], Fact]) -> bool:
    if operator in _LISTS:
        return _listed(operator, fact, [read(each) for each in texts_of(expected)])
    relation = _ORDER.get(operator)
    if relation is None:
        raise Incomparable(Why.NO_SUCH_OPERATOR)
    return relation(fact, read(_text(expected)))


def _word(operator: Operator, fact: Fact, expected: object) -> bool:
    if operator in _LISTS:
        return _listed(operator, fact, texts_of(expected))
    text, wanted = str(fact), _text(expected)
    if operator in _EQUALITY:
        return _ORDER[operator](text, wanted)
    if operator in (Operator.IS_A, Operator.IS_PART_OF):
        # private-sum/1 is a private-sum; research/medical is part of research.
        return text == wanted or text.startswith(wanted + "/")
    if operator is Operator.HAS_PART:
        return text == wanted or wanted.startswith(text + "/")
    raise Incomparable(Why.NO_SUCH_OPERATOR)


def _region(operator: Operator, fact: Fact, expected: object) -> bool:
    if operator in _LISTS:
        wanted = [region_code(each) or each for each in texts_of(expected)]
        return _listed(operator, _region_like(str(fact), wanted), wanted)
    wanted_text = _text(expected)
    if operator in _EQUALITY:
        one = region_code(wanted_text) or wanted_text
        return _ORDER[operator](_region_like(str(fact), [one]), one)
    code, wanted_code = region_code(str(fact)), region_code(wanted_text)
    if wanted_code is None:
        raise Incomparable(Why.NOT_A_CODE)
    if code is None:
        raise Incomparable(Why.NOT_A_REGION)
    if operator is Operator.IS_PART_OF:
        return code.startswith(wanted_code)
    if operator is Operator.HAS_PART:
        return wanted_code.startswith(code)
    raise Incomparable(Why.NO_SUCH_OPERATOR)


def _set(operator: Operator, fact: Fact, expected: object) -> bool:
    """Of several texts: `eq` and `isAnyOf` ask for one of them, `neq` and `isNoneOf` for none."""
    assert isinstance(fact, tuple), "a fact of this kind is a tuple of texts"
    if operator in (Operator.EQ, Operator.NEQ):
        return (_text(expected) in fact) == (operator is Operator.EQ)
    wanted = texts_of(expected)
    if operator is Operator.IS_ANY_OF:
        return any(each in fact for each in wanted)
    if operator is Operator.IS_NONE_OF:
        return all(each not in fact for each in wanted)
    if operator is Operator.IS_ALL_OF:
        return all(each in fact for each in wanted)
    raise Incomparable(Why.NO_SUCH_OPERATOR)


def _consent(operator: Operator, fact: Fact, expected: object) -> bool:
    if operator is not Operator.EQ or _text(expected) != "required":
        raise Incomparable(Why.ONLY_REQUIRED)
    return fact is True


COMPARISONS: Final[Mapping[ValueKind, Callable[[Operator, Fact, object], bool]]] = {
    ValueKind.TEXT: _word,
    ValueKind.NUMBER: _number,
    ValueKind.TIME: _time,
    ValueKind.REGION: _region,
    ValueKind.GRADE: _grade,
    ValueKind.SET: _set,
    ValueKind.CONSENT: _consent,
}


def _listed(operator: Operator, fact: object, wanted: list[Any]) -> bool:
    if operator is Operator.IS_ANY_OF:
        return fact in wanted
    if operator is Operator.IS_NONE_OF:
        return fact not in wanted
    # A single value is all of a list only when the list says nothing else.
    return all(each == fact for each in wanted)


def single_text(value: object) -> str | None:
    """The one string in a right operand: itself, or the value or id of a JSON-LD object."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and value.keys() <= {"@value", "@id", "@type"}:
        inner = value.get("@value", value.get("@id"))
        return inner if isinstance(inner, str) else None
    return None


def _text(expected: object) -> str:
    text = single_text(expected)
    if text is None:
        raise Incomparable(Why.NOT_ONE_TEXT)
    return text


def texts_of(expected: object) -> list[str]:
    """The values of a right operand as a list; one alone is a list of one.

    Raises Incomparable when it is empty or holds something that is not text.
    """
    values = expected if isinstance(expected, tuple | list) else (expected,)
    texts = [single_text(each) for each in values]
    found = [text for text in texts if text is not None]
    if not found or len(found) != len(texts):
        raise Incomparable(Why.NOT_TEXTS)
    return found


# The bounds keep a peer's number from costing more to compare than to read.
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?")
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})"
)


@lru_cache(maxsize=1024)
def parse_decimal(text: str) -> Decimal:
    """A plain decimal of at most 30 digits on each side. Raises Incomparable for anything else."""
    if not _DECIMAL.fullmatch(text):
        raise Incomparable(Why.NOT_A_NUMBER)
    return Decimal(text)


@lru_cache(maxsize=1024)
def parse_moment(text: str) -> datetime:
    """A date and time with its zone. Raises Incomparable for anything else."""
    if not _MOMENT.fullmatch(text):
        raise Incomparable(Why.NOT_A_MOMENT)
    try:
        return datetime.fromisoformat(text)
    except ValueError as err:
        raise Incomparable(Why.NO_SUCH_MOMENT) from err


def grade_place(text: str) -> int:
    """Where a grade stands from harmless to grave. Raises Incomparable for anything else."""
    for place, grade in enumerate(GRADE_ORDER):
        if text == grade:
            return place
    raise Incomparable(Why.NOT_A_GRADE)


# Province, city, county (GB/T 2260), then township and village (GB/T 10114 and its extension).
_CODE_LENGTHS: Final = (2, 4, 6, 9, 12)
_CODE: Final = re.compile(r"[0-9]{2,12}")


def region_code(text: str) -> str | None:
    """A region code without its filling zeros, 440300 → 4403; None when `text` is no code."""
    if len(text) not in _CODE_LENGTHS or not _CODE.fullmatch(text):
        return None
    level = _CODE_LENGTHS.index(len(text))
    while level > 0:
        shorter = _CODE_LENGTHS[level - 1]
        if text[shorter:].strip("0"):
            break
        text, level = text[:shorter], level - 1
    return text


def _region_like(fact: str, wanted: list[str]) -> str:
    """`fact` in the form the policy uses, so that a differently written one cannot slip past."""
    code = region_code(fact)
    wants_codes = all(region_code(each) is not None for each in wanted)
    if wants_codes and code is None:
        raise Incomparable(Why.NOT_A_REGION)
    return code or fact
