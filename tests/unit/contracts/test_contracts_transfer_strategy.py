"""What each side of a transfer of rows does by itself, and that the table always allows it."""

from datetime import UTC, datetime
from itertools import product

import pytest

from contracts.evaluation import Decision, Facts, Request, decide
from contracts.odrl import Agreement
from contracts.party import Party
from contracts.transfer import TABLE, TransferMessage, TransferState, may_follow_up
from contracts.transfer_strategy import (
    PULL,
    PUSH,
    RAW_FORMATS,
    TransferAction,
    TransferSituation,
    TransferVerb,
    default_transfer,
)

C, P = Party.CONSUMER, Party.PROVIDER
S, V = TransferState, TransferVerb
FACTS = Facts(
    now=datetime(2026, 11, 25, tzinfo=UTC),
    use_count=0,
    recipient_role="enterprise",
    grade="general",
    consent=None,
)


def decision(*formats: str) -> Decision:
    """What a policy that names these formats says about a pull."""
    named = {"leftOperand": "ds:computation", "operator": "isAnyOf", "rightOperand": list(formats)}
    agreement = {
        "@id": "urn:a",
        "@type": "Agreement",
        "target": "urn:d",
        "assigner": "did:web:p",
        "assignee": "did:web:c",
        "timestamp": "2026-11-25T00:00:00Z",
        "permission": [{"action": "use", "constraint": [named]}],
    }
    request = Request("use", "did:web:c", None, PULL, None)
    return decide(Agreement.model_validate(agreement), request, FACTS)


def chosen(
    party: Party, state: TransferState, format_: str = PULL, answer: Decision | None = None
) -> TransferAction:
    return default_transfer(TransferSituation(party, state, "urn:a", format_, answer))


def test_a_provider_starts_what_the_policy_allows() -> None:
    assert chosen(P, S.REQUESTED, PULL, decision(PULL, PUSH)).verb is V.START


def test_a_provider_ends_what_the_policy_refuses_with_clause_and_remedy() -> None:
    refused = decision(PUSH)
    action = chosen(P, S.REQUESTED, PULL, refused)
    assert (action.verb, action.code) == (V.TERMINATE, "denied")
    assert action.reason == refused.reason
    assert action.clause == "permission[0].constraint[0]"
    assert action.remedy is not None


def test_a_provider_starts_nothing_that_nobody_was_asked_about() -> None:
    action = chosen(P, S.REQUESTED)
    assert (action.verb, action.reason) == (V.TERMINATE, "The policy was not asked.")


@pytest.mark.parametrize(
    ("party", "format_", "verb"),
    [
        (C, PULL, V.MOVE),
        (P, PULL, V.NOTHING),
        (P, PUSH, V.MOVE),
        (C, PUSH, V.NOTHING),
        (P, "AmazonS3-PUSH", V.NOTHING),
        (C, "AmazonS3-PULL", V.NOTHING),
    ],
)
def test_once_started_the_rows_are_moved_by_whom_the_format_says(
    party: Party, format_: str, verb: TransferVerb
) -> None:
    assert chosen(party, S.STARTED, format_).verb is verb


@pytest.mark.parametrize(
    ("party", "state"),
    [(C, S.REQUESTED), *product(Party, (S.SUSPENDED, S.COMPLETED, S.TERMINATED))],
)
def test_otherwise_a_side_waits(party: Party, state: TransferState) -> None:
    assert chosen(party, state).verb is V.NOTHING


def test_no_move_is_chosen_that_the_table_forbids() -> None:
    spoken = 0
    for party, state, format_, answer in product(
        Party, S, RAW_FORMATS, (None, decision(PULL), decision(PUSH))
    ):
        verb = chosen(party, state, format_, answer).verb
        if verb is V.NOTHING:
            continue
        # Moving the rows is said to the other side by completing.
        said = TransferMessage.COMPLETE if verb is V.MOVE else TransferMessage[verb.name]
        assert (state, party, said) in TABLE
        spoken += 1
    assert spoken == 12


@pytest.mark.parametrize(
    ("state", "party", "may"),
    [
        (S.REQUESTED, C, True),
        (S.REQUESTED, P, False),
        (S.STARTED, C, True),
        (S.STARTED, P, True),
        (S.SUSPENDED, C, True),
        (S.SUSPENDED, P, True),
        *product((S.COMPLETED, S.TERMINATED), Party, (False,)),
    ],
)
def test_who_led_to_a_state_may_go_on_where_the_table_has_an_arc_of_its_own(
    state: TransferState, party: Party, may: bool
) -> None:
    assert may_follow_up(state, party) is may
