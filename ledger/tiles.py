"""Tiles and entry bundles (C2SP tlog-tiles): a log as finitely many files.

A tile at level L, index N holds up to 256 hashes, each of a perfect subtree of 256^L leaves. An
entry bundle holds up to 256 entries, each behind its length in two bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ledger.errors import InputRejected
from ledger.log import NodeStore
from ledger.merkle import HASH_BYTES

TILE_WIDTH = 256
TILE_HEIGHT = 8
MAX_LEVEL = 63
MAX_ENTRY_BYTES = 65_535

_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True)
class Tile:
    """Which tile: `level` is None for an entry bundle; `width` is 256 for a full one."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        level_fits = self.level is None or 0 <= self.level <= MAX_LEVEL
        if not level_fits or self.index < 0 or not 1 <= self.width <= TILE_WIDTH:
            raise InputRejected(
                f"no tile at level {self.level}, index {self.index}, width {self.width}"
            )

    @property
    def path(self) -> str:
        """`tile/<L>/<N>[.p/<W>]`, N in groups of three digits, all but the last behind an x."""
        digits = str(self.index)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        index = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
        level = "entries" if self.level is None else str(self.level)
        suffix = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{index}{suffix}"


def parse_tile_path(path: str) -> Tile:
    """The tile that this path names. Raises InputRejected unless it is its only spelling."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise InputRejected("not a tile path: expected tile/<L>/<N>[.p/<W>]")
    level = None if match["level"] == "entries" else int(match["level"])
    width = TILE_WIDTH if match["width"] is None else int(match["width"])
    tile = Tile(level, int(match["index"].replace("x", "").replace("/", "")), width)
    # Leading groups of zeroes and an explicit .p/256 would be second names for one tile.
    if tile.path != path:
        raise InputRejected(f"not a tile path: the canonical one is {tile.path}")
    return tile


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile and entry bundle of a tree of this size, partial ones last in each level."""
    yield from _level_tiles(None, size)
    level, count = 0, size
    while count > 0:
        yield from _level_tiles(level, count)
        level, count = level + 1, count // TILE_WIDTH


def tile_bytes(store: NodeStore, tile: Tile) -> bytes:
    """The hashes of this tile, 32 bytes each. Raises InputRejected when the log has not grown
    that far or the tile is an entry bundle."""
    if tile.level is None:
        raise InputRejected("an entry bundle holds entries, not hashes")
    last = tile.index * TILE_WIDTH + tile.width
    node_level = tile.level * TILE_HEIGHT
    if last << node_level > store.size():
        raise InputRejected(f"{tile.path} reaches beyond the log's {store.size()} entries")
    first = tile.index * TILE_WIDTH
    return b"".join(store.get(node_level, first + at) for at in range(tile.width))


def parse_tile(data: bytes, tile: Tile) -> list[bytes]:
    """The hashes in the bytes of a tile. Raises InputRejected for another length."""
    if len(data) != tile.width * HASH_BYTES:
        raise InputRejected(
            f"{tile.path} has {len(data)} bytes, expected {tile.width * HASH_BYTES}"
        )
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def entry_bundle(entries: Sequence[bytes]) -> bytes:
    """Leaf data of up to 256 entries as a bundle. Raises InputRejected beyond its limits."""
    if len(entries) > TILE_WIDTH:
        raise InputRejected(f"{len(entries)} entries, a bundle holds at most {TILE_WIDTH}")
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise InputRejected(f"an entry of {len(entry)} bytes, at most {MAX_ENTRY_BYTES} fit")
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


def parse_entry_bundle(data: bytes) -> list[bytes]:
    """The entries in a bundle. Raises InputRejected when it is cut short or too full."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + 2
        end = start + int.from_bytes(data[at:start])
        if start > len(data) or end > len(data):
            raise InputRejected(f"the bundle ends within entry {len(entries)}")
        if len(entries) == TILE_WIDTH:
            raise InputRejected(f"a bundle holds at most {TILE_WIDTH} entries")
        entries.append(data[start:end])
        at = end
    return entries


def _level_tiles(level: int | None, count: int) -> Iterator[Tile]:
    full, rest = divmod(count, TILE_WIDTH)
    for index in range(full):
        yield Tile(level, index)
    if rest:
        yield Tile(level, full, rest)
