"""What can go wrong in the ledger, by whose fault."""

from __future__ import annotations


class LedgerError(Exception):
    """Any failure this library reports on purpose."""


class InputRejected(LedgerError):
    """The caller asked for something that has no answer: an index beyond the log, a bad key."""


class InvalidEntry(LedgerError):
    """A record is malformed, or its body does not open the commitment it is shown for."""


class InvalidProof(LedgerError):
    """A Merkle proof does not show what it claims."""


class InvalidNote(LedgerError):
    """A signed note is malformed or not signed by a key we know."""


class TooFewCosignatures(InvalidNote):
    """A checkpoint verifies, but fewer witnesses have cosigned it than required."""


class RetiredKey(InvalidNote):
    """A checkpoint is signed by a key that was replaced before this head was anchored."""


class InvalidCheckpoint(LedgerError):
    """The text of a note is not a checkpoint, or is the checkpoint of another log."""


class ChainUnavailable(LedgerError):
    """The chain did not answer, or has not mined yet. Trying again later is right."""


class ChainRefused(LedgerError):
    """The chain or the contract answered no. Trying the same again is pointless.

    `name` is the contract's custom error, or the name of the check that failed on our side.
    """

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(f"{name}: {sentence}")
        self.name = name
        self.sentence = sentence
