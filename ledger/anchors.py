"""What the chain says about logs, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Anchor:
    """A tree head on the chain: entries, 32-byte root, and the block's number and UNIX time."""

    size: int
    root: bytes
    block: int
    timestamp: int


@dataclass(frozen=True)
class RegisteredLog:
    """A log as the registrar admitted it and its owner keeps it."""

    origin: str
    owner: str
    vkey: str
    url: str
    revoked: bool


@dataclass(frozen=True)
class RotationRecord:
    """From the anchor of `size` entries on, the log's checkpoints are signed with `vkey`.

    The first record of a log is its registration, with size 0. `block` is where the chain has it.
    """

    vkey: str
    size: int
    block: int
