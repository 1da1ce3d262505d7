"""What a party of a negotiation does next by itself: a function of what it sees.

A strategy chooses, somebody else acts; the state table judges what it chose. A node is given its
strategy, and the one here is what nodes do that were given no other.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from contracts.decision import Decision
from contracts.errors import InputRejected
from contracts.negotiation import NegotiationState
from contracts.odrl import Agreement, Offer, same_terms
from contracts.party import Party
from contracts.planning import approvers_required
from contracts.strictness import compare

# Proposals made by both sides together. Terms are published, so there is little to haggle over;
# a peer that repeats what was answered already is told so in the end.
MAX_ROUNDS: Final = 6


class Verb(StrEnum):
    """What a strategy can choose.

    OFFER is the provider's proposal and REQUEST the consumer's; WAIT leaves the word to a person of
    ours, NOTHING to the peer.
    """

    REQUEST = "REQUEST"
    OFFER = "OFFER"
    AGREE = "AGREE"
    ACCEPT = "ACCEPT"
    VERIFY = "VERIFY"
    FINALIZE = "FINALIZE"
    TERMINATE = "TERMINATE"
    WAIT = "WAIT"
    NOTHING = "NOTHING"


class Approval(StrEnum):
    """What a person said about a negotiation that waited for one."""

    APPROVED = "APPROVED"
    DECLINED = "DECLINED"


@dataclass(frozen=True)
class Action:
    """A strategy's choice.

    `offer` is the proposal of OFFER and REQUEST. `code`, `reason`, `clause` and `remedy` go into a
    termination; `reason` also tells a person what is waited for.
    """

    verb: Verb
    code: str | None = None
    reason: str | None = None
    offer: Offer | None = None
    clause: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Situation:
    """A negotiation as the strategy of `party` sees it when a state has been reached.

    `requested` and `offered` are the last terms of consumer and provider. `published` is what the
    provider's catalogue says now (None: withdrawn, or we are the consumer). `prospect` is the
    provider's decision on what can be judged before any use, a person's approval taken as given.
    """

    party: Party
    state: NegotiationState
    target: str
    requested: Offer | None
    offered: Offer | Agreement | None
    published: Offer | None = None
    rounds: int = 1
    approval: Approval | None = None
    prospect: Decision | None = None


class NegotiationStrategy(Protocol):
    """Chooses the next move of one side."""

    def __call__(self, situation: Situation) -> Action: ...


_NOTHING: Final = Action(Verb.NOTHING)


def negotiate(situation: Situation) -> Action:
    """The strategy of a node that was given no other.

    A provider agrees to terms at least as strict as those it published, answers looser ones with
    the published ones, refuses whom its policy could never allow, and asks a person where the
    policy says so. A consumer accepts an offer that allows all it asked for, verifies an agreement
    in exactly the terms that were settled, and asks a person about everything else. Raises
    InputRejected when what was offered does not belong to the state.
    """
    if situation.party is Party.PROVIDER:
        return _as_provider(situation)
    return _as_consumer(situation)


def _as_provider(situation: Situation) -> Action:
    state = situation.state
    if state is NegotiationState.VERIFIED:
        return Action(Verb.FINALIZE)
    if state is NegotiationState.ACCEPTED:
        settled = situation.offered
    elif state is NegotiationState.REQUESTED:
        settled = situation.requested
    else:
        return _NOTHING
    if situation.published is None:
        return Action(
            Verb.TERMINATE,
            code="withdrawn",
            reason="The dataset is no longer offered.",
            remedy="Look at the catalogue as it is now.",
        )
    if settled is None:
        raise InputRejected(f"expected terms to decide about in state {state}")
    # What was accepted is what we offered: making the offer was the decision.
    if state is NegotiationState.REQUESTED:
        difference = compare(settled, situation.published)
        if not difference.holds:
            ours = situation.published.for_message(situation.target)
            told = difference.reasons[0].between("the request", "The published offer")
            return _answer_to_other_terms(situation, ours, told)
    return _decide_about_consumer(situation, settled)


def _answer_to_other_terms(situation: Situation, ours: Offer, sentence: str) -> Action:
    if situation.rounds < MAX_ROUNDS:
        return Action(Verb.OFFER, reason=sentence, offer=ours)
    return Action(
        Verb.TERMINATE,
        code="terms-differ",
        reason=sentence,
        remedy="Request the offer as the catalogue shows it.",
    )


def _decide_about_consumer(situation: Situation, settled: Offer | Agreement) -> Action:
    prospect = situation.prospect
    if prospect is not None and prospect.refusal is not None:
        return Action(
            Verb.TERMINATE,
            code="denied",
            reason=prospect.reason,
            clause=prospect.refusal.path,
            remedy=prospect.refusal.remedy,
        )
    approvers = approvers_required(settled)
    if approvers and situation.approval is not Approval.APPROVED:
        if situation.approval is Approval.DECLINED:
            return _declined("A person at the provider has declined this agreement.")
        return Action(Verb.WAIT, reason=still_to_approve(approvers, 0))
    return Action(Verb.AGREE)


def still_to_approve(needed: int, given: int) -> str:
    """What an agreement waits for that `given` of `needed` people have approved."""
    if needed == 1:
        return "A person here has to approve this agreement."
    if given == 0:
        return f"{needed} different people here have to approve this agreement."
    more = needed - given
    return (
        f"{given} of {needed} people here have approved this agreement; "
        f"{more} more {'has' if more == 1 else 'have'} to."
    )


def _as_consumer(situation: Situation) -> Action:
    if situation.state is NegotiationState.OFFERED:
        return _answer_to_offer(situation)
    if situation.state is NegotiationState.AGREED:
        return _verify_agreement(situation)
    return _NOTHING


def _answer_to_offer(situation: Situation) -> Action:
    offered, requested = situation.offered, situation.requested
    if not isinstance(offered, Offer):
        raise InputRejected("expected an offer to answer in state OFFERED, got none")
    if requested is None:
        reason = "The provider made this offer unasked; accept or decline it."
    else:
        other = _other_party_or_target(offered, requested)
        if other is not None:
            return other
        difference = compare(requested, offered)
        if difference.holds:
            return Action(Verb.ACCEPT)
        told = difference.reasons[0].between("the request", "Its offer")
        reason = f"The provider offers other terms. {told}"
    if situation.approval is Approval.APPROVED:
        return Action(Verb.ACCEPT)
    if situation.approval is Approval.DECLINED:
        return _declined("A person at the consumer has declined this offer.")
    return Action(Verb.WAIT, reason=reason)


def _verify_agreement(situation: Situation) -> Action:
    agreement, settled = situation.offered, situation.requested
    if not isinstance(agreement, Agreement) or settled is None:
        raise InputRejected("expected an agreement to verify in state AGREED, got none")
    if not same_terms(agreement, settled):
        return Action(
            Verb.TERMINATE,
            code="terms-differ",
            reason="The agreement's terms are not those that were settled.",
        )
    return _other_party_or_target(agreement, settled) or Action(Verb.VERIFY)


def _other_party_or_target(offered: Offer | Agreement, requested: Offer) -> Action | None:
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
    return None


def _declined(reason: str) -> Action:
    return Action(Verb.TERMINATE, code="declined", reason=reason)
