"""What a look at a dataset's source tells: to a policy, and in the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contracts.odrl import AtomicConstraint, Constraint, Offer, Operator
from contracts.profile import Operand
from dataspace.errors import Unavailable

VERSION_PREFIX: Final = "sha256:"


class NotAsPublished(Unavailable):
    """The dataset's source has other columns than when it was published; only its owner can help.

    A peer learns no more than that it is not to be had."""


@dataclass(frozen=True)
class Sight:
    """What a look at a source tells a policy; `content_version` is None where it does not ask."""

    consent: bool | None
    content_version: str | None


def digests_of(version: str | None) -> tuple[str, ...] | None:
    """A version as evidence keeps it."""
    return None if version is None else (version.removeprefix(VERSION_PREFIX),)


def version_in(digests: tuple[str, ...] | None) -> str | None:
    """The version that evidence keeps so."""
    return VERSION_PREFIX + digests[0] if digests else None


def pinned(offer: Offer, version: str) -> Offer:
    """The offer with a clause in each of its permissions that wants the data in this state."""
    clause = AtomicConstraint(
        left_operand=Operand.CONTENT_VERSION, operator=Operator.EQ, right_operand=version
    )
    permissions = tuple(
        rule.model_copy(update={"constraint": (*rule.constraint, clause)})
        for rule in offer.permission
    )
    return offer.model_copy(update={"permission": permissions})


def repinned(offer: Offer, before: str, now: str) -> Offer:
    """The offer with what `pinned` said of `before` said of `now`; the same where nothing did.

    A list of versions is an owner's choice and stays.
    """

    def moved(constraint: Constraint) -> Constraint:
        if (
            isinstance(constraint, AtomicConstraint)
            and constraint.left_operand == Operand.CONTENT_VERSION
            and constraint.operator is Operator.EQ
            and constraint.right_operand == before
        ):
            return constraint.model_copy(update={"right_operand": now})
        return constraint

    permissions = tuple(
        rule.model_copy(update={"constraint": tuple(map(moved, rule.constraint))})
        for rule in offer.permission
    )
    return offer.model_copy(update={"permission": permissions})
