"""Keys of a vault: derived by HKDF under labels, or random and wrapped.

vault key (a file or a variable, never in the database)
├─ wrapping key: wraps every person's key, the index key, the terms key and the settings
│    └─ person's key, random: seals the head, the records and the receipts of one person
└─ check: says whether a key is this vault's, without telling anything about it

access code (shown to the person once, kept nowhere)
├─ locator: by whose digest the person is found
└─ X25519 key pair: traces are sealed to its public half
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connectors.credentials import secret_at
from connectors.errors import InputRejected

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
KEY_FILE: Final = "vault.key"
NEXT_KEY_FILE: Final = "vault.key.next"
_CODE_BYTES: Final = 16
# Crockford's base 32: no letter looks like a digit.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LETTERS: Final = 26
_MISREAD: Final = str.maketrans(
    {"O": "0", "I": "1", "L": "1", "-": None, " ": None, "\u3000": None}
)


class DamagedVault(InputRejected):
    """What is sealed does not open: it was altered, moved, or sealed with another key."""


def derived(secret: bytes, *, salt: bytes, label: str) -> bytes:
    """32 bytes that `label` names, from a secret of full strength (HKDF-SHA256, RFC 5869)."""
    info = f"city-dataspace/vault/1/{label}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)


def seal(key: AESGCM, plain: bytes, bound: bytes) -> bytes:
    """Nonce and ciphertext, which open only beside the same `bound`."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + key.encrypt(nonce, plain, bound)


def unseal(key: AESGCM, sealed: bytes, bound: bytes) -> bytes:
    """What was sealed. Raises DamagedVault."""
    try:
        return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError):
        raise DamagedVault(
            "the vault holds something that does not open with its key: it was altered or moved; "
            "restore the vault from your backup"
        ) from None


@dataclass(frozen=True)
class VaultKey:
    """The vault's key as it is used: to wrap, and to be recognised."""

    wrapping: AESGCM
    check: bytes

    @classmethod
    def of(cls, secret: bytes, vault_id: bytes) -> VaultKey:
        return cls(
            AESGCM(derived(secret, salt=vault_id, label="wrapping")),
            derived(secret, salt=vault_id, label="check"),
        )


def load_vault_key(folder: Path, reference: str | None) -> bytes:
    """The 32 bytes that `reference` leads to, or the file `vault.key` in the folder.

    Raises InputRejected where it is missing, readable by others, or no key.
    """
    try:
        text = secret_at(reference or f"file:{folder / KEY_FILE}")
    except InputRejected as err:
        raise InputRejected(f"the vault's key: {err}") from err
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise InputRejected(
            "the vault's key is not 32 bytes in base64; make one with: openssl rand -base64 32"
        )
    return key


def new_key_text() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def person_tag(index_key: bytes, canonical: str) -> bytes:
    """By what a person is found: HMAC-SHA256 of the canonical identifier."""
    return hmac.digest(index_key, canonical.encode(), "sha256")


def commitment(person_key: bytes) -> str:
    """Names a person's key without telling it: a certificate says which key was destroyed."""
    return sha256(b"city-dataspace/vault/1/key-commitment\0" + person_key).hexdigest()


# ---- access codes -----------------------------------------------------------------------------


def new_access_code() -> str:
    """128 random bits in five groups of letters and digits."""
    number = int.from_bytes(secrets.token_bytes(_CODE_BYTES))
    letters = "".join(_ALPHABET[number >> 5 * n & 31] for n in reversed(range(_CODE_LETTERS)))
    return "-".join((letters[:5], letters[5:10], letters[10:15], letters[15:20], letters[20:]))


def code_bytes(code: str) -> bytes | None:
    """What an access code stands for, however it was typed; None where it is none."""
    if len(code) > 100:
        return None
    letters = code.strip().upper().translate(_MISREAD)
    if len(letters) != _CODE_LETTERS or not set(letters) <= set(_ALPHABET):
        return None
    number = 0
    for letter in letters:
        number = number << 5 | _ALPHABET.index(letter)
    return number.to_bytes(17)[1:] if number < 1 << 128 else None


@dataclass(frozen=True)
class Access:
    """What an access code gives in one vault: the locator and the key to the person's traces."""

    locator: bytes
    trace_key: X25519PrivateKey

    @classmethod
    def of(cls, code: bytes, vault_id: bytes) -> Access:
        # A code has 128 random bits: nothing is gained by making the derivation slow.
        locator = derived(code, salt=vault_id, label="locator")
        return cls(
            # A digest of it, so that a database alone lets nobody in.
            sha256(locator).digest(),
            X25519PrivateKey.from_private_bytes(derived(code, salt=vault_id, label="trace key")),
        )
