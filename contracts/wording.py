"""Decisions and their clauses in words, English and Chinese.

Each function takes what a decision keeps and a language; the same clause says the same in both.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from contracts.names import (
    Sort,
    actual,
    demand_zh,
    expected,
    label,
    operand_text,
    own_clause,
    relation,
    value_text,
)
from contracts.odrl import Operator
from contracts.phrases import (
    ACTIONS_ZH,
    GIVEN,
    MISSING,
    OWN_FINDINGS,
    REQUIRED,
    SENTENCES,
    STATES,
    WHY_ZH,
    Language,
    fill,
)
from contracts.profile import OPERANDS
from contracts.remedies import remedy

if TYPE_CHECKING:
    from contracts.decision import ClauseResult, Decision

__all__ = [
    "Language",
    "Sort",
    "actual",
    "expected",
    "label",
    "operand_text",
    "outline",
    "relation",
    "remedy",
    "sentence",
    "value_text",
]


def sentence(result: "ClauseResult", language: Language = "en") -> str:
    """A clause and how it came out, as one sentence."""
    return _SENTENCES[result.sort](result, language)


def _profile(result: "ClauseResult", language: Language) -> str:
    phrase = "profile known" if result.satisfied else "profile"
    return fill(SENTENCES[language][phrase], actual(result, language))


def _assignee(result: "ClauseResult", language: Language) -> str:
    phrase = "assignee same" if result.satisfied else "assignee"
    return fill(SENTENCES[language][phrase], expected(result, language))


def _conflict(result: "ClauseResult", language: Language) -> str:
    words = SENTENCES[language]
    if not result.known:
        return fill(words["conflict"], actual(result, language))
    if result.satisfied:
        return words[str(result.fact)]
    assert isinstance(result.wanted, tuple), "the two rules that conflict"
    return fill(words["void"], *result.wanted)


def _action(result: "ClauseResult", language: Language) -> str:
    action = str(result.wanted)
    return (ACTIONS_ZH.get(action) if language == "zh" else None) or value_text(action)


def _permission(result: "ClauseResult", language: Language) -> str:
    words, action, total = SENTENCES[language], _action(result, language), len(result.children)
    if not total:
        return fill(words["permits freely"], result.path, action)
    if result.satisfied:
        return fill(words["permits"], result.path, action, total)
    holding = sum(child.satisfied for child in result.children)
    return fill(words["does not permit"], result.path, action, holding, total)


def _prohibition(result: "ClauseResult", language: Language) -> str:
    words, action = SENTENCES[language], _action(result, language)
    if result.satisfied:
        return fill(words["stays away"], result.path, action)
    if not result.children:
        return fill(words["prohibits"], action)
    said = [sentence(child, language)[:-1] for child in result.children]
    # Chinese has no capitals, and what begins with a Latin name keeps it as it is.
    conditions = (
        "; ".join(each[0].lower() + each[1:] for each in said)
        if language == "en"
        else "；".join(said)
    )
    if result.known:
        return fill(words["prohibits here"], action, conditions)
    return fill(words["may prohibit"], result.path, action, conditions)


def _join(result: "ClauseResult", language: Language) -> str:
    words = SENTENCES[language]
    undecided = sum(not child.known for child in result.children)
    told = fill(
        words["join"],
        len(result.children),
        expected(result, language),
        actual(result, language),
        fill(words["and open"], undecided) if undecided else "",
    )
    return told if result.why is None else fill(words["unmet"], told[:-1], _why(result, language))


def _comparison(result: "ClauseResult", language: Language) -> str:
    words, clause = SENTENCES[language], _clause(result, language)
    if result.operand not in OPERANDS:
        return fill(words["unmet"], clause, words["unknown operand"])
    if result.why is not None:
        return fill(words["unmet"], clause, _why(result, language))
    if result.fact is None:
        missing = MISSING[language]
        return fill(words["unmet"], clause, missing.get(result.operand) or missing[""])
    if isinstance(result.fact, bool):
        found = STATES[language][result.operand, result.fact][1]
    else:
        it_is, none = OWN_FINDINGS[language].get(
            result.operand, (words["it is"], words["it is none"])
        )
        found = none if result.fact == () else fill(it_is, actual(result, language))
    return fill(words["met" if result.satisfied else "unmet"], clause, found)


def _why(result: "ClauseResult", language: Language) -> str:
    assert result.why is not None, "a result that says why"
    return (WHY_ZH.get(result.why) if language == "zh" else None) or result.why


def _clause(result: "ClauseResult", language: Language) -> str:
    """What a comparison demands in a permission, and warns of in a prohibition."""
    words, operand, operator = SENTENCES[language], result.operand, result.operator
    wanted, subject = expected(result, language), label(operand, language)
    only = operator == Operator.EQ and wanted == "required"
    required = operand in REQUIRED[language] and only
    if result.path.startswith("prohibition"):
        if required:
            return fill(words["warning given"], GIVEN[language][operand])
        return fill(words["warning"], subject, relation(operand, operator, wanted, language))
    if required:
        return REQUIRED[language][operand]
    own = own_clause(operand, operator, wanted, language)
    if language == "zh":
        return own or subject + demand_zh(operand, operator, wanted)
    said = own or f"{subject} must be {relation(operand, operator, wanted)}"
    return f"{said[0].upper()}{said[1:]}"


_SENTENCES: Final[Mapping[Sort, Callable[["ClauseResult", Language], str]]] = {
    Sort.PROFILE: _profile,
    Sort.ASSIGNEE: _assignee,
    Sort.INHERITANCE: lambda result, language: fill(
        SENTENCES[language]["inheritance"], expected(result, language)
    ),
    Sort.CONFLICT: _conflict,
    Sort.UNREAD: lambda result, language: fill(
        SENTENCES[language]["unread"], expected(result, language)
    ),
    Sort.NO_PERMISSION: lambda result, language: fill(
        SENTENCES[language]["no permission"], _action(result, language)
    ),
    Sort.PERMISSION: _permission,
    Sort.PROHIBITION: _prohibition,
    Sort.JOIN: _join,
    Sort.COMPARISON: _comparison,
}


def outline(decision: "Decision", language: Language = "en") -> list[str]:
    """A decision as lines of a tree, for a terminal.

    Every clause has a mark: ✓ it holds, ✗ it does not, ? it cannot be judged; for a prohibition ✓
    says that it stays away. Lines of → say what could be done, those of • what has to be.
    """
    words = SENTENCES[language]
    verdict = words["allowed" if decision.allowed else "refused"]
    lines = [f"{'✓' if decision.allowed else '✗'} {verdict}{sentence(decision.decisive, language)}"]
    found = remedy(decision.decisive, language)
    if found is not None:
        lines.append(f"  → {found}")
    for rule in decision.rules:
        lines += _branch(rule, language, "  ")
    for duty in decision.duties:
        for depth, one in enumerate((duty, *duty.consequences)):
            lines.append(f"{'    ' if depth else '  '}• {one.sentence_in(language)}")
    return lines


def _branch(result: "ClauseResult", language: Language, indent: str) -> list[str]:
    mark = "✓" if result.satisfied else "✗" if result.known else "?"
    lines = [f"{indent}{mark} {sentence(result, language)}"]
    for child in result.children:
        lines += _branch(child, language, indent + "  ")
    return lines
