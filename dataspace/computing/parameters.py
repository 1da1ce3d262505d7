"""What the kinds of `privacy` are told of an order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from connectors.table import Reading
from contracts.order import ComputationOrder
from privacy.kinds import Inputs, Parameters


def parameters_of(order: ComputationOrder) -> Parameters:
    """The parameters all parties of `order` run with."""
    return Parameters(
        min_cohort=order.min_cohort,
        public_key=order.public_key,
        groups=order.groups,
        epsilon=Decimal(order.epsilon) if order.epsilon is not None else None,
        settings=order.parameters,
    )


@dataclass(frozen=True)
class RowsOf:
    """A table as the rows of a role (`privacy.computation.Rows`)."""

    reading: Reading

    def batches(self) -> Iterator[Inputs]:
        for batch in self.reading.batches():
            yield Inputs(
                tuple(batch.identifiers),
                tuple(batch.values),
                tuple(batch.groups),
                tuple(batch.across),
            )
