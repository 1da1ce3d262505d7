"""What is fuzzed: a reader of foreign bytes, right inputs for it, and how it may refuse others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dataspace.errors import SHOWN
from tests.fuzz.altering import Alter


@dataclass(frozen=True)
class Prepared:
    """`read` takes one input; it returns, or raises one of `refusals`. Nothing else may happen."""

    read: Callable[[bytes], object]
    examples: Sequence[bytes]
    alter: Alter
    # How an example becomes an input: tokens are written and altered as what they say.
    written: Callable[[bytes], bytes] = bytes
    # Inputs that are tried as they stand, once: bombs and the like.
    special: Sequence[bytes] = ()
    refusals: tuple[type[Exception], ...] = SHOWN


@dataclass(frozen=True)
class Target:
    """One reader by name. `prepare` is called in the process that fuzzes it, as making keys and
    nodes takes a while."""

    name: str
    about: str
    prepare: Callable[[], Prepared]
