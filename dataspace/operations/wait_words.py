"""The words of explanations: what each kind of process does, and what each state waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from contracts.negotiation import NegotiationState
from contracts.transfer import TransferState

DELIVER, RUN = "deliver", "run-computation"


class On(StrEnum):
    """On whom or what something waits."""

    NOBODY = "nobody"
    PERSON = "a person here"
    US = "this node"
    WORKER = "a free worker here"
    PEER = "a peer"
    OPERATOR = "the operator"
    CHAIN = "the chain"
    SOURCE = "the data's source"
    TIME = "its time"


@dataclass(frozen=True)
class Act:
    """Something that would move it, and the command for it where there is one."""

    words: str
    command: str | None = None


@dataclass(frozen=True)
class KindWords:
    """What a kind of process does, what it waits for when an attempt failed, what would help then,
    and what to do once it was given up."""

    does: str
    on: On
    acts: tuple[Act, ...] = ()
    after_failure: tuple[Act, ...] = ()


_PEER_UP = Act(
    "see that the peer's node runs and can be reached; the message is repeated until then"
)
_OPERATOR_UP = Act("see that the operator's node runs and can be reached")
_CHAIN_UP = Act(
    "see that the chain can be reached and the account has what it costs", "dataspace status"
)
_RESTART = Act("start the node again once the cause is gone")
_SOURCE_UP = Act("see that the source can be read", "dataspace dataset check ID")
_LOG = Act("the node's log says more, under this process's number")

KINDS: Final[Mapping[str, KindWords]] = MappingProxyType(
    {
        DELIVER: KindWords(
            "Delivering a message to a peer",
            On.PEER,
            (_PEER_UP,),
            (Act("begin again with the peer"),),
        ),
        "negotiation-step": KindWords("Our next move in a negotiation", On.US, (_LOG,), (_LOG,)),
        "expire-negotiation": KindWords(
            "Ending a negotiation nobody answers", On.TIME, (), (_LOG,)
        ),
        "transfer-step": KindWords(
            "Our next move in a transfer", On.SOURCE, (_SOURCE_UP,), (_LOG,)
        ),
        "decide-transfer": KindWords(
            "Deciding whether an order may be done", On.SOURCE, (_SOURCE_UP,), (_LOG,)
        ),
        "move-rows": KindWords(
            "Giving or fetching the rows of a transfer", On.PEER, (_PEER_UP, _SOURCE_UP), (_LOG,)
        ),
        "deliver-return": KindWords(
            "Delivering a return when it is due", On.PEER, (_PEER_UP, _SOURCE_UP), (_LOG,)
        ),
        RUN: KindWords(
            "Beginning a computation when its turn comes",
            On.WORKER,
            (_LOG,),
            (Act("order it again"),),
        ),
        "hand-out-signatures": KindWords(
            "Handing the signatures of a computation to a provider",
            On.PEER,
            (_PEER_UP,),
            (Act("nothing; the result is here, and the provider's part has failed without them"),),
        ),
        "tell-consent": KindWords(
            "Telling in the evidence that a consent was given or withdrawn",
            On.SOURCE,
            (Act("see that the receipts' file or the vault can be read"), _LOG),
            (_LOG,),
        ),
        "expire-computation": KindWords("Ending an order whose time is over", On.TIME, (), (_LOG,)),
        "gather-providers": KindWords(
            "Waiting for providers that a computation can do without", On.TIME, (), (_LOG,)
        ),
        "anchor": KindWords(
            "Anchoring the evidence log in the chain", On.CHAIN, (_CHAIN_UP,), (_RESTART, _LOG)
        ),
        "cosign": KindWords("Asking witnesses to cosign the log", On.PEER, (_PEER_UP,), (_LOG,)),
        "introduce-witness": KindWords(
            "Learning a counterparty's log key from the chain",
            On.OPERATOR,
            (Act("see that the operator has registered the peer's log"), _CHAIN_UP),
            (_LOG,),
        ),
        "rotate-log-key": KindWords(
            "Giving the evidence log a new key", On.CHAIN, (_CHAIN_UP,), (_RESTART, _LOG)
        ),
        "join-space": KindWords(
            "Joining the space",
            On.OPERATOR,
            (_OPERATOR_UP,),
            (
                Act(
                    "ask the operator for a new invitation",
                    "dataspace join --invitation CODE",
                ),
            ),
        ),
        "renew-membership": KindWords(
            "Renewing the membership credential in time", On.OPERATOR, (_OPERATOR_UP,), (_RESTART,)
        ),
        "renew-membership-now": KindWords(
            "Renewing the membership credential", On.OPERATOR, (_OPERATOR_UP,), (_RESTART,)
        ),
        "found-space": KindWords(
            "Founding the space and its contract", On.CHAIN, (_CHAIN_UP,), (_RESTART,)
        ),
        "register-log": KindWords(
            "Registering a new member's log in the chain", On.CHAIN, (_CHAIN_UP,), (_RESTART, _LOG)
        ),
        "look-at-dataset": KindWords(
            "Looking whether a dataset has changed", On.SOURCE, (_SOURCE_UP,), (_LOG,)
        ),
        "look-after-zones": KindWords(
            "Keeping the lists of zones fresh", On.OPERATOR, (_OPERATOR_UP,), (_RESTART,)
        ),
        "use-post-quantum-key": KindWords(
            "Beginning to sign with the new post-quantum key once it is known",
            On.TIME,
            (_LOG,),
            (_RESTART,),
        ),
        "tidy": KindWords("Forgetting what is no longer needed", On.TIME, (), (_RESTART,)),
        "list-participants": KindWords(
            "Learning from the operator who takes part", On.OPERATOR, (_OPERATOR_UP,), (_RESTART,)
        ),
        "list-participants-now": KindWords(
            "Learning from the operator who takes part", On.OPERATOR, (_OPERATOR_UP,), (_RESTART,)
        ),
        "deliver-credentials": KindWords(
            "Delivering credentials to a participant", On.PEER, (_PEER_UP,), (_LOG,)
        ),
        "look-after-status-lists": KindWords(
            "Keeping the lists of revoked credentials fresh",
            On.OPERATOR,
            (_OPERATOR_UP,),
            (_RESTART,),
        ),
        "use-signing-key": KindWords(
            "Beginning to sign with the new key once it is known", On.TIME, (_LOG,), (_RESTART,)
        ),
        "retire-signing-key": KindWords(
            "Taking the old signing key out of the DID document", On.TIME, (_LOG,), (_RESTART,)
        ),
        "read-catalogue": KindWords(
            "Reading a participant's catalogue", On.PEER, (_PEER_UP,), (_LOG,)
        ),
    }
)
UNKNOWN: Final = KindWords(
    "Work that this version does not know",
    On.US,
    (Act("run the version that began it, or a newer one"),),
    (Act("run the version that began it, or a newer one"),),
)


def of_kind(kind: str) -> KindWords:
    """The words for a kind of process; of one that no version here knows, that it is so."""
    return KINDS.get(kind, UNKNOWN)


@dataclass(frozen=True)
class StateWords:
    """A state: where the next word is ours, where it is the peer's, and where it is the last."""

    ours: str = ""
    theirs: str = ""
    sentence: str = ""


