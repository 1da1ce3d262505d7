"""What a party of a transfer of rows does next by itself: a function of what it sees.

Transfers that carry a computation order are not played by a strategy: the computation moves them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from contracts.decision import Decision
from contracts.party import Party
from contracts.transfer import TransferState

PULL: Final = "HttpData-PULL"
PUSH: Final = "HttpData-PUSH"
# Formats in which the rows themselves leave, by who calls whom.
RAW_FORMATS: Final = (PULL, PUSH)


class TransferVerb(StrEnum):
    """What a strategy can choose. MOVE: fetch or send the rows now, then complete."""

    START = "START"
    SUSPEND = "SUSPEND"
    COMPLETE = "COMPLETE"
    TERMINATE = "TERMINATE"
    MOVE = "MOVE"
    NOTHING = "NOTHING"


@dataclass(frozen=True)
class TransferAction:
    """A strategy's choice; code, reason, clause and remedy go into a termination or suspension."""

    verb: TransferVerb
    code: str | None = None
    reason: str | None = None
    clause: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class TransferSituation:
    """A transfer as the strategy of `party` sees it when a state has been reached.

    `decision` is the policy's answer about this use, for a provider in REQUESTED.
    """

    party: Party
    state: TransferState
    agreement: str
    format: str
    decision: Decision | None = None


class TransferStrategy(Protocol):
    """Chooses the next move of one side."""

    def __call__(self, situation: TransferSituation) -> TransferAction: ...


_MOVER: Final = {PULL: Party.CONSUMER, PUSH: Party.PROVIDER}


def default_transfer(situation: TransferSituation) -> TransferAction:
    """The strategy of a node that was given no other.

    A provider starts what the policy allows and ends what it does not, with the clause. Once it has
    started, whoever moves the rows in this format does.
    """
    if situation.state is TransferState.STARTED:
        mine = _MOVER.get(situation.format) is situation.party
        return TransferAction(TransferVerb.MOVE if mine else TransferVerb.NOTHING)
    if situation.state is not TransferState.REQUESTED or situation.party is Party.CONSUMER:
        return TransferAction(TransferVerb.NOTHING)
    decision = situation.decision
    if decision is not None and decision.refusal is None:
        return TransferAction(TransferVerb.START)
    refusal = None if decision is None else decision.refusal
    return TransferAction(
        TransferVerb.TERMINATE,
        code="denied",
        reason=decision.reason if decision else "The policy was not asked.",
        clause=refusal.path if refusal else None,
        remedy=refusal.remedy if refusal else None,
    )
