"""What values a clause leaves for the fact it is about, as far as that can be told.

A domain is the facts that satisfy a clause, or several clauses together. It is told exactly for the
clauses this module understands and not at all for others, so an answer of True is a proof.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from contracts.comparison import (
    Incomparable,
    compare,
    parse_decimal,
    parse_moment,
    region_code,
    single_text,
    texts_of,
)
from contracts.odrl import AtomicConstraint, LogicalConstraint, Operator
from contracts.profile import GRADE_ORDER, OPERANDS, Operand, ValueKind

Bound = tuple[Any, bool] | None


@dataclass(frozen=True)
class Domain:
    """The facts of one kind that are left.

    `allowed` is the finite set they are in, None for any; `excluded` those they are not. Numbers
    and times have bounds `(value, inclusive)`; texts and regions have `prefix`, the whole they are
    part of. Numbers are Decimals, regions codes without filling zeros.
    """

    kind: ValueKind
    allowed: frozenset[Any] | None = None
    excluded: frozenset[Any] = frozenset()
    lower: Bound = None
    upper: Bound = None
    prefix: str | None = None

    @property
    def empty(self) -> bool:
        """Whether certainly no fact is left."""
        if self.allowed is not None:
            return not any(self.has(value) for value in self.allowed)
        if self.lower is None or self.upper is None:
            return False
        (low, low_in), (high, high_in) = self.lower, self.upper
        if low == high:
            return not (low_in and high_in and self.has(low))
        return bool(low > high)

    def has(self, value: Any) -> bool:
        """Whether `value` is left."""
        if self.allowed is not None and value not in self.allowed:
            return False
        if value in self.excluded:
            return False
        if self.prefix is not None and not _is_part(self.kind, value, self.prefix):
            return False
        if self.lower is not None and not _above(value, self.lower):
            return False
        return self.upper is None or _below(value, self.upper)

    def within(self, other: "Domain") -> bool:
        """Whether every fact here certainly is one of `other`'s too."""
        if self.empty:
            return True
        if self.allowed is not None:
            return all(other.has(value) for value in self.allowed if self.has(value))
        if other.allowed is not None:
            return False
        if any(self.has(value) for value in other.excluded):
            return False
        if other.prefix is not None and not (
            self.prefix is not None and _is_part(self.kind, self.prefix, other.prefix)
        ):
            return False
        return _bound_within(self.lower, other.lower, upper=False) and _bound_within(
            self.upper, other.upper, upper=True
        )

    def meet(self, other: "Domain") -> "Domain":
        """What is left by both; `other` is of the same kind."""
        prefix = self.prefix or other.prefix
        allowed = self.allowed if other.allowed is None else other.allowed
        if self.allowed is not None and other.allowed is not None:
            allowed = self.allowed & other.allowed
        if self.prefix is not None and other.prefix is not None:
            if _is_part(self.kind, other.prefix, self.prefix):
                prefix = other.prefix
            elif not _is_part(self.kind, self.prefix, other.prefix):
                allowed = frozenset()
        return Domain(
            self.kind,
            allowed=allowed,
            excluded=self.excluded | other.excluded,
            lower=_tighter(self.lower, other.lower, upper=False),
            upper=_tighter(self.upper, other.upper, upper=True),
            prefix=prefix,
        )


@dataclass(frozen=True)
class Groups:
    """The sets of texts that are left: what somebody may belong to.

    Each has all of `all_of`, at least one of every set in `one_of`, and none of `none_of`.
    """

    all_of: frozenset[str] = frozenset()
    one_of: frozenset[frozenset[str]] = frozenset()
    none_of: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether certainly no set is left."""
        return bool(self.all_of & self.none_of) or any(one <= self.none_of for one in self.one_of)

    def within(self, other: "Groups") -> bool:
        """Whether every set here certainly is one of `other`'s too."""
        if self.empty:
            return True
        left = [one - self.none_of for one in self.one_of]
        certain = self.all_of.union(*(one for one in left if len(one) == 1))
        return (
            other.all_of <= certain
            and other.none_of <= self.none_of
            and all(
                wanted & certain or any(one <= wanted for one in left) for wanted in other.one_of
            )
        )

    def meet(self, other: "Groups") -> "Groups":
        """What is left by both."""
        return Groups(
            self.all_of | other.all_of, self.one_of | other.one_of, self.none_of | other.none_of
        )


