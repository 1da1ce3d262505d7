"""Policies and decisions in words, English and Chinese."""

from collections.abc import Mapping
from typing import Final, Literal

from contracts.comparison import single_text
from contracts.odrl import Operator
from contracts.profile import OPERANDS, Operand

Language = Literal["en", "zh"]

# Sentences stay readable; the whole value is in the policy for who wants it.
_LONGEST_VALUE: Final = 120

_RELATIONS_EN: Final[Mapping[str, str]] = {
    Operator.EQ: "{}",
    Operator.NEQ: "other than {}",
    Operator.GT: "more than {}",
    Operator.GTEQ: "at least {}",
    Operator.LT: "less than {}",
    Operator.LTEQ: "at most {}",
    Operator.IS_ANY_OF: "one of {}",
    Operator.IS_NONE_OF: "none of {}",
    Operator.IS_ALL_OF: "all of {}",
    Operator.IS_A: "a kind of {}",
    Operator.IS_PART_OF: "within {}",
    Operator.HAS_PART: "a whole that contains {}",
}
_RELATIONS_ZH: Final[Mapping[str, str]] = {
    Operator.EQ: "为 {}",
    Operator.NEQ: "不为 {}",
    Operator.GT: "大于 {}",
    Operator.GTEQ: "不小于 {}",
    Operator.LT: "小于 {}",
    Operator.LTEQ: "不大于 {}",
    Operator.IS_ANY_OF: "为 {} 之一",
    Operator.IS_NONE_OF: "不为 {} 中的任何一个",
    Operator.IS_ALL_OF: "为 {} 的全部",
    Operator.IS_A: "属于 {} 类",
    Operator.IS_PART_OF: "在 {} 范围内",
    Operator.HAS_PART: "包含 {}",
}
_TIMES_EN: Final[Mapping[str, str]] = {
    Operator.GT: "after {}",
    Operator.GTEQ: "{} or later",
    Operator.LT: "before {}",
    Operator.LTEQ: "{} or earlier",
}
_TIMES_ZH: Final[Mapping[str, str]] = {
    Operator.GT: "晚于 {}",
    Operator.GTEQ: "不早于 {}",
    Operator.LT: "早于 {}",
    Operator.LTEQ: "不晚于 {}",
}


def value_text(value: object) -> str:
    """A right operand as a person reads it: one value, or values separated by commas."""
    if isinstance(value, tuple | list):
        text = ", ".join(single_text(each) or "an object" for each in value)
    else:
        text = single_text(value) or "an object"
    if len(text) > _LONGEST_VALUE:
        text = text[:_LONGEST_VALUE] + "…"
    # A peer's line break or control character must not forge a second line in a log.
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def label(operand: str, language: Language = "en") -> str:
    """What an operand is called: our word for it, or its own name in quotes if it is unknown."""
    meaning = OPERANDS.get(operand)
    if meaning is None:
        shown = value_text(operand)
        return f"the operand “{shown}”" if language == "en" else f"“{shown}”"
    return meaning.label_en if language == "en" else meaning.label_zh


def relation(operand: str, operator: str, expected: str, language: Language = "en") -> str:
    """The comparison without its subject: `at least 20`, `within 4403`."""
    general, times = (_RELATIONS_EN, _TIMES_EN) if language == "en" else (_RELATIONS_ZH, _TIMES_ZH)
    if operator == Operator.IS_ANY_OF and "," not in expected:
        operator = Operator.EQ
    phrase = times.get(operator) if operand == Operand.DATE_TIME else None
    phrase = phrase or general.get(operator) or f"{operator} {{}}"
    return phrase.replace("{}", expected)


REMEDIES: Final[Mapping[str, str]] = {
    Operand.PURPOSE: "Ask for a purpose the policy names, or negotiate an agreement for this one.",
    Operand.COMPUTATION: "Ask for a computation the policy names, or negotiate one for this kind.",
    Operand.MIN_COHORT: "Ask again with a minimum cohort that the policy accepts.",
    Operand.COUNT: "Negotiate a new agreement; the uses under this one are spent.",
    Operand.DATE_TIME: "Ask within the agreed period, or negotiate a new agreement.",
    Operand.SPATIAL: "Name a region the policy accepts, as a GB/T 2260 code.",
    Operand.GRADE: "Ask the provider; the grade of this data is outside what the policy covers.",
    Operand.EPSILON_BUDGET: "Ask with a smaller epsilon; spent budget does not come back.",
    Operand.RECIPIENT_ROLE: "Only a participant of a kind the policy names can use this data.",
    Operand.CONSENT: "The people concerned have to give separate consent first.",
}
UNKNOWN_REMEDY: Final = "Ask the provider to publish terms in the profile of this space."
