"""What can be decided before any use is asked for: who the consumer is, when, and of what data.

At negotiation nobody knows yet what a use will be for or how many people it will be about. Clauses
on those wait for the use; the others are judged now, so that a consumer who could never use an
agreement does not get one.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from contracts.evaluation import ClauseResult, Decision, Facts, Request, decide, standing
from contracts.odrl import Agreement, AtomicConstraint, Offer, Permission
from contracts.profile import Operand

KNOWN_BEFORE_USE: Final = frozenset(
    {
        Operand.DATE_TIME,
        Operand.RECIPIENT_ROLE,
        Operand.RECIPIENT_ZONE,
        Operand.GRADE,
        Operand.APPROVAL,
        Operand.APPROVERS,
    }
)


def decide_prospect(
    policy: Offer | Agreement,
    assignee: str,
    facts: Facts,
    *,
    about: frozenset[Operand] = KNOWN_BEFORE_USE,
) -> Decision:
    """The decision about `assignee` by the clauses of `policy` that do not depend on the use, or
    by those that are `about` other operands whose facts are known.

    Permissions keep their constraints on those operands, and prohibitions are left for the use,
    so a refusal here is one that every use would meet too. Paths are those of `policy`.
    """
    kept = [_known(permission, about) for permission in policy.permission]
    permissions = tuple(
        permission.model_copy(
            update={"constraint": tuple(permission.constraint[place] for place in places)}
        )
        for permission, places in zip(policy.permission, kept, strict=True)
    )
    reduced = policy.model_copy(update={"permission": permissions, "prohibition": ()})
    actions = [permission.action for permission in policy.permission]
    # Uses are asked for as `use`; a policy of other actions alone is looked at by its first.
    action = "use" if "use" in actions or not actions else actions[0]
    request = Request(
        action=action, assignee=assignee, purpose=None, computation=None, min_cohort=None
    )
    moved = {
        f"permission[{number}].constraint[{new}]": f"permission[{number}].constraint[{old}]"
        for number, places in enumerate(kept)
        for new, old in enumerate(places)
    }
    decision = decide(reduced, request, facts)
    # Whether permissions and prohibitions exclude one another is read from the whole of them.
    whole = standing(policy, request)
    rest = [_at_its_place(rule, moved) for rule in decision.rules[len(whole) :]]
    refusal = next((clause for clause in whole if not clause.satisfied), None)
    if refusal is None and decision.refusal is not None:
        refusal = _at_its_place(decision.refusal, moved)
    return replace(
        decision,
        allowed=refusal is None,
        rules=(*whole, *rest),
        refusal=refusal,
        duties=decision.duties if refusal is None else (),
    )


def _known(permission: Permission, about: frozenset[Operand]) -> tuple[int, ...]:
    """Where a permission has constraints that can be judged now."""
    return tuple(
        place
        for place, constraint in enumerate(permission.constraint)
        if isinstance(constraint, AtomicConstraint) and constraint.left_operand in about
    )


def _at_its_place(result: ClauseResult, moved: Mapping[str, str]) -> ClauseResult:
    children = tuple(_at_its_place(child, moved) for child in result.children)
    return replace(result, path=moved.get(result.path, result.path), children=children)
