"""The Dataspace Protocol 2025-1 over HTTPS: both roles, state machines from `contracts`."""

from typing import TypedDict

from contracts.messages import Document
from dataspace.errors import ProtocolViolation

# Where the protocol is bound under a node's address; version discovery says so to peers.
BASE = "/dsp/2025-1"

UNKNOWN_PID = "urn:unknown"


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
        if given is not None and known != UNKNOWN_PID and given != known:
            raise ProtocolViolation(f"{wire}: it is not this process's")
