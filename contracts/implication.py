"""What follows when some constraints all hold: which others hold too, and which cannot.

Constraints that join others with `or` or `xone` are looked at in cases, one for every way in which
they can hold. Truth is that of `contracts.evaluation`: a clause holds, fails, or cannot be judged.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.domains import ALWAYS, Values, apart, domain_of, extras_of, meet, within
from contracts.odrl import AtomicConstraint, Constraint, Operator

# Every `or` multiplies the cases; policies of people have few. What is over the bounds is not taken
# apart, so less can be told about it. The second bounds the work a peer's policy can cause.
MAX_CASES: Final = 64
MAX_CLAUSES: Final = 2048


@dataclass(frozen=True)
class Clause:
    """A constraint, understood as far as it goes.

    `key` is the same for constraints that say the same in the same words. A comparison has its
    operand and, if they can be told, the values it leaves; a join has its name and its parts.
    """

    key: bytes
    operand: str = ""
    values: Values | None = None
    join: str = ""
    parts: tuple["Clause", ...] = ()


@dataclass(frozen=True)
class Case:
    """One way in which constraints can all hold: the keys of what holds in it, and what values it
    leaves for each operand."""

    keys: frozenset[bytes] = frozenset()
    values: Mapping[str, Values] = field(default_factory=dict)

    @property
    def possible(self) -> bool:
        """Whether no two of its clauses certainly exclude one another."""
        return not any(values.empty for values in self.values.values())

    def truth(self, clause: Clause) -> bool | None:
        """Whether `clause` certainly holds here (True), certainly fails (False), or neither.

        Where a comparison here cannot be judged, so that nothing holds, True says no less that
        `clause` does not fail.
        """
        if clause.key in self.keys:
            return True
        if not clause.join:
            return self._truth_of_comparison(clause)
        found = [self.truth(part) for part in clause.parts]
        if clause.join == "or":
            return True if True in found else (None if None in found else False)
        if clause.join == "xone":
            if found.count(True) > 1:
                return False
            return None if None in found else found.count(True) == 1
        return False if False in found else (None if None in found else True)

    def _truth_of_comparison(self, clause: Clause) -> bool | None:
        have = self.values.get(clause.operand) or ALWAYS.get(clause.operand)
        if have is None or clause.values is None:
            return None
        if within(have, clause.values):
            return True
        return False if apart(have, clause.values) else None


def understood(constraints: Iterable[Constraint]) -> tuple[Clause, ...]:
    """Each of `constraints` as a clause."""
    return tuple(_understood(constraint) for constraint in constraints)


def cases_of(clauses: Sequence[Clause]) -> tuple[Case, ...]:
    """The ways in which all of `clauses` can hold, at least one; some may be impossible.

    Whenever all hold, or none of them fails, the same is true of all that one of the cases names.
    """
    size = sum(1 for clause in clauses for _ in _within(clause))
    limit = max(1, min(MAX_CASES, MAX_CLAUSES // max(1, size)))
    return tuple(_case(way) for way in _ways(clauses, limit))


def conjuncts(constraints: Iterable[Constraint]) -> Iterator[AtomicConstraint]:
    """The comparisons that all hold when all of `constraints` do."""
    for constraint in constraints:
        if isinstance(constraint, AtomicConstraint):
            yield constraint
        elif constraint.joined[0] in ("and", "andSequence"):
            yield from conjuncts(constraint.joined[1])


def refuted(constraint: Constraint) -> AtomicConstraint | None:
    """The comparison that holds exactly if `constraint` certainly fails; None where none is known.

    A prohibition on this one condition leaves only uses of which it can be shown to be false.
    """
    if not isinstance(constraint, AtomicConstraint) or constraint.operator not in _OPPOSITES:
        return None
    opposite = constraint.model_copy(update={"operator": _OPPOSITES[constraint.operator]})
    return opposite if domain_of(opposite) is not None else None


_PAIRS: Final = (
    (Operator.EQ, Operator.NEQ),
    (Operator.GT, Operator.LTEQ),
    (Operator.LT, Operator.GTEQ),
    (Operator.IS_ANY_OF, Operator.IS_NONE_OF),
)
_OPPOSITES: Final = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}


def _understood(constraint: Constraint) -> Clause:
    extras = extras_of(constraint)
    if isinstance(constraint, AtomicConstraint):
        operand, operator = constraint.left_operand, constraint.operator
        written = (operand, operator, _free_of_order(constraint.right_operand), extras)
        return Clause(_key(*written), operand=operand, values=domain_of(constraint))
    name, joined = constraint.joined
    parts = understood(joined)
    keys = [part.key.hex() for part in parts]
    key = _key(name, keys if name == "andSequence" else sorted(keys), extras)
    # With a property nobody knows, a join may say anything.
    return Clause(key, join=name, parts=parts) if not extras else Clause(key)


def _free_of_order(right_operand: object) -> object:
    if not isinstance(right_operand, tuple):
        return right_operand
    return sorted(right_operand, key=lambda one: json.dumps(one, sort_keys=True))


def _key(*parts: Any) -> bytes:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def _within(clause: Clause) -> Iterator[Clause]:
    yield clause
    for part in clause.parts:
        yield from _within(part)


_Way = tuple[Clause, ...]


def _ways(clauses: Sequence[Clause], limit: int) -> list[_Way]:
    """The cases as the clauses that hold in each, at most `limit`."""
    found: list[_Way] = [()]
    for clause in clauses:
        branches = _branches(clause, limit // len(found))
        found = [(*way, *branch) for way in found for branch in branches]
    return found


def _branches(clause: Clause, limit: int) -> list[_Way]:
    if clause.join in ("and", "andSequence"):
        return [(clause, *way) for way in _ways(clause.parts, limit)]
    if clause.join in ("or", "xone"):
        ways = [way for part in clause.parts for way in _branches(part, limit)]
        if len(ways) <= limit:
            return [(clause, *way) for way in ways]
    return [(clause,)]


def _case(way: _Way) -> Case:
    values: dict[str, Values] = {}
    for clause in way:
        if clause.values is not None:
            known = values.get(clause.operand)
            own = clause.values
            values[clause.operand] = own if known is None else meet(known, own)
    return Case(frozenset(clause.key for clause in way), values)
