"""Who approved a negotiation, where its terms want several people to.

An approval belongs to one round: other terms need other approvals. One given with a key that is
revoked before the last one is given counts no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, select

from dataspace.access.principal import Principal, folded
from dataspace.access.registry import still_counts
from dataspace.errors import Denied
from dataspace.store.tables import ApprovalRow, NegotiationRow


def approve(tx: Session, row: NegotiationRow, by: Principal, now: float) -> int:
    """Record a person's approval of a negotiation as it stands; how many now count.

    Raises Denied for somebody whose approval counts already: it takes another person.
    """
    given = approvals(tx, row)
    if any(one.person_key == folded(by.person) for one in given):
        raise Denied(
            "you have approved this already: it takes a different person now",
            remedy="ask another owner or approver",
        )
    approval = ApprovalRow(
        negotiation=row.pid,
        round=row.rounds,
        person_key=folded(by.person),
        person=by.person,
        credential=by.credential,
        approved_at=now,
    )
    # One of theirs may be there that counts no more, of a key revoked since.
    tx.merge(approval)
    return len(given) + 1


def approvals(tx: Session, row: NegotiationRow) -> Sequence[ApprovalRow]:
    """The approvals that count for a negotiation as it stands."""
    found = select(ApprovalRow).where(
        ApprovalRow.negotiation == row.pid, ApprovalRow.round == row.rounds
    )
    return [one for one in tx.exec(found).all() if still_counts(tx, one.credential)]
