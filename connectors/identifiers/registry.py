"""The canonicalisers by name, alone and joined for composite keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from connectors.errors import ConnectorError, InputRejected
from connectors.identifiers import numbers, words
from connectors.identifiers.spelling import MAX_VALUE_CHARACTERS, NotUsableError, Reason

Rule = Callable[[str], str]

# ASCII's unit separator: no canonical value holds it, so a key has one way to be taken apart.
SEPARATOR: Final = "\x1f"
JOINT: Final = "+"
# A key of more parts would match nobody who is written down twice.
MAX_PARTS: Final = 5

CANONICALISERS: Final[Mapping[str, Rule]] = {
    "resident-id/1": numbers.resident_id,
    "uscc/1": numbers.uscc,
    "mobile/1": numbers.mobile,
    "division/1": numbers.division,
    "text/1": words.text,
    "area/1": numbers.area,
    "name/1": words.name,
    "date/1": words.date,
    "plate/1": words.plate,
    "passport/1": words.passport,
    "email/1": words.email,
}


class InvalidIdentifier(ConnectorError):
    """A value is not an identifier of its kind; `reason` says why. The value is not in here."""

    def __init__(self, canonicaliser: str, reason: Reason) -> None:
        super().__init__(f"not a usable {canonicaliser} identifier: {reason}")
        self.canonicaliser = canonicaliser
        self.reason: str = reason.value


def canonicalisers() -> tuple[str, ...]:
    """The names of all canonicalisers; joined by `+` they canonicalise the parts of a key."""
    return tuple(CANONICALISERS)


def parts_of(name: str) -> tuple[str, ...]:
    """The canonicalisers that `name` joins, one for most names.

    Raises InputRejected for an unknown canonicaliser and for more than five.
    """
    parts = tuple(name.split(JOINT))
    if len(parts) > MAX_PARTS:
        raise InputRejected(
            f"a key has at most {MAX_PARTS} parts, {len(parts)} canonicalisers are joined; name "
            "those that tell people apart"
        )
    for part in parts:
        if part not in CANONICALISERS:
            raise InputRejected(
                f"there is no canonicaliser {part[:100]}; use one of {', '.join(CANONICALISERS)}"
            )
    return parts


def columns_of(column: str, present: Sequence[str]) -> tuple[str, ...]:
    """The columns of a table that `column` names: itself, or those it joins, as `name+born` does.

    A column that is really called so comes first.
    """
    return (column,) if column in present else tuple(column.split(JOINT))


def verify_key(canonicaliser: str, columns: Sequence[str]) -> None:
    """Every column of a key has its canonicaliser. Raises InputRejected."""
    parts = parts_of(canonicaliser)
    if len(parts) != len(columns):
        raise InputRejected(
            f"column {JOINT.join(columns)} has {len(columns)} part(s) and the canonicaliser "
            f"{canonicaliser} {len(parts)}; join as many of the one as of the other, such as "
            "name+born with name/1+date/1"
        )


def canonicalise(name: str, value: str | Sequence[str]) -> str:
    """`value` in the one spelling of canonicaliser `name`; doing it again changes nothing.

    A joined canonicaliser takes as many values, or its own result. Raises InvalidIdentifier with a
    reason, that of the first part which has one, and InputRejected for an unknown canonicaliser or
    another number of values.
    """
    rules = [CANONICALISERS[part] for part in parts_of(name)]
    if len(rules) == 1 and isinstance(value, str):
        values: Sequence[str] = (value,)
    else:
        values = value.split(SEPARATOR) if isinstance(value, str) else value
    if len(values) != len(rules):
        raise InputRejected(
            f"{name} takes {len(rules)} value(s), got {len(values)}; give one for each part"
        )
    try:
        return SEPARATOR.join(map(apply, rules, values))
    except NotUsableError as err:
        # The inner error is the same fact without the canonicaliser's name.
        raise InvalidIdentifier(name, err.reason) from None


def apply(rule: Rule, value: str) -> str:
    """The canonical form by one rule, which sees no value of more than 256 characters."""
    if len(value) > MAX_VALUE_CHARACTERS:
        raise NotUsableError(Reason.LENGTH)
    return rule(value)
