"""Whom the catalogue lists a dataset for: whoever its offer could be agreed with at this moment.

A list of what cannot be had helps nobody, and tells strangers what there is. What depends on a use
(its purpose, its cohort) hides nothing, and neither does an approval that a person of ours has yet
to give.
"""

from __future__ import annotations

from datetime import datetime

from contracts.decision import Decision, Facts
from contracts.evaluation import Request, decide
from contracts.odrl import AtomicConstraint, Offer, Operator, Permission
from contracts.planning import approvers_required, valid_until
from contracts.profile import Operand
from contracts.prospect import decide_prospect
from contracts.wire import format_time
from dataspace.identity.tokens import Member


def decide_visibility(
    offer: Offer, grade: str, member: Member, now: datetime, *, zones: tuple[str, ...] | None
) -> Decision:
    """Whether a dataset of `grade` under `offer` is listed for `member`, and why; `now` is aware.

    `member.did` may be empty for anybody of its kind; an offer for one participant is then hidden.
    `zones` are those the offer asks about to which the member belongs; None where nobody knows.
    """
    facts = Facts(
        now=now,
        use_count=0,
        recipient_role=member.kind.value,
        recipient_zones=zones,
        grade=grade,
        consent=None,
        approved=True,
        approvers=approvers_required(offer),
    )
    prospect = decide_prospect(offer, member.did, facts)
    until = valid_until(offer)
    if not prospect.allowed or until is None or now <= until:
        return prospect
    # The bound may stand inside `and`, which a prospect leaves for the use.
    return decide(_until(until), _ANY_USE, facts)


_ANY_USE = Request(action="use", assignee="", purpose=None, computation=None, min_cohort=None)


def _until(moment: datetime) -> Offer:
    bound = AtomicConstraint(
        left_operand=Operand.DATE_TIME.value,
        operator=Operator.LTEQ,
        right_operand=format_time(moment),
    )
    return Offer(id="offer:bound", permission=(Permission(action="use", constraint=(bound,)),))
