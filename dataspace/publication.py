"""What an owner says to publish a dataset, and the offer it becomes.

What is allowed is said as terms, the few things most datasets need, or as a policy: ODRL, or ready
policies combined (`contracts.authoring`). A policy that could never do what it says is refused,
before anybody meets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from connectors.classification import ColumnClass, Grade, Handling, offerable
from connectors.conditions import Comparison, Condition, Where
from connectors.identifiers import canonicalisers, columns_of, verify_key
from connectors.names import verify_columns
from contracts.authoring import policy_from
from contracts.decision import Decision, Facts
from contracts.evaluation import decide, permitted_computations
from contracts.lint import Knowledge, Remark, Severity, lint
from contracts.odrl import Agreement, AtomicConstraint, Constraint, Offer, Operator
from contracts.profile import Operand
from contracts.templates import build
from contracts.transfer_strategy import RAW_FORMATS
from dataspace.errors import InputRejected
from dataspace.identity.tokens import MAX_ZONES
from dataspace.protocol.leaving import request_for_rows
from privacy.kinds import KINDS

# What a transfer of rows is judged by before anybody asks for one: it has a format and no cohort,
# and nothing adds noise to rows.
_DECIDED_BY_FORMAT: Final = frozenset(
    {Operand.COMPUTATION, Operand.MIN_COHORT, Operand.EPSILON_BUDGET}
)
_NO_NOISE: Final = (
    "No computation that this policy permits adds noise, so a privacy budget refuses every use; "
    "permit one that does, or drop the clause.",
    "该策略允许的计算均不加噪，隐私预算条款会拒绝所有使用；请允许可加噪的计算或删除该条款。",
)
_NO_CONSENTS: Final = (
    "This source keeps no consents, so a clause that requires consent refuses every use; publish "
    "a personal source, or drop the clause.",
    "该数据源没有同意记录，要求个人同意的条款会拒绝所有使用；请发布个人数据源或删除该条款。",
)


# More belong into a view of the source.
MAX_CONDITIONS: Final = 16
# What owners write in YAML: a code of digits is a number there.
_WRITTEN: Final = ConfigDict(
    frozen=True, extra="forbid", coerce_numbers_to_str=True, validate_by_name=True
)


class ColumnSpec(BaseModel):
    """One published column. `scale` is how many decimal digits a value keeps (2: 12.50 → 1250).

    `column_class` (`class` where it is written) is what the column holds; None: as is proposed.
    """

    model_config = _WRITTEN

    name: str = Field(min_length=1, max_length=200)
    role: str = Field(pattern="^(identifier|value|group)$")
    column_class: ColumnClass | None = Field(default=None, alias="class")
    canonicaliser: str | None = None
    scale: int = Field(default=0, ge=0, le=9)
    values: tuple[str, ...] = ()


def _as_list(written: object) -> object:
    return written if isinstance(written, list | tuple) else (written,)


class ConditionSpec(BaseModel):
    """Only rows that meet it are in the dataset: `connectors.conditions.Condition`."""

    model_config = _WRITTEN

    column: str = Field(min_length=1, max_length=200)
    comparison: Comparison
    values: Annotated[
        tuple[Annotated[str, Field(max_length=500)], ...],
        Field(min_length=1, max_length=1000),
        BeforeValidator(_as_list),
    ]


class BlocksSpec(BaseModel):
    """The columns with the code of a row's division (GB/T 2260) and of its grid cell (块数据)."""

    model_config = _WRITTEN

    division: str | None = Field(default=None, min_length=1, max_length=200)
    grid: str | None = Field(default=None, min_length=1, max_length=200)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name in (self.division, self.grid) if name is not None)


class Terms(BaseModel):
    """What an offer allows, in the words most datasets need."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    computations: tuple[str, ...] = Field(min_length=1)
    purposes: tuple[str, ...] = Field(min_length=1)
    min_cohort: int = Field(default=20, ge=1, le=1_000_000)
    not_after: datetime
    max_uses: int | None = Field(default=None, ge=1)
    recipient_kinds: tuple[str, ...] = ()


class PolicyChange(BaseModel):
    """A policy, as terms or as a policy; `formats` None leaves those as they are.

    `formats` are those in which the rows themselves may leave: HttpData-PULL, HttpData-PUSH.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    terms: Terms | None = None
    policy: dict[str, Any] | None = None
    formats: tuple[str, ...] | None = Field(default=None, max_length=len(RAW_FORMATS))
    zones: tuple[str, ...] = Field(default=(), max_length=MAX_ZONES)
    pin_version: bool = False


