"""ODRL policies in the compact form of the Dataspace Protocol 2025-1.

A policy is an Offer (no parties bound yet) or an Agreement (both bound). Its rules permit, prohibit
or oblige an action under constraints. Source: W3C ODRL Information Model 2.2; the JSON form is the
Dataspace Protocol's `contract-schema.json`, where actions are strings and a right operand is a
string, an array or an object, so numbers are written as strings.
"""

import json
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Discriminator, Field, JsonValue, StringConstraints, Tag, model_validator

from contracts.wire import WireModel

# Bounds on foreign policies: a person has to be able to read one, and a decision visits all of it.
MAX_RULES: Final = 64
MAX_CONSTRAINTS: Final = 64
MAX_VALUES: Final = 256

Text = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Timestamp = Annotated[
    str,
    StringConstraints(
        # xsd:dateTime, as in the protocol's schema.
        pattern=r"^-?([1-9][0-9]{3,}|0[0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
        r"T(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?|24:00:00(\.0+)?)"
        r"(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))?$",
        max_length=64,
    ),
]


class Operator(StrEnum):
    """Every operator the protocol's schema admits.

    `term-lteq` stands in that schema, by the look of it in error; it can be carried, and a decision
    refuses it as unknown.
    """

    EQ = "eq"
    NEQ = "neq"
    GT = "gt"
    GTEQ = "gteq"
    LT = "lt"
    LTEQ = "lteq"
    IS_ANY_OF = "isAnyOf"
    IS_NONE_OF = "isNoneOf"
    IS_ALL_OF = "isAllOf"
    IS_A = "isA"
    IS_PART_OF = "isPartOf"
    HAS_PART = "hasPart"
    TERM_LTEQ = "term-lteq"


RightOperand = (
    Annotated[str, StringConstraints(max_length=8192)]
    | Annotated[tuple[JsonValue, ...], Field(max_length=MAX_VALUES)]
    | dict[str, JsonValue]
)

_LOGICAL_NAMES: Final = frozenset({"and", "or", "xone", "andSequence"})
_ATOMIC_NAMES: Final = frozenset({"leftOperand", "operator", "rightOperand"})


class AtomicConstraint(WireModel):
    """One comparison: a fact, an operator, and the value it is compared with."""

    left_operand: Text
    operator: Operator
    right_operand: RightOperand

    @model_validator(mode="after")
    def _not_both_kinds(self) -> Self:
        # The schema says one kind or the other; a reader that saw only one half would misjudge.
        if _LOGICAL_NAMES & (self.model_extra or {}).keys():
            raise ValueError("expected a comparison or a logical constraint, not both at once")
        return self


def _constraint_kind(value: object) -> str:
    if isinstance(value, AtomicConstraint | LogicalConstraint):
        return "atomic" if isinstance(value, AtomicConstraint) else "logical"
    if isinstance(value, Mapping) and value.keys() & (_ATOMIC_NAMES | {"left_operand"}):
        return "atomic"
    return "logical"


Constraint = Annotated[
    Annotated["AtomicConstraint", Tag("atomic")] | Annotated["LogicalConstraint", Tag("logical")],
    Discriminator(_constraint_kind),
]
_Constraints = Annotated[tuple[Constraint, ...], Field(max_length=MAX_CONSTRAINTS)]
_Operands = Annotated[tuple[Constraint, ...], Field(min_length=1, max_length=MAX_CONSTRAINTS)]


class LogicalConstraint(WireModel):
    """Constraints joined by exactly one of and, or, xone (exactly one holds), and_sequence."""

    and_: _Operands | None = None
    or_: _Operands | None = None
    xone: _Operands | None = None
    and_sequence: _Operands | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [each for each in (self.and_, self.or_, self.xone, self.and_sequence) if each]
        if len(given) != 1:
            raise ValueError("expected exactly one of and, or, xone, andSequence")
        return self

    @property
    def joined(self) -> tuple[str, tuple[Constraint, ...]]:
        """The name of the logical operator on the wire, and what it joins."""
        if self.and_ is not None:
            return "and", self.and_
        if self.or_ is not None:
            return "or", self.or_
        if self.xone is not None:
            return "xone", self.xone
        return "andSequence", self.and_sequence or ()


class Rule(WireModel):
    """An action, and the constraints that must all hold for the rule to apply."""

    action: Text
    constraint: _Constraints = ()


class Duty(Rule):
    """Something the assignee has to do."""


class Permission(Rule):
    """The action may be done if every constraint holds; its duties come with it."""

    duty: Annotated[tuple[Duty, ...], Field(max_length=MAX_RULES)] = ()


class Prohibition(Rule):
    """The action must not be done if every constraint holds."""


