"""Signed notes (C2SP signed-note): a text, an empty line, and signature lines.

A signature line is `— <name> base64(key id ‖ signature)`. A verifier ignores keys it does not
know; a signature under a key it knows must be good or the whole note is refused; at least one must
be good. What a signature is made of is the key's business: `ledger.cosignature` has other kinds.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import InvalidNote

ED25519 = b"\x01"
KEY_ID_BYTES = 4
PUBLIC_KEY_BYTES = 32
# The specification asks for at least 16; counterparties that cosign are fewer than this.
MAX_SIGNATURES = 64
# Room for 64 post-quantum signatures of up to 5 kB beside a short text.
MAX_NOTE_BYTES = 512 * 1024

_SIGNATURE_PREFIX = "— "
_KEY_ID = re.compile(r"[0-9a-fA-F]{8}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class Signer(Protocol):
    """A named key that makes one kind of signature."""

    @property
    def name(self) -> str: ...
    @property
    def key_id(self) -> bytes: ...
    def sign(self, body: str) -> bytes: ...


class Verifier(Protocol):
    """A named public key that verifies one kind of signature; raises InvalidNote for a bad one."""

    @property
    def name(self) -> str: ...
    @property
    def key_id(self) -> bytes: ...
    def verify(self, body: str, signature: bytes) -> None: ...


@dataclass(frozen=True)
class NoteSignature:
    """A signature line, taken apart: nothing is verified yet."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line as it stands in a note, with its newline."""
        encoded = base64.b64encode(self.key_id + self.signature).decode()
        return f"{_SIGNATURE_PREFIX}{self.name} {encoded}\n"


class NoteSigner:
    """A named Ed25519 key that signs notes."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        check_name(name)
        self.name = name
        self._key = key
        self._public = key.public_key().public_bytes_raw()
        self.key_id = key_id_of(name, ED25519, self._public)

    @property
    def vkey(self) -> str:
        """The verifier key as text: `name+hex(key id)+base64(type ‖ public key)`."""
        return vkey_of(self.name, ED25519, self._public)

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
        name, key_id, kind, public_key = parse_vkey(vkey)
        if kind != ED25519 or len(public_key) != PUBLIC_KEY_BYTES:
            raise InvalidNote(
                f"expected an Ed25519 key (type 01, {PUBLIC_KEY_BYTES} bytes), "
                f"got type {kind.hex()} with {len(public_key)} bytes"
            )
        return NoteVerifier(name, key_id, public_key)

    def verify(self, body: str, signature: bytes) -> None:
        """Raise InvalidNote unless this key signed the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, body.encode())
        except InvalidSignature as err:
            raise InvalidNote(f"the signature of {self.name} does not match the text") from err


def sign_note(body: str, signers: Sequence[Signer]) -> str:
    """The text with one signature line for each signer. Raises InvalidNote for an unfit text."""
    if not signers:
        raise InvalidNote("a note needs at least one signature")
    if not body.endswith("\n"):
        raise InvalidNote("the text of a note ends in a newline")
    check_text(body)
    return add_signatures(f"{body}\n", (signature_of(signer, body) for signer in signers))


def signature_of(signer: Signer, body: str) -> NoteSignature:
    """This signer's signature of the text of a note."""
    return NoteSignature(signer.name, signer.key_id, signer.sign(body))


def add_signatures(note: str, signatures: Iterable[NoteSignature]) -> str:
    """The note with these lines at its end. Raises InvalidNote when it gets larger than allowed."""
    longer = note + "".join(signature.line for signature in signatures)
    # Cosigners add lines later, so the limits hold for what we write, too.
    if longer.rpartition("\n\n")[2].count("\n") > MAX_SIGNATURES:
        raise InvalidNote(f"the note would have more than {MAX_SIGNATURES} signatures")
    if len(longer.encode()) > MAX_NOTE_BYTES:
        raise InvalidNote(f"the note would be larger than {MAX_NOTE_BYTES} bytes")
    return longer


def verify_note(note: str, verifiers: Sequence[Verifier]) -> str:
    """The text of a note that at least one of these keys signed. Raises InvalidNote.

    A bad signature under any of these keys refuses the note, even beside good ones; signatures
    of other keys are ignored, also when they share the name or the id (but not both).
    """
    body, signatures = split_note(note)
    if not verified_signatures(body, signatures, verifiers):
        names = ", ".join(sorted(verifier.name for verifier in verifiers)) or "nobody"
        raise InvalidNote(f"the note is not signed by a known key, expected one of: {names}")
    return body


