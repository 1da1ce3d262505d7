"""What holds of every decision, whatever the policy, the request and the facts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.evaluation import ClauseResult, Decision, Facts, Request, decide
from contracts.odrl import (
    AtomicConstraint,
    Duty,
    LogicalConstraint,
    Offer,
    Operator,
    Permission,
    Prohibition,
    agreement_from,
    same_terms,
)
from contracts.plain_words import describe
from contracts.planning import approval_required, conflicting_rules, mentions, valid_until
from contracts.profile import DS, ODRL, OPERANDS, PREFIX, Operand, short_term
from contracts.prospect import decide_prospect
from contracts.wording import Language, Sort, outline

VALUES = ["research", "private-sum/1", "20", "10", "4403", "440305", "general", "core"]
VALUES += ["required", "enterprise", "2026-11-25T04:00:00Z", "0.5", "", "not a value", "port"]


def made(kind: type, **parts: st.SearchStrategy) -> st.SearchStrategy:
    """Models built from `parts` alone; hypothesis would also invent the arguments left out."""
    return st.fixed_dictionaries(parts).map(lambda values: kind(**values))


atoms = made(
    AtomicConstraint,
    left_operand=st.sampled_from([*OPERANDS, "partner"]),
    operator=st.sampled_from(Operator),
    right_operand=st.one_of(
        st.sampled_from(VALUES),
        st.lists(st.sampled_from(VALUES), max_size=3).map(tuple),
        st.just({"@value": "20"}),
        st.just({"x": 1}),
    ),
)


def joined(inner: st.SearchStrategy) -> st.SearchStrategy:
    some = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.sampled_from(["and_", "or_", "xone", "and_sequence"]).flatmap(
        lambda name: some.map(lambda each: LogicalConstraint(**{name: each}))
    )


constraints = st.recursive(atoms, joined, max_leaves=4)
some_constraints = st.lists(constraints, max_size=3).map(tuple)
actions = st.sampled_from(["use", "sell"])
duties = made(
    Duty,
    action=st.sampled_from(["delete", "inform"]),
    consequence=st.lists(made(Duty, action=st.just("inform")), max_size=1).map(tuple),
)
remedies = made(Duty, action=st.just("delete"))


def with_terms(rule: Any, names: Sequence[str]) -> Any:
    """The rule with properties of these names, as a peer could have written them."""
    return type(rule).model_validate({**rule.to_json(), **dict.fromkeys(names, "x")})


unread = st.sampled_from([(), (), (), (), ("refinement",), ("note",)])
permissions = st.builds(
    with_terms,
    made(
        Permission,
        action=actions,
        constraint=some_constraints,
        duty=st.lists(duties, max_size=1).map(tuple),
    ),
    unread,
)
prohibitions = st.builds(
    with_terms,
    made(
        Prohibition,
        action=actions,
        constraint=some_constraints,
        remedy=st.lists(remedies, max_size=1).map(tuple),
    ),
    unread,
)
rules = {
    "id": st.just("urn:o"),
    "permission": st.lists(permissions, min_size=1, max_size=3).map(tuple),
    "prohibition": st.lists(prohibitions, max_size=2).map(tuple),
    "obligation": st.lists(duties, max_size=1).map(tuple),
}
plain_offers = made(Offer, **rules)
offers = made(
    Offer,
    **rules,
    conflict=st.sampled_from([None, None, "perm", "prohibit", "invalid", "odrl:invalid", "first"]),
    inherit_from=st.sampled_from([None, None, None, "urn:parent"]),
    profile=st.sampled_from([None, None, None, "urn:profile"]),
)
requests = st.builds(
    Request,
    action=actions,
    assignee=st.just("did:web:c"),
    purpose=st.sampled_from([None, "research", "other"]),
    computation=st.sampled_from([None, "private-sum/1"]),
    min_cohort=st.sampled_from([None, 10, 20]),
    spatial=st.sampled_from([None, "440305", "4403", "somewhere"]),
    epsilon=st.sampled_from([None, Decimal("0.5")]),
)
facts = st.builds(
    Facts,
    now=st.just(datetime(2026, 11, 25, 4, tzinfo=UTC)),
    use_count=st.sampled_from([0, 9, 10]),
    recipient_role=st.sampled_from([None, "enterprise"]),
    grade=st.sampled_from([None, "general", "core", "?"]),
    consent=st.sampled_from([None, True, False]),
    epsilon_spent=st.sampled_from([Decimal(0), Decimal("0.5")]),
    recipient_zones=st.sampled_from([None, (), ("port",), ("port", "research")]),
    approved=st.sampled_from([None, True, False]),
)


def clauses(results: tuple[ClauseResult, ...]) -> list[ClauseResult]:
    return [each for result in results for each in (result, *clauses(result.children))]


def truth(result: ClauseResult) -> bool | None:
    """Whether a clause holds, fails, or cannot be judged, by its own verdict."""
    return result.satisfied if result.known else None


def all_hold(parts: Sequence[bool | None]) -> bool | None:
    return False if False in parts else None if None in parts else True


def recombined(result: ClauseResult) -> bool | None:
    """What a clause's parts make of it, once more and from their verdicts only."""
    parts = [recombined(child) for child in result.children]
    if not parts and result.sort not in (Sort.PERMISSION, Sort.PROHIBITION):
        return truth(result)
    if result.operator == "or":
        return True if True in parts else None if None in parts else False
    if result.operator == "xone":
        if parts.count(True) > 1:
            return False
        return None if None in parts else parts.count(True) == 1
    together = all_hold(parts)
    if result.sort is Sort.PROHIBITION and together is not None:
        return not together
    return together


