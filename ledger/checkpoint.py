"""Checkpoints: a log's tree head as a signed note (C2SP tlog-checkpoint).

What a reader of checkpoints needs of `ledger.note` is given here, too.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from ledger.errors import InvalidCheckpoint
from ledger.merkle import HASH_BYTES
from ledger.note import ED25519 as ED25519
from ledger.note import MAX_NOTE_BYTES as MAX_NOTE_BYTES
from ledger.note import MAX_SIGNATURES as MAX_SIGNATURES
from ledger.note import NoteSigner as NoteSigner
from ledger.note import NoteVerifier as NoteVerifier
from ledger.note import Verifier, strict_base64, verify_note
from ledger.note import sign_note as sign_note

# Tree sizes are 64 bits wide in the contract and 63 in other implementations.
MAX_TREE_SIZE = (1 << 63) - 1

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True)
class Checkpoint:
    """A tree head: the log's origin, its size in entries, the 32-byte root at that size."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """The note text: origin, size and base64 root, one line each; no extension lines.

        Raises InvalidCheckpoint for values that have no valid text.
        """
        _check_origin(self.origin)
        if not 0 <= self.size <= MAX_TREE_SIZE or len(self.root) != HASH_BYTES:
            raise InvalidCheckpoint(
                f"a checkpoint of size {self.size} with a root of {len(self.root)} bytes"
            )
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def parse_checkpoint(body: str) -> Checkpoint:
    """The checkpoint in this note text. Raises InvalidCheckpoint.

    Extension lines are refused: nobody can audit them, and our logs write none.
    """
    lines = body.split("\n")
    if len(lines) != 4:
        raise InvalidCheckpoint(
            f"expected three lines, each ended by a newline, got {len(lines) - 1}"
        )
    return parse_tree_head(body)


def parse_tree_head(body: str) -> Checkpoint:
    """The first three lines of this note text; extension lines may follow, none of them empty.

    A cosigner of foreign logs needs this: it signs the text whole and vouches for the tree head
    only. Raises InvalidCheckpoint.
    """
    lines = body.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise InvalidCheckpoint(
            "expected at least three lines that are not empty, each ended by a newline"
        )
    origin, size, root = lines[:3]
    _check_origin(origin)
    if not _DECIMAL.fullmatch(size) or int(size) > MAX_TREE_SIZE:
        raise InvalidCheckpoint("the size is not a decimal without leading zeroes")
    try:
        digest = strict_base64(root)
    except ValueError as err:
        raise InvalidCheckpoint("the root is not base64") from err
    if len(digest) != HASH_BYTES:
        raise InvalidCheckpoint(f"the root has {len(digest)} bytes, expected {HASH_BYTES}")
    return Checkpoint(origin, int(size), digest)


def verify_checkpoint(note: str, verifier: Verifier, origin: str) -> Checkpoint:
    """The checkpoint in a note signed by this key for the log of this origin.

    Raises InvalidNote for a bad signature, InvalidCheckpoint for another text or origin.
    """
    checkpoint = parse_checkpoint(verify_note(note, [verifier]))
    if checkpoint.origin != origin:
        raise InvalidCheckpoint(
            f"expected a checkpoint of {origin}, got one of {checkpoint.origin}"
        )
    return checkpoint


def _check_origin(origin: str) -> None:
    if not origin or _CONTROL.search(origin):
        raise InvalidCheckpoint("an origin is one line that is not empty")
