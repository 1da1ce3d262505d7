"""Where a role's CPU work is done: here, in a pool of processes, or on a cluster.

A piece of work is a function of this package, found by its name, and one argument of plain values,
so that it can be sent to another process. It is pure but for randomness: a worker that dies in the
middle of a piece costs the piece, which is done again by another.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from privacy.role import Progress, Steps

Piece = TypeVar("Piece")
Done = TypeVar("Done")

# Elements of one piece: a fifth of a second of curve arithmetic. What a piece costs besides, some
# 2 ms, is then a hundredth of it, and a run can be cancelled at once.
PIECE_ELEMENTS = 2048
# So few are not worth another process.
FEW_ELEMENTS = 512


class Workers(Protocol):
    """A port: the pool of a node, a cluster of its owner, or the calling thread."""

    @property
    def count(self) -> int:
        """How many pieces are worked on at once."""

    def map(self, work: Callable[[Piece], Done], pieces: Iterable[Piece]) -> Iterator[Done]:
        """Yield `work(piece)` for every piece, in order; a bounded number of pieces is under way.

        Raises what `work` raises, and lets go of what is under way when the iterator is closed.
        """


class InThisThread:
    """The workers of tests and of small runs: none."""

    @property
    def count(self) -> int:
        return 1

    def map(self, work: Callable[[Piece], Done], pieces: Iterable[Piece]) -> Iterator[Done]:
        return map(work, pieces)


def pieces_of(elements: Sequence[Piece], size: int = PIECE_ELEMENTS) -> list[Sequence[Piece]]:
    """Cut `elements` into slices of at most `size`."""
    return [elements[start : start + size] for start in range(0, len(elements), size)]


def shares_of(elements: Sequence[Piece], workers: Workers) -> list[Sequence[Piece]]:
    """Cut `elements` into pieces of one size, so many that all workers end at the same time."""
    if len(elements) <= FEW_ELEMENTS:
        return pieces_of(elements)
    rounds = -(-len(elements) // (workers.count * PIECE_ELEMENTS))
    return pieces_of(elements, -(-len(elements) // (workers.count * rounds)))


def spread(
    workers: Workers,
    work: Callable[[Piece], list[Done]],
    pieces: Iterable[Piece],
) -> Steps[list[Done]]:
    """Do all `pieces` and return their results in one list, in order, telling the progress.

    Each piece counts as many units as its result has elements.
    """
    results: list[Done] = []
    for done in workers.map(work, pieces):
        results += done
        yield Progress(done=len(done))
    return results
