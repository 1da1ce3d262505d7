"""The negotiation state machine of the Dataspace Protocol 2025-1, as one table.

Source: Dataspace Protocol 2025-1, contract negotiation protocol, state machine diagram.

The table knows neither which side we are nor how messages travel, so we and our peer are judged by
the same one. What a side does by itself is `contracts.strategy`.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from contracts.errors import IllegalTransition
from contracts.party import Party


class NegotiationState(StrEnum):
    """Where a negotiation stands; the protocol's states and no others."""

    REQUESTED = "REQUESTED"
    OFFERED = "OFFERED"
    ACCEPTED = "ACCEPTED"
    AGREED = "AGREED"
    VERIFIED = "VERIFIED"
    FINALIZED = "FINALIZED"
    TERMINATED = "TERMINATED"


class NegotiationMessage(StrEnum):
    """The messages that move a negotiation; the two events share one `@type`."""

    REQUEST = "ContractRequestMessage"
    OFFER = "ContractOfferMessage"
    ACCEPT = "ContractNegotiationEventMessage:ACCEPTED"
    AGREE = "ContractAgreementMessage"
    VERIFY = "ContractAgreementVerificationMessage"
    FINALIZE = "ContractNegotiationEventMessage:FINALIZED"
    TERMINATE = "ContractNegotiationTerminationMessage"


_C, _P = Party.CONSUMER, Party.PROVIDER
_S, _M = NegotiationState, NegotiationMessage

TABLE: Final = MappingProxyType(
    {
        (None, _C, _M.REQUEST): _S.REQUESTED,
        (None, _P, _M.OFFER): _S.OFFERED,
        (_S.REQUESTED, _P, _M.OFFER): _S.OFFERED,
        (_S.REQUESTED, _P, _M.AGREE): _S.AGREED,
        (_S.REQUESTED, _C, _M.TERMINATE): _S.TERMINATED,
        (_S.REQUESTED, _P, _M.TERMINATE): _S.TERMINATED,
        (_S.OFFERED, _C, _M.REQUEST): _S.REQUESTED,
        (_S.OFFERED, _C, _M.ACCEPT): _S.ACCEPTED,
        (_S.OFFERED, _C, _M.TERMINATE): _S.TERMINATED,
        (_S.OFFERED, _P, _M.TERMINATE): _S.TERMINATED,
        (_S.ACCEPTED, _P, _M.AGREE): _S.AGREED,
        (_S.ACCEPTED, _P, _M.TERMINATE): _S.TERMINATED,
        (_S.AGREED, _C, _M.VERIFY): _S.VERIFIED,
        (_S.AGREED, _C, _M.TERMINATE): _S.TERMINATED,
        (_S.VERIFIED, _P, _M.FINALIZE): _S.FINALIZED,
        (_S.VERIFIED, _P, _M.TERMINATE): _S.TERMINATED,
    }
)

TERMINAL: Final = frozenset({NegotiationState.FINALIZED, NegotiationState.TERMINATED})


def next_state(
    state: NegotiationState | None, party: Party, message: NegotiationMessage
) -> NegotiationState:
    """The state after `message` from `party`; `state` None means no negotiation exists yet.

    Raises IllegalTransition when the protocol has no such arc; an error never changes the state.
    """
    following = TABLE.get((state, party, message))
    if following is None:
        raise IllegalTransition(state, party, message)
    return following


def may_follow_up(state: NegotiationState, party: Party) -> bool:
    """Whether `party`, having led to `state`, may go on from there without the other's word."""
    return (state, party) in _FOLLOWED_UP


_FOLLOWED_UP: Final = frozenset(
    (state, party)
    for (_, party, _), state in TABLE.items()
    if any((state, party, message) in TABLE for message in NegotiationMessage)
)
