"""The negotiation state machine of the Dataspace Protocol 2025-1, as one table, and the default
strategy that plays it.

Source: Dataspace Protocol 2025-1, contract negotiation protocol, state machine diagram.

The table knows neither which side we are nor how messages travel, so we and our peer are judged by
the same one. The strategy is a function of values: it chooses, somebody else acts.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from contracts.errors import IllegalTransition, InputRejected
from contracts.odrl import Agreement, Offer, same_terms
from contracts.party import Party

__all__ = [
    "TABLE",
    "TERMINAL",
    "Action",
    "NegotiationMessage",
    "NegotiationState",
    "Party",
    "Verb",
    "consumer_action",
    "next_state",
    "provider_action",
]


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


class Verb(StrEnum):
    """What a strategy can choose. NOTHING: the next word is the peer's, or there is none."""

    AGREE = "AGREE"
    ACCEPT = "ACCEPT"
    VERIFY = "VERIFY"
    FINALIZE = "FINALIZE"
    TERMINATE = "TERMINATE"
    WAIT = "WAIT"
    NOTHING = "NOTHING"


@dataclass(frozen=True)
class Action:
    """A strategy's choice; `code` and `reason` go into a termination, `reason` also to a person."""

    verb: Verb
    code: str | None = None
    reason: str | None = None


_NOTHING: Final = Action(Verb.NOTHING)


def provider_action(
    state: NegotiationState, requested: Offer, published: Offer, needs_person: bool
) -> Action:
    """What a provider does next by itself.

    In REQUESTED it agrees to exactly the terms it published, waits when a person has to say so, and
    terminates when the terms differ. In ACCEPTED (`published` is then the offer it made) it agrees:
    making the offer was the decision. In VERIFIED it finalizes.
    """
    if state is NegotiationState.VERIFIED:
        return Action(Verb.FINALIZE)
    if state not in (NegotiationState.REQUESTED, NegotiationState.ACCEPTED):
        return _NOTHING
    if not same_terms(requested, published):
        return Action(
            Verb.TERMINATE,
            code="terms-differ",
            reason="The requested terms are not those of the published offer; "
            "request the offer as the catalogue shows it.",
        )
    if needs_person and state is NegotiationState.REQUESTED:
        return Action(Verb.WAIT, reason="A person at the provider has to approve this agreement.")
    return Action(Verb.AGREE)


def consumer_action(
    state: NegotiationState, offered: Agreement | Offer, requested: Offer
) -> Action:
    """What a consumer does next by itself about what the provider `offered`.

    In OFFERED it accepts an Offer with the terms and target it requested; in AGREED it verifies an
    Agreement with those terms and the target, assigner and assignee written in `requested` (one
    that is None there is not compared). Anything else is terminated with the reason. Raises
    InputRejected when the kind of policy does not belong to the state.
    """
    if state not in (NegotiationState.OFFERED, NegotiationState.AGREED):
        return _NOTHING
    wanted = Offer if state is NegotiationState.OFFERED else Agreement
    if not isinstance(offered, wanted):
        raise InputRejected(f"expected an {wanted.__name__} in state {state}, got the other kind")
    if not same_terms(offered, requested):
        return Action(
            Verb.TERMINATE,
            code="terms-differ",
            reason="The provider's terms are not those that were requested.",
        )
    for name in ("target", "assigner", "assignee"):
        expected, got = getattr(requested, name), getattr(offered, name)
        # An offer need not name its parties yet; an agreement always does.
        unnamed = got is None and name != "target"
        if expected is not None and got != expected and not unnamed:
            return Action(
                Verb.TERMINATE,
                code=f"{name}-differs",
                reason=f"The {name} is not the one that was requested.",
            )
    return Action(Verb.ACCEPT if state is NegotiationState.OFFERED else Verb.VERIFY)
