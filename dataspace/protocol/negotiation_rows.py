"""What a stored negotiation says: to the peer as messages, to a strategy as a situation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal, TypeAlias

from contracts import messages as dsp
from contracts.evaluation import Decision, Facts
from contracts.negotiation import TERMINAL, NegotiationState
from contracts.odrl import Agreement, Offer
from contracts.party import Party
from contracts.planning import approval_required, approvers_required
from contracts.prospect import decide_prospect
from contracts.strategy import Action, Approval, Situation, Verb
from dataspace.protocol import UNKNOWN_PID, Pids
from dataspace.protocol.explanation import Explanation
from dataspace.store.tables import DatasetRow, NegotiationRow

# The zones that a policy asks about to which a participant belongs at a moment; None: not known.
ZonesOf: TypeAlias = Callable[[str, Offer | Agreement, datetime], tuple[str, ...] | None]


def pids(row: NegotiationRow) -> Pids:
    peer_pid = row.peer_pid or UNKNOWN_PID
    if row.role == Party.PROVIDER.value:
        return {"provider_pid": row.pid, "consumer_pid": peer_pid}
    return {"provider_pid": peer_pid, "consumer_pid": row.pid}


def as_message(row: NegotiationRow) -> dsp.ContractNegotiation:
    return dsp.ContractNegotiation(**pids(row), state=NegotiationState(row.state))


def peer_pid_in(row: NegotiationRow, message: dsp.Document) -> str | None:
    """The peer's name for the negotiation, as its message gives it."""
    name = "consumer_pid" if row.role == Party.PROVIDER.value else "provider_pid"
    found: str | None = getattr(message, name, None)
    return found


def requested_terms(row: NegotiationRow) -> Offer | None:
    return None if row.offer is None else Offer.model_validate(row.offer)


def offered_terms(row: NegotiationRow) -> Offer | Agreement | None:
    if row.agreement is None:
        return None
    if row.agreement.get("@type") == "Agreement":
        return Agreement.model_validate(row.agreement)
    return Offer.model_validate(row.agreement)


def settled_terms(row: NegotiationRow) -> Offer:
    """The terms an agreement would have now: what was accepted, else what was requested."""
    offered, requested = offered_terms(row), requested_terms(row)
    if row.state == NegotiationState.ACCEPTED and isinstance(offered, Offer):
        return offered
    assert requested is not None, "an agreement is made of requested or accepted terms"
    return requested


def situation_of(
    row: NegotiationRow, dataset: DatasetRow | None, now: datetime, zones_of: ZonesOf
) -> Situation:
    """How the negotiation looks to our strategy; `dataset` is None where it is not on offer."""
    party, state = Party(row.role), NegotiationState(row.state)
    published = None if dataset is None else Offer.model_validate(dataset.offer)
    return Situation(
        party=party,
        state=state,
        target=row.dataset,
        requested=requested_terms(row),
        offered=offered_terms(row),
        published=published,
        rounds=row.rounds,
        approval=Approval(row.approval) if row.approval else None,
        prospect=_prospect(row, dataset, now, zones_of),
    )


def _prospect(
    row: NegotiationRow, dataset: DatasetRow | None, now: datetime, zones_of: ZonesOf
) -> Decision | None:
    """What can be decided about the consumer before any use, once its terms are known."""
    if dataset is None or row.state not in (NegotiationState.REQUESTED, NegotiationState.ACCEPTED):
        return None
    terms = settled_terms(row)
    facts = Facts(
        now=now,
        use_count=0,
        recipient_role=row.peer_kind,
        recipient_zones=zones_of(row.peer, terms, now),
        grade=dataset.grade,
        consent=None,
        approved=True,
        approvers=approvers_required(terms),
    )
    return decide_prospect(terms, row.peer, facts)


def message_of(
    row: NegotiationRow, action: Action, callback_address: str
) -> tuple[str, dsp.Document]:
    """The message that tells the peer our move, and the path under /negotiations it goes to.

    An agreement and signatures are taken from the row, which must have them by now.
    """
    names = pids(row)
    known = f"{row.peer_pid}/"
    if action.verb is Verb.TERMINATE:
        explanation = Explanation(
            action.reason or "The negotiation was ended.", action.clause, action.remedy
        )
        return f"{known}termination", dsp.ContractNegotiationTerminationMessage(
            **names, code=action.code, reason=explanation.to_reason()
        )
    if action.verb is Verb.OFFER:
        assert action.offer is not None
        if row.peer_pid is None:
            return "offers", dsp.ContractOfferMessage(
                provider_pid=row.pid, offer=action.offer, callback_address=callback_address
            )
        return f"{known}offers", dsp.ContractOfferMessage(**names, offer=action.offer)
    if action.verb is Verb.REQUEST:
        assert action.offer is not None
        if row.peer_pid is None:
            return "request", dsp.ContractRequestMessage(
                consumer_pid=row.pid, offer=action.offer, callback_address=callback_address
            )
        return f"{known}request", dsp.ContractRequestMessage(**names, offer=action.offer)
    if action.verb is Verb.AGREE:
        return f"{known}agreement", dsp.ContractAgreementMessage(
            **names,
            agreement=Agreement.model_validate(row.agreement),
            signature=row.provider_signature,
            post_quantum_signature=row.provider_post_quantum,
        )
    if action.verb is Verb.VERIFY:
        return f"{known}agreement/verification", dsp.ContractAgreementVerificationMessage(
            **names,
            signature=row.consumer_signature,
            post_quantum_signature=row.consumer_post_quantum,
        )
    event: Literal["ACCEPTED", "FINALIZED"] = (
        "ACCEPTED" if action.verb is Verb.ACCEPT else "FINALIZED"
    )
    return f"{known}events", dsp.ContractNegotiationEventMessage(**names, event_type=event)


def needs_person(row: NegotiationRow) -> str | None:
    """Which side's person an unfinished negotiation waits for: "here", "peer", or None."""
    state = NegotiationState(row.state)
    if state in TERMINAL:
        return None
    if row.waiting is not None:
        return "here"
    requested = requested_terms(row)
    # Not before the provider has it: until then nobody there can see that it waits.
    asked = (
        row.role == Party.CONSUMER.value
        and state is NegotiationState.REQUESTED
        and row.peer_pid is not None
    )
    unasked = row.role == Party.PROVIDER.value and state is NegotiationState.OFFERED
    if (asked and requested and approval_required(requested)) or (unasked and requested is None):
        return "peer"
    return None


def waits_for(row: NegotiationRow) -> str | None:
    """What an unfinished negotiation waits for, as a sentence for its owner."""
    state = NegotiationState(row.state)
    if state in TERMINAL:
        return None
    if row.waiting is not None:
        return row.waiting
    if _TO_MOVE[state].value == row.role:
        return "This node is about to answer."
    side = _TO_MOVE[state].value.lower()
    who = "A person at the" if needs_person(row) else "The node of the"
    return f"{who} {side} has to answer."


_TO_MOVE = {
    NegotiationState.REQUESTED: Party.PROVIDER,
    NegotiationState.OFFERED: Party.CONSUMER,
    NegotiationState.ACCEPTED: Party.PROVIDER,
    NegotiationState.AGREED: Party.CONSUMER,
    NegotiationState.VERIFIED: Party.PROVIDER,
}