@settings(max_examples=50, deadline=None)
@given(offers, requests, facts)
def test_the_explanation_never_contradicts_the_outcome(
    policy: Offer, request: Request, known: Facts
) -> None:
    decision: Decision = decide(policy, request, known)
    granting = [rule for rule in decision.rules if rule.sort is Sort.PERMISSION and rule.satisfied]
    others = (Sort.PERMISSION, Sort.NO_PERMISSION)
    refusing = [rule for rule in decision.rules if rule.sort not in others and not rule.satisfied]
    assert decision.allowed is (bool(granting) and not refusing)
    assert (decision.refusal is None) is decision.allowed
    visited = clauses(decision.rules)
    if decision.refusal is not None:
        assert decision.refusal in visited
        assert not decision.refusal.satisfied
        assert decision.reason == decision.refusal.sentence
    else:
        assert decision.reason == granting[0].sentence
    for clause in visited:
        assert clause.known or not clause.satisfied
        assert clause.sentence.endswith(".")
        assert clause.sentence[0].isupper()
        assert recombined(clause) is truth(clause)
    paths = [clause.path for clause in visited]
    assert len(paths) == len(set(paths))


Branch = tuple[str, str, list["Branch"]]


def branches(lines: Sequence[str]) -> list[Branch]:
    """The lines of an outline as a tree again: mark, sentence, what stands below."""
    found: list[Branch] = []
    open_at: list[tuple[int, list[Branch]]] = [(-1, found)]
    for line in lines:
        depth = len(line) - len(line.lstrip(" "))
        while open_at[-1][0] >= depth:
            open_at.pop()
        branch: Branch = (line[depth], line[depth + 2 :], [])
        open_at[-1][1].append(branch)
        open_at.append((depth, branch[2]))
    return found