class _Policy(WireModel):
    """What offers and agreements share; one of permission and prohibition is there."""

    id: Text
    profile: Text | Annotated[tuple[Text, ...], Field(max_length=16)] | None = None
    permission: Annotated[tuple[Permission, ...], Field(max_length=MAX_RULES)] = ()
    prohibition: Annotated[tuple[Prohibition, ...], Field(max_length=MAX_RULES)] = ()
    obligation: Annotated[tuple[Duty, ...], Field(max_length=MAX_RULES)] = ()

    @model_validator(mode="after")
    def _has_a_rule(self) -> Self:
        if not self.permission and not self.prohibition:
            raise ValueError("expected at least one permission or prohibition")
        return self

    @property
    def profiles(self) -> tuple[str, ...]:
        """The ODRL profiles this policy is written in; none for plain ODRL."""
        if self.profile is None:
            return ()
        return (self.profile,) if isinstance(self.profile, str) else self.profile


class Offer(_Policy):
    """Terms a provider publishes or a party proposes.

    In a catalogue an offer stands inside its dataset and must not name a target; in a message it
    must. `for_catalog` and `for_message` give the two forms.
    """

    type: Literal["Offer"] = "Offer"
    target: Text | None = None
    assigner: Text | None = None
    assignee: Text | None = None

    def for_catalog(self) -> "Offer":
        """The same offer without a target, as it stands in a dataset."""
        return self.model_copy(update={"target": None})

    def for_message(self, target: str) -> "Offer":
        """The same offer about the dataset `target`, as it stands in a negotiation message."""
        return self.model_copy(update={"target": target})


class Agreement(_Policy):
    """Terms both parties are bound by, about the dataset `target`."""

    required_on_wire: ClassVar[tuple[str, ...]] = ("type",)

    type: Literal["Agreement"] = "Agreement"
    target: Text
    assigner: Text
    assignee: Text
    # The specification's text asks for a timestamp, its schema does not; ours always carry one.
    timestamp: Timestamp | None = None


def agreement_from(
    offer: Offer, *, agreement_id: str, target: str, assigner: str, assignee: str, timestamp: str
) -> Agreement:
    """The agreement that binds both parties to exactly the rules of `offer`.

    `timestamp` is an xsd:dateTime; `same_terms(offer, result)` always holds.
    """
    rules = {
        name: value
        for name, value in offer.to_json().items()
        if name not in {"@id", "@type", "target", "assigner", "assignee"}
    }
    return Agreement.model_validate(
        {
            **rules,
            "@id": agreement_id,
            "target": target,
            "assigner": assigner,
            "assignee": assignee,
            "timestamp": timestamp,
        }
    )


def same_terms(a: Offer | Agreement, b: Offer | Agreement) -> bool:
    """Whether two policies have the same rules and profile, whatever their ids and parties.

    The order of rules, of constraints that must all hold, and of the values of a list does not
    matter; the order inside `andSequence` does. Unknown properties inside rules count as terms, and
    so do unknown properties of the policy itself unless they carry a prefix of another vocabulary
    (`dct:created`), which describes and does not bind.
    """
    return _terms(a) == _terms(b)


_NOT_TERMS: Final = frozenset({"target", "assigner", "assignee", "timestamp", "profile"})
_STRUCTURE: Final = frozenset(
    {"permission", "prohibition", "obligation", "duty", "constraint"} | _LOGICAL_NAMES
)


def _terms(policy: Offer | Agreement) -> object:
    body = {
        name: value
        for name, value in policy.to_json().items()
        if name not in _NOT_TERMS and not _only_describes(name)
    }
    return frozenset(policy.profiles), _comparable(body)


def _only_describes(name: str) -> bool:
    if name.startswith(("odrl:", "http://www.w3.org/ns/odrl/")):
        return False
    return name.startswith("@") or ":" in name


def _comparable(node: Mapping[str, Any]) -> object:
    """A policy, rule or constraint so that two are equal when only ids and free order differ."""
    return frozenset(
        (name, _comparable_list(name, value) if name in _STRUCTURE else _exact(name, value))
        for name, value in node.items()
        if name not in {"@id", "@type"} and not (name in _STRUCTURE and value == [])
    )


def _comparable_list(name: str, value: Any) -> object:
    if not isinstance(value, list):
        return _exact(name, value)
    items = [_comparable(item) if isinstance(item, Mapping) else item for item in value]
    # Counted, not gathered: exactly one of (A, A) is not the same as exactly one of (A).
    return tuple(items) if name == "andSequence" else frozenset(Counter(items).items())


def _exact(name: str, value: Any) -> str:
    if name == "rightOperand" and isinstance(value, list):
        value = sorted(value, key=lambda item: json.dumps(item, sort_keys=True))
    # JSON text keeps 1, 1.0, true and "1" apart, which Python's equality does not.
    return json.dumps(value, sort_keys=True)