Values = Domain | Groups


def domain_of(atom: AtomicConstraint) -> Values | None:
    """What one clause leaves; None where this module cannot tell.

    A clause with properties that this profile does not know may say more than its comparison, so
    nothing is told about it.
    """
    meaning = OPERANDS.get(atom.left_operand)
    if meaning is None or extras_of(atom):
        return None
    try:
        return _READERS[meaning.kind](meaning.kind, atom)
    except Incomparable:
        return None


def extras_of(part: AtomicConstraint | LogicalConstraint) -> dict[str, Any]:
    """Properties that may say more than this module reads; labels and spellings do not."""
    extra = part.model_extra or {}
    return {name: value for name, value in extra.items() if name not in _SAY_NOTHING}


def within(one: Values, other: Values) -> bool:
    """Whether whatever `one` leaves is certainly left by `other`; both about one operand."""
    if isinstance(one, Groups):
        return isinstance(other, Groups) and one.within(other)
    return isinstance(other, Domain) and one.within(other)


def meet(one: Values, other: Values) -> Values:
    """What is left by both; both about one operand."""
    if isinstance(one, Groups):
        assert isinstance(other, Groups), "one operand has one kind of values"
        return one.meet(other)
    assert isinstance(other, Domain), "one operand has one kind of values"
    return one.meet(other)


def apart(one: Values, other: Values) -> bool:
    """Whether certainly nothing is left by both; both about one operand."""
    return meet(one, other).empty


def _number(kind: ValueKind, atom: AtomicConstraint) -> Domain | None:
    found = _ordered(kind, atom, parse_decimal)
    if found is None or atom.left_operand not in _NUMBERS:
        return found
    return _NUMBERS[atom.left_operand](found)


def _time(kind: ValueKind, atom: AtomicConstraint) -> Domain | None:
    return _ordered(kind, atom, parse_moment)


def _ordered(kind: ValueKind, atom: AtomicConstraint, read: Callable[[str], Any]) -> Domain | None:
    operator = atom.operator
    if operator in _LISTS:
        return _listed(kind, operator, [read(text) for text in texts_of(atom.right_operand)])
    text = single_text(atom.right_operand)
    if text is None:
        return None
    value = read(text)
    if operator in (Operator.GT, Operator.GTEQ):
        return Domain(kind, lower=(value, operator is Operator.GTEQ))
    if operator in (Operator.LT, Operator.LTEQ):
        return Domain(kind, upper=(value, operator is Operator.LTEQ))
    return _equal(kind, operator, value)


def _text(kind: ValueKind, atom: AtomicConstraint) -> Domain | None:
    operator = atom.operator
    if operator in _LISTS:
        return _listed(kind, operator, texts_of(atom.right_operand))
    text = single_text(atom.right_operand)
    if text is None:
        return None
    if operator in (Operator.IS_A, Operator.IS_PART_OF):
        return Domain(kind, prefix=text)
    if operator is Operator.HAS_PART:
        ends = [place for place, letter in enumerate(text) if letter == "/"]
        return Domain(kind, allowed=frozenset([text, *(text[:end] for end in ends)]))
    return _equal(kind, operator, text)


def _region(kind: ValueKind, atom: AtomicConstraint) -> Domain | None:
    operator = atom.operator
    codes = [region_code(text) for text in texts_of(atom.right_operand)]
    # A region that is no code is compared letter by letter, and facts may be no codes then.
    if None in codes:
        return None
    if operator in _LISTS:
        return _listed(kind, operator, codes)
    code = codes[0]
    if code is None or single_text(atom.right_operand) is None:
        return None
    if operator is Operator.IS_PART_OF:
        return Domain(kind, prefix=code)
    if operator is Operator.HAS_PART:
        wholes = [code[:length] for length in range(2, len(code) + 1)]
        return Domain(kind, allowed=frozenset(one for one in wholes if region_code(one) == one))
    return _equal(kind, operator, code)


def _few(kind: ValueKind, atom: AtomicConstraint) -> Domain | None:
    """Of a kind that has few values at all, those that satisfy the clause."""
    every = GRADE_ORDER if kind is ValueKind.GRADE else (True, False)
    left = [value for value in every if compare(kind, atom.operator, value, atom.right_operand)]
    return Domain(kind, allowed=frozenset(left))


