"""What a policy would allow, read before asking: for forms, plans and catalogues.

These are bounds on what `contracts.evaluation.decide` may allow, not decisions: a value they name
can still be refused by another clause.
"""

from collections.abc import Iterable, Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR

from contracts.comparison import Incomparable, parse_decimal, texts_of
from contracts.odrl import Agreement, AtomicConstraint, Constraint, Offer, Operator
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


def permitted_computations(policy: Offer | Agreement) -> tuple[str, ...] | None:
    """The computation kinds permissions name, sorted; None if one leaves them open."""
    return _permitted(policy, Operand.COMPUTATION)


def permitted_purposes(policy: Offer | Agreement) -> tuple[str, ...] | None:
    """The purposes permissions name, sorted; None if one leaves them open."""
    return _permitted(policy, Operand.PURPOSE)


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
