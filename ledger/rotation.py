"""Which of the keys a log has had may vouch for a checkpoint.

The contract's anchors only grow, and a rotation records how many entries were anchored at that
moment, so "anchored before the rotation" is "not larger than that size".
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.anchors import Anchor, RotationRecord
from ledger.checkpoint import Checkpoint, NoteVerifier, verify_checkpoint
from ledger.errors import InvalidNote, RetiredKey


def verify_with_history(
    note: str, origin: str, history: Sequence[RotationRecord], anchors: Sequence[Anchor]
) -> tuple[Checkpoint, NoteVerifier]:
    """The checkpoint in this note, and the key that vouches for it.

    That is the present key of the log, or an earlier one when the chain has anchored this very
    head before that key was replaced.

    Raises InvalidNote for a key the log never had, RetiredKey for an earlier key's checkpoint that
    was not anchored in time, InvalidCheckpoint for another text or origin.
    """
    refusal: InvalidNote = InvalidNote("the chain has no key of this log")
    for position in reversed(range(len(history))):
        try:
            verifier = NoteVerifier.parse(history[position].vkey)
            checkpoint = verify_checkpoint(note, verifier, origin)
        except InvalidNote as err:
            refusal = err
            continue
        if position + 1 == len(history):
            return checkpoint, verifier
        retired_at = history[position + 1].size
        anchored = any(
            (anchor.size, anchor.root) == (checkpoint.size, checkpoint.root)
            for anchor in anchors
            if anchor.size <= retired_at
        )
        if not anchored:
            raise RetiredKey(
                f"the checkpoint of {checkpoint.size} entries is signed by a key replaced at "
                f"{retired_at} entries, and was not anchored before: sign it with the present key"
            )
        return checkpoint, verifier
    raise refusal
