"""The Dataspace Protocol 2025-1 over HTTPS: both roles, state machines from `contracts`."""

from typing import TypedDict


class Pids(TypedDict):
    """The two names of a process, as every message about it carries them."""

    provider_pid: str
    consumer_pid: str