def _groups(_: ValueKind, atom: AtomicConstraint) -> Groups | None:
    operator = atom.operator
    if operator in (Operator.EQ, Operator.NEQ) and single_text(atom.right_operand) is None:
        return None
    named = frozenset(texts_of(atom.right_operand))
    if operator in (Operator.NEQ, Operator.IS_NONE_OF):
        return Groups(none_of=named)
    if operator is Operator.IS_ALL_OF or (
        operator in (Operator.EQ, Operator.IS_ANY_OF) and len(named) == 1
    ):
        return Groups(all_of=named)
    return Groups(one_of=frozenset([named])) if operator is Operator.IS_ANY_OF else None


# Labels, and the long spellings of terms that the attributes have by their short names.
_SAY_NOTHING: Final = frozenset({"@id", "@type", "uid", "leftOperand", "operator"})
_LISTS: Final = (Operator.IS_ANY_OF, Operator.IS_NONE_OF, Operator.IS_ALL_OF)

_READERS: Final[Mapping[ValueKind, Callable[[ValueKind, AtomicConstraint], Values | None]]] = {
    ValueKind.TEXT: _text,
    ValueKind.NUMBER: _number,
    ValueKind.TIME: _time,
    ValueKind.REGION: _region,
    ValueKind.GRADE: _few,
    ValueKind.SET: _groups,
    ValueKind.CONSENT: _few,
}


def _equal(kind: ValueKind, operator: Operator, value: Any) -> Domain | None:
    if operator is Operator.EQ:
        return Domain(kind, allowed=frozenset([value]))
    return Domain(kind, excluded=frozenset([value])) if operator is Operator.NEQ else None


def _listed(kind: ValueKind, operator: Operator, values: Iterable[Any]) -> Domain:
    distinct = frozenset(values)
    if operator is Operator.IS_NONE_OF:
        return Domain(kind, excluded=distinct)
    if operator is Operator.IS_ALL_OF and len(distinct) > 1:
        # One fact is never all of several values.
        return Domain(kind, allowed=frozenset())
    return Domain(kind, allowed=distinct)


def _whole(domain: Domain) -> Domain:
    """The same facts where they are whole numbers: more than 19 is at least 20."""
    lower, upper, allowed = domain.lower, domain.upper, domain.allowed
    if lower is not None:
        lower = (math.ceil(lower[0]) if lower[1] else math.floor(lower[0]) + 1, True)
    if upper is not None:
        upper = (math.floor(upper[0]) if upper[1] else math.ceil(upper[0]) - 1, True)
    if allowed is not None:
        allowed = frozenset(one for one in allowed if one == math.floor(one))
    return Domain(domain.kind, allowed, domain.excluded, lower, upper)


# The use being decided on counts, so there is always one, and always known.
_COUNTS: Final = Domain(ValueKind.NUMBER, lower=(Decimal(1), True))
# A loss of nothing is none that noise could have.
_LOSSES: Final = Domain(ValueKind.NUMBER, lower=(Decimal(0), False))

_NUMBERS: Final[Mapping[str, Callable[[Domain], Domain]]] = {
    Operand.COUNT: lambda domain: _whole(domain).meet(_COUNTS),
    Operand.MIN_COHORT: _whole,
    Operand.APPROVERS: _whole,
    Operand.EPSILON_BUDGET: _LOSSES.meet,
}

# What is known of facts before any clause, where the fact itself is always known.
ALWAYS: Final[Mapping[str, Values]] = MappingProxyType({Operand.COUNT: _COUNTS})


def _is_part(kind: ValueKind, value: str, whole: str) -> bool:
    return compare(kind, Operator.IS_PART_OF, value, whole)


def _above(value: Any, bound: tuple[Any, bool]) -> bool:
    return bool(value > bound[0] or (bound[1] and value == bound[0]))


def _below(value: Any, bound: tuple[Any, bool]) -> bool:
    return bool(value < bound[0] or (bound[1] and value == bound[0]))


def _bound_within(own: Bound, other: Bound, *, upper: bool) -> bool:
    """Whether a bound of ours keeps us inside the other's."""
    if other is None:
        return True
    return own is not None and _tighter(own, other, upper=upper) == own


def _tighter(one: Bound, other: Bound, *, upper: bool) -> Bound:
    if one is None or other is None:
        return one or other
    if one[0] == other[0]:
        return one if not one[1] else other
    return one if (one[0] < other[0]) == upper else other
