"""Cosignatures: timestamped statements about a checkpoint (C2SP tlog-cosignature).

A cosigner states that, as of a time, the tree head it signs is the largest consistent one it has
seen of that log. Type 04 is Ed25519 over `cosignature/v1`, the time and the whole note text; type
06 is ML-DSA-44 over a binary structure of cosigner, time, origin, size and root. The signature in
the note line is `u64 time ‖ signature` for both.

The same ML-DSA-44 format is what tlog-checkpoint recommends for a log's own signature, so
`Cosigner.at(time)` serves as a signer beside the log's `NoteSigner`, and `CosignatureVerifier` as
the log's verifier. Where the specification leaves room, this is how it is read here:

- FIPS 204 has a context string; the specification names none, so it is empty. It names "ML-DSA-44",
  so it is not the pre-hashed variant.
- Whether a log that signs itself states a time is not said. A time of zero ("no statement as to the
  tree being the largest") is accepted in a log's own signature and refused in a witness's.
- Names and origins longer than 255 bytes do not fit the structure and are refused.
- Extension lines of a checkpoint are not covered by type 06.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from ledger.checkpoint import parse_tree_head
from ledger.errors import InputRejected, InvalidNote, TooFewCosignatures
from ledger.note import (
    NoteSignature,
    Verifier,
    add_signatures,
    check_name,
    key_id_of,
    parse_signatures,
    parse_vkey,
    split_note,
    verified_signatures,
    vkey_of,
)

ED25519_COSIGNATURE = b"\x04"
MLDSA44_COSIGNATURE = b"\x06"
TIME_BYTES = 8
MAX_TIME = (1 << 63) - 1
PUBLIC_KEY_BYTES = {ED25519_COSIGNATURE: 32, MLDSA44_COSIGNATURE: 1312}
SIGNATURE_BYTES = {ED25519_COSIGNATURE: 64, MLDSA44_COSIGNATURE: 2420}

_MLDSA_LABEL = b"subtree/v1\n\0"
# Lengths in the signed structure are one byte wide.
_MAX_NAME_BYTES = 255


@dataclass(frozen=True)
class Cosigned:
    """A verified statement of a cosigner: its name and its time in UNIX seconds."""

    name: str
    time: int


class Cosigner:
    """A named key that cosigns checkpoints: Ed25519 (type 04) or ML-DSA-44 (type 06).

    An Ed25519 key must serve one cosigner only: its signature does not say under which name.
    """

    def __init__(self, name: str, key: Ed25519PrivateKey | MLDSA44PrivateKey) -> None:
        check_name(name)
        self.name = name
        self._key = key
        mldsa = isinstance(key, MLDSA44PrivateKey)
        self.kind = MLDSA44_COSIGNATURE if mldsa else ED25519_COSIGNATURE
        self._public = key.public_key().public_bytes_raw()
        self.key_id = key_id_of(name, self.kind, self._public)

    @property
    def vkey(self) -> str:
        """The verifier key as text: `name+hex(key id)+base64(type ‖ public key)`."""
        return vkey_of(self.name, self.kind, self._public)

    def at(self, time: int) -> TimedCosigner:
        """The signer that states this time in UNIX seconds.

        Zero makes no statement of a time, which type 06 alone allows. Raises InputRejected.
        """
        earliest = 0 if self.kind == MLDSA44_COSIGNATURE else 1
        if not earliest <= time <= MAX_TIME:
            raise InputRejected(f"a cosignature's time is {earliest} to 2^63 - 1, got {time}")
        return TimedCosigner(self, time)

    def sign(self, body: str, time: int) -> bytes:
        """The time and the signature over it and this checkpoint text."""
        return time.to_bytes(TIME_BYTES) + self._key.sign(
            signed_message(self.kind, self.name, time, body)
        )


@dataclass(frozen=True)
class TimedCosigner:
    """A cosigner at one time: a `ledger.note.Signer`."""

    cosigner: Cosigner
    time: int

    @property
    def name(self) -> str:
        return self.cosigner.name

    @property
    def key_id(self) -> bytes:
        return self.cosigner.key_id

    def sign(self, body: str) -> bytes:
        return self.cosigner.sign(body, self.time)


@dataclass(frozen=True)
class CosignatureVerifier:
    """A cosigner's public key, of type 04 or 06: a `ledger.note.Verifier`."""

    name: str
    key_id: bytes
    kind: bytes
    public_key: bytes

    @staticmethod
    def parse(vkey: str) -> CosignatureVerifier:
        """The key in this text. Raises InvalidNote, also for another type of key."""
        name, key_id, kind, public_key = parse_vkey(vkey)
        if PUBLIC_KEY_BYTES.get(kind) != len(public_key):
            raise InvalidNote(
                "expected a cosigner's key (type 04 with 32 bytes or type 06 with 1312 bytes), "
                f"got type {kind.hex()} with {len(public_key)} bytes"
            )
        return CosignatureVerifier(name, key_id, kind, public_key)

    def verify(self, body: str, signature: bytes) -> None:
        """Raise InvalidNote unless this key cosigned this checkpoint, at the time it states."""
        if len(signature) != TIME_BYTES + SIGNATURE_BYTES[self.kind]:
            raise InvalidNote(f"the cosignature of {self.name} has {len(signature)} bytes")
        time = cosigned_time(signature)
        if time > MAX_TIME:
            raise InvalidNote(f"the cosignature of {self.name} has a time beyond 2^63 - 1")
        message = signed_message(self.kind, self.name, time, body)
        try:
            if self.kind == ED25519_COSIGNATURE:
                Ed25519PublicKey.from_public_bytes(self.public_key).verify(
                    signature[TIME_BYTES:], message
                )
            else:
                MLDSA44PublicKey.from_public_bytes(self.public_key).verify(
                    signature[TIME_BYTES:], message
                )
        except InvalidSignature as err:
            raise InvalidNote(f"the cosignature of {self.name} does not match the text") from err


