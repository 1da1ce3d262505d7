"""Proofs made from tiles are those of the log itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger.errors import InputRejected, InvalidProof
from ledger.log import Log, MemoryNodeStore
from ledger.merkle import leaf_hash, verify_inclusion
from ledger.tile_store import KEPT_TILES, TileStore
from ledger.tiles import Tile, tile_bytes


def log_of(size: int) -> tuple[Log, MemoryNodeStore]:
    store = MemoryNodeStore()
    log = Log(store)
    log.extend(str(at).encode() for at in range(size))
    return log, store


SIZE = 66_000
LOG, STORE = log_of(SIZE)


def fetch(tile: Tile) -> bytes:
    return tile_bytes(STORE, tile)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 65_535, 65_536, 65_537, SIZE])
def test_roots_and_proofs_from_tiles_are_the_logs_own(size: int) -> None:
    tiles = Log(TileStore(size, fetch))
    assert tiles.root() == LOG.root(size)
    for index in {0, size // 3, size // 2, max(0, size - 2), size - 1}:
        assert tiles.inclusion_proof(index) == LOG.inclusion_proof(index, size)
        assert tiles.consistency_proof(index) == LOG.consistency_proof(index, size)
        if index:
            assert tiles.root(index) == LOG.root(index)


def test_a_tile_is_fetched_once_while_it_is_kept_and_few_are_kept() -> None:
    fetched: list[Tile] = []

    def counting(tile: Tile) -> bytes:
        fetched.append(tile)
        return fetch(tile)

    store = TileStore(SIZE, counting)
    tiles = Log(store)
    tiles.inclusion_proof(7)
    first = len(fetched)
    assert first <= 6
    tiles.inclusion_proof(8)
    assert len(fetched) == first
    for index in range(0, SIZE, 256):
        tiles.inclusion_proof(index)
    assert len(store._kept) == KEPT_TILES


def test_a_damaged_tile_gives_proofs_that_do_not_verify() -> None:
    def damaged(tile: Tile) -> bytes:
        content = fetch(tile)
        return content if tile.index else bytes([content[0] ^ 1]) + content[1:]

    proof = Log(TileStore(SIZE, damaged)).inclusion_proof(1)
    with pytest.raises(InvalidProof):
        verify_inclusion(leaf_hash(b"1"), 1, SIZE, proof, LOG.root())


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(8193)])
def test_a_tile_of_another_length_is_refused(content: bytes) -> None:
    with pytest.raises(InputRejected, match="bytes, expected "):
        Log(TileStore(SIZE, lambda _: content)).inclusion_proof(1)


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.put(0, 0, bytes(32)),
        lambda store: store.set_size(1),
        lambda store: store.get(0, SIZE),
        lambda store: Log(store).append(b""),
    ],
)
def test_tiles_are_for_reading_and_end_with_the_log(act: Callable[[TileStore], object]) -> None:
    with pytest.raises(InputRejected):
        act(TileStore(SIZE, fetch))
