"""What a policy would allow, read before asking: for forms, plans and catalogues.

These are bounds on what `contracts.evaluation.decide` may allow, not decisions: a value they name
can still be refused by another clause.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR
from typing import Final

from contracts.comparison import Incomparable, parse_decimal, parse_moment, texts_of
from contracts.domains import Domain
from contracts.implication import Case, cases_of, understood
from contracts.odrl import Agreement, AtomicConstraint, Constraint, Offer, Operator, Rule
from contracts.profile import Operand

Values = frozenset[str] | None  # None: any value


def required_min_cohort(policy: Offer | Agreement) -> int:
    """The largest minimum cohort any permission demands, in people; 0 if none does.

    Under `or` the strictest branch counts, so a request that honours it honours every branch.
    """
    largest = 0
    for permission in policy.permission:
        for atom in _atoms(permission.constraint):
            if atom.left_operand == Operand.MIN_COHORT:
                largest = max(largest, _demanded(atom))
    return largest


def required_release(policy: Offer | Agreement, rows_format: str) -> tuple[str, ...]:
    """The rules that every permission wants applied by which rows could leave in this format, in
    the order in which they are written, each once; () where rows may leave as they are.

    As with cohorts the strictest branch counts, so rows treated so honour every branch. Which rules
    there are is nothing to this module. A provider that has no others comes to the same list as an
    auditor who holds the policy.
    """
    found: dict[str, None] = {}
    for permission in policy.permission:
        cases = cases_of(understood(permission.constraint))
        if not any(case.possible and rows_could_leave(case, rows_format) for case in cases):
            continue
        for atom in _atoms(permission.constraint):
            if atom.left_operand == Operand.RELEASE and atom.operator in _NAMES_RULES:
                found |= dict.fromkeys(_texts_in(atom))
    return tuple(found)


_NAMES_RULES: Final = (Operator.IS_ALL_OF, Operator.IS_ANY_OF, Operator.EQ)


def rows_could_leave(case: Case, rows_format: str) -> bool:
    """Whether rows that leave in this format could meet what holds in `case`: they state no cohort
    and no noise, and the format stands where a computation would."""
    if Operand.MIN_COHORT in case.values or Operand.EPSILON_BUDGET in case.values:
        return False
    named = case.values.get(Operand.COMPUTATION)
    return not isinstance(named, Domain) or named.has(rows_format)


def mentions(policy: Offer | Agreement, operand: Operand) -> bool:
    """Whether any clause of a rule is about `operand`, so that its fact has to be found out."""
    return any(
        atom.left_operand == operand
        for rule in (*policy.permission, *policy.prohibition)
        for atom in _atoms(rule.constraint)
    )


def _texts_in(atom: AtomicConstraint) -> list[str]:
    try:
        return texts_of(atom.right_operand)
    except Incomparable:
        return []


def approval_required(policy: Offer | Agreement) -> bool:
    """Whether a use could be allowed only after a person at the provider approved.

    True as soon as any clause speaks of approval: asking one time too many does no harm.
    """
    return approvers_required(policy) > 0


def approvers_required(policy: Offer | Agreement) -> int:
    """How many different people at the provider have to approve; 0 if nobody has to.

    Under `or` the strictest branch counts, as with cohorts.
    """
    return max(
        (
            approvers_demanded(atom)
            for permission in policy.permission
            for atom in _atoms(permission.constraint)
        ),
        default=0,
    )


def approvers_demanded(atom: AtomicConstraint) -> int:
    """How many people one clause wants to approve."""
    if atom.left_operand == Operand.APPROVAL:
        return 1
    # A clause that cannot be read is one that a person had better look at.
    return max(1, _demanded(atom)) if atom.left_operand == Operand.APPROVERS else 0


def demands_approval(atom: AtomicConstraint) -> bool:
    """Whether a clause cannot hold before a person has approved."""
    if atom.left_operand == Operand.APPROVAL:
        return atom.operator is Operator.EQ
    return atom.left_operand == Operand.APPROVERS and _demanded(atom) >= 1


def valid_until(policy: Offer | Agreement) -> datetime | None:
    """The last moment at which some permission's `dateTime` clauses can hold; None: no bound told.

    After it every use is refused. Of clauses that all have to hold the earliest end counts; of
    alternatives (`or`, `xone`) the latest, and only where every alternative has one, because a use
    needs to meet no more than one of them.
    """
    return _latest(_end(permission.constraint) for permission in policy.permission)


def _end(constraints: Iterable[Constraint]) -> datetime | None:
    ends = [end for each in constraints if (end := _end_of(each)) is not None]
    return min(ends, default=None)


def _end_of(constraint: Constraint) -> datetime | None:
    if isinstance(constraint, AtomicConstraint):
        return _last_moment(constraint)
    name, joined = constraint.joined
    if name in ("and", "andSequence"):
        return _end(joined)
    return _latest(_end_of(each) for each in joined)


def _latest(ends: Iterable[datetime | None]) -> datetime | None:
    latest = None
    for end in ends:
        if end is None:
            return None
        latest = end if latest is None else max(latest, end)
    return latest


def _last_moment(atom: AtomicConstraint) -> datetime | None:
    bounds = (Operator.LTEQ, Operator.LT, Operator.EQ, Operator.IS_ANY_OF, Operator.IS_ALL_OF)
    if atom.left_operand != Operand.DATE_TIME or atom.operator not in bounds:
        return None
    try:
        return max(parse_moment(text) for text in texts_of(atom.right_operand))
    except Incomparable:
        return None


def conflicting_rules(policy: Offer | Agreement) -> tuple[str, ...]:
    """The paths of a permission and a prohibition that can both apply to one use; () if none can.

    Rules are taken to overlap unless a condition of one certainly excludes a condition of the
    other.
    """
    for number, permission in enumerate(policy.permission):
        for other, prohibition in enumerate(policy.prohibition):
            same_action = prohibition.action in (permission.action, "use")
            if same_action and not _exclude_one_another(permission, prohibition):
                return f"permission[{number}]", f"prohibition[{other}]"
    return ()


def _exclude_one_another(one: Rule, other: Rule) -> bool:
    together = understood([*one.constraint, *other.constraint])
    return not any(case.possible for case in cases_of(together))


def permitted_computations(policy: Offer | Agreement) -> tuple[str, ...] | None:
    """The computation kinds permissions name, sorted; None if one leaves them open."""
    return _permitted(policy, Operand.COMPUTATION)


def permitted_purposes(policy: Offer | Agreement) -> tuple[str, ...] | None:
    """The purposes permissions name, sorted; None if one leaves them open."""
    return _permitted(policy, Operand.PURPOSE)


def covered_versions(policy: Offer | Agreement) -> tuple[str, ...] | None:
    """The states of the data that permissions name, sorted; None if one covers every later one."""
    return _permitted(policy, Operand.CONTENT_VERSION)


def _demanded(atom: AtomicConstraint) -> int:
    if atom.operator not in (Operator.GT, Operator.GTEQ, Operator.EQ):
        return 0
    try:
        numbers = [parse_decimal(text) for text in texts_of(atom.right_operand)]
    except Incomparable:
        return 0
    value = max(numbers)
    if atom.operator is Operator.GT:
        return int(value.to_integral_value(ROUND_FLOOR)) + 1
    return int(value.to_integral_value(ROUND_CEILING))


def _atoms(constraints: Iterable[Constraint]) -> Iterator[AtomicConstraint]:
    for constraint in constraints:
        if isinstance(constraint, AtomicConstraint):
            yield constraint
        else:
            yield from _atoms(constraint.joined[1])


def _permitted(policy: Offer | Agreement, operand: Operand) -> tuple[str, ...] | None:
    found: set[str] = set()
    for permission in policy.permission:
        values = _all_of(permission.constraint, operand)
        if values is None:
            return None
        found |= values
    return tuple(sorted(found))


def _all_of(constraints: Iterable[Constraint], operand: Operand) -> Values:
    narrowed: Values = None
    for constraint in constraints:
        values = _values(constraint, operand)
        if values is not None:
            narrowed = values if narrowed is None else narrowed & values
    return narrowed


def _values(constraint: Constraint, operand: Operand) -> Values:
    if isinstance(constraint, AtomicConstraint):
        named = constraint.operator in (Operator.EQ, Operator.IS_ANY_OF)
        if constraint.left_operand != operand or not named:
            return None
        try:
            return frozenset(texts_of(constraint.right_operand))
        except Incomparable:
            return frozenset()
    name, joined = constraint.joined
    if name in ("and", "andSequence"):
        return _all_of(joined, operand)
    found: set[str] = set()
    for each in joined:
        values = _values(each, operand)
        if values is None:
            return None
        found |= values
    return frozenset(found)
