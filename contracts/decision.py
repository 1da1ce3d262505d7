"""What a decision is made from, and what it says: plain values, fit to be kept as evidence."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from contracts.errors import InputRejected


@dataclass(frozen=True)
class Request:
    """What the consumer asks to do; None for what it does not state.

    `min_cohort` in people; `spatial` a GB/T 2260 code; `epsilon` the privacy loss of this one use.
    """

    action: str
    assignee: str
    purpose: str | None
    computation: str | None
    min_cohort: int | None
    spatial: str | None = None
    epsilon: Decimal | None = None


@dataclass(frozen=True)
class Facts:
    """What the provider knows; None for what nobody could establish.

    `now` is aware; `use_count` counts the uses before this one; `recipient_role` is the kind of
    participant in the consumer's membership credential; `grade` is the data's. Raises InputRejected
    for a naive `now` or a negative count or budget.
    """

    now: datetime
    use_count: int
    recipient_role: str | None
    grade: str | None
    consent: bool | None
    epsilon_spent: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise InputRejected("expected `now` with a time zone, got a naive datetime")
        if self.use_count < 0:
            raise InputRejected("expected a use count of zero or more")
        if not self.epsilon_spent.is_finite() or self.epsilon_spent < 0:
            raise InputRejected("expected a spent budget of zero or more")


@dataclass(frozen=True, slots=True)
class ClauseResult:
    """How one clause came out.

    `path` finds it in the policy (`permission[0].constraint[1]`). `satisfied` is good news for the
    request when the clause is a rule: a permission grants, a prohibition stays away. For a
    constraint it says that the comparison holds. `known` is False when it could not be judged;
    `satisfied` is then False too. `remedy` says what could be done, where something can.
    """

    path: str
    operand: str
    operator: str
    expected: str
    actual: str | None
    satisfied: bool
    sentence: str
    remedy: str | None = None
    children: tuple["ClauseResult", ...] = ()
    known: bool = True

    def to_json(self) -> dict[str, Any]:
        """Strings, booleans and lists only, fit for RFC 8785; what is absent is left out."""
        body: dict[str, Any] = {
            "path": self.path,
            "operand": self.operand,
            "operator": self.operator,
            "expected": self.expected,
            "satisfied": self.satisfied,
            "known": self.known,
            "sentence": self.sentence,
        }
        if self.actual is not None:
            body["actual"] = self.actual
        if self.remedy is not None:
            body["remedy"] = self.remedy
        if self.children:
            body["children"] = [child.to_json() for child in self.children]
        return body


@dataclass(frozen=True, slots=True)
class DutyNotice:
    """A duty that comes with what was decided; nobody has checked that it is done."""

    path: str
    action: str
    sentence: str


@dataclass(frozen=True)
class Decision:
    """The outcome, every clause visited, and the clause that refused (None if and only if allowed).

    `duties` are those of the permission that grants and of the policy; they are not gates.
    """

    allowed: bool
    rules: tuple[ClauseResult, ...]
    refusal: ClauseResult | None
    duties: tuple[DutyNotice, ...] = ()

    @property
    def reason(self) -> str:
        """One sentence: what grants, or what refuses."""
        if self.refusal is not None:
            return self.refusal.sentence
        return next(
            rule.sentence
            for rule in self.rules
            if rule.satisfied and rule.path.startswith("permission")
        )

    def to_json(self) -> dict[str, Any]:
        """The whole decision, fit for RFC 8785: equal decisions give equal bytes."""
        body: dict[str, Any] = {
            "allowed": self.allowed,
            "reason": self.reason,
            "rules": [rule.to_json() for rule in self.rules],
        }
        if self.refusal is not None:
            body["refusal"] = self.refusal.path
        if self.duties:
            body["duties"] = [
                {"path": duty.path, "action": duty.action, "sentence": duty.sentence}
                for duty in self.duties
            ]
        return body
