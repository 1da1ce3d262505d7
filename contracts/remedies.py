"""What could be done about a clause that refuses, in words, English and Chinese."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from contracts.comparison import Why
from contracts.names import Sort, expected, label, of_one_value, relation
from contracts.odrl import Operator
from contracts.phrases import CHOICES, NOUNS, REMEDIES, Language, fill
from contracts.profile import OPERANDS, Operand

if TYPE_CHECKING:
    from contracts.decision import ClauseResult


def remedy(result: "ClauseResult", language: Language = "en") -> str | None:
    """What could be done about a clause; None where nothing need or can be done."""
    if result.satisfied:
        return None
    words = REMEDIES[language]
    if result.sort is Sort.PROHIBITION:
        return _way_out(result, language)
    # A condition of a prohibition that does not hold is no obstacle.
    if result.path.startswith("prohibition"):
        return None
    if result.sort is Sort.COMPARISON:
        return _way_to_meet(result, language)
    if result.sort is Sort.JOIN:
        return next((found for one in result.children if (found := remedy(one, language))), None)
    if result.sort is Sort.CONFLICT:
        return words["overlap" if result.known else "terms"]
    named = _REMEDY_NAMES.get(result.sort)
    return None if named is None else words[named]


_REMEDY_NAMES: Final[Mapping[Sort, str]] = {
    Sort.PROFILE: "terms",
    Sort.ASSIGNEE: "own agreement",
    Sort.INHERITANCE: "inherited",
    Sort.UNREAD: "terms",
    Sort.NO_PERMISSION: "action",
}

# A use outside a prohibition is one where the opposite holds.
_OPPOSITE: Final[Mapping[str, Operator]] = {
    Operator.EQ: Operator.NEQ,
    Operator.NEQ: Operator.EQ,
    Operator.GT: Operator.LTEQ,
    Operator.GTEQ: Operator.LT,
    Operator.LT: Operator.GTEQ,
    Operator.LTEQ: Operator.GT,
    Operator.IS_ANY_OF: Operator.IS_NONE_OF,
    Operator.IS_NONE_OF: Operator.IS_ANY_OF,
}


def _way_out(result: "ClauseResult", language: Language) -> str:
    words = REMEDIES[language]
    if not result.children:
        return words["prohibited"]
    for child in result.children:
        opposite = _OPPOSITE.get(child.operator)
        chosen = child.operand in NOUNS[language] or child.operand == Operand.MIN_COHORT
        if child.sort is Sort.COMPARISON and child.why is None and chosen and opposite:
            wanted = expected(child, language)
            told = relation(child.operand, opposite, wanted, language)
            return fill(words["outside where"], label(child.operand, language), told)
    return words["outside"]


def _way_to_meet(result: "ClauseResult", language: Language) -> str:
    words, operand = REMEDIES[language], result.operand
    ours_to_mend = result.why is None or result.why == Why.NOT_A_REGION
    if operand not in OPERANDS or not ours_to_mend:
        return words["terms"]
    if operand in NOUNS[language]:
        return _way_to_choose(result, language)
    told = relation(operand, result.operator, expected(result, language), language)
    match operand:
        case Operand.MIN_COHORT:
            return fill(words["cohort"], told)
        case Operand.DATE_TIME:
            return _way_in_time(result, language)
        case Operand.RECIPIENT_ROLE:
            return fill(words["role"], told)
        case Operand.RECIPIENT_ZONE if result.fact is None:
            return words["no zone list"]
        case Operand.RECIPIENT_ZONE:
            negative = result.operator in (Operator.NEQ, Operator.IS_NONE_OF)
            return fill(words["other zone" if negative else "zone"], told)
        case Operand.CONSENT:
            return words["consent"]
        case Operand.APPROVAL:
            return words["approve" if result.fact is None else "declined"]
        case Operand.APPROVERS:
            upper = result.operator in (Operator.LT, Operator.LTEQ)
            return words["declined" if upper else "more approve"]
        case Operand.GRADE:
            return words["no grade" if result.fact is None else "grade"]
        case Operand.CONTENT_VERSION:
            return words["version"]
        case Operand.RELEASE:
            return words["rows" if result.fact is None else "release"]
    upper = result.operator in (Operator.LT, Operator.LTEQ)
    if operand == Operand.COUNT:
        return words["spent"] if upper else fill(words["when"], label(operand, language), told)
    if result.fact is None:
        return words["no epsilon"]
    return words["epsilon" if upper else "other budget"]


def _way_to_choose(result: "ClauseResult", language: Language) -> str:
    words, wanted = REMEDIES[language], expected(result, language)
    operator, noun = of_one_value(result.operator, wanted), NOUNS[language][result.operand]
    phrases = CHOICES[language]
    choice = fill(phrases.get(operator, phrases[Operator.EQ]), noun, wanted)
    if result.operand == Operand.SPATIAL:
        return fill(words["choose code"], noun, choice)
    named = "choose" if result.fact is None else "choose or negotiate"
    return fill(words[named], noun, choice)


def _way_in_time(result: "ClauseResult", language: Language) -> str:
    words, wanted = REMEDIES[language], expected(result, language)
    match result.operator:
        case Operator.GTEQ:
            return fill(words["wait"], wanted)
        case Operator.GT:
            return fill(words["wait after"], wanted)
        case Operator.LT | Operator.LTEQ:
            return fill(words["ended"], wanted)
    told = relation(result.operand, result.operator, wanted, language)
    return fill(words["when"], label(result.operand, language), told)