@settings(max_examples=25, deadline=None)
@given(offers, requests, facts, st.sampled_from(["en", "zh"]))
def test_an_outline_says_what_was_decided(
    policy: Offer, request: Request, known: Facts, language: Language
) -> None:
    decision = decide(policy, request, known)
    ((verdict, _, below),) = branches(outline(decision, language))
    assert (verdict == "✓") is decision.allowed
    rules = [(mark, parts) for mark, _, parts in below if mark in "✓✗?"]
    assert len(rules) == len(decision.rules)
    granted = [
        mark == "✓"
        for (mark, _), rule in zip(rules, decision.rules, strict=True)
        if rule.sort in (Sort.PERMISSION, Sort.NO_PERMISSION)
    ]
    before = [mark == "✓" for mark, _ in rules[: len(rules) - len(granted)]]
    assert decision.allowed is (any(granted) and all(before))
    for (mark, parts), rule in zip(rules, decision.rules, strict=True):
        marks = [each[0] for each in parts]
        if rule.sort is Sort.PERMISSION:
            assert mark == ("✗" if "✗" in marks else "?" if "?" in marks else "✓")
        if rule.sort is Sort.PROHIBITION:
            assert mark == ("✓" if "✗" in marks else "?" if "?" in marks else "✗")


def without_words(body: Any) -> Any:
    """A decision's JSON without all that is told in a language."""
    told = {"reason", "sentence", "remedy", "expected", "actual"}
    if isinstance(body, dict):
        return {name: without_words(one) for name, one in body.items() if name not in told}
    return [without_words(one) for one in body] if isinstance(body, list) else body


def named(body: Any) -> int:
    """How many remedies a decision's JSON has."""
    if isinstance(body, dict):
        return ("remedy" in body) + sum(named(one) for one in body.values())
    return sum(named(one) for one in body) if isinstance(body, list) else 0


@settings(max_examples=25, deadline=None)
@given(offers, requests, facts)
def test_the_language_changes_nothing_but_words(
    policy: Offer, request: Request, known: Facts
) -> None:
    decision = decide(policy, request, known)
    english, chinese = decision.to_json(), decision.to_json("zh")
    assert without_words(english) == without_words(chinese)
    assert named(english) == named(chinese)
    marks = [
        [(len(line) - len(line.lstrip()), line.lstrip()[0]) for line in outline(decision, language)]
        for language in ("en", "zh")
    ]
    assert marks[0] == marks[1]


@settings(max_examples=20, deadline=None)
@given(offers, requests, facts)
def test_the_same_question_has_the_same_answer_to_the_byte(
    policy: Offer, request: Request, known: Facts
) -> None:
    again = Offer.model_validate(policy.to_json())
    first, second = decide(policy, request, known), decide(again, request, known)
    assert rfc8785.dumps(first.to_json()) == rfc8785.dumps(second.to_json())


@settings(max_examples=25, deadline=None)
@given(offers, prohibitions, requests, facts)
def test_adding_a_prohibition_never_allows_more(
    policy: Offer, added: Prohibition, request: Request, known: Facts
) -> None:
    stricter = policy.model_copy(update={"prohibition": (*policy.prohibition, added)})
    assert decide(policy, request, known).allowed or not decide(stricter, request, known).allowed


@settings(max_examples=25, deadline=None)
@given(offers, constraints, requests, facts, st.data())
def test_adding_a_constraint_to_a_permission_never_allows_more(
    policy: Offer, added: object, request: Request, known: Facts, chosen: st.DataObject
) -> None:
    place = chosen.draw(st.integers(0, len(policy.permission) - 1))
    rules = list(policy.permission)
    rules[place] = rules[place].model_copy(update={"constraint": (*rules[place].constraint, added)})
    stricter = policy.model_copy(update={"permission": tuple(rules)})
    assert decide(policy, request, known).allowed or not decide(stricter, request, known).allowed


@settings(max_examples=20, deadline=None)
@given(plain_offers, permissions, requests, facts)
def test_adding_a_permission_never_allows_less(
    policy: Offer, added: Permission, request: Request, known: Facts
) -> None:
    wider = policy.model_copy(update={"permission": (*policy.permission, added)})
    assert decide(wider, request, known).allowed or not decide(policy, request, known).allowed


