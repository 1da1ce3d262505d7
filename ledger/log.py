"""An append-only Merkle log over a storage port.

The store holds the hashes of perfect subtrees: level 0 are the leaf hashes, and node (level, i)
covers the leaves i·2^level … (i+1)·2^level - 1. Such a node never changes once written, which is
why appending writes each node exactly once and why old roots and proofs stay computable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from ledger.errors import InputRejected
from ledger.merkle import fold_peaks, leaf_hash, node_hash, split_point


class NodeStore(Protocol):
    """Where a log keeps its hashes. The caller owns transactions and durability.

    `put` is called once for each (level, index), and `set_size` last, so a store that loses a
    torn append may simply keep its old size, if it lets the lost nodes be put again.
    """

    def size(self) -> int: ...
    def set_size(self, size: int) -> None: ...
    def get(self, level: int, index: int) -> bytes: ...
    def put(self, level: int, index: int, value: bytes) -> None: ...


class MemoryNodeStore:
    """A node store in memory, for tests and for recomputing somebody else's log."""

    def __init__(self) -> None:
        self._size = 0
        self._levels: list[list[bytes]] = []

    def size(self) -> int:
        return self._size

    def set_size(self, size: int) -> None:
        self._size = size

    def get(self, level: int, index: int) -> bytes:
        return self._levels[level][index]

    def put(self, level: int, index: int, value: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
        if index != len(self._levels[level]):
            raise InputRejected(
                f"node {index} of level {level} is out of turn: expected {len(self._levels[level])}"
            )
        self._levels[level].append(value)


class Log:
    """A growing tree. Every method is O(log n) reads of the store, `append` O(1) on average."""

    def __init__(self, store: NodeStore) -> None:
        self._store = store

    @property
    def size(self) -> int:
        return self._store.size()

    def append(self, data: bytes) -> int:
        """Add a leaf with this data; returns its index."""
        return self.extend([data])

    def extend(self, leaves: Iterable[bytes]) -> int:
        """Add leaves with these data; returns the index of the first.

        Nodes that an earlier leaf of the same call has made are not read from the store.
        """
        first = index = self._store.size()
        # The newest node of each level, as long as it waits for its right sibling.
        waiting: dict[int, bytes] = {}
        for data in leaves:
            level, position, value = 0, index, leaf_hash(data)
            self._store.put(level, position, value)
            while position % 2 == 1:
                left = waiting.pop(level, None)
                if left is None:
                    left = self._store.get(level, position - 1)
                value = node_hash(left, value)
                level, position = level + 1, position // 2
                self._store.put(level, position, value)
            waiting[level] = value
            index += 1
        if index != first:
            self._store.set_size(index)
        return first

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves, by default of all.

        Raises InputRejected beyond the log.
        """
        return self._subtree(0, self._within(size))

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The hashes that lead from leaf `index` to `root(size)`, the leaf's sibling first.

        RFC 6962 section 2.1.1. Raises InputRejected beyond the log.
        """
        end = self._within(size)
        if not 0 <= index < end:
            raise InputRejected(f"no leaf {index} in a tree of {end}")
        start = 0
        path: list[bytes] = []
        while end - start > 1:
            middle = start + split_point(end - start)
            if index < middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(start, middle))
                start = middle
        return path[::-1]

    def consistency_proof(self, old_size: int, size: int | None = None) -> list[bytes]:
        """The hashes that show `root(old_size)` to be a prefix of `root(size)`.

        RFC 6962 section 2.1.2; empty when old_size is 0 or size. Raises InputRejected beyond
        the log.
        """
        end = self._within(size)
        if not 0 <= old_size <= end:
            raise InputRejected(f"no tree of {old_size} within a tree of {end}")
        if old_size in (0, end):
            return []
        start = 0
        path: list[bytes] = []
        while end != old_size:
            middle = start + split_point(end - start)
            if old_size <= middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(start, middle))
                start = middle
        # From the left edge the subtree is the old root, which whoever asks already has.
        if start != 0:
            path.append(self._subtree(start, end))
        return path[::-1]

    def _within(self, size: int | None) -> int:
        have = self._store.size()
        if size is None:
            return have
        if not 0 <= size <= have:
            raise InputRejected(f"no tree of {size}: the log has {have} entries")
        return size

    def _subtree(self, start: int, end: int) -> bytes:
        """The hash of leaves start … end-1, where `start` is a multiple of a power of two at
        least as large as the range, as it is for every node of an RFC 6962 tree."""
        return fold_peaks(self._store.get(*node) for node in perfect_nodes(start, end))


def perfect_nodes(start: int, end: int) -> Iterator[tuple[int, int]]:
    """(level, index) of the perfect subtrees that make up leaves start … end-1, widest first."""
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level