NEGOTIATION: Final[Mapping[NegotiationState, StateWords]] = MappingProxyType(
    {
        NegotiationState.REQUESTED: StateWords(
            "The peer has asked for an agreement; this node's answer is next.",
            "{peer} was asked for an agreement and has not answered yet.",
        ),
        NegotiationState.OFFERED: StateWords(
            "The peer has offered terms; this node's answer is next.",
            "{peer} was offered terms and has not answered yet.",
        ),
        NegotiationState.ACCEPTED: StateWords(
            "The peer has accepted; this node's agreement is next.",
            "The terms of {peer} were accepted; its agreement has not come yet.",
        ),
        NegotiationState.AGREED: StateWords(
            "The agreement has come; this node's signature is next.",
            "{peer} has the agreement and has not signed it yet.",
        ),
        NegotiationState.VERIFIED: StateWords(
            "The agreement is signed by both; this node concludes it next.",
            "The agreement is signed by both; {peer} has not concluded it yet.",
        ),
        NegotiationState.FINALIZED: StateWords(
            sentence="It led to an agreement; nothing is waited for."
        ),
        NegotiationState.TERMINATED: StateWords(sentence="It ended without an agreement."),
    }
)
TRANSFER: Final[Mapping[TransferState, StateWords]] = MappingProxyType(
    {
        TransferState.REQUESTED: StateWords(
            "The peer has asked for it; this node's decision is next.",
            "{peer} was asked for it and has not decided yet.",
        ),
        TransferState.STARTED: StateWords(
            "The rows are being moved by this node.",
            "It has started; {peer} moves the rows.",
        ),
        TransferState.SUSPENDED: StateWords(
            "It is suspended; nothing moves until somebody resumes it."
        ),
        TransferState.COMPLETED: StateWords(sentence="It is complete; nothing is waited for."),
        TransferState.TERMINATED: StateWords(sentence="It was ended before it was complete."),
    }
)
IS_COMPUTATION: Final = "It is a provider's part in a computation, which has begun."
COMPUTATION: Final[Mapping[str, str]] = MappingProxyType(
    {
        "REQUESTED": "It is ordered; every provider's permission is needed before it begins.",
        "RUNNING": "It runs.",
        "COMPLETED": "It is complete; nothing is waited for.",
        "REFUSED": "It was refused, or its result was withheld.",
        "FAILED": "It failed.",
    }
)
ENDED_COMPUTATION: Final = frozenset({"COMPLETED", "REFUSED", "FAILED"})
QUEUED: Final = (
    "It may begin and waits for its turn: this node runs so many computations at a time, and so "
    "many of one consumer."
)


