"""Inclusion proofs that verify offline: `c2sp.org/tlog-proof@v1`."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.checkpoint import MAX_TREE_SIZE, Checkpoint, verify_checkpoint
from ledger.cosignature import CosignatureVerifier, verify_cosignatures
from ledger.errors import InvalidProof
from ledger.merkle import HASH_BYTES, MAX_PROOF_HASHES, leaf_hash, verify_inclusion
from ledger.note import Verifier, strict_base64

HEADER = "c2sp.org/tlog-proof@v1"
# What travels beside a proof is small: a record's salt, a transaction hash.
MAX_EXTRA_BYTES = 64 * 1024

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True)
class LogProof:
    """Leaf `index` is in the tree of the signed `checkpoint` note by way of `hashes`.

    `extra` is not authenticated; it is for data needed to recompute the leaf.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def to_text(self) -> str:
        """The proof as a `.tlog-proof` file."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(value).decode() for value in self.hashes]
        return "\n".join([*lines, "", self.checkpoint])


def parse_proof(text: str) -> LogProof:
    """The proof in this file. Raises InvalidProof; verifies nothing yet."""
    head, separator, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or lines[0] != HEADER:
        raise InvalidProof(f"expected a file that begins with {HEADER} and holds a checkpoint")
    lines = lines[1:]
    extra: bytes | None = None
    if lines and lines[0].startswith("extra "):
        extra = _decode(lines.pop(0).removeprefix("extra "), "extra")
        if len(extra) > MAX_EXTRA_BYTES:
            raise InvalidProof(f"extra of {len(extra)} bytes, at most {MAX_EXTRA_BYTES}")
    match = _INDEX.fullmatch(lines[0]) if lines else None
    if match is None or int(match[1]) > MAX_TREE_SIZE:
        raise InvalidProof("expected a line `index` with a decimal without leading zeroes")
    if len(lines) - 1 > MAX_PROOF_HASHES:
        raise InvalidProof(f"{len(lines) - 1} hashes, at most {MAX_PROOF_HASHES} are possible")
    hashes = tuple(_decode(line, "hash") for line in lines[1:])
    if any(len(value) != HASH_BYTES for value in hashes):
        raise InvalidProof(f"a hash of the proof does not have {HASH_BYTES} bytes")
    return LogProof(index=int(match[1]), hashes=hashes, checkpoint=checkpoint, extra=extra)


def verify_proof(
    proof: LogProof,
    data: bytes,
    verifier: Verifier,
    origin: str,
    *,
    witnesses: Sequence[CosignatureVerifier] = (),
    threshold: int = 0,
) -> Checkpoint:
    """The checkpoint that covers this leaf data, when the proof holds.

    At least `threshold` of the witnesses must have cosigned the checkpoint, and every cosignature
    of theirs must be good. Raises InvalidNote or InvalidCheckpoint for its signatures,
    TooFewCosignatures for too few, InvalidProof for the path.
    """
    checkpoint = verify_checkpoint(proof.checkpoint, verifier, origin)
    verify_cosignatures(proof.checkpoint, verifier, witnesses, threshold)
    verify_inclusion(leaf_hash(data), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint


def _decode(text: str, what: str) -> bytes:
    try:
        return strict_base64(text)
    except ValueError as err:
        raise InvalidProof(f"the {what} line of the proof is not base64") from err
