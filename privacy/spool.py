"""Where a role keeps what memory should not hold, and what it would go on from after a crash.

No secret of a run is ever put there: keys live and die with the role.
"""

from collections.abc import Iterator
from typing import Protocol


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
