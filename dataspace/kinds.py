"""What a participant of each kind may do: one table, asked at its own node and at a peer's door.

The kind stands in the membership credential, so it is the operator's word and nobody else's. A
policy can narrow further what the table allows (`recipientRole`), and never widen it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dataspace.errors import Denied
from dataspace.settings import ParticipantKind


class Right(StrEnum):
    """One thing a participant can do in a space. The value completes "may not …"."""

    OFFER = "offer data"
    CONSUME = "use the data of others"
    HOLD_VAULTS = "hold people's records in trust"
    WITNESS = "witness the logs of others"
    READ_ENTRIES = "read the bodies of entries that are not about itself"


_K, _R = ParticipantKind, Right
_BOTH: Final = frozenset({_R.OFFER, _R.CONSUME, _R.WITNESS})

RIGHTS: Final[Mapping[ParticipantKind, frozenset[Right]]] = MappingProxyType(
    {
        # It admits and revokes everybody, and so is no party to what they agree on.
        _K.OPERATOR: frozenset({_R.WITNESS}),
        _K.GOVERNMENT: _BOTH,
        _K.ENTERPRISE: _BOTH,
        # A trustee of people; an enterprise that wants to be one joins as one, so that people can
        # tell whom they deal with.
        _K.PERSONAL: _BOTH | {_R.HOLD_VAULTS},
        # An institute or a firm that only asks: nobody has to examine what it would offer.
        _K.CONSUMER: frozenset({_R.CONSUME, _R.WITNESS}),
        # Verifies from outside, so it has no node and no part in what it examines.
        _K.REGULATOR: frozenset({_R.READ_ENTRIES}),
    }
)


def may(kind: ParticipantKind, right: Right) -> bool:
    """Whether a participant of this kind has the right."""
    return right in RIGHTS[kind]


def verify_right(kind: ParticipantKind, right: Right) -> None:
    """Raises Denied, naming the kind and the kinds that have the right."""
    if may(kind, right):
        return
    having = ", ".join(one.value for one in ParticipantKind if may(one, right))
    raise Denied(
        f"a participant of kind {kind.value} may not {right.value}",
        remedy=f"this is for: {having}; ask the operator for an invitation of that kind",
    )
