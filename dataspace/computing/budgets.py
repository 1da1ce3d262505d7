"""What each consumer has spent of a dataset's privacy: the sum of the epsilons it was permitted.

Losses add up over every agreement about the dataset (Dwork, McSherry, Nissim, Smith 2006), so the
account is of dataset and consumer. It is charged in the transaction that permits a use, before
anything is computed, and never credited: a run that dies may have told something.
"""

from __future__ import annotations

from decimal import Decimal

from sqlmodel import Session

from dataspace.store.tables import BudgetRow


def spent(tx: Session, dataset: str, consumer: str) -> Decimal:
    """What `consumer` has spent on `dataset` so far; the account is kept from other writers until
    the transaction ends."""
    row = tx.get(BudgetRow, (dataset, consumer), with_for_update=True)
    return Decimal(0) if row is None else Decimal(row.spent)


def spend(tx: Session, dataset: str, consumer: str, epsilon: Decimal) -> None:
    """Charge one permitted use, to last once the caller's transaction is committed."""
    row = tx.get(BudgetRow, (dataset, consumer), with_for_update=True)
    if row is None:
        row = BudgetRow(dataset=dataset, consumer=consumer, spent="0")
    row.spent = f"{Decimal(row.spent) + epsilon:f}"
    tx.add(row)
