"""Ready policies for the common cases, and any policy in plain words.

Each function returns an Offer for the catalogue, in the profile of this space.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from contracts.errors import InputRejected
from contracts.odrl import (
    Agreement,
    AtomicConstraint,
    Constraint,
    Duty,
    LogicalConstraint,
    Offer,
    Operator,
    Permission,
    Rule,
)
from contracts.profile import PROFILE, Grade, Operand
from contracts.wire import format_time
from contracts.wording import Language, label, relation, value_text

USE: Final = "use"

# Statistics about fewer people than this are widely treated as being about the people themselves.
SMALLEST_STATISTICAL_COHORT: Final = 20


def compute_only(
    offer_id: str,
    computations: Sequence[str],
    purposes: Sequence[str],
    min_cohort: int,
    not_after: datetime,
    max_uses: int | None = None,
    recipient_roles: Sequence[str] | None = None,
) -> Offer:
    """Named computations for named purposes until `not_after`; the data itself never leaves.

    `not_after` is aware. Raises InputRejected for an empty list, a cohort or number of uses below
    one, or a naive time.
    """
    constraints = [
        _any_of(Operand.COMPUTATION, computations),
        _any_of(Operand.PURPOSE, purposes),
        _at_least(Operand.MIN_COHORT, min_cohort),
        _until(not_after),
    ]
    if max_uses is not None:
        constraints.append(_at_most(Operand.COUNT, max_uses))
    if recipient_roles is not None:
        constraints.append(_any_of(Operand.RECIPIENT_ROLE, recipient_roles))
    return _offer(offer_id, constraints)


def statistics(
    offer_id: str,
    computations: Sequence[str],
    purposes: Sequence[str],
    not_after: datetime,
    min_cohort: int = SMALLEST_STATISTICAL_COHORT,
    epsilon_budget: Decimal | None = None,
) -> Offer:
    """Figures about groups of at least 20 people, with a privacy budget where one is given.

    Raises InputRejected for a cohort below 20, and as `compute_only` does.
    """
    if min_cohort < SMALLEST_STATISTICAL_COHORT:
        raise InputRejected(
            f"expected a minimum cohort of at least {SMALLEST_STATISTICAL_COHORT} for statistics"
        )
    constraints = [
        _any_of(Operand.COMPUTATION, computations),
        _any_of(Operand.PURPOSE, purposes),
        _at_least(Operand.MIN_COHORT, min_cohort),
        _until(not_after),
    ]
    if epsilon_budget is not None:
        if not epsilon_budget.is_finite() or epsilon_budget <= 0:
            raise InputRejected("expected a privacy budget above zero")
        constraints.append(
            _atom(Operand.EPSILON_BUDGET, Operator.LTEQ, format(epsilon_budget, "f"))
        )
    return _offer(offer_id, constraints)


def personal_with_consent(
    offer_id: str,
    computations: Sequence[str],
    purposes: Sequence[str],
    min_cohort: int,
    not_after: datetime,
    max_uses: int | None = None,
    recipient_roles: Sequence[str] | None = None,
) -> Offer:
    """`compute_only` on the records of people who consented to this use.

    The consumer takes on to delete results when consent is withdrawn or the agreement ends.
    """
    offer = compute_only(
        offer_id, computations, purposes, min_cohort, not_after, max_uses, recipient_roles
    )
    consent = _atom(Operand.CONSENT, Operator.EQ, "required")
    permission = offer.permission[0].model_copy(
        update={
            "constraint": (*offer.permission[0].constraint, consent),
            "duty": (Duty(action="delete"),),
        }
    )
    return offer.model_copy(update={"permission": (permission,)})


def open_data(offer_id: str, not_after: datetime | None = None) -> Offer:
    """Any use by anyone, of data graded general; important and core data is never open."""
    constraints = [_atom(Operand.GRADE, Operator.EQ, Grade.GENERAL)]
    if not_after is not None:
        constraints.append(_until(not_after))
    return _offer(offer_id, constraints)


@dataclass(frozen=True)
class Template:
    """A ready policy: what makes it, and its title and use in two languages."""

    build: Callable[..., Offer]
    title_en: str
    title_zh: str
    description_en: str
    description_zh: str


TEMPLATES: Final[Mapping[str, Template]] = MappingProxyType(
    {
        "compute-only": Template(
            compute_only,
            "Computation only",
            "仅供计算（可用不可见）",
            "Named computations for named purposes; consumers receive results, never the data.",
            "仅允许指定用途的指定计算；使用方只得到结果，不得到数据。",
        ),
        "statistics": Template(
            statistics,
            "Statistics",
            "统计使用",
            "Figures about groups of at least 20 people, optionally with a privacy budget.",
            "仅输出不少于 20 人群体的统计结果，可设定隐私预算。",
        ),
        "personal-with-consent": Template(
            personal_with_consent,
            "Personal data with consent",
            "个人数据（须单独同意）",
            "Computation on the records of people who gave separate consent to this use.",
            "仅对已单独同意该使用的个人的记录进行计算。",
        ),
        "open-data": Template(
            open_data,
            "Open data",
            "开放数据",
            "Any use by anyone, for data graded general.",
            "一般级数据，任何人可用于任何目的。",
        ),
    }
)


def describe(policy: Offer | Agreement, language: Language = "en") -> list[str]:
    """What consumers may, must not and have to do, one sentence a rule."""
    words = _WORDS[language]
    lines = [words["may"].format(_rule(rule, language)) for rule in policy.permission]
    lines += [words["must_not"].format(_rule(rule, language)) for rule in policy.prohibition]
    for permission in policy.permission:
        lines += [words["duty"].format(_rule(duty, language)) for duty in permission.duty]
    lines += [words["has_to"].format(_rule(duty, language)) for duty in policy.obligation]
    return lines


_WORDS: Final[Mapping[Language, Mapping[str, str]]] = MappingProxyType(
    {
        "en": {
            "may": "May {}.",
            "must_not": "Must not {}.",
            "duty": "Whoever does so has to {}.",
            "has_to": "Has to {}.",
            "if": "{} if {}",
            "is": "{} is {}",
            "and": ", and ",
            "or": " or ",
            "xone": "exactly one of these holds: {}",
            "list": "; ",
        },
        "zh": {
            "may": "可以{}。",
            "must_not": "不得{}。",
            "duty": "行使该许可须{}。",
            "has_to": "须{}。",
            "if": "{}，条件是：{}",
            "is": "{}{}",
            "and": "，且",
            "or": " 或 ",
            "xone": "以下恰有一项成立：{}",
            "list": "；",
        },
    }
)

_ACTIONS_ZH: Final[Mapping[str, str]] = {"use": "使用数据", "delete": "删除结果"}
_ACTIONS_EN: Final[Mapping[str, str]] = {"use": "use the data", "delete": "delete the results"}


def _rule(rule: Rule, language: Language) -> str:
    words = _WORDS[language]
    actions = _ACTIONS_EN if language == "en" else _ACTIONS_ZH
    action = actions.get(rule.action) or value_text(rule.action)
    if not rule.constraint:
        return action
    conditions = words["and"].join(_condition(each, language) for each in rule.constraint)
    return words["if"].format(action, conditions)


def _condition(constraint: Constraint, language: Language) -> str:
    words = _WORDS[language]
    if isinstance(constraint, LogicalConstraint):
        name, joined = constraint.joined
        parts = [_condition(each, language) for each in joined]
        if name == "xone":
            return words["xone"].format(words["list"].join(parts))
        joiner = words["or"] if name == "or" else words["and"]
        return f"({joiner.join(parts)})"
    operand = constraint.left_operand
    expected = value_text(constraint.right_operand)
    # Consent has one value, and "is required" reads better in words of its own.
    if operand == Operand.CONSENT and expected == "required":
        return "the people concerned consent" if language == "en" else "数据主体单独同意"
    phrase = relation(operand, constraint.operator, expected, language)
    return words["is"].format(label(operand, language), phrase)


def _offer(offer_id: str, constraints: Sequence[Constraint]) -> Offer:
    return Offer(
        id=offer_id,
        profile=PROFILE,
        permission=(Permission(action=USE, constraint=tuple(constraints)),),
    )


def _atom(operand: Operand, operator: Operator, value: str | tuple[str, ...]) -> Constraint:
    return AtomicConstraint(
        left_operand=operand.value,
        operator=operator,
        right_operand=str(value) if isinstance(value, str) else value,
    )


def _any_of(operand: Operand, values: Sequence[str]) -> Constraint:
    # A string is a sequence of strings too, which nobody means here.
    if isinstance(values, str) or not values or not all(values):
        raise InputRejected(f"expected a list of at least one value for {operand}")
    return _atom(operand, Operator.IS_ANY_OF, tuple(values))


def _at_least(operand: Operand, number: int) -> Constraint:
    return _atom(operand, Operator.GTEQ, str(_positive(operand, number)))


def _at_most(operand: Operand, number: int) -> Constraint:
    return _atom(operand, Operator.LTEQ, str(_positive(operand, number)))


def _positive(operand: Operand, number: int) -> int:
    if number < 1:
        raise InputRejected(f"expected at least 1 for {operand}")
    return number


def _until(not_after: datetime) -> Constraint:
    if not_after.tzinfo is None:
        raise InputRejected("expected `not_after` with a time zone, got a naive datetime")
    return _atom(Operand.DATE_TIME, Operator.LTEQ, format_time(not_after))
