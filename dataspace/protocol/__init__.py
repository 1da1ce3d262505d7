"""The Dataspace Protocol 2025-1 over HTTPS: both roles, state machines from `contracts`."""

from dataclasses import dataclass
from typing import TypedDict

from contracts.messages import Document
from contracts.strategy import NegotiationStrategy, negotiate
from contracts.transfer_strategy import TransferStrategy, default_transfer
from dataspace.errors import ProtocolViolation

# Where the protocol is bound under a node's address; version discovery says so to peers.
BASE = "/dsp/2025-1"

UNKNOWN_PID = "urn:unknown"


@dataclass(frozen=True)
class Behaviour:
    """How a node plays the protocol by itself: what it does next, and how soon.

    `pause_s` is the time between reaching a state and our own next move.
    """

    negotiation: NegotiationStrategy = negotiate
    transfer: TransferStrategy = default_transfer
    pause_s: float = 0.0


class Pids(TypedDict):
    """The two names of a process, as every message about it carries them."""

    provider_pid: str
    consumer_pid: str


def verify_pids(message: Document, ours: Pids) -> None:
    """A message about a process must name it as both sides know it. Raises ProtocolViolation.

    A name we have not learned yet is not compared.
    """
    for name, wire in (("provider_pid", "providerPid"), ("consumer_pid", "consumerPid")):
        given, known = getattr(message, name, None), ours[name]  # type: ignore[literal-required]
        if given is None and name in type(message).model_fields:
            # Without it this is the first message of another process.
            raise ProtocolViolation(f"{wire} is required in a message about a process")
        if given is not None and known != UNKNOWN_PID and given != known:
            raise ProtocolViolation(f"{wire}: it is not this process's")
