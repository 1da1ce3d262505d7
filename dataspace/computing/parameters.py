"""What the kinds of `privacy` are told of an order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from connectors.table import Reading
from contracts.order import ComputationOrder
from privacy.computation import Rows
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


@dataclass(frozen=True)
class SteadyRows:
    """Rows that are of one state of the data, or end with the error of `verify_still`."""

    rows: Rows
    verify_still: Callable[[], None]

    def batches(self) -> Iterator[Inputs]:
        yield from self.rows.batches()
        self.verify_still()
