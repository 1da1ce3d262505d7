"""May this be done? A decision, with the reason of every clause visited.

A request is allowed if and only if some permission for its action has every constraint met and no
prohibition of its action applies. A clause that cannot be judged (an operand or operator we do not
know, values that cannot be compared, a fact nobody stated) is neither met nor unmet: it never
satisfies a permission and always keeps a prohibition in force, so ignorance refuses. Logical
constraints follow Kleene's three-valued logic, which keeps that true under `xone` as well.

A prohibition wins over a permission, whatever the policy's `conflict` says: `perm` could otherwise
undo a prohibition that a reader saw and relied on, and what was refused in error can be agreed anew
while what was given away cannot be called back. `invalid` makes the policy void as soon as a
permission and a prohibition can both apply. A policy with parents is refused, because what is not
here might prohibit, and so is one with properties of ODRL or of ours that nothing here reads.

Duties are carried and reported. They are not gates: they bind the assignee afterwards, and whether
they were done is the auditor's question.

Source: W3C ODRL Information Model 2.2, sections 2.5 to 2.7 and 2.9 to 2.10.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from contracts.comparison import COMPARISONS, Fact, Incomparable, Why
from contracts.decision import ClauseResult, Decision, DutyNotice, Facts, Request
from contracts.odrl import (
    MAX_CONSTRAINTS,
    Agreement,
    AtomicConstraint,
    Constraint,
    LogicalConstraint,
    Offer,
    Permission,
    Prohibition,
    Rule,
    unread_terms,
)
from contracts.planning import (
    conflicting_rules,
    permitted_computations,
    permitted_purposes,
    required_min_cohort,
)
from contracts.profile import OPERANDS, PROFILE, Operand
from contracts.wording import Sort

__all__ = [
    "ClauseResult",
    "Decision",
    "DutyNotice",
    "Facts",
    "Request",
    "decide",
    "permitted_computations",
    "permitted_purposes",
    "required_min_cohort",
]


def decide(policy: Offer | Agreement, request: Request, facts: Facts) -> Decision:
    """Whether `policy` allows `request` given `facts`, and why; the same answer every time.

    Every rule for the action is visited in full, so the decision also explains what would have to
    change. An agreement binds one assignee: anyone else is refused, and so is a policy in a profile
    we do not know (ODRL 2.2 forbids processing it). A refusal for want of a person's approval names
    that clause only where nothing else is missing: its operand is `ds:approval` or
    `ds:approvers`, and it is unknown rather than unmet.
    """
    preliminary = standing(policy, request)
    prohibitions = [
        _prohibition(rule, f"prohibition[{i}]", policy, request, facts)
        for i, rule in enumerate(policy.prohibition)
        # Every action we know is included in ODRL's `use`, so forbidding `use` forbids them all.
        if rule.action in (request.action, "use")
    ]
    permissions = [
        (rule, _permission(rule, f"permission[{i}]", policy, request, facts))
        for i, rule in enumerate(policy.permission)
        if rule.action == request.action
    ]
    results = [result for _, result in permissions] or [_no_permission(request)]
    refusal = next((each for each in (*preliminary, *prohibitions) if not each.satisfied), None)
    granted = next((each for each in permissions if each[1].satisfied), None)
    if refusal is None and granted is None:
        refusal = _nearest_miss(results)
    return Decision(
        allowed=refusal is None,
        rules=(*preliminary, *prohibitions, *results),
        refusal=refusal,
        duties=_duties(policy, *granted) if refusal is None and granted is not None else (),
    )


def standing(policy: Offer | Agreement, request: Request) -> list[ClauseResult]:
    """What has to hold of the policy as a whole before any of its rules counts."""
    clauses = [
        ClauseResult(Sort.PROFILE, "profile", "profile", "eq", PROFILE, profile, profile == PROFILE)
        for profile in policy.profiles
    ]
    if policy.assignee is not None:
        assignee, asking = policy.assignee, request.assignee
        clauses.append(
            ClauseResult(
                Sort.ASSIGNEE, "assignee", "assignee", "eq", assignee, asking, assignee == asking
            )
        )
    if policy.inherit_from is not None:
        clauses.append(
            ClauseResult(
                Sort.INHERITANCE,
                "inheritFrom",
                "inheritFrom",
                "eq",
                policy.parents,
                None,
                satisfied=False,
                known=False,
            )
        )
    if policy.conflict is not None:
        clauses.append(_conflict(policy, policy.conflict_strategy))
    unread = unread_terms(policy)
    return [*clauses, _unread("terms", unread)] if unread else clauses


def _conflict(policy: Offer | Agreement, strategy: str | None) -> ClauseResult:
    known = strategy in ("perm", "prohibit", "invalid")
    both = conflicting_rules(policy) if strategy == "invalid" else ()
    return ClauseResult(
        Sort.CONFLICT,
        "conflict",
        "conflict",
        "eq",
        both,
        strategy,
        satisfied=known and not both,
        known=known,
    )


def _unread(path: str, names: list[str]) -> ClauseResult:
    return ClauseResult(
        Sort.UNREAD, path, "terms", "eq", tuple(names), None, satisfied=False, known=False
    )


def _no_permission(request: Request) -> ClauseResult:
    action = request.action
    return ClauseResult(
        Sort.NO_PERMISSION, "permission", "action", "eq", action, action, satisfied=False
    )


def _permission(
    rule: Permission, path: str, policy: Offer | Agreement, request: Request, facts: Facts
) -> ClauseResult:
    children = _conditions(rule, path, policy, request, facts)
    truth = _all_hold(children)
    return ClauseResult(
        Sort.PERMISSION,
        path,
        "action",
        "eq",
        rule.action,
        request.action,
        truth is True,
        truth is not None,
        children,
    )


def _prohibition(
    rule: Prohibition, path: str, policy: Offer | Agreement, request: Request, facts: Facts
) -> ClauseResult:
    children = _conditions(rule, path, policy, request, facts)
    truth = _all_hold(children)
    return ClauseResult(
        Sort.PROHIBITION,
        path,
        "action",
        "eq",
        rule.action,
        request.action,
        truth is False,
        truth is not None,
        children,
    )


def _all_hold(children: tuple[ClauseResult, ...]) -> bool | None:
    """Whether every one holds: False once one certainly does not, None while one is open."""
    truth: bool | None = True
    for child in children:
        if not child.satisfied:
            if child.known:
                return False
            truth = None
    return truth


# Paths are written at every decision; there are only so many of these.
_PLACES: Final = tuple(f".constraint[{i}]" for i in range(MAX_CONSTRAINTS))


def _conditions(
    rule: Rule, path: str, policy: Offer | Agreement, request: Request, facts: Facts
) -> tuple[ClauseResult, ...]:
    found = [
        _constraint(constraint, path + place, request, facts)
        for constraint, place in zip(rule.constraint, _PLACES, strict=False)
    ]
    unread = unread_terms(rule, policy)
    if unread:
        found.append(_unread(f"{path}.terms", unread))
    return tuple(found)


def _constraint(constraint: Constraint, path: str, request: Request, facts: Facts) -> ClauseResult:
    if isinstance(constraint, LogicalConstraint):
        return _logical(constraint, path, request, facts)
    return _atomic(constraint, path, request, facts)


def _logical(
    constraint: LogicalConstraint, path: str, request: Request, facts: Facts
) -> ClauseResult:
    name, joined = constraint.joined
    children = tuple(
        _constraint(each, f"{path}.{name}[{i}]", request, facts) for i, each in enumerate(joined)
    )
    holding = sum(child.satisfied for child in children)
    undecided = sum(not child.known for child in children)
    if name == "or":
        truth = True if holding else (None if undecided else False)
    elif name == "xone":
        # Two that hold settle it, whatever the open ones are.
        truth = False if holding > 1 else (None if undecided else holding == 1)
    else:
        # A state of the world has no order of evaluation, so andSequence is judged as and.
        truth = _all_hold(children)
    why = Why.UNREAD if unread_terms(constraint) else None
    if why is not None:
        truth = None
    return ClauseResult(
        Sort.JOIN, path, name, name, "", None, truth is True, truth is not None, children, why
    )


def _atomic(
    constraint: AtomicConstraint, path: str, request: Request, facts: Facts
) -> ClauseResult:
    operand, operator = constraint.left_operand, constraint.operator
    wanted, fact, why = constraint.right_operand, None, None
    judge = _JUDGES.get(operand)
    if judge is not None:
        establish, compare = judge
        fact = establish(request, facts)
        if fact is not None and not unread_terms(constraint):
            try:
                holds = compare(operator, fact, wanted)
            except Incomparable as err:
                why = str(err)
            else:
                return ClauseResult(Sort.COMPARISON, path, operand, operator, wanted, fact, holds)
        elif fact is not None:
            why = Why.UNREAD
    return ClauseResult(
        Sort.COMPARISON, path, operand, operator, wanted, fact, False, False, (), why
    )


def _epsilon_after(request: Request, facts: Facts) -> Decimal | None:
    # Without noise the loss has no bound, and a negative one would give budget back.
    if request.epsilon is None or not request.epsilon.is_finite() or request.epsilon <= 0:
        return None
    return facts.epsilon_spent + request.epsilon


_FACTS: Final[Mapping[Operand, Callable[[Request, Facts], Fact | None]]] = {
    Operand.PURPOSE: lambda request, facts: request.purpose,
    Operand.COMPUTATION: lambda request, facts: request.computation,
    Operand.MIN_COHORT: lambda request, facts: request.min_cohort,
    Operand.COUNT: lambda request, facts: facts.use_count + 1,
    Operand.DATE_TIME: lambda request, facts: facts.now,
    Operand.SPATIAL: lambda request, facts: request.spatial,
    Operand.GRADE: lambda request, facts: facts.grade,
    Operand.EPSILON_BUDGET: _epsilon_after,
    Operand.RECIPIENT_ROLE: lambda request, facts: facts.recipient_role,
    Operand.RECIPIENT_ZONE: lambda request, facts: facts.recipient_zones,
    Operand.CONSENT: lambda request, facts: facts.consent,
    Operand.APPROVAL: lambda request, facts: facts.approved,
    Operand.APPROVERS: lambda request, facts: facts.approvers,
    Operand.RELEASE: lambda request, facts: facts.release,
    Operand.CONTENT_VERSION: lambda request, facts: facts.content_version,
}
# How a constraint on an operand is judged: the fact it is about, and the comparison of its kind.
_JUDGES: Final = {
    operand.value: (establish, COMPARISONS[OPERANDS[operand].kind])
    for operand, establish in _FACTS.items()
}


def _nearest_miss(permissions: list[ClauseResult]) -> ClauseResult:
    """The clause that refused: the first unmet one of the permission that came closest.

    A person who has not decided yet is named last, when nobody but that person is waited for.
    """
    clause = min(permissions, key=lambda each: sum(not child.satisfied for child in each.children))
    while clause.children and clause.operator not in ("or", "xone"):
        unmet = [child for child in clause.children if not child.satisfied]
        if not unmet:
            break
        clause = next((child for child in unmet if not _waits_for_person(child)), unmet[0])
    return clause


def _waits_for_person(clause: ClauseResult) -> bool:
    return clause.operand in (Operand.APPROVAL, Operand.APPROVERS) and not clause.known


def _duties(
    policy: Offer | Agreement, permission: Permission, result: ClauseResult
) -> tuple[DutyNotice, ...]:
    paths = [(f"{result.path}.duty[{i}]", duty) for i, duty in enumerate(permission.duty)]
    paths += [(f"obligation[{i}]", duty) for i, duty in enumerate(policy.obligation)]
    for number, prohibition in enumerate(policy.prohibition):
        paths += [
            (f"prohibition[{number}].remedy[{i}]", duty)
            for i, duty in enumerate(prohibition.remedy)
        ]
    return tuple(DutyNotice(path, duty) for path, duty in paths)
