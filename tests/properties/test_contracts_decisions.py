"""What holds of every decision, whatever the policy, the request and the facts."""

from datetime import UTC, datetime
from decimal import Decimal

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.evaluation import ClauseResult, Decision, Facts, Request, decide
from contracts.odrl import (
    AtomicConstraint,
    LogicalConstraint,
    Offer,
    Operator,
    Permission,
    Prohibition,
    agreement_from,
    same_terms,
)
from contracts.profile import OPERANDS
from contracts.templates import describe

VALUES = ["research", "private-sum/1", "20", "10", "4403", "440305", "general", "core"]
VALUES += ["required", "enterprise", "2026-11-25T04:00:00Z", "0.5", "", "not a value"]


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
permissions = made(Permission, action=actions, constraint=some_constraints)
prohibitions = made(Prohibition, action=actions, constraint=some_constraints)
offers = made(
    Offer,
    id=st.just("urn:o"),
    permission=st.lists(permissions, min_size=1, max_size=3).map(tuple),
    prohibition=st.lists(prohibitions, max_size=2).map(tuple),
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
)


def clauses(results: tuple[ClauseResult, ...]) -> list[ClauseResult]:
    return [each for result in results for each in (result, *clauses(result.children))]


@settings(max_examples=150, deadline=None)
@given(offers, requests, facts)
def test_the_explanation_never_contradicts_the_outcome(
    policy: Offer, request: Request, known: Facts
) -> None:
    decision: Decision = decide(policy, request, known)
    granting = [
        rule for rule in decision.rules if rule.path.startswith("permission") and rule.satisfied
    ]
    refusing = [
        rule
        for rule in decision.rules
        if not rule.path.startswith("permission") and not rule.satisfied
    ]
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
    paths = [clause.path for clause in visited]
    assert len(paths) == len(set(paths))


@settings(max_examples=100, deadline=None)
@given(offers, requests, facts)
def test_the_same_question_has_the_same_answer_to_the_byte(
    policy: Offer, request: Request, known: Facts
) -> None:
    again = Offer.model_validate(policy.to_json())
    first, second = decide(policy, request, known), decide(again, request, known)
    assert rfc8785.dumps(first.to_json()) == rfc8785.dumps(second.to_json())


@settings(max_examples=150, deadline=None)
@given(offers, prohibitions, requests, facts)
def test_adding_a_prohibition_never_allows_more(
    policy: Offer, added: Prohibition, request: Request, known: Facts
) -> None:
    stricter = policy.model_copy(update={"prohibition": (*policy.prohibition, added)})
    assert decide(policy, request, known).allowed or not decide(stricter, request, known).allowed


@settings(max_examples=150, deadline=None)
@given(offers, constraints, requests, facts, st.data())
def test_adding_a_constraint_to_a_permission_never_allows_more(
    policy: Offer, added: object, request: Request, known: Facts, chosen: st.DataObject
) -> None:
    place = chosen.draw(st.integers(0, len(policy.permission) - 1))
    rules = list(policy.permission)
    rules[place] = rules[place].model_copy(update={"constraint": (*rules[place].constraint, added)})
    stricter = policy.model_copy(update={"permission": tuple(rules)})
    assert decide(policy, request, known).allowed or not decide(stricter, request, known).allowed


@settings(max_examples=100, deadline=None)
@given(offers, permissions, requests, facts)
def test_adding_a_permission_never_allows_less(
    policy: Offer, added: Permission, request: Request, known: Facts
) -> None:
    wider = policy.model_copy(update={"permission": (*policy.permission, added)})
    assert decide(wider, request, known).allowed or not decide(policy, request, known).allowed


@settings(max_examples=100, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(offers)
def test_every_policy_can_be_said_in_words(policy: Offer) -> None:
    lines = describe(policy)
    assert len(lines) == len(policy.permission) + len(policy.prohibition)
    assert len(describe(policy, "zh")) == len(lines)
