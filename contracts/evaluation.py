"""May this be done? A decision, with the reason of every clause visited.

A request is allowed if and only if some permission for its action has every constraint met and no
prohibition of its action applies. A clause that cannot be judged (an operand or operator we do not
know, values that cannot be compared, a fact nobody stated) is neither met nor unmet: it never
satisfies a permission and always keeps a prohibition in force, so ignorance refuses. Logical
constraints follow Kleene's three-valued logic, which keeps that true under `xone` as well.

Duties are carried and reported. They are not gates: they bind the assignee afterwards, and whether
they were done is the auditor's question.

Source: W3C ODRL Information Model 2.2, sections 2.5 and 2.6.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Final

from contracts.comparison import Fact, Incomparable, compare
from contracts.decision import ClauseResult, Decision, DutyNotice, Facts, Request
from contracts.odrl import (
    Agreement,
    AtomicConstraint,
    Constraint,
    LogicalConstraint,
    Offer,
    Permission,
    Prohibition,
    Rule,
)
from contracts.planning import permitted_computations, permitted_purposes, required_min_cohort
from contracts.profile import OPERANDS, PROFILE, Operand
from contracts.wire import format_time
from contracts.wording import REMEDIES, UNKNOWN_REMEDY, label, relation, value_text

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


class _Mood(Enum):
    """A constraint demands something in a permission, and warns of something in a prohibition."""

    DEMAND = 0
    WARNING = 1


def decide(policy: Offer | Agreement, request: Request, facts: Facts) -> Decision:
    """Whether `policy` allows `request` given `facts`, and why; the same answer every time.

    Every rule for the action is visited in full, so the decision also explains what would have to
    change. An agreement binds one assignee: anyone else is refused, and so is a policy in a profile
    we do not know (ODRL 2.2 forbids processing it).
    """
    preliminary = [*_profile_clauses(policy), *_assignee_clauses(policy, request)]
    prohibitions = [
        _prohibition(rule, f"prohibition[{i}]", request, facts)
        for i, rule in enumerate(policy.prohibition)
        # Every action we know is included in ODRL's `use`, so forbidding `use` forbids them all.
        if rule.action in (request.action, "use")
    ]
    permissions = [
        (rule, _permission(rule, f"permission[{i}]", request, facts))
        for i, rule in enumerate(policy.permission)
        if rule.action == request.action
    ]
    results = [result for _, result in permissions] or [_no_permission(request)]
    rules = (*preliminary, *prohibitions, *results)
    refusal = next((each for each in (*preliminary, *prohibitions) if not each.satisfied), None)
    if refusal is None and not any(result.satisfied for result in results):
        refusal = _nearest_miss(results)
    granted = [(rule, result) for rule, result in permissions if result.satisfied]
    duties = _duties(policy, granted[0]) if refusal is None else ()
    return Decision(allowed=refusal is None, rules=rules, refusal=refusal, duties=duties)


def _profile_clauses(policy: Offer | Agreement) -> list[ClauseResult]:
    clauses = []
    for profile in policy.profiles:
        known = profile == PROFILE
        shown = value_text(profile)
        what = "which this space understands" if known else "which this space does not know"
        sentence = f"The policy is written in the profile {shown}, {what}."
        remedy = None if known else UNKNOWN_REMEDY
        clauses.append(
            ClauseResult("profile", "profile", "eq", PROFILE, shown, known, sentence, remedy)
        )
    return clauses


def _assignee_clauses(policy: Offer | Agreement, request: Request) -> list[ClauseResult]:
    if policy.assignee is None:
        return []
    same = policy.assignee == request.assignee
    whose = "who asks" if same else "not the participant who asks"
    sentence = f"The terms are for {value_text(policy.assignee)}, {whose}."
    remedy = None if same else "Negotiate an agreement of your own."
    return [
        ClauseResult(
            "assignee", "assignee", "eq", policy.assignee, request.assignee, same, sentence, remedy
        )
    ]


def _no_permission(request: Request) -> ClauseResult:
    return ClauseResult(
        path="permission",
        operand="action",
        operator="eq",
        expected="",
        actual=request.action,
        satisfied=False,
        sentence=f"The policy has no permission for the action {value_text(request.action)}.",
        remedy="Ask for an action the policy permits.",
    )


def _permission(rule: Permission, path: str, request: Request, facts: Facts) -> ClauseResult:
    children = _constraints(rule, path, request, facts, _Mood.DEMAND)
    unmet = sum(not child.satisfied for child in children)
    if not children:
        how = "without conditions"
    elif unmet == 0:
        how = f"its conditions hold, {len(children)} of {len(children)}"
    else:
        how = f"{len(children) - unmet} of its {len(children)} conditions hold"
    verdict = "permits" if unmet == 0 else "does not permit"
    sentence = f"The policy's {path} {verdict} {value_text(rule.action)}: {how}."
    return ClauseResult(
        path, "action", "eq", rule.action, request.action, unmet == 0, sentence, None, children
    )


def _prohibition(rule: Prohibition, path: str, request: Request, facts: Facts) -> ClauseResult:
    children = _constraints(rule, path, request, facts, _Mood.WARNING)
    applies = all(child.satisfied or not child.known for child in children)
    action = value_text(rule.action)
    if not applies:
        sentence = f"The policy's {path} of {action} does not apply here."
    elif not children:
        sentence = f"The policy prohibits {action}."
    else:
        conditions = "; ".join(
            child.sentence[0].lower() + child.sentence[1:].rstrip(".") for child in children
        )
        sentence = f"The policy prohibits {action} here: {conditions}."
    remedy = "Ask for a use outside the prohibition." if applies else None
    return ClauseResult(
        path, "action", "eq", rule.action, request.action, not applies, sentence, remedy, children
    )


def _constraints(
    rule: Rule, path: str, request: Request, facts: Facts, mood: _Mood
) -> tuple[ClauseResult, ...]:
    return tuple(
        _constraint(constraint, f"{path}.constraint[{i}]", request, facts, mood)
        for i, constraint in enumerate(rule.constraint)
    )


def _constraint(
    constraint: Constraint, path: str, request: Request, facts: Facts, mood: _Mood
) -> ClauseResult:
    if isinstance(constraint, LogicalConstraint):
        return _logical(constraint, path, request, facts, mood)
    return _atomic(constraint, path, request, facts, mood)


def _logical(
    constraint: LogicalConstraint, path: str, request: Request, facts: Facts, mood: _Mood
) -> ClauseResult:
    name, joined = constraint.joined
    children = tuple(
        _constraint(each, f"{path}.{name}[{i}]", request, facts, mood)
        for i, each in enumerate(joined)
    )
    holding = sum(child.satisfied for child in children)
    open_questions = sum(not child.known for child in children)
    total = len(children)
    if name == "or":
        truth = True if holding else (None if open_questions else False)
        wanted = "at least one"
    elif name == "xone":
        # Two that hold settle it, whatever the open ones are.
        truth = False if holding > 1 else (None if open_questions else holding == 1)
        wanted = "exactly one"
    else:
        # A state of the world has no order of evaluation, so andSequence is judged as and.
        failing = total - holding - open_questions
        truth = False if failing else (None if open_questions else True)
        wanted = "every one"
    undecided = f" and {open_questions} cannot be judged" if open_questions else ""
    sentence = f"Of {total} conditions {wanted} has to hold; {holding} hold{undecided}."
    return ClauseResult(
        path=path,
        operand=name,
        operator=name,
        expected=wanted,
        actual=str(holding),
        satisfied=truth is True,
        sentence=sentence,
        remedy=next((child.remedy for child in children if child.remedy), None),
        children=children,
        known=truth is not None,
    )


def _atomic(
    constraint: AtomicConstraint, path: str, request: Request, facts: Facts, mood: _Mood
) -> ClauseResult:
    operand, operator = constraint.left_operand, constraint.operator
    expected = value_text(constraint.right_operand)
    clause = _clause(operand, operator, expected, mood)
    meaning = OPERANDS.get(operand)
    if meaning is None:
        sentence = f"{clause}; this space does not know that operand."
        return ClauseResult(
            path, operand, operator, expected, None, False, sentence, UNKNOWN_REMEDY, known=False
        )
    remedy = REMEDIES[operand]
    fact = _FACTS[operand](request, facts)
    if fact is None:
        sentence = f"{clause}; {_MISSING.get(operand, 'the request does not say')}."
        return ClauseResult(
            path, operand, operator, expected, None, False, sentence, remedy, known=False
        )
    actual = _fact_text(fact)
    try:
        holds = compare(meaning.kind, operator, fact, constraint.right_operand)
    except Incomparable as err:
        return ClauseResult(
            path,
            operand,
            operator,
            expected,
            actual,
            False,
            f"{clause}; {err}.",
            UNKNOWN_REMEDY,
            known=False,
        )
    sentence = f"{clause}{', and' if holds else ';'} it is {value_text(actual)}."
    return ClauseResult(
        path, operand, operator, expected, actual, holds, sentence, None if holds else remedy
    )


# The same few clauses are put into words at every decision.
@lru_cache(maxsize=2048)
def _clause(operand: str, operator: str, expected: str, mood: _Mood) -> str:
    subject, demand = label(operand), relation(operand, operator, expected)
    if operand == Operand.CONSENT and expected == "required":
        subject, demand, verb = "separate consent", "required", "is"
    else:
        verb = "must be"
    if mood is _Mood.DEMAND:
        return f"{subject[0].upper()}{subject[1:]} {verb} {demand}"
    return f"The prohibition holds when {subject} is {demand}"


def _epsilon_after(request: Request, facts: Facts) -> Decimal | None:
    # Without noise the loss has no bound, and a negative one would give budget back.
    if request.epsilon is None or not request.epsilon.is_finite() or request.epsilon <= 0:
        return None
    return facts.epsilon_spent + request.epsilon


_FACTS: Final[Mapping[str, Callable[[Request, Facts], Fact | None]]] = {
    Operand.PURPOSE: lambda request, facts: request.purpose,
    Operand.COMPUTATION: lambda request, facts: request.computation,
    Operand.MIN_COHORT: lambda request, facts: request.min_cohort,
    Operand.COUNT: lambda request, facts: facts.use_count + 1,
    Operand.DATE_TIME: lambda request, facts: facts.now,
    Operand.SPATIAL: lambda request, facts: request.spatial,
    Operand.GRADE: lambda request, facts: facts.grade,
    Operand.EPSILON_BUDGET: _epsilon_after,
    Operand.RECIPIENT_ROLE: lambda request, facts: facts.recipient_role,
    Operand.CONSENT: lambda request, facts: facts.consent,
}

_MISSING: Final[Mapping[str, str]] = {
    Operand.GRADE: "the data has no grade",
    Operand.RECIPIENT_ROLE: "no membership credential says what the consumer is",
    Operand.CONSENT: "nothing says whether there is consent",
    Operand.EPSILON_BUDGET: "the request does not ask for noise with an epsilon above zero",
}


def _fact_text(fact: Fact) -> str:
    if fact is True or fact is False:
        return "given" if fact else "not given"
    return format_time(fact) if isinstance(fact, datetime) else str(fact)


def _nearest_miss(permissions: list[ClauseResult]) -> ClauseResult:
    """The clause that refused: the first unmet one of the permission that came closest."""
    nearest = min(permissions, key=lambda each: sum(not child.satisfied for child in each.children))
    clause = nearest
    while clause.children and clause.operator not in ("or", "xone"):
        clause = next(child for child in clause.children if not child.satisfied)
    return clause


def _duties(
    policy: Offer | Agreement, granted: tuple[Permission, ClauseResult]
) -> tuple[DutyNotice, ...]:
    permission, result = granted
    paths = [(f"{result.path}.duty[{i}]", duty) for i, duty in enumerate(permission.duty)]
    paths += [(f"obligation[{i}]", duty) for i, duty in enumerate(policy.obligation)]
    return tuple(
        DutyNotice(
            path,
            duty.action,
            f"The consumer has to {value_text(duty.action)}; this decision does not check that.",
        )
        for path, duty in paths
    )
