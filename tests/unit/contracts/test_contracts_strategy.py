"""What each side does next by itself, and that it only ever does what the table allows."""

from itertools import product

import pytest

from contracts.errors import InputRejected
from contracts.negotiation import (
    TABLE,
    NegotiationMessage,
    NegotiationState,
    Party,
    Verb,
    consumer_action,
    provider_action,
)
from contracts.odrl import AtomicConstraint, Offer, Permission, agreement_from

S = NegotiationState


def offer(cohort: str = "20", **extra: str) -> Offer:
    cohort_rule = AtomicConstraint(
        left_operand="ds:minCohort", operator="gteq", right_operand=cohort
    )
    return Offer(
        id="urn:offer", permission=(Permission(action="use", constraint=(cohort_rule,)),), **extra
    )


def agreement(source: Offer, **changes: str):
    whole = {
        "agreement_id": "urn:agreement",
        "target": "urn:dataset",
        "assigner": "did:web:provider",
        "assignee": "did:web:consumer",
        "timestamp": "2026-11-25T00:00:00Z",
    }
    return agreement_from(source, **(whole | changes))


REQUESTED = offer(target="urn:dataset", assigner="did:web:provider", assignee="did:web:consumer")


def test_a_provider_agrees_to_the_terms_it_published() -> None:
    assert provider_action(S.REQUESTED, REQUESTED, offer(), False).verb is Verb.AGREE


def test_a_provider_waits_when_a_person_has_to_approve() -> None:
    action = provider_action(S.REQUESTED, REQUESTED, offer(), True)
    assert (action.verb, action.code) == (Verb.WAIT, None)


@pytest.mark.parametrize("needs_person", [True, False])
def test_a_provider_terminates_other_terms_and_says_so(needs_person: bool) -> None:
    action = provider_action(S.REQUESTED, offer("5"), offer(), needs_person)
    assert (action.verb, action.code) == (Verb.TERMINATE, "terms-differ")
    assert "published offer" in action.reason


def test_a_provider_finalizes_what_was_verified_and_agrees_to_its_accepted_offer() -> None:
    assert provider_action(S.VERIFIED, REQUESTED, offer(), True).verb is Verb.FINALIZE
    assert provider_action(S.ACCEPTED, REQUESTED, offer(), True).verb is Verb.AGREE


def test_a_consumer_verifies_the_agreement_it_requested() -> None:
    assert consumer_action(S.AGREED, agreement(REQUESTED), REQUESTED).verb is Verb.VERIFY


@pytest.mark.parametrize("field", ["target", "assigner", "assignee"])
def test_a_consumer_terminates_an_agreement_about_something_or_someone_else(field: str) -> None:
    action = consumer_action(S.AGREED, agreement(REQUESTED, **{field: "urn:other"}), REQUESTED)
    assert (action.verb, action.code) == (Verb.TERMINATE, f"{field}-differs")


def test_a_consumer_terminates_an_agreement_with_other_terms() -> None:
    action = consumer_action(S.AGREED, agreement(offer("5")), REQUESTED)
    assert (action.verb, action.code) == (Verb.TERMINATE, "terms-differ")


def test_a_consumer_accepts_an_offer_of_what_it_requested_and_no_other() -> None:
    same = offer(target="urn:dataset")
    assert consumer_action(S.OFFERED, same, REQUESTED).verb is Verb.ACCEPT
    assert consumer_action(S.OFFERED, offer("5", target="urn:dataset"), REQUESTED).verb is (
        Verb.TERMINATE
    )
    elsewhere = consumer_action(S.OFFERED, offer(target="urn:other"), REQUESTED)
    assert elsewhere.code == "target-differs"
    assert consumer_action(S.OFFERED, offer(), REQUESTED).code == "target-differs"


def test_a_policy_that_does_not_belong_to_the_state_is_the_callers_mistake() -> None:
    with pytest.raises(InputRejected):
        consumer_action(S.AGREED, offer(), REQUESTED)
    with pytest.raises(InputRejected):
        consumer_action(S.OFFERED, agreement(REQUESTED), REQUESTED)


MESSAGE_OF = {
    Verb.AGREE: NegotiationMessage.AGREE,
    Verb.ACCEPT: NegotiationMessage.ACCEPT,
    Verb.VERIFY: NegotiationMessage.VERIFY,
    Verb.FINALIZE: NegotiationMessage.FINALIZE,
    Verb.TERMINATE: NegotiationMessage.TERMINATE,
}


def test_no_strategy_ever_chooses_a_message_the_table_forbids() -> None:
    spoken = 0
    for state, terms, person in product(S, ("20", "5"), (True, False)):
        chosen = [(Party.PROVIDER, provider_action(state, offer(terms), offer(), person))]
        shown = agreement(offer(terms)) if state is S.AGREED else offer(terms, target="urn:dataset")
        chosen.append((Party.CONSUMER, consumer_action(state, shown, REQUESTED)))
        for party, action in chosen:
            message = MESSAGE_OF.get(action.verb)
            if message is not None:
                assert (state, party, message) in TABLE
                spoken += 1
    assert spoken > 10
