"""What operands, comparisons and values are called, English and Chinese."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from contracts.comparison import Fact, single_text
from contracts.odrl import Operator
from contracts.phrases import (
    DEMANDS_ZH,
    GRADES_ZH,
    OTHER_DEMAND_ZH,
    OTHER_RELATION,
    OWN_CLAUSES,
    OWN_DEMANDS_ZH,
    OWN_RELATIONS,
    RELATIONS,
    SENTENCES,
    SEPARATOR,
    STATES,
    Language,
    fill,
)
from contracts.profile import OPERANDS, Operand
from contracts.wire import format_time

if TYPE_CHECKING:
    from contracts.decision import ClauseResult

# Sentences stay readable; the whole value is in the policy for who wants it.
_LONGEST_VALUE: Final = 120


class Sort(Enum):
    """What a clause result is about, and so how it is put into words.

    The first five concern the policy as a whole or a rule's terms. The value that CONFLICT wants is
    the permission and the prohibition that conflict, empty where none do.
    """

    PROFILE = "profile"
    ASSIGNEE = "assignee"
    INHERITANCE = "inheritance"
    CONFLICT = "conflict"
    UNREAD = "unread"
    NO_PERMISSION = "no permission"
    PERMISSION = "permission"
    PROHIBITION = "prohibition"
    JOIN = "join"
    COMPARISON = "comparison"


def value_text(value: object, language: Language = "en") -> str:
    """A right operand as a person reads it: one value, or values separated by commas."""
    if isinstance(value, tuple | list):
        several = [_one_value(each, language) for each in value]
        text = SEPARATOR[language].join(several) or SENTENCES[language]["empty"]
    else:
        text = _one_value(value, language)
    if len(text) > _LONGEST_VALUE:
        text = text[:_LONGEST_VALUE] + "…"
    # A peer's line break or control character must not forge a second line in a log.
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def _one_value(value: object, language: Language) -> str:
    text = single_text(value)
    return SENTENCES[language]["object"] if text is None else text


def label(operand: str, language: Language = "en") -> str:
    """What an operand is called: our word for it, or its own name in quotes if it is unknown."""
    meaning = OPERANDS.get(operand)
    if meaning is None:
        shown = value_text(operand)
        return f"the operand “{shown}”" if language == "en" else f"“{shown}”"
    return meaning.label_en if language == "en" else meaning.label_zh


def relation(operand: str, operator: str, wanted: str, language: Language = "en") -> str:
    """The comparison without its subject: `at least 20`, `within 4403`."""
    operator = of_one_value(operator, wanted)
    own = OWN_RELATIONS[language].get(operand, {})
    phrase = own.get(operator) or RELATIONS[language].get(operator)
    return _filled(phrase, OTHER_RELATION[language], operator, wanted)


def own_clause(operand: str, operator: str, wanted: str, language: Language) -> str | None:
    """The whole clause, where it reads better so than with a subject; None where it does not."""
    phrase = OWN_CLAUSES[language].get(operand, {}).get(operator)
    return None if phrase is None else fill(phrase, wanted)


def demand_zh(operand: str, operator: str, wanted: str) -> str:
    """The comparison as a demand in Chinese, which has a word for each."""
    operator = of_one_value(operator, wanted)
    phrase = OWN_DEMANDS_ZH.get(operand, {}).get(operator) or DEMANDS_ZH.get(operator)
    return _filled(phrase, OTHER_DEMAND_ZH, operator, wanted)


def _filled(phrase: str | None, otherwise: str, operator: str, wanted: str) -> str:
    return fill(otherwise, operator, wanted) if phrase is None else fill(phrase, wanted)


def of_one_value(operator: str, wanted: str) -> str:
    """One of a list of one is that one."""
    if "," in wanted or "、" in wanted:
        return operator
    return _OF_ONE.get(operator, operator)


_OF_ONE: Final[Mapping[str, str]] = {
    Operator.IS_ANY_OF: Operator.EQ,
    Operator.IS_NONE_OF: Operator.NEQ,
}


def expected(result: "ClauseResult", language: Language = "en") -> str:
    """What a clause wants, as text."""
    if result.sort is Sort.JOIN:
        return SENTENCES[language][_how_many(result.operator)]
    return operand_text(result.operand, result.wanted, language)


def operand_text(operand: str, value: object, language: Language = "en") -> str:
    """A value of an operand as a person reads it; grades have names in Chinese."""
    if operand == Operand.GRADE and language == "zh":
        value = _grades_zh(value)
    return value_text(value, language)


def _grades_zh(wanted: object) -> object:
    if isinstance(wanted, tuple):
        return tuple(_grades_zh(each) for each in wanted)
    text = single_text(wanted)
    return wanted if text is None else GRADES_ZH.get(text, text)


def actual(result: "ClauseResult", language: Language = "en") -> str | None:
    """What was found, as text; None where nothing was."""
    if result.sort is Sort.JOIN:
        return str(sum(child.satisfied for child in result.children))
    return None if result.fact is None else _fact_text(result.operand, result.fact, language)


def _fact_text(operand: str, fact: Fact, language: Language) -> str:
    if isinstance(fact, bool):
        return STATES[language][operand, fact][0]
    if isinstance(fact, tuple):
        return value_text(fact, language) if fact else SENTENCES[language]["none"]
    written = format_time(fact) if isinstance(fact, datetime) else str(fact)
    return operand_text(operand, written, language)


def _how_many(operator: str) -> str:
    return operator if operator in ("or", "xone") else "and"
