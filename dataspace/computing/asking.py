"""What an estimate is asked about: the order that would be made, and how large everybody is."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from pydantic import Field

from dataspace.computing.ordering import (
    ComputationRequest,
    find_part,
    settings_of,
    verify_counts,
)
from dataspace.computing.plans import Question
from dataspace.computing.running import own_reading
from dataspace.errors import InputRejected
from privacy.kinds import CONSUMER, Kind, Parameters

if TYPE_CHECKING:
    from dataspace.node import Node


class EstimateRequest(ComputationRequest):
    """A computation as it would be ordered, and `sizes`: the rows of each agreement's dataset.

    The rows of an own file are counted.
    """

    sizes: dict[str, int] = Field(default_factory=dict, max_length=16)


def question_of(node: Node, kind: Kind, asked: EstimateRequest) -> Question:
    """Raises InputRejected and NotFound as the order itself would, and where a size is missing."""
    verify_counts(kind, asked)
    missing = [agreement for agreement in asked.agreements if agreement not in asked.sizes]
    if missing:
        raise InputRejected(
            f"sizes: how many rows has the dataset of agreement {missing[0][:80]!r}?",
            remedy="ask its provider, or guess: the estimate is as good as the guess",
        )
    parts = [find_part(node, kind, agreement, asked) for agreement in asked.agreements]
    providers = [role for role in kind.roles(len(parts)) if role != CONSUMER]
    rows = dict(zip(providers, (asked.sizes[one] for one in asked.agreements), strict=True))
    if asked.own is not None:
        canonicaliser = parts[0].columns["identifier"].canonicaliser or "text/1"
        reading = own_reading(node, asked.own.model_dump() | {"canonicaliser": canonicaliser})
        rows[CONSUMER] = sum(len(batch.identifiers) for batch in reading.batches())
    grouped = any(
        "group" in (*kind.columns_of(role), *kind.optional_columns_of(role))
        for role in (*providers, CONSUMER)
    )
    published = {
        value for part in parts if "group" in part.columns for value in part.columns["group"].values
    }
    return Question(
        rows,
        Parameters(
            min_cohort=asked.min_cohort or 0,
            groups=(asked.groups or tuple(sorted(published))) if grouped else (),
            epsilon=_epsilon(asked.epsilon),
            settings=settings_of(kind, parts, asked),
        ),
    )


def _epsilon(written: str | None) -> Decimal | None:
    try:
        return None if written is None else Decimal(written)
    except InvalidOperation as err:
        raise InputRejected("epsilon: a decimal number such as 0.5") from err
