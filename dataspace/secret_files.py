"""Secrets on the disk: readable by their owner only, and encrypted where a passphrase is set.

With `DATASPACE_PASSPHRASE` (or `DATASPACE_PASSPHRASE_FILE`, a path) in the environment, a secret is
sealed under a key that scrypt (RFC 7914) makes of the passphrase and the file's own salt; the
file's name is authenticated with it, so that two files cannot be exchanged. With what, AES-256-GCM
or SM4-GCM, stands at its beginning; a new secret is sealed as the root key beside it is.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from dataspace.errors import InputRejected
from dataspace.sealing_suites import SUITES, Aead, SealingSuite

SEALED = "city-dataspace-secret:1:"
# How a secret begins that is sealed with each suite.
BEGINNINGS = {SealingSuite.AES: SEALED, SealingSuite.SM4: "city-dataspace-secret:1-sm4-gcm:"}
ROOT_FILE = "root.key"
SALT_BYTES, NONCE_BYTES = 16, 12
# 32 MiB and some 80 ms: dear for who guesses passphrases, cheap for a node that reads four keys.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1


def write_secret(path: Path, text: str, suite: SealingSuite | None = None) -> None:
    """Write `text` to a file only its owner can read, with no moment at which others could.

    Sealed, where there is a passphrase, with `suite`, or with that of the root key beside it. The
    old content stays until the new one is on the disk.
    """
    passphrase = node_passphrase()
    chosen = suite or sealing_suite_of(path.with_name(ROOT_FILE)) or SealingSuite.AES
    _write(path, _seal(text, path.name, passphrase, chosen) if passphrase else text)


def sealing_suite_of(path: Path) -> SealingSuite | None:
    """What the secret in this file is sealed with; None where it is not, or there is none."""
    try:
        return _suite_of(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _suite_of(text: str) -> SealingSuite | None:
    return next((suite for suite, head in BEGINNINGS.items() if text.startswith(head)), None)


def _write(path: Path, content: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_secret(path: Path) -> str:
    """The secret in this file. Raises InputRejected where it is missing, readable by others, or
    encrypted with another passphrase."""
    text = _read(path)
    return text if _suite_of(text) is None else _open(text, path.name, node_passphrase())


def reseal_secret(
    path: Path, old: str | None, new: str, suite: SealingSuite = SealingSuite.AES
) -> str:
    """Seal the secret in this file with `suite` under the passphrase `new`, and return it; `old`
    opens it where it is sealed. One that is sealed so stays: the work goes on where it was
    interrupted."""
    text = _read(path)
    found = _suite_of(text)
    if found is None:
        secret = text
    else:
        try:
            secret = _open(text, path.name, new)
        except InputRejected:
            secret, found = _open(text, path.name, old), None
    if found is not suite:
        _write(path, _seal(secret, path.name, new, suite))
    return secret


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise InputRejected(
            f"the key file {path.name} is missing from {path.parent}",
            remedy="restore it from your backup; a new key is a new identity",
        ) from None
    if mode & 0o077:
        raise InputRejected(
            f"the key file {path} can be read by others (mode {mode:04o})",
            remedy=f"run: chmod 600 {path}",
        )
    return text


def _seal(text: str, name: str, passphrase: str, suite: SealingSuite) -> str:
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    sealed = _cipher(suite, passphrase, salt).encrypt(nonce, text.encode(), name.encode())
    return BEGINNINGS[suite] + base64.b64encode(salt + nonce + sealed).decode()


def _open(text: str, name: str, passphrase: str | None) -> str:
    if not passphrase:
        raise InputRejected(
            f"the key file {name} is encrypted",
            remedy="set DATASPACE_PASSPHRASE or DATASPACE_PASSPHRASE_FILE",
        )
    suite = _suite_of(text) or SealingSuite.AES
    try:
        raw = base64.b64decode(text.removeprefix(BEGINNINGS[suite]), validate=True)
        salt, nonce = raw[:SALT_BYTES], raw[SALT_BYTES : SALT_BYTES + NONCE_BYTES]
        sealed = raw[SALT_BYTES + NONCE_BYTES :]
        cipher = _cipher(suite, passphrase, salt)
        return cipher.decrypt(nonce, sealed, name.encode()).decode()
    except (ValueError, InvalidTag) as err:
        raise InputRejected(
            f"the key file {name} does not open with this passphrase, or it is damaged",
            remedy="check the passphrase; restore the file from your backup",
        ) from err


def _cipher(suite: SealingSuite, passphrase: str, salt: bytes) -> Aead:
    row = SUITES[suite]
    kdf = Scrypt(salt=salt, length=row.key_bytes, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    return row.cipher(kdf.derive(passphrase.encode()))


def node_passphrase() -> str | None:
    """The passphrase that the environment gives this process, None where it gives none."""
    path = os.environ.get("DATASPACE_PASSPHRASE_FILE")
    if path:
        return passphrase_in_file(Path(path))
    return os.environ.get("DATASPACE_PASSPHRASE") or None


def passphrase_in_file(path: Path) -> str:
    """The passphrase in this file, without the newline at its end. Raises InputRejected."""
    try:
        passphrase = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise InputRejected(
            "the file that is said to hold the passphrase cannot be read",
            remedy="correct DATASPACE_PASSPHRASE_FILE or --passphrase-file, or its permissions",
        ) from err
    if not passphrase:
        raise InputRejected("the file that is said to hold the passphrase is empty")
    return passphrase
