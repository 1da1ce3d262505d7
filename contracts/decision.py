"""What a decision is made from, and what it says: plain values, fit to be kept as evidence.

What a decision says is kept as values and put into words when somebody asks, in English or Chinese
(`contracts.wording`), so that the language can change nothing but the words.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from contracts import plain_words, wording
from contracts.comparison import Fact
from contracts.errors import InputRejected
from contracts.odrl import Duty
from contracts.wording import Language, Sort


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
    participant in the consumer's membership credential, `recipient_zones` the zones it belongs to
    by their current lists; `grade` is the data's; `approved` says what a person at the provider
    decided, `approvers` how many different people approved; `release` are the rules by which rows
    are treated before they leave, () for rows as they are and None where no rows leave;
    `content_version` is the state the data are in. Raises InputRejected for a naive `now` or a
    negative count or budget.
    """

    now: datetime
    use_count: int
    recipient_role: str | None
    grade: str | None
    consent: bool | None
    epsilon_spent: Decimal = Decimal(0)
    recipient_zones: tuple[str, ...] | None = None
    approved: bool | None = None
    approvers: int | None = None
    release: tuple[str, ...] | None = None
    content_version: str | None = None

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
    `satisfied` is then False too, and `why` says why where it is not for want of a fact.

    `wanted` is the value in the policy and `fact` what it was compared with.
    """

    sort: Sort
    path: str
    operand: str
    operator: str
    wanted: object
    fact: Fact | None
    satisfied: bool
    known: bool = True
    children: tuple["ClauseResult", ...] = ()
    why: str | None = None

    @property
    def expected(self) -> str:
        """What the clause wants, as text."""
        return wording.expected(self)

    @property
    def actual(self) -> str | None:
        """What was found, as text; None where nothing was."""
        return wording.actual(self)

    @property
    def sentence(self) -> str:
        """The clause and how it came out, in English."""
        return wording.sentence(self)

    @property
    def remedy(self) -> str | None:
        """What could be done about it, in English; None where nothing need or can be done."""
        return wording.remedy(self)

    def to_json(self, language: Language = "en") -> dict[str, Any]:
        """Strings, booleans and lists only, fit for RFC 8785; what is absent is left out."""
        body: dict[str, Any] = {
            "path": self.path,
            "operand": self.operand,
            "operator": self.operator,
            "expected": wording.expected(self, language),
            "satisfied": self.satisfied,
            "known": self.known,
            "sentence": wording.sentence(self, language),
        }
        found, remedy = wording.actual(self, language), wording.remedy(self, language)
        if found is not None:
            body["actual"] = found
        if remedy is not None:
            body["remedy"] = remedy
        if self.children:
            body["children"] = [child.to_json(language) for child in self.children]
        return body


@dataclass(frozen=True, slots=True)
class DutyNotice:
    """A duty that comes with what was decided; nobody has checked that it is done."""

    path: str
    duty: Duty

    @property
    def action(self) -> str:
        """What has to be done."""
        return self.duty.action

    @property
    def sentence(self) -> str:
        """Who has to do what, in English."""
        return self.sentence_in("en")

    def sentence_in(self, language: Language) -> str:
        """Who has to do what."""
        return plain_words.duty_sentence(self.path, self.duty, language)

    @property
    def consequences(self) -> tuple["DutyNotice", ...]:
        """What has to be done besides if the duty is not."""
        return tuple(
            DutyNotice(f"{self.path}.consequence[{i}]", one)
            for i, one in enumerate(self.duty.consequence)
        )

    def to_json(self, language: Language = "en") -> dict[str, Any]:
        """Path, action, sentence and consequences, fit for RFC 8785."""
        body: dict[str, Any] = {
            "path": self.path,
            "action": self.action,
            "sentence": self.sentence_in(language),
        }
        if self.duty.consequence:
            body["consequences"] = [one.to_json(language) for one in self.consequences]
        return body


@dataclass(frozen=True)
class Decision:
    """The outcome, every clause visited, and the clause that refused (None if and only if allowed).

    `duties` are those of the permission that grants and of the policy, and the remedies of its
    prohibitions; they are not gates.
    """

    allowed: bool
    rules: tuple[ClauseResult, ...]
    refusal: ClauseResult | None
    duties: tuple[DutyNotice, ...] = ()

    @property
    def decisive(self) -> ClauseResult:
        """The clause that refuses, or the permission that grants."""
        if self.refusal is not None:
            return self.refusal
        return next(rule for rule in self.rules if rule.satisfied and rule.sort is Sort.PERMISSION)

    @property
    def reason(self) -> str:
        """One English sentence: what grants, or what refuses."""
        return self.decisive.sentence

    def to_json(self, language: Language = "en") -> dict[str, Any]:
        """The whole decision, fit for RFC 8785: equal decisions give equal bytes.

        Only sentences, remedies and the words in values depend on `language`.
        """
        body: dict[str, Any] = {
            "allowed": self.allowed,
            "reason": wording.sentence(self.decisive, language),
            "rules": [rule.to_json(language) for rule in self.rules],
        }
        if self.refusal is not None:
            body["refusal"] = self.refusal.path
        if self.duties:
            body["duties"] = [duty.to_json(language) for duty in self.duties]
        return body
