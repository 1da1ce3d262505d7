"""Where a role keeps what memory should not hold, and what it would go on from after a crash.

No secret of a run is ever put in a spool: keys live and die with the role. What two runs under one
agreement share is kept in a `Cache`, its secrets sealed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class Spool(Protocol):
    """Named files of one party in one run. A name is letters, digits, `-`, `.`, at most 64.

    `put` replaces a file whole or not at all, also when the machine stops in the middle; `append`
    promises nothing of the kind and is for what is written again after a crash.
    """

    def put(self, name: str, content: bytes) -> None: ...

    def append(self, name: str, content: bytes) -> None: ...

    def get(self, name: str) -> bytes | None:
        """The content, or None where there is no such file."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""

    def names(self) -> Iterator[str]: ...


class MemorySpool:
    """A spool for small runs and tests."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}

    def put(self, name: str, content: bytes) -> None:
        self._files[name] = bytearray(content)

    def append(self, name: str, content: bytes) -> None:
        self._files.setdefault(name, bytearray()).extend(content)

    def get(self, name: str) -> bytes | None:
        content = self._files.get(name)
        return None if content is None else bytes(content)

    def remove(self, name: str) -> None:
        self._files.pop(name, None)

    def names(self) -> Iterator[str]:
        return iter(list(self._files))


@dataclass(frozen=True)
class Sealing:
    """Authenticated encryption of what must not lie open on a disk."""

    seal: Callable[[bytes], bytes]
    open: Callable[[bytes], bytes]
    """Raises ValueError for what this `seal` has not made, or has made for something else."""

    @classmethod
    def under(cls, key: bytes, purpose: bytes) -> "Sealing":
        """AES-256-GCM under `key` (32 bytes), bound to `purpose`: what is sealed for one purpose
        does not open for another."""
        cipher = AESGCM(key)

        def seal(content: bytes) -> bytes:
            nonce = token_bytes(_NONCE_BYTES)
            return nonce + cipher.encrypt(nonce, content, purpose)

        def open_(sealed: bytes) -> bytes:
            if len(sealed) < _NONCE_BYTES:
                raise ValueError("too short to have been sealed")
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose)
            except InvalidTag as err:
                raise ValueError(
                    "sealed under another key, for another purpose, or altered"
                ) from err

        return cls(seal, open_)


@dataclass(frozen=True)
class Cache:
    """What stays between the runs under one agreement about one dataset.

    `version` is the content version of the own rows, None where it is not known.
    """

    files: Spool = field(default_factory=MemorySpool)
    sealing: Sealing = field(default_factory=lambda: Sealing.under(token_bytes(32), b""))
    version: str | None = None
