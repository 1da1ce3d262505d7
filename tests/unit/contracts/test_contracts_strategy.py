"""What each side does next by itself, and that it only ever does what the table allows."""

from datetime import UTC, datetime
from itertools import product

import pytest

from contracts.errors import InputRejected
from contracts.evaluation import Decision, Facts
from contracts.negotiation import TABLE, NegotiationMessage, NegotiationState
from contracts.odrl import AtomicConstraint, Offer, Permission, agreement_from
from contracts.party import Party
from contracts.prospect import decide_prospect
from contracts.strategy import (
    MAX_ROUNDS,
    Approval,
    Situation,
    Verb,
    negotiate,
    still_to_approve,
)

S = NegotiationState
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def offer(cohort: str = "20", *, approval: bool = False, **extra: str) -> Offer:
    atoms = [("ds:minCohort", "gteq", cohort)]
    if approval:
        atoms.append(("ds:approval", "eq", "required"))
    constraints = tuple(
        AtomicConstraint(left_operand=left, operator=operator, right_operand=right)
        for left, operator, right in atoms
    )
    return Offer(
        id="urn:offer", permission=(Permission(action="use", constraint=constraints),), **extra
    )


PARTIES = {
    "target": "urn:dataset",
    "assigner": "did:web:provider",
    "assignee": "did:web:consumer",
}


def wanting(operand: str, operator: str, value: str, **extra: str) -> Offer:
    atom = AtomicConstraint(left_operand=operand, operator=operator, right_operand=value)
    permission = Permission(action="use", constraint=(atom,))
    return Offer(id="urn:offer", permission=(permission,), **extra)


def asked(cohort: str = "20", *, approval: bool = False) -> Offer:
    return offer(cohort, approval=approval, **PARTIES)


def agreement(source: Offer, **changes: str):
    whole = {"agreement_id": "urn:agreement", "timestamp": "2026-11-25T00:00:00Z", **PARTIES}
    return agreement_from(source, **(whole | changes))


def provider(state: S, **changes):
    known = {"requested": asked(), "offered": None, "published": offer()}
    return negotiate(Situation(Party.PROVIDER, state, "urn:dataset", **(known | changes)))


def consumer(state: S, **changes):
    known = {"requested": asked(), "offered": None}
    return negotiate(Situation(Party.CONSUMER, state, "urn:dataset", **(known | changes)))


def test_a_provider_agrees_to_the_terms_it_published_and_to_stricter_ones() -> None:
    assert provider(S.REQUESTED).verb is Verb.AGREE
    assert provider(S.REQUESTED, requested=asked("50")).verb is Verb.AGREE


def test_a_provider_answers_looser_terms_with_its_own() -> None:
    action = provider(S.REQUESTED, requested=asked("5"))
    assert action.verb is Verb.OFFER
    assert action.offer == offer().for_message("urn:dataset")
    assert "20" in action.reason


def test_haggling_ends_after_a_number_of_rounds() -> None:
    action = provider(S.REQUESTED, requested=asked("5"), rounds=MAX_ROUNDS)
    assert (action.verb, action.code) == (Verb.TERMINATE, "terms-differ")
    assert action.remedy is not None


def test_a_provider_ends_a_negotiation_about_what_it_no_longer_offers() -> None:
    for state in (S.REQUESTED, S.ACCEPTED):
        action = provider(state, published=None, offered=asked())
        assert (action.verb, action.code) == (Verb.TERMINATE, "withdrawn")


def test_a_provider_waits_for_a_person_where_the_policy_says_so() -> None:
    known = {"requested": asked(approval=True), "published": offer(approval=True)}
    waiting = provider(S.REQUESTED, **known)
    assert (waiting.verb, waiting.code) == (Verb.WAIT, None)
    assert provider(S.REQUESTED, approval=Approval.APPROVED, **known).verb is Verb.AGREE
    declined = provider(S.REQUESTED, approval=Approval.DECLINED, **known)
    assert (declined.verb, declined.code) == (Verb.TERMINATE, "declined")


def test_terms_that_want_two_people_wait_for_both_and_fewer_are_looser_terms() -> None:
    two = ("ds:approvers", "gteq", "2")
    known = {"requested": wanting(*two, **PARTIES), "published": wanting(*two)}
    waiting = provider(S.REQUESTED, **known)
    assert (waiting.verb, waiting.reason) == (
        Verb.WAIT,
        "2 different people here have to approve this agreement.",
    )
    assert still_to_approve(2, 1) == (
        "1 of 2 people here have approved this agreement; 1 more has to."
    )
    assert provider(S.REQUESTED, approval=Approval.APPROVED, **known).verb is Verb.AGREE
    for fewer in (("ds:approval", "eq", "required"), ("ds:approvers", "gteq", "1")):
        looser = wanting(*fewer, **PARTIES)
        answer = provider(S.REQUESTED, requested=looser, published=wanting(*two))
        assert answer.verb is Verb.OFFER, "whoever asks does not choose how many look at it"