@settings(max_examples=20, deadline=None)
@given(offers, requests, facts)
def test_policies_of_the_same_terms_are_decided_alike(
    policy: Offer, request: Request, known: Facts
) -> None:
    turned = policy.model_copy(
        update={
            "id": "urn:other",
            "permission": policy.permission[::-1],
            "prohibition": policy.prohibition[::-1],
        }
    )
    bound = agreement_from(
        policy,
        agreement_id="urn:a",
        target="urn:d",
        assigner="did:web:p",
        assignee="did:web:c",
        timestamp="2026-11-25T00:00:00Z",
    )
    for other in (turned, bound):
        assert same_terms(policy, other)
        assert decide(policy, request, known).allowed is decide(other, request, known).allowed


@settings(max_examples=20, deadline=None)
@given(offers)
def test_every_policy_can_be_said_in_words(policy: Offer) -> None:
    lines = describe(policy)
    duties = [*policy.obligation, *(duty for rule in policy.permission for duty in rule.duty)]
    owed = len(duties) + sum(len(duty.consequence) for duty in duties)
    owed += sum(len(rule.remedy) for rule in policy.prohibition)
    # What it says of versions where no rule does.
    owed += bool(policy.permission) and not mentions(policy, Operand.CONTENT_VERSION)
    assert len(lines) == len(policy.permission) + len(policy.prohibition) + owed
    assert len(describe(policy, "zh")) == len(lines)


def forgetting(known: Facts) -> st.SearchStrategy[Facts]:
    """The same facts with some of them not established."""
    names = ["recipient_role", "grade", "consent", "recipient_zones", "approved"]
    return st.sets(st.sampled_from(names)).map(
        lambda some: replace(known, **dict.fromkeys(some, None))
    )


def leaving_unsaid(request: Request) -> st.SearchStrategy[Request]:
    """The same request with some of it not stated."""
    names = ["purpose", "computation", "min_cohort", "spatial", "epsilon"]
    return st.sets(st.sampled_from(names)).map(
        lambda some: replace(request, **dict.fromkeys(some, None))
    )


@settings(max_examples=30, deadline=None)
@given(offers, requests, facts, st.data())
def test_what_is_allowed_in_ignorance_stays_allowed_with_knowledge(
    policy: Offer, request: Request, known: Facts, chosen: st.DataObject
) -> None:
    less, unsaid = chosen.draw(forgetting(known)), chosen.draw(leaving_unsaid(request))
    assert decide(policy, request, known).allowed or not decide(policy, unsaid, less).allowed


@settings(max_examples=20, deadline=None)
@given(permissions, requests, facts, st.sampled_from([*OPERANDS, "partner"]))
def test_a_clause_nobody_can_judge_refuses(
    rule: Permission, request: Request, known: Facts, operand: str
) -> None:
    unknown = AtomicConstraint(left_operand=operand, operator="isAnyOf", right_operand=())
    policy = Offer(
        id="urn:o",
        permission=(rule.model_copy(update={"constraint": (*rule.constraint, unknown)}),),
    )
    assert not decide(policy, replace(request, action=rule.action), known).allowed
    forbidding = Prohibition(action="use", constraint=(unknown,))
    free = Offer(id="urn:o", permission=(Permission(action=rule.action),))
    asked = replace(request, action=rule.action)
    assert decide(free, asked, known).allowed
    assert not decide(free.model_copy(update={"prohibition": (forbidding,)}), asked, known).allowed


def spelled_out(body: Any, long: dict[str, str]) -> Any:
    """A policy's JSON with its terms in the long forms of `long`."""
    if isinstance(body, dict):
        terms = ("action", "leftOperand", "operator", "conflict")
        return {
            name: long.get(one, one) if name in terms else spelled_out(one, long)
            for name, one in body.items()
        }
    return [spelled_out(one, long) for one in body] if isinstance(body, list) else body


