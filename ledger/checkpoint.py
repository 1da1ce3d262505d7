"""Checkpoints as signed notes (C2SP signed-note, tlog-checkpoint).

A note is a text, an empty line and signature lines `— <name> base64(key id ‖ signature)`. A
verifier ignores keys it does not know; a signature under a key it knows must be good or the whole
note is refused; at least one must be good.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import InvalidCheckpoint, InvalidNote
from ledger.merkle import HASH_BYTES

ED25519 = b"\x01"
KEY_ID_BYTES = 4
PUBLIC_KEY_BYTES = 32
# The specification asks for at least 16; counterparties that cosign are fewer than this.
MAX_SIGNATURES = 64
# Room for 64 post-quantum signatures of up to 5 kB beside a short text.
MAX_NOTE_BYTES = 512 * 1024
# Tree sizes are 64 bits wide in the contract and 63 in other implementations.
MAX_TREE_SIZE = (1 << 63) - 1

_SIGNATURE_PREFIX = "— "
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID = re.compile(r"[0-9a-fA-F]{8}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


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
    if len(lines) != 4 or lines[3]:
        raise InvalidCheckpoint(
            f"expected three lines, each ended by a newline, got {len(lines) - 1}"
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


class NoteSigner:
    """A named Ed25519 key that signs notes."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        _check_name(name)
        self.name = name
        self._key = key
        self._public = key.public_key().public_bytes_raw()
        self.key_id = _key_id(name, self._public)

    @property
    def vkey(self) -> str:
        """The verifier key as text: `name+hex(key id)+base64(type ‖ public key)`."""
        encoded = base64.b64encode(ED25519 + self._public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def sign(self, body: str) -> bytes:
        return self._key.sign(body.encode())


@dataclass(frozen=True)
class NoteVerifier:
    """A named Ed25519 public key that notes are verified with."""

    name: str
    key_id: bytes
    public_key: bytes

    @staticmethod
    def parse(vkey: str) -> NoteVerifier:
        """The key in this text. Raises InvalidNote, also when the key id belongs to another key."""
        # The base64 part may itself contain a plus sign.
        parts = vkey.split("+", 2)
        if len(parts) != 3:
            raise InvalidNote("a verifier key has three parts: name+keyid+base64")
        name, key_id, encoded = parts
        _check_name(name)
        if not _KEY_ID.fullmatch(key_id):
            raise InvalidNote("the key id of a verifier key has 8 hexadecimal digits")
        try:
            typed = strict_base64(encoded)
        except ValueError as err:
            raise InvalidNote("the key of a verifier key is not base64") from err
        if typed[:1] != ED25519 or len(typed) != 1 + PUBLIC_KEY_BYTES:
            raise InvalidNote(
                f"expected an Ed25519 key (type 01, {PUBLIC_KEY_BYTES} bytes), "
                f"got type {typed[:1].hex()} with {len(typed) - 1} bytes"
            )
        public_key = typed[1:]
        if _key_id(name, public_key) != bytes.fromhex(key_id):
            raise InvalidNote(f"the key id {key_id} is not that of the key named {name}")
        return NoteVerifier(name, bytes.fromhex(key_id), public_key)

    def verify(self, body: str, signature: bytes) -> None:
        """Raise InvalidNote unless this key signed the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, body.encode())
        except InvalidSignature as err:
            raise InvalidNote(f"the signature of {self.name} does not match the text") from err


def sign_note(body: str, signers: Sequence[NoteSigner]) -> str:
    """The text with one signature line for each signer. Raises InvalidNote for an unfit text."""
    if not signers:
        raise InvalidNote("a note needs at least one signature")
    if not body.endswith("\n"):
        raise InvalidNote("the text of a note ends in a newline")
    _check_text(body)
    lines = (
        f"{_SIGNATURE_PREFIX}{signer.name} "
        f"{base64.b64encode(signer.key_id + signer.sign(body)).decode()}\n"
        for signer in signers
    )
    note = f"{body}\n{''.join(lines)}"
    # Cosigners add lines later, so both limits hold for what we write, too.
    if len(signers) > MAX_SIGNATURES or len(note.encode()) > MAX_NOTE_BYTES:
        raise InvalidNote("the note is larger than verifiers accept")
    return note


def verify_note(note: str, verifiers: Sequence[NoteVerifier]) -> str:
    """The text of a note that at least one of these keys signed. Raises InvalidNote.

    A bad signature under any of these keys refuses the note, even beside good ones; signatures
    of other keys are ignored, also when they share the name or the id (but not both).
    """
    body, lines = _split_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    signed_by = 0
    for line in lines:
        name, key_id, signature = _parse_signature(line)
        verifier = known.get((name, key_id))
        if verifier is not None:
            verifier.verify(body, signature)
            signed_by += 1
    if signed_by == 0:
        names = ", ".join(sorted(verifier.name for verifier in verifiers)) or "nobody"
        raise InvalidNote(f"the note is not signed by a known key, expected one of: {names}")
    return body


def verify_checkpoint(note: str, verifier: NoteVerifier, origin: str) -> Checkpoint:
    """The checkpoint in a note signed by this key for the log of this origin.

    Raises InvalidNote for a bad signature, InvalidCheckpoint for another text or origin.
    """
    checkpoint = parse_checkpoint(verify_note(note, [verifier]))
    if checkpoint.origin != origin:
        raise InvalidCheckpoint(
            f"expected a checkpoint of {origin}, got one of {checkpoint.origin}"
        )
    return checkpoint


def strict_base64(text: str) -> bytes:
    """Bytes of standard base64 that has exactly one spelling. Raises ValueError.

    Python ignores the unused bits of the last digit; two texts for one value would let a note
    be changed without its signature noticing.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except binascii.Error as err:
        raise ValueError("not base64") from err
    if base64.b64encode(decoded).decode() != text:
        raise ValueError("not canonical base64")
    return decoded


def _split_note(note: str) -> tuple[str, list[str]]:
    _check_text(note)
    if len(note.encode()) > MAX_NOTE_BYTES:
        raise InvalidNote(f"the note is larger than {MAX_NOTE_BYTES} bytes")
    # The text may itself contain empty lines; the last one ends it.
    split = note.rfind("\n\n")
    if split < 0 or not note.endswith("\n"):
        raise InvalidNote("expected a text, an empty line and signature lines ended by a newline")
    body, signatures = note[: split + 1], note[split + 2 : -1]
    lines = signatures.split("\n") if signatures else []
    if not lines:
        raise InvalidNote("the note has no signature line")
    if len(lines) > MAX_SIGNATURES:
        raise InvalidNote(f"{len(lines)} signatures, at most {MAX_SIGNATURES} are accepted")
    return body, lines


def _parse_signature(line: str) -> tuple[str, bytes, bytes]:
    name, separator, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    if not line.startswith(_SIGNATURE_PREFIX) or not separator:
        raise InvalidNote("a signature line is an em dash, a name and base64")
    _check_name(name)
    try:
        signed = strict_base64(encoded)
    except ValueError as err:
        raise InvalidNote(f"the signature of {name} is not base64") from err
    if len(signed) <= KEY_ID_BYTES:
        raise InvalidNote(f"the signature of {name} is too short")
    return name, signed[:KEY_ID_BYTES], signed[KEY_ID_BYTES:]


def _key_id(name: str, public_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + ED25519 + public_key).digest()[:KEY_ID_BYTES]


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() for character in name):
        raise InvalidNote("a key name is not empty and has neither spaces nor plus signs")
    _check_text(name)


def _check_origin(origin: str) -> None:
    if not origin or _CONTROL.search(origin) or "\n" in origin:
        raise InvalidCheckpoint("an origin is one line that is not empty")


def _check_text(text: str) -> None:
    if _CONTROL.search(text):
        raise InvalidNote("control characters other than newline are not allowed in a note")
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise InvalidNote("a note is UTF-8 text") from err
