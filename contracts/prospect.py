"""What can be decided before any use is asked for: who the consumer is, when, and of what data.

At negotiation nobody knows yet what a use will be for or how many people it will be about. Clauses
on those wait for the use; the others are judged now, so that a consumer who could never use an
agreement does not get one.
"""

from typing import Final

from contracts.evaluation import Decision, Facts, Request, decide
from contracts.odrl import Agreement, AtomicConstraint, Constraint, Offer, Permission
from contracts.profile import Operand

KNOWN_BEFORE_USE: Final = frozenset({Operand.DATE_TIME, Operand.RECIPIENT_ROLE, Operand.GRADE})


def decide_prospect(policy: Offer | Agreement, assignee: str, facts: Facts) -> Decision:
    """The decision about `assignee` by the clauses of `policy` that do not depend on the use.

    Permissions keep their constraints on those operands, and prohibitions are left for the use,
    so a refusal here is one that every use would meet too.
    """
    permissions = tuple(
        permission.model_copy(update={"constraint": _known(permission)})
        for permission in policy.permission
    )
    reduced = policy.model_copy(update={"permission": permissions, "prohibition": ()})
    action = policy.permission[0].action if policy.permission else "use"
    request = Request(
        action=action, assignee=assignee, purpose=None, computation=None, min_cohort=None
    )
    return decide(reduced, request, facts)


def _known(permission: Permission) -> tuple[Constraint, ...]:
    return tuple(
        constraint
        for constraint in permission.constraint
        if isinstance(constraint, AtomicConstraint) and constraint.left_operand in KNOWN_BEFORE_USE
    )
