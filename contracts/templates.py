"""Ready policies for the common cases, made of clauses with parameters, and combined freely.

A parameter is a clause with a value to fill in; a template says which parameters a common case
needs. `build(["compute-only", "approval"], …)` has the clauses of both, each once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from contracts.comparison import Incomparable, parse_decimal, region_code
from contracts.errors import InputRejected
from contracts.odrl import (
    MAX_VALUES,
    AtomicConstraint,
    Constraint,
    Duty,
    Offer,
    Operator,
    Permission,
)
from contracts.profile import PROFILE, Grade, Operand
from contracts.wire import format_time

USE: Final = "use"

# Statistics about fewer people than this are widely treated as being about the people themselves.
SMALLEST_STATISTICAL_COHORT: Final = 20

# What a clause can say and a decision can read back.
_MOST_DIGITS: Final = 30
_TOO_LARGE: Final = 10**_MOST_DIGITS
_LONGEST_TEXT: Final = 2048


class Kind(StrEnum):
    """What a parameter's value is."""

    TEXTS = "list of texts"
    TEXT = "text"
    NUMBER = "whole number"
    DECIMAL = "decimal number"
    TIME = "date and time with its zone"


@dataclass(frozen=True)
class Parameter:
    """A clause with a value to fill in. `clause` is None where the value binds the whole offer."""

    name: str
    kind: Kind
    clause: Callable[[Any], Constraint] | None
    doc_en: str
    doc_zh: str


