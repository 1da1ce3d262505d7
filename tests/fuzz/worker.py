"""What the process does that fuzzes one target.

Each input follows from seed, name and number alone. The number is told before the input is read, so
that whoever started this process knows at which one it crashed or hung.
"""

from __future__ import annotations

import random
import resource
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tests.fuzz.target import Prepared
from tests.fuzz.targets import TARGETS

# Of processor, so that a busy machine finds nothing. A second for two megabytes is no hang.
MAX_SECONDS = 5.0
MAX_GROWTH_BYTES = 400 * 1024 * 1024
# Beyond this an allocation fails, which is a finding and does not take the machine along.
MAX_MEMORY_BYTES = 6 * 1024**3


# Of an input that is a finding, so much is shown.
SHOWN_BYTES = 4096


@dataclass(frozen=True)
class Finding:
    """An input by its number (None: of no single one), and what was wrong with it."""

    number: int | None
    what: str
    given: bytes = b""


@dataclass(frozen=True)
class Done:
    """The process has read all its inputs: so many were taken, so many refused."""

    read: int
    refused: int


def input_of(prepared: Prepared, name: str, seed: int, number: int) -> bytes:
    """The input of this number: first the special ones, then altered examples."""
    if number < len(prepared.special):
        return prepared.special[number]
    rng = random.Random(f"{seed}/{name}/{number}")
    if rng.random() < 0.02:
        return prepared.written(rng.choice(prepared.examples))
    return prepared.alter(rng, rng.choice(prepared.examples))


def work(name: str, seed: int, first: int, last: int, parent: Connection) -> None:
    """Read the inputs `first` … `last`-1 of a target, and tell `parent` of each: its number before
    it is read, then `Finding`s, and at the end how many were read and refused."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    prepared = TARGETS[name].prepare()
    # An example must be right, and what is imported by reading it is no growth.
    for example in prepared.examples:
        prepared.read(prepared.written(example))
    read = refused = 0
    for number in range(first, last):
        parent.send(number)
        given = input_of(prepared, name, seed, number)
        before, began = _peak_bytes(), time.process_time()
        what = None
        try:
            prepared.read(given)
            read += 1
        except prepared.refusals:
            refused += 1
        except Exception as err:  # whatever it is, it is what is looked for here
            what = f"{type(err).__name__}: {err}"[:300] + "\n" + _where(err)
        took, grew = time.process_time() - began, _peak_bytes() - before
        if what is None and took > MAX_SECONDS:
            what = f"took {took:.1f} s for {len(given)} bytes"
        if what is None and grew > MAX_GROWTH_BYTES:
            what = f"took {grew >> 20} MiB more for {len(given)} bytes"
        if what is not None:
            parent.send(Finding(number, what, given[:SHOWN_BYTES]))
    parent.send(Done(read, refused))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _where(err: BaseException) -> str:
    frames = traceback.extract_tb(err.__traceback__)[-3:]
    return "\n".join(f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
