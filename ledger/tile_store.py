"""Proofs from published tiles (C2SP tlog-tiles): any log served as files can be proved from.

A tile holds every eighth level of the tree; the levels between are hashed again when they are
asked for. With the last tiles kept in memory a proof reads one tile for each eight levels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from ledger.errors import InputRejected
from ledger.merkle import HASH_BYTES
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, Tile

# A full tile with the levels above it takes 255 hashes more, about 30 kB as Python keeps them.
KEPT_TILES = 64


class TileStore:
    """A `ledger.log.NodeStore` to read from, of the first `size` entries of a log.

    `fetch` gives the bytes of a tile, for example from a directory or over HTTP; they are not
    trusted, since a proof made of wrong hashes does not verify.
    """

    def __init__(self, size: int, fetch: Callable[[Tile], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._kept: OrderedDict[tuple[int, int], list[list[bytes]]] = OrderedDict()

    def size(self) -> int:
        return self._size

    def get(self, level: int, index: int) -> bytes:
        """The hash of a perfect subtree. Raises InputRejected beyond the log."""
        tile_level, above = divmod(level, TILE_HEIGHT)
        first = index << above
        tile_index, at = divmod(first, TILE_WIDTH)
        levels = self._tile(tile_level, tile_index)
        if (index + 1) << level > self._size:
            raise InputRejected(f"node {index} of level {level} is beyond {self._size} entries")
        return levels[above][at >> above]

    def set_size(self, size: int) -> None:
        raise InputRejected("a log read from tiles cannot grow: append where it is kept")

    def put(self, level: int, index: int, value: bytes) -> None:
        raise InputRejected("a log read from tiles cannot grow: append where it is kept")

    def _tile(self, level: int, index: int) -> list[list[bytes]]:
        """A tile's hashes, and above them those of the perfect subtrees within it."""
        found = self._kept.get((level, index))
        if found is not None:
            self._kept.move_to_end((level, index))
            return found
        width = min(TILE_WIDTH, (self._size >> (level * TILE_HEIGHT)) - index * TILE_WIDTH)
        tile = Tile(level, index, width)
        content = self._fetch(tile)
        if len(content) != width * HASH_BYTES:
            raise InputRejected(
                f"{tile.path} has {len(content)} bytes, expected {width * HASH_BYTES}"
            )
        levels = [[content[at : at + HASH_BYTES] for at in range(0, len(content), HASH_BYTES)]]
        while len(levels) < TILE_HEIGHT:
            below = levels[-1]
            levels.append(
                [
                    sha256(b"\x01" + below[at] + below[at + 1]).digest()
                    for at in range(0, len(below) - 1, 2)
                ]
            )
        self._kept[level, index] = levels
        if len(self._kept) > KEPT_TILES:
            self._kept.popitem(last=False)
        return levels
