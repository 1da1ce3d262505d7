"""The files of a node's identity: the key in use, the one announced, and the root of its secrets.

    keys/signing.pem        speaks for the node now
    keys/signing.next.pem   has been announced and will; there only while the key is changed
    keys/root.key           what the node's other secrets are derived from

The root is apart from the key that speaks, because a key is changed and what was derived must not
be. A private key that is no longer used is destroyed: what it signed is verified with its public
part, which the DID document goes on listing.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dataspace.errors import InputRejected
from dataspace.identity.keys import SigningAlgorithm, SigningKey
from dataspace.sealing_suites import SealingSuite
from dataspace.secret_files import read_secret, sealing_suite_of, write_secret

ROOT_BYTES = 32
# Beside the first key where the node signs with a post-quantum one too (`dataspace.post_quantum`).
SECOND_KEY_FILE = "signing-mldsa44.pem"


class KeyFiles:
    """The key files in a home's directory `keys`."""

    def __init__(self, directory: Path) -> None:
        self._current = directory / "signing.pem"
        self._next = directory / "signing.next.pem"
        self._root = directory / "root.key"

    def make(self, algorithm: SigningAlgorithm, suite: SealingSuite) -> None:
        """The files of a new home, sealed with `suite` where there is a passphrase."""
        key = SigningKey.generate(algorithm)
        # The root first: what is written beside it is sealed as it is.
        write_secret(self._root, secrets.token_hex(ROOT_BYTES), suite)
        write_secret(self._current, key.to_pem())

    def current(self) -> SigningKey:
        """The key that speaks for the node. Raises InputRejected."""
        return SigningKey.from_pem(read_secret(self._current), name=self._current.name)

    def mark(self) -> tuple[int, int]:
        """Differs once another key is in use; for those who would rather not read it again."""
        found = self._current.stat()
        return found.st_ino, found.st_mtime_ns

    def next(self) -> SigningKey | None:
        """The key that was announced, if one was."""
        if not self._next.exists():
            return None
        return SigningKey.from_pem(read_secret(self._next), name=self._next.name)

    def make_next(self, algorithm: SigningAlgorithm) -> SigningKey:
        """A key to announce, in place of one that never was."""
        key = SigningKey.generate(algorithm)
        write_secret(self._next, key.to_pem())
        return key

    def use_next(self) -> None:
        """Put the announced key in the place of the one in use, which is gone afterwards. A kill
        in between leaves both files, with the same key in them."""
        # Written again under its new name: an encrypted secret is bound to its file's name.
        write_secret(self._current, read_secret(self._next))
        self._next.unlink(missing_ok=True)

    def forget_next(self) -> None:
        self._next.unlink(missing_ok=True)

    def sealing_suite(self) -> SealingSuite:
        """What the home's secrets are sealed with, and so are its rows."""
        return sealing_suite_of(self._root) or SealingSuite.AES

    def has_root(self) -> bool:
        return self._root.exists()

    def root(self) -> bytes:
        """The secret from which others are derived. Raises InputRejected where it is missing."""
        try:
            return bytes.fromhex(read_secret(self._root))
        except ValueError as err:
            raise InputRejected(
                f"the key file {self._root.name} is damaged", remedy="restore it from backup"
            ) from err

    def make_root_of_signing_key(self) -> None:
        """Give a home of an earlier version its root: what it derived its secrets from until now.

        Raises InputRejected where the key in use is not one that such a home can have.
        """
        private = self.current().jwk.private_key
        if not isinstance(private, Ed25519PrivateKey):
            raise InputRejected(
                f"the key file {self._root.name} is missing", remedy="restore it from your backup"
            )
        write_secret(self._root, private.private_bytes_raw().hex())