def for_person(negotiation: str) -> tuple[Act, ...]:
    return (
        Act("look at what is asked", f"dataspace negotiation show {negotiation}"),
        Act("agree", f"dataspace negotiation approve {negotiation}"),
        Act("decline", f"dataspace negotiation decline {negotiation}"),
    )


def silent_peer(peer: str, negotiation: str) -> tuple[Act, ...]:
    return (
        Act(f"ask the people of {peer}: their node, or a person there, has the next word"),
        Act("end it", f"dataspace negotiation end {negotiation}"),
    )


def silent_provider(peer: str, transfer: str) -> tuple[Act, ...]:
    return (
        Act(f"ask the people of {peer}: their node has the next word"),
        Act("end it", f"dataspace transfer end {transfer}"),
    )


def end_negotiation(negotiation: str) -> tuple[Act, ...]:
    return (Act("end it", f"dataspace negotiation end {negotiation}"),)


def end_transfer(transfer: str) -> tuple[Act, ...]:
    return (Act("end it", f"dataspace transfer end {transfer}"),)


def end(what: str, of: str) -> tuple[Act, ...]:
    """How a negotiation or a transfer is ended."""
    return (Act("end it", f"dataspace {what} end {of}"),)


def resume(transfer: str) -> tuple[Act, ...]:
    return (Act("resume it", f"dataspace transfer resume {transfer}"), *end_transfer(transfer))


def look_at_computation(computation: str) -> tuple[Act, ...]:
    return (Act("see where the computation is", f"dataspace why {computation}"),)


def cancel(computation: str) -> tuple[Act, ...]:
    return (Act("cancel it", f"dataspace computation cancel {computation}"),)


def again(status: str) -> tuple[Act, ...]:
    """What to do after a computation ended so."""
    return (Act("order it again once the cause is gone"),) if status == "FAILED" else ()