@settings(max_examples=20, deadline=None)
@given(offers, requests, facts, st.sampled_from(["odrl:", ODRL]))
def test_terms_spelled_out_are_the_same_terms(
    policy: Offer, request: Request, known: Facts, prefix: str
) -> None:
    names = ["use", "sell", "delete", "purpose", "count", "dateTime", "spatial", "invalid"]
    names += [operator.value for operator in Operator]
    long = {name: prefix + name for name in names}
    long |= {name: DS + name.removeprefix(PREFIX) for name in OPERANDS if name.startswith(PREFIX)}
    body = spelled_out(policy.to_json(), long)
    other = Offer.model_validate(body)
    assert other.to_json() == body
    assert same_terms(policy, other)
    assert short_term(long["use"]) == "use"
    one, two = decide(policy, request, known), decide(other, request, known)
    assert one.to_json() == two.to_json()


MOMENTS = [f"2026-11-{day}T04:00:00Z" for day in range(20, 30)]
times = made(
    AtomicConstraint,
    left_operand=st.sampled_from(["dateTime", "dateTime", "dateTime", "count"]),
    operator=st.sampled_from(["lteq", "lt", "eq", "neq", "gteq", "isAnyOf", "isAllOf"]),
    right_operand=st.sampled_from(MOMENTS)
    | st.lists(st.sampled_from(MOMENTS), min_size=1, max_size=2).map(tuple),
)
timed_permissions = made(
    Permission,
    action=st.just("use"),
    constraint=st.lists(st.recursive(times, joined, max_leaves=3), min_size=1, max_size=2).map(
        tuple
    ),
)
timed_offers = made(
    Offer,
    id=st.just("urn:o"),
    permission=st.lists(timed_permissions, min_size=1, max_size=2).map(tuple),
)


@settings(max_examples=30, deadline=None)
@given(timed_offers, requests, facts, st.sampled_from(MOMENTS))
def test_after_its_end_a_policy_allows_nothing(
    policy: Offer, request: Request, known: Facts, moment: str
) -> None:
    end, now = valid_until(policy), datetime.fromisoformat(moment)
    allowed = decide(policy, request, replace(known, now=now)).allowed
    assert not allowed or end is None or now <= end


@settings(max_examples=20, deadline=None)
@given(plain_offers, requests, facts)
def test_where_no_approval_is_required_no_use_depends_on_one(
    policy: Offer, request: Request, known: Facts
) -> None:
    speaks = any("ds:approval" in str(rule.to_json()) for rule in policy.prohibition)
    if approval_required(policy) or speaks:
        return
    decisions = [
        decide(policy, request, replace(known, approved=said)).allowed
        for said in (None, True, False)
    ]
    assert len(set(decisions)) == 1


@settings(max_examples=25, deadline=None)
@given(plain_offers, requests, facts)
def test_rules_that_exclude_one_another_never_meet(
    policy: Offer, request: Request, known: Facts
) -> None:
    if conflicting_rules(policy):
        return
    rules = decide(policy, request, known).rules
    permitted = any(rule.satisfied for rule in rules if rule.sort is Sort.PERMISSION)
    forbidden = any(truth(rule) is False for rule in rules if rule.sort is Sort.PROHIBITION)
    assert not (permitted and forbidden)


@settings(max_examples=30, deadline=None)
@given(offers, requests, facts)
def test_whom_a_prospect_refuses_every_use_refuses(
    policy: Offer, request: Request, known: Facts
) -> None:
    action = "use" if any(rule.action == "use" for rule in policy.permission) else "sell"
    prospect = decide_prospect(policy, request.assignee, known)
    used = decide(policy, replace(request, action=action), known)
    assert prospect.allowed or not used.allowed
    assert (prospect.refusal is None) is prospect.allowed
    assert prospect.refusal is None or prospect.refusal in clauses(prospect.rules)