class Publication(BaseModel):
    """Everything needed to publish a dataset; what is allowed as terms or as a policy.

    `theme`, `frequency` and `legal_basis` are words of `contracts.vocabulary`, `division` is a
    GB/T 2260 code. `where` chooses the rows. `confirmed` says that a person has looked at the
    classes of the columns. `formats` are those in which the rows themselves may leave besides what
    computations tell about them: HttpData-PULL, HttpData-PUSH; none unless named. `pin_version`
    lets every agreement cover the state alone that the data are in when it is offered.
    """

    model_config = _WRITTEN

    id: str
    title: str = Field(min_length=1, max_length=200)
    title_zh: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=4000)
    description_zh: str = Field(default="", max_length=4000)
    theme: str | None = None
    division: str | None = None
    frequency: str | None = None
    source: str = Field(min_length=1, max_length=2000)
    columns: tuple[ColumnSpec, ...] = Field(min_length=1, max_length=100)
    where: tuple[ConditionSpec, ...] = Field(default=(), max_length=MAX_CONDITIONS)
    blocks: BlocksSpec | None = None
    confirmed: bool = False
    legal_basis: str | None = None
    grade: str = "general"
    formats: tuple[str, ...] = Field(default=(), max_length=len(RAW_FORMATS))
    terms: Terms | None = None
    policy: dict[str, Any] | None = None
    zones: tuple[str, ...] = Field(default=(), max_length=MAX_ZONES)
    pin_version: bool = False


def make_offer(
    asked: Publication | PolicyChange, *, offer_id: str, personal: bool, grade: Grade
) -> Offer:
    """The offer that `asked` says, as it stands in a catalogue.

    Where terms are given, `personal` data are computed on with consent, and agreements about
    important data wait for a person's approval. Raises InputRejected unless exactly one way of
    saying it was used and it can be read.
    """
    if (asked.terms is None) == (asked.policy is None):
        came = "neither" if asked.terms is None else "both"
        raise InputRejected(
            f"a dataset is published with terms or with a policy; {came} came",
            remedy="say in one of the two ways what is allowed",
        )
    if asked.policy is not None:
        offer = policy_from(asked.policy, offer_id=offer_id)
    else:
        assert asked.terms is not None
        templates = ["personal-with-consent" if personal else "compute-only"]
        if grade is Grade.IMPORTANT:
            templates.append("approval")
        offer = _offer_of_terms(asked.terms, templates, offer_id=offer_id)
    return only_for(offer, asked.zones).for_catalog()


def only_for(offer: Offer, zones: Sequence[str]) -> Offer:
    """The offer with a clause in each of its permissions that wants a member of one of `zones`."""
    if not zones:
        return offer
    clause = AtomicConstraint(
        left_operand=Operand.RECIPIENT_ZONE,
        operator=Operator.IS_ANY_OF,
        right_operand=tuple(dict.fromkeys(zones)),
    )
    permissions = tuple(
        rule.model_copy(update={"constraint": (*rule.constraint, clause)})
        for rule in offer.permission
    )
    return offer.model_copy(update={"permission": permissions})


def verify_formats(offer: Offer, formats: Sequence[str], grade: Grade) -> None:
    """Rows may leave in these formats at all, and not only on paper. Raises InputRejected."""
    for name in formats:
        if name not in RAW_FORMATS or formats.count(name) > 1:
            raise InputRejected(
                f"formats: expected each of {' and '.join(RAW_FORMATS)} at most once",
                remedy="computations are named in the policy, not here",
            )
    if formats and Handling.DOWNLOAD not in offerable(grade):
        raise InputRejected(
            f"data graded {grade} ({grade.chinese}) are computed on and never leave as rows",
            remedy="publish them without formats",
        )
    for name in formats:
        decision = _decide_by_format(offer, name)
        if not decision.allowed:
            raise InputRejected(
                f"the policy never lets the rows leave as {name}: {decision.reason}",
                remedy=f"let the policy name {name} among its computations, or drop the format",
            )


def review(
    offer: Offer, formats: Sequence[str], *, personal: bool, grade: Grade, now: datetime
) -> tuple[Remark, ...]:
    """What is odd or worth knowing about the offer. Raises InputRejected for what is wrong."""
    remarks = remarks_on(offer, formats, personal=personal, now=now, grade=grade.value)
    for remark in remarks:
        if remark.severity is Severity.ERROR:
            raise InputRejected(
                f"{remark.path}: {remark.sentence}",
                remedy="change that part of the policy and send it again",
            )
    return remarks


