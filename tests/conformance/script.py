"""What the connector under test does by itself in each of the kit's cases.

A real node does what its owner's policy says; here a table says it. Where a state can be reached
more than once, its list has a move for each time. Where there is no move, the node waits for the
kit's; so it does in every case that is not named here.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from contracts.odrl import Offer
from contracts.party import Party
from contracts.strategy import Action, Situation, Verb
from contracts.transfer_strategy import TransferAction, TransferSituation, TransferVerb
from tests.conformance.cases import offer_id

Moves = Mapping[str, Sequence[Verb]]
TransferMoves = Mapping[str, Sequence[TransferVerb]]

_OFFER: Final[Moves] = {"REQUESTED": [Verb.OFFER]}
_AGREE: Final[Moves] = {"REQUESTED": [Verb.AGREE]}
_ACCEPT: Final[Moves] = {"OFFERED": [Verb.ACCEPT]}
_VERIFY: Final[Moves] = {"AGREED": [Verb.VERIFY]}
_START: Final[TransferMoves] = {"REQUESTED": [TransferVerb.START]}

PROVIDER: Final[Mapping[str, Moves]] = {
    "ACN0101": _OFFER,
    "ACN0102": {"REQUESTED": [Verb.OFFER, Verb.TERMINATE]},
    "ACN0103": {**_OFFER, "ACCEPTED": [Verb.AGREE], "VERIFIED": [Verb.FINALIZE]},
    "ACN0104": {**_AGREE, "VERIFIED": [Verb.FINALIZE]},
    "ACN0201": {"REQUESTED": [Verb.TERMINATE]},
    "ACN0203": _AGREE,
    "ACN0204": _OFFER,
    "ACN0205": {**_OFFER, "OFFERED": [Verb.TERMINATE]},
    "ACN0206": {**_OFFER, "ACCEPTED": [Verb.TERMINATE]},
    "ACN0207": {**_AGREE, "VERIFIED": [Verb.TERMINATE]},
    "ACN0301": {**_AGREE, "VERIFIED": [Verb.FINALIZE]},
    "ACN0302": _OFFER,
    "ACN0303": _OFFER,
    "ACN0304": _OFFER,
}
CONSUMER: Final[Mapping[str, Moves]] = {
    "ACNC0101": {**_ACCEPT, **_VERIFY},
    "ACNC0102": {"OFFERED": [Verb.REQUEST]},
    "ACNC0103": {"OFFERED": [Verb.TERMINATE]},
    "ACNC0104": _VERIFY,
    "ACNC0202": {"REQUESTED": [Verb.TERMINATE]},
    "ACNC0203": {"AGREED": [Verb.TERMINATE]},
    "ACNC0205": _ACCEPT,
    "ACNC0206": _VERIFY,
    "ACNC0304": _ACCEPT,
    "ACNC0305": _ACCEPT,
    "ACNC0306": _ACCEPT,
}
TRANSFER_PROVIDER: Final[Mapping[str, TransferMoves]] = {
    "ATP0101": {**_START, "STARTED": [TransferVerb.TERMINATE]},
    "ATP0102": {**_START, "STARTED": [TransferVerb.COMPLETE]},
    "ATP0103": {
        **_START,
        "STARTED": [TransferVerb.SUSPEND],
        "SUSPENDED": [TransferVerb.TERMINATE],
    },
    "ATP0104": {
        **_START,
        "STARTED": [TransferVerb.SUSPEND, TransferVerb.COMPLETE],
        "SUSPENDED": [TransferVerb.START],
    },
    "ATP0105": {"REQUESTED": [TransferVerb.TERMINATE]},
    "ATP0201": _START,
    "ATP0202": _START,
    "ATP0203": _START,
    "ATP0204": _START,
    "ATP0303": _START,
    "ATP0304": _START,
    "ATP0305": _START,
    "ATP0306": _START,
}
TRANSFER_CONSUMER: Final[Mapping[str, TransferMoves]] = {
    "ATPC0201": {"STARTED": [TransferVerb.TERMINATE]},
    "ATPC0202": {"STARTED": [TransferVerb.COMPLETE]},
    "ATPC0203": {"STARTED": [TransferVerb.SUSPEND], "SUSPENDED": [TransferVerb.TERMINATE]},
    "ATPC0204": {
        "STARTED": [TransferVerb.SUSPEND, TransferVerb.COMPLETE],
        "SUSPENDED": [TransferVerb.START],
    },
    "ATPC0205": {"REQUESTED": [TransferVerb.TERMINATE]},
}

_CODE: Final = "scripted"
_REASON: Final = "The script of the conformance kit says so."


def offer_of(dataset: str) -> Offer:
    """The offer of a dataset of the kit: its use is permitted."""
    return Offer.model_validate({"@id": offer_id(dataset), "permission": [{"action": "use"}]})


class _Visits:
    """How often each state of each case has been reached. A case runs once in a node's life."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[tuple[str, str], int] = defaultdict(int)

    def count(self, case: str, state: str) -> int:
        """How often the state was reached before this time."""
        with self._lock:
            self._before[case, state] += 1
            return self._before[case, state] - 1


class NegotiationScript:
    """The script as a strategy for negotiations."""

    def __init__(self) -> None:
        self._visits = _Visits()

    def __call__(self, situation: Situation) -> Action:
        cases = PROVIDER if situation.party is Party.PROVIDER else CONSUMER
        moves = cases.get(situation.target, {}).get(situation.state, ())
        visit = self._visits.count(situation.target, situation.state)
        if visit >= len(moves):
            return Action(Verb.NOTHING)
        offer = None
        if moves[visit] is Verb.OFFER:
            offer = offer_of(situation.target).for_message(situation.target)
        elif moves[visit] is Verb.REQUEST:
            offer = situation.requested
        return Action(moves[visit], code=_CODE, reason=_REASON, offer=offer)


class TransferScript:
    """The script as a strategy for transfers."""

    def __init__(self) -> None:
        self._visits = _Visits()

    def __call__(self, situation: TransferSituation) -> TransferAction:
        cases = TRANSFER_PROVIDER if situation.party is Party.PROVIDER else TRANSFER_CONSUMER
        moves = cases.get(situation.agreement, {}).get(situation.state, ())
        visit = self._visits.count(situation.agreement, situation.state)
        if visit >= len(moves):
            return TransferAction(TransferVerb.NOTHING)
        return TransferAction(moves[visit], code=_CODE, reason=_REASON)