def cosigned_time(signature: bytes) -> int:
    """The UNIX time that a cosignature states; verify it first."""
    return int.from_bytes(signature[:TIME_BYTES])


def signed_message(kind: bytes, name: str, time: int, body: str) -> bytes:
    """What a cosigner of this kind signs for this checkpoint text.

    Raises InvalidCheckpoint when type 06 is asked to sign what is no checkpoint, InvalidNote when
    a name does not fit it.
    """
    if kind == ED25519_COSIGNATURE:
        return f"cosignature/v1\ntime {time}\n{body}".encode()
    head = parse_tree_head(body)
    return b"".join(
        (
            _MLDSA_LABEL,
            _with_length(name),
            time.to_bytes(TIME_BYTES),
            _with_length(head.origin),
            # The subtree from the first leaf on is the whole tree.
            (0).to_bytes(8),
            head.size.to_bytes(8),
            head.root,
        )
    )


def verify_cosignatures(
    note: str,
    log_verifier: Verifier,
    witness_verifiers: Sequence[CosignatureVerifier],
    threshold: int,
) -> tuple[Cosigned, ...]:
    """The witnesses that cosigned this checkpoint of the log, sorted by name, at least
    `threshold` of them.

    A witness counts once, however many of its keys signed, with the latest time it stated. Whose
    log it is, `verify_checkpoint` says. Raises InvalidNote when the log did not sign or a known
    signature is bad, TooFewCosignatures when fewer than `threshold` witnesses signed.
    """
    body, signatures = split_note(note)
    if not verified_signatures(body, signatures, [log_verifier]):
        raise InvalidNote(f"the checkpoint is not signed by the log's key {log_verifier.name}")
    times: dict[str, int] = {}
    for signature in verified_signatures(body, signatures, witness_verifiers):
        time = cosigned_time(signature.signature)
        if time == 0:
            raise InvalidNote(f"the cosignature of {signature.name} states no time")
        times[signature.name] = max(time, times.get(signature.name, 0))
    if len(times) < threshold:
        known = ", ".join(sorted({verifier.name for verifier in witness_verifiers})) or "nobody"
        raise TooFewCosignatures(
            f"the checkpoint has {len(times)} cosignatures of known witnesses ({known}), "
            f"{threshold} are required"
        )
    return tuple(Cosigned(name, times[name]) for name in sorted(times))


def merge_cosignatures(
    note: str, lines: str, witness_verifiers: Sequence[CosignatureVerifier]
) -> str:
    """The checkpoint with the lines that a witness answered, as far as its keys are known.

    Lines of unknown keys are left out, and an older line of the same key makes room for the newer.
    Raises InvalidNote when a known key's line does not verify, or when none is of a known key.
    """
    body, present = split_note(note)
    fresh = verified_signatures(body, parse_signatures(lines), witness_verifiers)
    if not fresh:
        raise InvalidNote("the witness answered with no signature of a key known to be its own")
    latest: dict[tuple[str, bytes], NoteSignature] = {(s.name, s.key_id): s for s in fresh}
    kept = [signature for signature in present if (signature.name, signature.key_id) not in latest]
    return add_signatures(f"{body}\n", [*kept, *latest.values()])


def _with_length(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > _MAX_NAME_BYTES:
        raise InvalidNote(
            f"a name of {len(encoded)} bytes, ML-DSA-44 cosignatures allow {_MAX_NAME_BYTES}"
        )
    return len(encoded).to_bytes(1) + encoded
