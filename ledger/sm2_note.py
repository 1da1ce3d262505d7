"""Signatures of notes by SM2 with SM3, beside those of `ledger.note`.

C2SP signed-note has no type for them. It keeps ff for what it does not know, followed by bytes that
cannot be chosen by somebody else by accident: here the URN of SM2 with SM3. The signature is r ‖ s,
64 bytes, over the text of the note, as GB/T 32918.2 signs with the default identity. What computes
it is given by whoever has it; this library knows no arithmetic of that curve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ledger.errors import InvalidNote
from ledger.note import check_name, key_id_of, parse_vkey, vkey_of

OTHER: Final = b"\xff"
IDENTIFIER: Final = b"urn:oid:1.2.156.10197.1.501"
POINT_BYTES: Final = 64
SIGNATURE_BYTES: Final = 64

# (text) -> signature, and (public point, text, signature) -> whether it is one.
Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]


class Sm2NoteSigner:
    """A named SM2 key that signs notes; `point` is its public key as x ‖ y."""

    def __init__(self, name: str, point: bytes, sign: Sign) -> None:
        check_name(name)
        self.name = name
        self._written, self._sign = IDENTIFIER + point, sign
        self.key_id = key_id_of(name, OTHER, self._written)

    @property
    def vkey(self) -> str:
        """The verifier key as text, of type ff with the identifier before the public key."""
        return vkey_of(self.name, OTHER, self._written)

    def sign(self, body: str) -> bytes:
        return self._sign(body.encode())


@dataclass(frozen=True)
class Sm2NoteVerifier:
    """A named SM2 public key that notes are verified with."""

    name: str
    key_id: bytes
    point: bytes
    verifies: Verify

    @staticmethod
    def parse(vkey: str, verifies: Verify) -> Sm2NoteVerifier:
        """The key in this text. Raises InvalidNote for one of another kind."""
        name, key_id, kind, written = parse_vkey(vkey)
        point = written.removeprefix(IDENTIFIER)
        if kind != OTHER or not written.startswith(IDENTIFIER) or len(point) != POINT_BYTES:
            raise InvalidNote(f"expected an SM2 key (type ff), got type {kind.hex()}")
        return Sm2NoteVerifier(name, key_id, point, verifies)

    def verify(self, body: str, signature: bytes) -> None:
        """Raise InvalidNote unless this key signed the text."""
        if len(signature) != SIGNATURE_BYTES or not self.verifies(
            self.point, body.encode(), signature
        ):
            raise InvalidNote(f"the signature of {self.name} does not match the text")
