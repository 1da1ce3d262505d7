"""ODRL policies in the compact form of the Dataspace Protocol 2025-1.

A policy is an Offer (no parties bound yet) or an Agreement (both bound). Its rules permit, prohibit
or oblige an action under constraints. Source: W3C ODRL Information Model 2.2; the JSON form is the
Dataspace Protocol's `contract-schema.json`, where actions are strings and a right operand is a
string, an array or an object, so numbers are written as strings.

Actions, operands and operators are read by their short names however they are spelled
(`contracts.profile.short_term`), and written again as they came.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    StringConstraints,
    Tag,
    WrapValidator,
    model_validator,
)

from contracts.profile import LONG_FORMS, PREFIX, short_term
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


class _Part(WireModel):
    """A part of a policy that names terms of ODRL or of ours.

    A term that a peer wrote in a long form stands in its attribute by the short name, and among the
    extra properties as it came.
    """

    # The attributes that hold terms, by their names on the wire.
    terms: ClassVar[Mapping[str, str]] = {}

    @property
    def as_written(self) -> Mapping[str, str]:
        """Terms as their sender spelled them, by attribute."""
        extra = self.model_extra or {}
        return {
            attribute: text
            for name, attribute in self.terms.items()
            # A copy may have been given another term since.
            if (text := extra.get(name)) and short_term(text) == getattr(self, attribute)
        }

    @classmethod
    def by_short_names(cls, written: Any, handler: Callable[[Any], Self]) -> Self:
        """Validate `written` with its terms in their short forms, keeping the long ones."""
        if not isinstance(written, Mapping):
            return handler(written)
        long = {name: written[name] for name in cls.terms if _is_long(written.get(name))}
        if not long:
            return handler(written)
        part = handler({**written, **{name: short_term(text) for name, text in long.items()}})
        if part.model_extra is not None:
            part.model_extra.update(long)
        return part


def _is_long(text: object) -> bool:
    return isinstance(text, str) and text.startswith(LONG_FORMS)


class AtomicConstraint(_Part):
    """One comparison: a fact, an operator, and the value it is compared with."""

    terms: ClassVar = {"leftOperand": "left_operand", "operator": "operator"}

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
    if not isinstance(value, Mapping) or not value.keys() & (_ATOMIC_NAMES | {"left_operand"}):
        return "logical"
    # Of thousands of constraints hardly one spells its terms out; the others go the short way.
    spelled = _is_long(value.get("leftOperand")) or _is_long(value.get("operator"))
    return "spelled" if spelled else "atomic"


Constraint = Annotated[
    Annotated["AtomicConstraint", Tag("atomic")]
    | Annotated["AtomicConstraint", WrapValidator(AtomicConstraint.by_short_names), Tag("spelled")]
    | Annotated["LogicalConstraint", Tag("logical")],
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


class Rule(_Part):
    """An action, and the constraints that must all hold for the rule to apply."""

    terms: ClassVar = {"action": "action"}

    action: Text
    constraint: _Constraints = ()

    @model_validator(mode="wrap")
    @classmethod
    def _short_action(cls, written: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return cls.by_short_names(written, handler)


class Duty(Rule):
    """Something the assignee has to do, and what it has to do besides if that is not done."""

    consequence: "Annotated[tuple[Duty, ...], Field(max_length=MAX_RULES)]" = ()

    @model_validator(mode="after")
    def _ends_there(self) -> Self:
        # ODRL 2.2, section 2.6.3.
        if any(duty.consequence for duty in self.consequence):
            raise ValueError("expected no consequence of a consequence")
        return self


class Permission(Rule):
    """The action may be done if every constraint holds; its duties come with it."""

    duty: Annotated[tuple[Duty, ...], Field(max_length=MAX_RULES)] = ()


class Prohibition(Rule):
    """The action must not be done if every constraint holds; `remedy` is owed by who does it."""

    remedy: Annotated[tuple[Duty, ...], Field(max_length=MAX_RULES)] = ()

    @model_validator(mode="after")
    def _remedy_ends_there(self) -> Self:
        # ODRL 2.2, section 2.6.7.
        if any(duty.consequence for duty in self.remedy):
            raise ValueError("expected a remedy without a consequence")
        return self


class _Policy(WireModel):
    """What offers and agreements share; one of permission and prohibition is there.

    `conflict` is what shall happen where a permission meets a prohibition; `inherit_from` names
    policies whose rules hold here too.
    """

    id: Text
    profile: Text | Annotated[tuple[Text, ...], Field(max_length=16)] | None = None
    conflict: RightOperand | None = None
    inherit_from: RightOperand | None = None
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

    @property
    def conflict_strategy(self) -> str | None:
        """What shall happen where a permission meets a prohibition: perm, prohibit, invalid."""
        written = self.conflict
        if isinstance(written, dict):
            written = str(written.get("@id", "an object"))
        return written if written is None else short_term(str(written))

    @property
    def parents(self) -> tuple[str, ...]:
        """The policies whose rules hold here too, as text."""
        written = self.inherit_from
        several = written if isinstance(written, tuple) else () if written is None else (written,)
        return tuple(str(one.get("@id") if isinstance(one, dict) else one) for one in several)


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


def unknown_terms(part: _Policy | Rule) -> frozenset[tuple[str, str]]:
    """What binds somebody in a policy or rule and cannot be compared, only be the same or not.

    These are properties this profile does not know, parents, and the strategy for conflicts; where
    that is `invalid` every rule can void the others, so all of them belong to it.
    """
    found = {
        (name, _exact(name, value))
        for name, value in (part.model_extra or {}).items()
        if name not in _LABELS
        and name not in _own_terms(part)
        and not (isinstance(part, _Policy) and (name in _NOT_TERMS or _only_describes(name)))
    }
    if isinstance(part, _Policy):
        body = part.to_json()
        found |= {(name, _exact(name, body[name])) for name in _POLICY_WIDE if name in body}
        if part.conflict_strategy == "invalid":
            rules = {name: body.get(name) for name in ("permission", "prohibition")}
            found.add(("conflict", json.dumps(rules, sort_keys=True)))
    return frozenset(found)


def unread_terms(part: _Policy | Rule | Constraint, policy: _Policy | None = None) -> list[str]:
    """Names of terms in `part` that would change what it says and that no decision reads.

    The protocol gives rules and constraints fewer properties than ODRL does; these are the others,
    all names spelled with ODRL's prefix or IRI, and names of ours that this version does not know.
    A rule may repeat target and parties of its `policy`.
    """
    extra = part.model_extra
    if not extra:
        return []
    own, binding = _own_terms(part), _BINDING_OF_CONSTRAINT
    if isinstance(part, Rule):
        binding = _BINDING_OF_RULE
    elif isinstance(part, _Policy):
        binding = _BINDING_OF_POLICY
    return sorted(
        name
        for name, value in extra.items()
        if name not in own
        and _binds(name, binding)
        and not (policy is not None and _repeats(name, value, policy))
    )


def _own_terms(part: WireModel) -> Collection[str]:
    return part.terms if isinstance(part, _Part) else ()


def _binds(name: str, binding: frozenset[str]) -> bool:
    short = short_term(name)
    if short in _HARMLESS:
        return False
    return short in binding or name.startswith((*LONG_FORMS, PREFIX))


def _repeats(name: str, value: JsonValue, policy: _Policy) -> bool:
    short = short_term(name)
    return short in _PARTIES and value is not None and value == getattr(policy, short, None)


_PARTIES: Final = frozenset({"target", "assigner", "assignee"})
_BINDING_OF_RULE: Final = _PARTIES | {"refinement"}
_BINDING_OF_POLICY: Final = frozenset({"action", "constraint", "duty", "refinement"})
_BINDING_OF_CONSTRAINT: Final = frozenset({"unit", "status", "rightOperandReference", "refinement"})
# An identifier, and the type of a value that says itself what it is.
_HARMLESS: Final = frozenset({"uid", "dataType"})
_LABELS: Final = frozenset({"@id", "@type"})
_POLICY_WIDE: Final = ("conflict", "inheritFrom")
_NOT_TERMS: Final = frozenset({"target", "assigner", "assignee", "timestamp", "profile"})
_STRUCTURE: Final = frozenset(
    {"permission", "prohibition", "obligation", "duty", "consequence", "remedy", "constraint"}
    | _LOGICAL_NAMES
)
_TERMS: Final = frozenset({"action", "leftOperand", "operator", "conflict"})


def _terms(policy: Offer | Agreement) -> object:
    body = {
        name: value
        for name, value in policy.to_json().items()
        if name not in _NOT_TERMS and not _only_describes(name)
    }
    return frozenset(policy.profiles), _comparable(body)


def _only_describes(name: str) -> bool:
    if name.startswith((*LONG_FORMS, PREFIX)):
        return False
    return name.startswith("@") or ":" in name


def _comparable(node: Mapping[str, Any]) -> object:
    """A policy, rule or constraint so that two are equal when only ids and free order differ."""
    return frozenset(
        (name, _comparable_list(name, value) if name in _STRUCTURE else _exact(name, value))
        for name, value in node.items()
        if name not in _LABELS and not (name in _STRUCTURE and value == [])
    )


def _comparable_list(name: str, value: Any) -> object:
    if not isinstance(value, list):
        return _exact(name, value)
    items = [_comparable(item) if isinstance(item, Mapping) else item for item in value]
    # Counted, not gathered: exactly one of (A, A) is not the same as exactly one of (A).
    return tuple(items) if name == "andSequence" else frozenset(Counter(items).items())


def _exact(name: str, value: Any) -> str:
    if name in _TERMS and isinstance(value, str):
        value = short_term(value)
    if name == "rightOperand" and isinstance(value, list):
        value = sorted(value, key=lambda item: json.dumps(item, sort_keys=True))
    # JSON text keeps 1, 1.0, true and "1" apart, which Python's equality does not.
    return json.dumps(value, sort_keys=True)
