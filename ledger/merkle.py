"""Merkle trees of RFC 6962, section 2.1: hashes, proofs and their verification.

The hash is a value that is passed along, SHA-256 unless said otherwise (`ledger.hashing`).

Everything here is a function of values. `ledger.log` keeps a tree in storage and makes the same
proofs from it without reading every leaf; the functions here that take all leaves are the plain
definition, for small trees and for checking the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from ledger.errors import InputRejected, InvalidProof
from ledger.hashing import SHA256, HashSuite

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
# A tree index is at most 63 bits in every format we speak, so no path is longer.
MAX_PROOF_HASHES = 63


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(00 ‖ data), RFC 6962 section 2.1."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 ‖ left ‖ right), RFC 6962 section 2.1."""
    return sha256(b"\x01" + left + right).digest()


def root_hash(leaves: Sequence[bytes], suite: HashSuite = SHA256) -> bytes:
    """The Merkle tree hash of this leaf data, MTH of RFC 6962 section 2.1. O(log n) memory."""
    frontier = Frontier(suite=suite)
    for data in leaves:
        frontier.append(suite.leaf(data))
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int, suite: HashSuite = SHA256) -> list[bytes]:
    """PATH(index, leaves) of RFC 6962 section 2.1.1: sibling of the leaf first.

    Raises InputRejected when there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise InputRejected(f"no leaf {index} in a tree of {len(leaves)}")
    path: list[bytes] = []
    start, end = 0, len(leaves)
    while end - start > 1:
        middle = start + split_point(end - start)
        if index < middle:
            path.append(root_hash(leaves[middle:end], suite))
            end = middle
        else:
            path.append(root_hash(leaves[start:middle], suite))
            start = middle
    return path[::-1]


def consistency_proof(
    leaves: Sequence[bytes], old_size: int, suite: HashSuite = SHA256
) -> list[bytes]:
    """PROOF(old_size, leaves) of RFC 6962 section 2.1.2. Empty when old_size is 0 or all.

    Raises InputRejected when the old tree would be larger than the leaves given.
    """
    if not 0 <= old_size <= len(leaves):
        raise InputRejected(f"no tree of {old_size} within a tree of {len(leaves)}")
    if old_size in (0, len(leaves)):
        return []
    path: list[bytes] = []
    start, end = 0, len(leaves)
    # The old tree's own root is known to whoever asks, unless it is split across the way down.
    known = True
    while end != old_size:
        middle = start + split_point(end - start)
        if old_size <= middle:
            path.append(root_hash(leaves[middle:end], suite))
            end = middle
        else:
            path.append(root_hash(leaves[start:middle], suite))
            start = middle
            known = False
    if not known:
        path.append(root_hash(leaves[start:end], suite))
    return path[::-1]


def verify_inclusion(
    leaf_hash: bytes,
    index: int,
    tree_size: int,
    proof: Sequence[bytes],
    root: bytes,
    suite: HashSuite = SHA256,
) -> None:
    """Raise InvalidProof unless this leaf hash is at `index` of the tree with this root.

    Algorithm: RFC 9162 section 2.1.3.2, read from the leaf up: at every level the sibling is on
    the left or on the right, and a lonely rightmost node is carried up unhashed.
    """
    if not 0 <= index < tree_size:
        raise InvalidProof(f"{_inclusion(index, tree_size)}: there is no such leaf")
    for value in (leaf_hash, root, *proof):
        if len(value) != HASH_BYTES:
            raise InvalidProof(
                f"{_inclusion(index, tree_size)}: a hash has {len(value)} bytes, "
                f"expected {HASH_BYTES}"
            )
    computed, used, hashed = leaf_hash, 0, suite.of
    position, last = index, tree_size - 1
    while last > 0:
        # A verifier does little else than this; a function call a level would take half its time.
        if position & 1:
            if used == len(proof):
                break
            computed, used = hashed(b"\x01" + proof[used] + computed).digest(), used + 1
        elif position < last:
            if used == len(proof):
                break
            computed, used = hashed(b"\x01" + computed + proof[used]).digest(), used + 1
        position, last = position >> 1, last >> 1
    if last > 0:
        raise InvalidProof(f"{_inclusion(index, tree_size)}: {len(proof)} hashes are too few")
    if used < len(proof):
        raise InvalidProof(
            f"{_inclusion(index, tree_size)}: {len(proof) - used} of {len(proof)} hashes are too "
            "many"
        )
    if computed != root:
        raise InvalidProof(
            f"{_inclusion(index, tree_size)}: the proof leads to root {computed.hex()}, not to "
            f"{root.hex()}"
        )


def verify_consistency(
    old_size: int,
    new_size: int,
    proof: Sequence[bytes],
    old_root: bytes,
    new_root: bytes,
    suite: HashSuite = SHA256,
) -> None:
    """Raise InvalidProof unless the tree of `old_size` is a prefix of the tree of `new_size`.

    Algorithm: RFC 9162 section 2.1.4.2. Equal sizes have an empty proof and equal roots. An
    old size of 0 is refused (RFC 6962 wants 0 < old size): nothing can be shown from the empty
    tree, and whoever starts from nothing must trust the first root it sees.
    """
    what = f"consistency of a tree of {new_size} with its first {old_size}"
    if not 0 <= old_size <= new_size:
        raise InvalidProof(f"{what}: the old tree cannot be larger than the new one")
    _check_hashes(what, [old_root, new_root, *proof])
    if old_size == 0:
        raise InvalidProof(f"{what}: there is nothing to show for an empty tree")
    if old_size == new_size:
        if proof:
            raise InvalidProof(f"{what}: expected an empty proof, got {len(proof)} hashes")
        if old_root != new_root:
            raise InvalidProof(
                f"{what}: the same size has two roots, {old_root.hex()} and {new_root.hex()}"
            )
        return
    remaining = list(reversed(proof))
    position, last = old_size - 1, new_size - 1
    # Go up to the largest perfect subtree that ends the old tree; it is in both trees.
    while position % 2 == 1:
        position, last = position // 2, last // 2
    # When the old tree is itself perfect, that subtree is its root and is not sent.
    seed = old_root if position == 0 else _next_hash(remaining, what, len(proof))
    old_computed = new_computed = seed
    while last > 0:
        if position % 2 == 1:
            sibling = _next_hash(remaining, what, len(proof))
            old_computed = suite.node(sibling, old_computed)
            new_computed = suite.node(sibling, new_computed)
        elif position < last:
            sibling = _next_hash(remaining, what, len(proof))
            new_computed = suite.node(new_computed, sibling)
        position, last = position // 2, last // 2
    if remaining:
        raise InvalidProof(f"{what}: {len(remaining)} of {len(proof)} hashes are too many")
    if old_computed != old_root:
        raise InvalidProof(
            f"{what}: the proof leads to old root {old_computed.hex()}, not to {old_root.hex()}"
        )
    if new_computed != new_root:
        raise InvalidProof(
            f"{what}: the proof leads to new root {new_computed.hex()}, not to {new_root.hex()}"
        )


class Frontier:
    """The perfect subtrees that make up a growing tree: its root at any moment in O(log n) memory.

    `peaks` are their hashes, widest first, one for each bit set in `size`.
    """

    def __init__(
        self, size: int = 0, peaks: Sequence[bytes] = (), suite: HashSuite = SHA256
    ) -> None:
        if size.bit_count() != len(peaks):
            raise InputRejected(f"a tree of {size} has {size.bit_count()} peaks, got {len(peaks)}")
        self.size = size
        self.peaks = list(peaks)
        self.suite = suite

    def append(self, hash_of_leaf: bytes) -> None:
        joined, size = hash_of_leaf, self.size
        while size % 2 == 1:
            joined = self.suite.node(self.peaks.pop(), joined)
            size //= 2
        self.peaks.append(joined)
        self.size += 1

    def root(self) -> bytes:
        return fold_peaks(self.peaks, self.suite)


def fold_peaks(peaks: Iterable[bytes], suite: HashSuite = SHA256) -> bytes:
    """The root above these perfect subtrees, widest first; the empty root when there is none."""
    root: bytes | None = None
    for peak in reversed(list(peaks)):
        root = peak if root is None else suite.node(peak, root)
    return suite.empty_root if root is None else root


def split_point(size: int) -> int:
    """The largest power of two smaller than `size` (k in RFC 6962 section 2.1); size > 1."""
    return 1 << ((size - 1).bit_length() - 1)


def _inclusion(index: int, tree_size: int) -> str:
    return f"inclusion of leaf {index} in a tree of {tree_size}"


def _next_hash(remaining: list[bytes], what: str, given: int) -> bytes:
    if not remaining:
        raise InvalidProof(f"{what}: {given} hashes are too few")
    return remaining.pop()


def _check_hashes(what: str, hashes: Sequence[bytes]) -> None:
    for value in hashes:
        if len(value) != HASH_BYTES:
            raise InvalidProof(f"{what}: a hash has {len(value)} bytes, expected {HASH_BYTES}")