def remarks_on(
    policy: Offer | Agreement,
    formats: Sequence[str],
    *,
    personal: bool,
    now: datetime,
    grade: str | None = None,
) -> tuple[Remark, ...]:
    """What is wrong or odd about a policy, for data of this grade that leave in `formats`."""
    unenforced = {} if _permits_noise(policy) else {Operand.EPSILON_BUDGET.value: _NO_NOISE}
    if not personal:
        unenforced[Operand.CONSENT.value] = _NO_CONSENTS
    return lint(policy, Knowledge((*KINDS, *formats), now, unenforced, grade))


def _permits_noise(policy: Offer | Agreement) -> bool:
    named = permitted_computations(policy)
    return any(kind.adds_noise for kind in KINDS.values() if named is None or kind.name in named)


def remarks_json(remarks: Iterable[Remark]) -> list[dict[str, str]]:
    """Remarks as the owner is shown them."""
    return [
        {
            "severity": remark.severity.value,
            "code": remark.code,
            "path": remark.path,
            "sentence": remark.sentence,
            "sentence_zh": remark.sentence_zh,
        }
        for remark in remarks
    ]


def grade_named(name: str) -> Grade:
    """The grade of this name, if data of it are offered at all. Raises InputRejected."""
    try:
        grade = Grade(name)
    except ValueError as err:
        raise InputRejected(
            f"there is no grade {name!r}",
            remedy=f"choose from: {', '.join(grade.value for grade in Grade)}",
        ) from err
    offerable(grade)
    return grade


def checked_column(column: ColumnSpec) -> ColumnSpec:
    """The column with its canonicaliser named. Raises InputRejected for an unknown one."""
    if column.role != "identifier":
        return column
    name = column.canonicaliser or "text/1"
    if not set(name.split("+")) <= set(canonicalisers()):
        raise InputRejected(
            f"column {column.name}: there is no canonicaliser {name!r}",
            remedy=f"choose from: {', '.join(canonicalisers())}; joined by + for several columns",
        )
    return column.model_copy(update={"canonicaliser": name})


def where_of(asked: Publication) -> Where:
    """The conditions of a publication as sources take them. Raises InputRejected of connectors."""
    return tuple(Condition(one.column, one.comparison, one.values) for one in asked.where)


def verify_columns_exist(
    columns: Sequence[ColumnSpec], present: Sequence[str], *, source: str
) -> None:
    """Every column is one of the source's, or joins some of them as a key, with a canonicaliser
    for each. Raises InputRejected naming the first that is not."""
    for column in columns:
        key = column.role == "identifier"
        names = columns_of(column.name, present) if key else (column.name,)
        verify_columns(names, present, source=source)
        if key:
            verify_key(column.canonicaliser or "text/1", names)


def _offer_of_terms(terms: Terms, templates: Sequence[str], *, offer_id: str) -> Offer:
    for name in terms.computations:
        if name not in KINDS:
            raise InputRejected(
                f"there is no computation {name!r}", remedy=f"choose from: {', '.join(KINDS)}"
            )
    parameters: Mapping[str, Any] = {
        "computations": terms.computations,
        "purposes": terms.purposes,
        "min_cohort": terms.min_cohort,
        "not_after": terms.not_after,
        "max_uses": terms.max_uses,
        "recipient_roles": terms.recipient_kinds or None,
    }
    return build(templates, parameters, offer_id=offer_id)


def _decide_by_format(offer: Offer, format_: str) -> Decision:
    """The decision about rows in this format by what is known of every such transfer: a refusal
    here is one that each of them would meet. Everything else is taken to be as the policy wants."""
    permissions = tuple(
        rule.model_copy(update={"constraint": tuple(filter(_is_decided, rule.constraint))})
        for rule in offer.permission
    )
    prohibitions = tuple(
        rule for rule in offer.prohibition if all(map(_is_decided, rule.constraint))
    )
    reduced = offer.model_copy(update={"permission": permissions, "prohibition": prohibitions})
    return decide(reduced, request_for_rows(offer.assignee or "anybody", format_, None), _UNASKED)


# No clause that is left asks for any of these.
_UNASKED: Final = Facts(
    now=datetime.min.replace(tzinfo=UTC),
    use_count=0,
    recipient_role=None,
    grade=None,
    consent=None,
)


def _is_decided(constraint: Constraint) -> bool:
    return all(name in _DECIDED_BY_FORMAT for name in _operands(constraint))


def _operands(constraint: Constraint) -> Iterator[str]:
    if isinstance(constraint, AtomicConstraint):
        yield constraint.left_operand
        return
    for each in constraint.joined[1]:
        yield from _operands(each)
