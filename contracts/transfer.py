"""The transfer state machine of the Dataspace Protocol 2025-1, as one table.

Source: Dataspace Protocol 2025-1, transfer process protocol, state machine diagram.

The table knows neither which side we are nor how messages travel, so we and our peer are judged by
the same one. Who may begin is a row too: a transfer starts with the consumer's request.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from contracts.errors import IllegalTransition
from contracts.party import Party


class TransferState(StrEnum):
    """Where a transfer stands; the protocol's states and no others."""

    REQUESTED = "REQUESTED"
    STARTED = "STARTED"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    TERMINATED = "TERMINATED"


class TransferMessage(StrEnum):
    """The messages that move a transfer, by their `@type`."""

    REQUEST = "TransferRequestMessage"
    START = "TransferStartMessage"
    SUSPEND = "TransferSuspensionMessage"
    COMPLETE = "TransferCompletionMessage"
    TERMINATE = "TransferTerminationMessage"


_C, _P = Party.CONSUMER, Party.PROVIDER
_S, _M = TransferState, TransferMessage

TABLE: Final = MappingProxyType(
    {
        (None, _C, _M.REQUEST): _S.REQUESTED,
        (_S.REQUESTED, _P, _M.START): _S.STARTED,
        (_S.REQUESTED, _C, _M.TERMINATE): _S.TERMINATED,
        (_S.REQUESTED, _P, _M.TERMINATE): _S.TERMINATED,
        (_S.STARTED, _C, _M.COMPLETE): _S.COMPLETED,
        (_S.STARTED, _P, _M.COMPLETE): _S.COMPLETED,
        (_S.STARTED, _C, _M.SUSPEND): _S.SUSPENDED,
        (_S.STARTED, _P, _M.SUSPEND): _S.SUSPENDED,
        (_S.STARTED, _C, _M.TERMINATE): _S.TERMINATED,
        (_S.STARTED, _P, _M.TERMINATE): _S.TERMINATED,
        (_S.SUSPENDED, _C, _M.START): _S.STARTED,
        (_S.SUSPENDED, _P, _M.START): _S.STARTED,
        (_S.SUSPENDED, _C, _M.TERMINATE): _S.TERMINATED,
        (_S.SUSPENDED, _P, _M.TERMINATE): _S.TERMINATED,
    }
)

TERMINAL: Final = frozenset({TransferState.COMPLETED, TransferState.TERMINATED})


def next_state(
    state: TransferState | None, party: Party, message: TransferMessage
) -> TransferState:
    """The state after `message` from `party`; `state` None means the transfer does not exist yet.

    Raises IllegalTransition when the protocol has no such arc; an error never changes the state.
    """
    following = TABLE.get((state, party, message))
    if following is None:
        raise IllegalTransition(state, party, message)
    return following


def may_follow_up(state: TransferState, party: Party) -> bool:
    """Whether `party`, having led to `state`, may go on from there without the other's word."""
    return (state, party) in _FOLLOWED_UP


_FOLLOWED_UP: Final = frozenset(
    (state, party)
    for (_, party, _), state in TABLE.items()
    if any((state, party, message) in TABLE for message in TransferMessage)
)