@dataclass(frozen=True)
class Template:
    """A ready policy: the parameters it needs, may have, and the clauses it always has."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    title_en: str
    title_zh: str
    description_en: str
    description_zh: str
    fixed: tuple[Constraint, ...] = ()
    duties: tuple[Duty, ...] = ()
    defaults: tuple[tuple[str, Any], ...] = ()
    smallest_cohort: int = 1


def _atom(operand: Operand, operator: Operator, value: str | tuple[str, ...]) -> Constraint:
    return AtomicConstraint(
        left_operand=operand.value,
        operator=operator,
        right_operand=str(value) if isinstance(value, str) else value,
    )


def _one_of(operand: Operand) -> Callable[[Any], Constraint]:
    return lambda values: _atom(operand, Operator.IS_ANY_OF, tuple(values))


# In this order the clauses stand in a permission.
PARAMETERS: Final[Mapping[str, Parameter]] = MappingProxyType(
    {
        one.name: one
        for one in (
            Parameter(
                "computations",
                Kind.TEXTS,
                _one_of(Operand.COMPUTATION),
                "Which computations may run, such as private-sum/1.",
                "允许的计算类型，例如 private-sum/1。",
            ),
            Parameter(
                "purposes",
                Kind.TEXTS,
                _one_of(Operand.PURPOSE),
                "What the data may be used for.",
                "允许的用途。",
            ),
            Parameter(
                "min_cohort",
                Kind.NUMBER,
                lambda number: _atom(Operand.MIN_COHORT, Operator.GTEQ, str(number)),
                "No result about fewer people than this.",
                "涉及人数少于该值的结果不予披露。",
            ),
            Parameter(
                "not_after",
                Kind.TIME,
                lambda moment: _atom(Operand.DATE_TIME, Operator.LTEQ, format_time(moment)),
                "The last moment of use.",
                "使用截止时间。",
            ),
            Parameter(
                "max_uses",
                Kind.NUMBER,
                lambda number: _atom(Operand.COUNT, Operator.LTEQ, str(number)),
                "How many uses one agreement allows.",
                "每份协议允许的使用次数。",
            ),
            Parameter(
                "recipient_roles",
                Kind.TEXTS,
                _one_of(Operand.RECIPIENT_ROLE),
                "Which kinds of participants may use it.",
                "允许的接收方类型。",
            ),
            Parameter(
                "zones",
                Kind.TEXTS,
                _one_of(Operand.RECIPIENT_ZONE),
                "Members of which industry parks, free-trade zones or groups may use it.",
                "允许的产业园区、自贸区或分组。",
            ),
            Parameter(
                "division",
                Kind.TEXT,
                lambda code: _atom(Operand.SPATIAL, Operator.IS_PART_OF, code),
                "Within which administrative division it may be used (GB/T 2260 code).",
                "允许使用的行政区划代码（GB/T 2260）。",
            ),
            Parameter(
                "epsilon_budget",
                Kind.DECIMAL,
                lambda epsilon: _atom(Operand.EPSILON_BUDGET, Operator.LTEQ, format(epsilon, "f")),
                "The privacy budget of all uses together.",
                "全部使用的隐私预算之和。",
            ),
            Parameter(
                "release",
                Kind.TEXTS,
                lambda rules: _atom(Operand.RELEASE, Operator.IS_ALL_OF, tuple(rules)),
                "What is done to rows before they leave, such as name:drop or phone:mask(3,4).",
                "数据行离开前所作的处理，例如 name:drop 或 phone:mask(3,4)。",
            ),
            Parameter(
                "content_versions",
                Kind.TEXTS,
                _one_of(Operand.CONTENT_VERSION),
                "Which states of the data it covers, as the catalogue names them: sha256:….",
                "所涵盖的数据版本，以目录中的 sha256:… 表示。",
            ),
            Parameter(
                "recipient",
                Kind.TEXT,
                None,
                "The one participant the offer is for, by its DID.",
                "唯一的接收方（DID）。",
            ),
        )
    }
)

_COMPUTING: Final = ("computations", "purposes", "min_cohort", "not_after")
_STATISTICS: Final = ("computations", "purposes", "not_after")

TEMPLATES: Final[Mapping[str, Template]] = MappingProxyType(
    {
        "open-data": Template(
            (),
            ("not_after",),
            "Open data",
            "开放数据",
            "Any use by anyone, for data graded general.",
            "一般级数据，任何人可用于任何目的。",
            fixed=(_atom(Operand.GRADE, Operator.EQ, Grade.GENERAL),),
        ),
        "single-recipient": Template(
            ("purposes", "recipient", "not_after"),
            ("max_uses",),
            "One recipient",
            "单一接收方",
            "One participant, for named purposes, until a date.",
            "指定的接收方在截止日期前用于指定用途。",
        ),
        "compute-only": Template(
            _COMPUTING,
            ("max_uses", "recipient_roles"),
            "Computation only",
            "仅供计算（可用不可见）",
            "Named computations for named purposes; consumers receive results, never the data.",
            "仅允许指定用途的指定计算；使用方只得到结果，不得到数据。",
        ),
        "statistics": Template(
            _STATISTICS,
            ("min_cohort", "max_uses", "recipient_roles"),
            "Statistics",
            "统计使用",
            "Figures about groups of at least 20 people.",
            "仅输出不少于 20 人群体的统计结果。",
            defaults=(("min_cohort", SMALLEST_STATISTICAL_COHORT),),
            smallest_cohort=SMALLEST_STATISTICAL_COHORT,
        ),
        "private-statistics": Template(
            (*_STATISTICS, "epsilon_budget"),
            ("min_cohort", "max_uses", "recipient_roles"),
            "Statistics with a privacy budget",
            "带隐私预算的统计",
            "Figures about groups of at least 20 people, with noise, within a privacy budget.",
            "仅在隐私预算内输出不少于 20 人群体的加噪统计结果。",
            defaults=(("min_cohort", SMALLEST_STATISTICAL_COHORT),),
            smallest_cohort=SMALLEST_STATISTICAL_COHORT,
        ),
        "released-rows": Template(
            ("release", "purposes", "not_after"),
            ("max_uses", "recipient_roles"),
            "Rows after treatment",
            "处理后提供数据行",
            "The rows themselves, only after columns were dropped, masked or made coarser, or rows "
            "filtered, sampled or added up; no computations.",
            "仅在删除列、遮盖、泛化、筛选、抽样或汇总之后提供数据行；不允许计算。",
        ),
        "named-versions": Template(
            ("content_versions",),
            (),
            "Named versions of the data",
            "限定数据版本",
            "Only named states of the data; once they have changed, a new agreement is needed.",
            "仅限指定版本的数据；数据变化后须另行协商协议。",
        ),
        "within-division": Template(
            ("division",),
            (),
            "Within one administrative division",
            "限定行政区划",
            "Uses about one administrative division and what belongs to it.",
            "仅限于指定行政区划及其下辖区域的使用。",
        ),
        "personal-with-consent": Template(
            _COMPUTING,
            ("max_uses", "recipient_roles"),
            "Personal data with consent",
            "个人数据（须单独同意）",
            "Computation on the records of people who gave separate consent to this use.",
            "仅对已单独同意该使用的个人的记录进行计算。",
            fixed=(_atom(Operand.CONSENT, Operator.EQ, "required"),),
            # Results go when consent is withdrawn or the agreement ends.
            duties=(Duty(action="delete"),),
        ),
        "zone-members": Template(
            ("zones",),
            (),
            "Members of a zone",
            "园区成员专用",
            "Only members of named industry parks, free-trade zones or groups.",
            "仅限指定产业园区、自贸区或分组的成员。",
        ),
        "approval": Template(
            (),
            (),
            "A person approves",
            "须人工审批",
            "Every agreement waits until a person at the provider has approved it.",
            "每份协议须经提供方工作人员审批。",
            fixed=(_atom(Operand.APPROVAL, Operator.EQ, "required"),),
        ),
        "two-approvals": Template(
            (),
            (),
            "Two people approve",
            "须两人审批",
            "Every agreement waits until two different people at the provider have approved it.",
            "每份协议须经提供方两名不同的工作人员审批。",
            fixed=(_atom(Operand.APPROVERS, Operator.GTEQ, "2"),),
        ),
    }
)


def build(names: Sequence[str], parameters: Mapping[str, Any], *, offer_id: str) -> Offer:
    """The offer that these templates make together with these parameters.

    Values may be as JSON and YAML have them: times and decimals as text. A parameter that is None
    is left out. Raises InputRejected naming the field, the kind expected and the remedy.
    """
    templates = [_template(name) for name in names]
    if not templates:
        raise InputRejected(f"use: expected at least one of {', '.join(TEMPLATES)}")
    defaults = {name: value for one in templates for name, value in one.defaults}
    given = {**defaults, **{name: one for name, one in parameters.items() if one is not None}}
    known = [name for one in templates for name in (*one.required, *one.optional)]
    for name in given:
        if name not in known:
            raise InputRejected(
                f"{name}: the templates {', '.join(names)} have no such parameter; "
                f"they have {', '.join(dict.fromkeys(known)) or 'none'}"
            )
    for name in dict.fromkeys(name for one in templates for name in one.required):
        if name not in given:
            one = PARAMETERS[name]
            raise InputRejected(f"{name}: expected a {one.kind}, got none; {one.doc_en}")
    values = {name: _value(PARAMETERS[name], given[name]) for name in PARAMETERS if name in given}
    smallest = max(one.smallest_cohort for one in templates)
    if values.get("min_cohort", smallest) < smallest:
        raise InputRejected(f"min_cohort: expected at least {smallest} for statistics")
    return _offer(offer_id, templates, values)


def _offer(offer_id: str, templates: Sequence[Template], values: Mapping[str, Any]) -> Offer:
    constraints = [
        clause(value)
        for name, value in values.items()
        if (clause := PARAMETERS[name].clause) is not None
    ]
    constraints += dict.fromkeys(one for template in templates for one in template.fixed)
    duties = tuple(dict.fromkeys(duty for template in templates for duty in template.duties))
    permission = Permission(action=USE, constraint=tuple(constraints), duty=duties)
    return Offer(
        id=offer_id,
        profile=PROFILE,
        permission=(permission,),
        assignee=values.get("recipient"),
    )


def _template(name: str) -> Template:
    found = TEMPLATES.get(name)
    if found is None:
        raise InputRejected(f"use: expected names out of {', '.join(TEMPLATES)}")
    return found


def _value(parameter: Parameter, value: object) -> Any:
    """A parameter's value as its clause takes it. Raises InputRejected."""
    checked = _READERS[parameter.kind](value)
    if checked is None:
        raise InputRejected(f"{parameter.name}: expected a {parameter.kind}; {parameter.doc_en}")
    if parameter.name == "division" and region_code(str(checked)) is None:
        raise InputRejected("division: expected a GB/T 2260 code of 2, 4, 6, 9 or 12 digits")
    if parameter.name == "recipient" and not _DID.fullmatch(checked):
        raise InputRejected("recipient: expected a DID, such as did:web:hospital.example")
    return checked


_DID: Final = re.compile(r"did:[a-z0-9]+:[^\s#?/]+")


def _texts(value: object) -> tuple[str, ...] | None:
    # A string is a sequence of strings too, which nobody means here.
    if isinstance(value, str) or not isinstance(value, Sequence):
        return None
    if not 0 < len(value) <= MAX_VALUES:
        return None
    texts = [_text(one) for one in value]
    return None if None in texts else tuple(dict.fromkeys(one for one in texts if one is not None))


def _text(value: object) -> str | None:
    # A code or a name of digits is a number to YAML.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _TOO_LARGE:
        value = str(value)
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT else None


def _number(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 1 <= value < _TOO_LARGE else None


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        found = Decimal(str(value))
    except (InvalidOperation, ValueError):
        return None
    if not found.is_finite() or found <= 0 or abs(found.adjusted()) > _MOST_DIGITS:
        return None
    try:
        return parse_decimal(format(found, "f"))
    except Incomparable:
        return None


def _time(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return None


_READERS: Final[Mapping[Kind, Callable[[object], Any]]] = {
    Kind.TEXTS: _texts,
    Kind.TEXT: _text,
    Kind.NUMBER: _number,
    Kind.DECIMAL: _decimal,
    Kind.TIME: _time,
}
