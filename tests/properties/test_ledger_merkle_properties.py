"""Properties of trees, proofs and tiles for every size the search comes up with."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InputRejected, InvalidProof
from ledger.log import Log, MemoryNodeStore
from ledger.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)
from ledger.tiles import (
    Tile,
    entry_bundle,
    parse_entry_bundle,
    parse_tile,
    parse_tile_path,
    tile_bytes,
    tiles_of,
)


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH exactly as RFC 6962 section 2.1 writes it."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def grown(leaves: list[bytes]) -> tuple[Log, MemoryNodeStore]:
    store = MemoryNodeStore()
    log = Log(store)
    for leaf in leaves:
        log.append(leaf)
    return log, store


leaf_lists = st.lists(st.binary(max_size=8), min_size=1, max_size=70)


@given(leaf_lists)
def test_the_log_the_function_and_the_definition_agree_on_the_root(leaves: list[bytes]) -> None:
    log, _ = grown(leaves)
    assert log.root() == root_hash(leaves) == naive_root(leaves)


@given(leaf_lists, st.data())
def test_every_inclusion_proof_verifies_and_no_changed_bit_does(
    leaves: list[bytes], data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    log, _ = grown(leaves)
    proof, root = log.inclusion_proof(index, size), log.root(size)
    assert proof == inclusion_proof(leaves[:size], index)
    hash_of_leaf = leaf_hash(leaves[index])
    verify_inclusion(hash_of_leaf, index, size, proof, root)
    values = [hash_of_leaf, root, *proof]
    at = data.draw(st.integers(0, len(values) - 1))
    bit = data.draw(st.integers(0, 255))
    values[at] = (int.from_bytes(values[at]) ^ 1 << bit).to_bytes(32)
    with pytest.raises(InvalidProof):
        verify_inclusion(values[0], index, size, values[2:], values[1])


@given(leaf_lists, st.data())
def test_every_consistency_proof_verifies_and_no_changed_bit_does(
    leaves: list[bytes], data: st.DataObject
) -> None:
    new_size = data.draw(st.integers(1, len(leaves)))
    old_size = data.draw(st.integers(1, new_size))
    log, _ = grown(leaves)
    proof = log.consistency_proof(old_size, new_size)
    assert proof == consistency_proof(leaves[:new_size], old_size)
    old_root, new_root = log.root(old_size), log.root(new_size)
    verify_consistency(old_size, new_size, proof, old_root, new_root)
    values = [old_root, new_root, *proof]
    at = data.draw(st.integers(0, len(values) - 1))
    bit = data.draw(st.integers(0, 255))
    values[at] = (int.from_bytes(values[at]) ^ 1 << bit).to_bytes(32)
    with pytest.raises(InvalidProof):
        verify_consistency(old_size, new_size, values[2:], values[0], values[1])


@given(st.integers(0, 10**20), st.integers(1, 256), st.none() | st.integers(0, 63))
def test_a_tile_path_round_trips(index: int, width: int, level: int | None) -> None:
    tile = Tile(level, index, width)
    assert parse_tile_path(tile.path) == tile


@given(st.text(alphabet="tile/ns0123x.p", max_size=30).map(lambda text: f"tile/{text}"))
def test_a_path_that_parses_is_the_only_name_of_its_tile(path: str) -> None:
    try:
        tile = parse_tile_path(path)
    except InputRejected:
        return
    assert tile.path == path


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_an_entry_bundle_round_trips_and_a_cut_one_is_refused(entries: list[bytes]) -> None:
    bundle = entry_bundle(entries)
    assert parse_entry_bundle(bundle) == entries
    if entries:
        with pytest.raises(InputRejected, match="ends within entry"):
            parse_entry_bundle(bundle[:-1])


@given(st.integers(1, 700))
def test_tiles_alone_give_the_root(size: int) -> None:
    log, store = grown([at.to_bytes(2) for at in range(size)])
    leaf_hashes: list[bytes] = []
    for tile in tiles_of(size):
        if tile.level == 0:
            leaf_hashes += parse_tile(tile_bytes(store, tile), tile)
        elif tile.level == 1:
            for offset, value in enumerate(parse_tile(tile_bytes(store, tile), tile)):
                first = (tile.index * 256 + offset) * 256
                below = [at.to_bytes(2) for at in range(first, first + 256)]
                assert value == naive_root(below)
    assert leaf_hashes == [leaf_hash(at.to_bytes(2)) for at in range(size)]
    assert log.size == size
