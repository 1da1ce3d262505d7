"""The two tables against the arcs of the specification's diagrams, every combination tried."""

from itertools import product

import pytest

from contracts import negotiation, transfer
from contracts.errors import IllegalTransition, ProtocolViolation
from contracts.negotiation import NegotiationMessage, NegotiationState
from contracts.party import Party
from contracts.transfer import TransferMessage, TransferState

# As the protocol's state diagrams draw them: from, to, who may send the message (C, P).
NEGOTIATION_ARCS = """
[*] REQUESTED C
[*] OFFERED P
REQUESTED OFFERED P
REQUESTED AGREED P
REQUESTED TERMINATED CP
OFFERED REQUESTED C
OFFERED ACCEPTED C
OFFERED TERMINATED CP
ACCEPTED AGREED P
ACCEPTED TERMINATED P
AGREED VERIFIED C
AGREED TERMINATED C
VERIFIED FINALIZED P
VERIFIED TERMINATED P
"""

TRANSFER_ARCS = """
[*] REQUESTED C
REQUESTED STARTED P
REQUESTED TERMINATED CP
STARTED COMPLETED CP
STARTED SUSPENDED CP
STARTED TERMINATED CP
SUSPENDED STARTED CP
SUSPENDED TERMINATED CP
"""

# In the diagrams an arc is labelled by where it leads; this is the message that leads there.
NEGOTIATION_TRIGGER = {
    "ContractRequestMessage": "REQUESTED",
    "ContractOfferMessage": "OFFERED",
    "ContractNegotiationEventMessage:ACCEPTED": "ACCEPTED",
    "ContractAgreementMessage": "AGREED",
    "ContractAgreementVerificationMessage": "VERIFIED",
    "ContractNegotiationEventMessage:FINALIZED": "FINALIZED",
    "ContractNegotiationTerminationMessage": "TERMINATED",
}
TRANSFER_TRIGGER = {
    "TransferRequestMessage": "REQUESTED",
    "TransferStartMessage": "STARTED",
    "TransferSuspensionMessage": "SUSPENDED",
    "TransferCompletionMessage": "COMPLETED",
    "TransferTerminationMessage": "TERMINATED",
}


def arcs(text: str) -> set[tuple[str | None, str, str]]:
    found = set()
    for line in text.strip().splitlines():
        source, to, senders = line.split()
        for sender in senders:
            party = "CONSUMER" if sender == "C" else "PROVIDER"
            found.add((None if source == "[*]" else source, to, party))
    return found


MACHINES = {
    "negotiation": (
        negotiation,
        NegotiationState,
        NegotiationMessage,
        arcs(NEGOTIATION_ARCS),
        NEGOTIATION_TRIGGER,
    ),
    "transfer": (transfer, TransferState, TransferMessage, arcs(TRANSFER_ARCS), TRANSFER_TRIGGER),
}


@pytest.mark.parametrize("name", MACHINES)
def test_every_combination_does_what_the_specification_draws(name: str) -> None:
    module, states, messages, drawn, trigger = MACHINES[name]
    for state, party, message in product((None, *states), Party, messages):
        to = trigger[message.value]
        if (state, to, party.value) in drawn:
            assert module.next_state(state, party, message) == to
        else:
            with pytest.raises(IllegalTransition):
                module.next_state(state, party, message)


@pytest.mark.parametrize("name", MACHINES)
def test_the_table_has_as_many_rows_as_the_diagram_has_arcs(name: str) -> None:
    module, _, _, drawn, _ = MACHINES[name]
    assert len(module.TABLE) == len(drawn)


@pytest.mark.parametrize("name", MACHINES)
def test_the_terminal_states_are_those_without_an_arc_out(name: str) -> None:
    module, states, _, _, _ = MACHINES[name]
    assert {state for state in states if not any(row[0] is state for row in module.TABLE)} == (
        module.TERMINAL
    )


def test_a_refused_transition_says_who_sent_what_in_which_state() -> None:
    with pytest.raises(IllegalTransition) as refused:
        negotiation.next_state(NegotiationState.OFFERED, Party.CONSUMER, NegotiationMessage.VERIFY)
    assert (refused.value.state, refused.value.actor) == ("OFFERED", "CONSUMER")
    assert refused.value.message == "ContractAgreementVerificationMessage"
    assert isinstance(refused.value, ProtocolViolation)
    assert str(refused.value) == (
        "ContractAgreementVerificationMessage from the consumer is not allowed in state OFFERED"
    )