def verified_signatures(
    body: str, signatures: Iterable[NoteSignature], verifiers: Iterable[Verifier]
) -> list[NoteSignature]:
    """The signatures of the text that these keys made; those of other keys are left out.

    Raises InvalidNote when one claims to be of a known key and is not good.
    """
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    verified = []
    for signature in signatures:
        verifier = known.get((signature.name, signature.key_id))
        if verifier is not None:
            verifier.verify(body, signature.signature)
            verified.append(signature)
    return verified


def split_note(note: str) -> tuple[str, list[NoteSignature]]:
    """The text and the signatures of a note. Raises InvalidNote; verifies nothing yet."""
    check_text(note)
    if len(note.encode()) > MAX_NOTE_BYTES:
        raise InvalidNote(f"the note is larger than {MAX_NOTE_BYTES} bytes")
    # The text may itself contain empty lines; the last one ends it.
    split = note.rfind("\n\n")
    if split < 0 or not note.endswith("\n"):
        raise InvalidNote("expected a text, an empty line and signature lines ended by a newline")
    return note[: split + 1], parse_signatures(note[split + 2 :])


def parse_signatures(lines: str) -> list[NoteSignature]:
    """The signature lines in this text, each ended by a newline, at least one.

    Raises InvalidNote; verifies nothing yet.
    """
    split = lines[:-1].split("\n") if lines[:-1] else []
    if not split or not lines.endswith("\n"):
        raise InvalidNote("the note has no signature line")
    if len(split) > MAX_SIGNATURES:
        raise InvalidNote(f"{len(split)} signatures, at most {MAX_SIGNATURES} are accepted")
    return [_parse_signature(line) for line in split]


def parse_vkey(vkey: str) -> tuple[str, bytes, bytes, bytes]:
    """(name, key id, type byte, public key) of a verifier key.

    Raises InvalidNote, also when the key id belongs to another key.
    """
    # The base64 part may itself contain a plus sign.
    parts = vkey.split("+", 2)
    if len(parts) != 3:
        raise InvalidNote("a verifier key has three parts: name+keyid+base64")
    name, key_id, encoded = parts
    check_name(name)
    if not _KEY_ID.fullmatch(key_id):
        raise InvalidNote("the key id of a verifier key has 8 hexadecimal digits")
    try:
        typed = strict_base64(encoded)
    except ValueError as err:
        raise InvalidNote("the key of a verifier key is not base64") from err
    kind, public_key = typed[:1], typed[1:]
    if not public_key or key_id_of(name, kind, public_key) != bytes.fromhex(key_id):
        raise InvalidNote(f"the key id {key_id} is not that of the key named {name}")
    return name, bytes.fromhex(key_id), kind, public_key


def vkey_of(name: str, kind: bytes, public_key: bytes) -> str:
    """The verifier key as text: `name+hex(key id)+base64(type ‖ public key)`."""
    encoded = base64.b64encode(kind + public_key).decode()
    return f"{name}+{key_id_of(name, kind, public_key).hex()}+{encoded}"


def key_id_of(name: str, kind: bytes, public_key: bytes) -> bytes:
    """The first four bytes of SHA-256(name ‖ 0A ‖ type ‖ public key)."""
    return sha256(name.encode() + b"\n" + kind + public_key).digest()[:KEY_ID_BYTES]


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


def check_name(name: str) -> None:
    """Raise InvalidNote unless this can be the name of a key."""
    if not name or "+" in name or any(character.isspace() for character in name):
        raise InvalidNote("a key name is not empty and has neither spaces nor plus signs")
    check_text(name)


def check_text(text: str) -> None:
    """Raise InvalidNote unless this can stand in a note."""
    if _CONTROL.search(text):
        raise InvalidNote("control characters other than newline are not allowed in a note")
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise InvalidNote("a note is UTF-8 text") from err


def _parse_signature(line: str) -> NoteSignature:
    name, separator, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    if not line.startswith(_SIGNATURE_PREFIX) or not separator:
        raise InvalidNote("a signature line is an em dash, a name and base64")
    check_name(name)
    try:
        signed = strict_base64(encoded)
    except ValueError as err:
        raise InvalidNote(f"the signature of {name} is not base64") from err
    if len(signed) <= KEY_ID_BYTES:
        raise InvalidNote(f"the signature of {name} is too short")
    return NoteSignature(name, signed[:KEY_ID_BYTES], signed[KEY_ID_BYTES:])