def test_terms_that_leave_the_approval_out_are_looser_and_get_the_published_ones() -> None:
    action = provider(S.REQUESTED, published=offer(approval=True))
    assert action.verb is Verb.OFFER


def prospect(policy: Offer) -> Decision:
    facts = Facts(now=NOW, use_count=0, recipient_role=None, grade=None, consent=None)
    return decide_prospect(policy, "did:web:consumer", facts)


def test_a_provider_refuses_whom_its_policy_can_never_allow_and_names_the_clause() -> None:
    ended = AtomicConstraint(
        left_operand="dateTime", operator="lteq", right_operand="2020-01-01T00:00:00Z"
    )
    terms = Offer(
        id="urn:offer", permission=(Permission(action="use", constraint=(ended,)),), **PARTIES
    )
    action = provider(S.REQUESTED, requested=terms, published=terms, prospect=prospect(terms))
    assert (action.verb, action.code) == (Verb.TERMINATE, "denied")
    assert action.clause == "permission[0].constraint[0]"


def test_a_provider_finalizes_what_was_verified_and_agrees_to_its_accepted_offer() -> None:
    assert provider(S.VERIFIED).verb is Verb.FINALIZE
    # Making the offer was the decision, even where its catalogue has become stricter since.
    accepted = provider(S.ACCEPTED, offered=asked("5"), approval=None)
    assert accepted.verb is Verb.AGREE


def test_a_consumer_verifies_the_agreement_that_was_settled() -> None:
    assert consumer(S.AGREED, offered=agreement(asked())).verb is Verb.VERIFY


@pytest.mark.parametrize("field", ["target", "assigner", "assignee"])
def test_a_consumer_terminates_an_agreement_about_something_or_someone_else(field: str) -> None:
    action = consumer(S.AGREED, offered=agreement(asked(), **{field: "urn:other"}))
    assert (action.verb, action.code) == (Verb.TERMINATE, f"{field}-differs")


@pytest.mark.parametrize("cohort", ["5", "50"])
def test_a_consumer_terminates_an_agreement_with_other_terms(cohort: str) -> None:
    action = consumer(S.AGREED, offered=agreement(offer(cohort)))
    assert (action.verb, action.code) == (Verb.TERMINATE, "terms-differ")


@pytest.mark.parametrize("cohort", ["20", "5"])
def test_a_consumer_accepts_an_offer_that_allows_all_it_asked_for(cohort: str) -> None:
    assert consumer(S.OFFERED, offered=offer(cohort, target="urn:dataset")).verb is Verb.ACCEPT


def test_a_consumer_asks_a_person_about_terms_it_did_not_ask_for() -> None:
    known = {"offered": offer("50", target="urn:dataset")}
    waiting = consumer(S.OFFERED, **known)
    assert waiting.verb is Verb.WAIT
    assert waiting.reason == (
        "The provider offers other terms. Its offer demands that the minimum cohort is "
        "at least 50; the request demands at least 20."
    )
    assert consumer(S.OFFERED, approval=Approval.APPROVED, **known).verb is Verb.ACCEPT
    assert consumer(S.OFFERED, approval=Approval.DECLINED, **known).code == "declined"


def test_a_consumer_asks_a_person_about_an_offer_it_never_asked_for() -> None:
    known = {"requested": None, "offered": asked()}
    assert consumer(S.OFFERED, **known).verb is Verb.WAIT
    assert consumer(S.OFFERED, approval=Approval.APPROVED, **known).verb is Verb.ACCEPT


def test_an_offer_of_another_dataset_is_ended_without_asking_anyone() -> None:
    assert consumer(S.OFFERED, offered=offer(target="urn:other")).code == "target-differs"
    assert consumer(S.OFFERED, offered=offer()).code == "target-differs"


def test_a_policy_that_does_not_belong_to_the_state_is_the_callers_mistake() -> None:
    with pytest.raises(InputRejected):
        consumer(S.AGREED, offered=offer())
    with pytest.raises(InputRejected):
        consumer(S.OFFERED, offered=agreement(asked()))
    with pytest.raises(InputRejected):
        provider(S.REQUESTED, requested=None)


def test_no_strategy_ever_chooses_a_message_the_table_forbids() -> None:
    spoken = 0
    for state, cohort, approval, rounds in product(
        S, ("20", "5", "50"), (None, *Approval), (1, MAX_ROUNDS)
    ):
        shown = agreement(offer(cohort)) if state is S.AGREED else asked(cohort)
        common = {"approval": approval, "rounds": rounds}
        chosen = [
            (Party.PROVIDER, provider(state, requested=asked(cohort), offered=shown, **common)),
            (Party.CONSUMER, consumer(state, offered=shown, **common)),
        ]
        for party, action in chosen:
            if action.verb not in (Verb.WAIT, Verb.NOTHING):
                assert (state, party, NegotiationMessage[action.verb.name]) in TABLE
                spoken += 1
    assert spoken > 40
