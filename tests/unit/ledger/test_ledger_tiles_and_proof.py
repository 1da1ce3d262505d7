"""Tile paths as C2SP tlog-tiles gives them, and proofs that verify offline."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import Checkpoint, NoteSigner, NoteVerifier, sign_note
from ledger.errors import InputRejected, InvalidCheckpoint, InvalidNote, InvalidProof
from ledger.log import Log, MemoryNodeStore
from ledger.proof import LogProof, parse_proof, verify_proof
from ledger.tiles import Tile, entry_bundle, parse_tile, parse_tile_path, tile_bytes, tiles_of

ORIGIN = "city.example/water/tlog"


def test_the_specifications_example_index_is_written_in_groups_of_three() -> None:
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(None, 1_234_067, 8).path == "tile/entries/x001/x234/067.p/8"
    assert Tile(63, 0).path == "tile/63/000"


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/x000/067",
        "tile/00/067",
        "tile/0/67",
        "tile/0/067.p/256",
        "tile/0/067.p/0",
        "tile/0/067.p/08",
        "tile/64/067",
        "tile/0/x001/x067",
        "tile/0/001/067",
        "tile/0/067/",
        "/tile/0/067",
        "tile/0/067\n",
        "tile/0/٠٦٧",
        "tile/0/../067",
    ],
)
def test_other_spellings_of_a_tile_are_refused(path: str) -> None:
    with pytest.raises(InputRejected):
        parse_tile_path(path)


def test_the_specifications_example_tree_has_the_tiles_it_lists() -> None:
    # A tree of 70,000: 273 full and one partial (112) at level 0, one full and one of width 17
    # at level 1, one of width 1 at level 2.
    hashes = [tile for tile in tiles_of(70_000) if tile.level is not None]
    widths = {level: [tile.width for tile in hashes if tile.level == level] for level in range(4)}
    assert widths == {0: [256] * 273 + [112], 1: [256, 17], 2: [1], 3: []}
    assert [tile.path for tile in tiles_of(256)] == [
        "tile/entries/000",
        "tile/0/000",
        "tile/1/000.p/1",
    ]


def test_a_tile_beyond_the_log_is_refused() -> None:
    store = MemoryNodeStore()
    log = Log(store)
    for at in range(300):
        log.append(bytes([at % 256]))
    assert len(tile_bytes(store, Tile(0, 1, 44))) == 44 * 32
    assert parse_tile(tile_bytes(store, Tile(1, 0, 1)), Tile(1, 0, 1)) == [log.root(256)]
    for tile in (Tile(0, 1, 45), Tile(1, 0, 2), Tile(2, 0, 1), Tile(63, 0, 1), Tile(None, 0)):
        with pytest.raises(InputRejected):
            tile_bytes(store, tile)


def test_a_bundle_holds_at_most_256_entries_of_65535_bytes() -> None:
    assert len(entry_bundle([bytes(65_535)] * 2)) == 2 * 65_537
    with pytest.raises(InputRejected, match="65536 bytes"):
        entry_bundle([bytes(65_536)])
    with pytest.raises(InputRejected, match="257 entries"):
        entry_bundle([b""] * 257)


@pytest.fixture
def signer() -> NoteSigner:
    return NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def proof_of(signer: NoteSigner, index: int, size: int, extra: bytes | None = None) -> LogProof:
    log = Log(MemoryNodeStore())
    for at in range(size):
        log.append(f"leaf {at}".encode())
    note = sign_note(Checkpoint(ORIGIN, size, log.root()).body(), [signer])
    return LogProof(index, tuple(log.inclusion_proof(index)), note, extra)


def test_a_proof_file_verifies_offline_and_returns_its_checkpoint(signer: NoteSigner) -> None:
    verifier = NoteVerifier.parse(signer.vkey)
    for extra in (None, b"", b"salt of the entry"):
        proof = proof_of(signer, 5, 11, extra)
        text = proof.to_text()
        assert parse_proof(text) == proof
        lines = text.split("\n")
        assert lines[0] == "c2sp.org/tlog-proof@v1"
        assert lines[1 if extra is None else 2] == "index 5"
        assert verify_proof(parse_proof(text), b"leaf 5", verifier, ORIGIN).size == 11


def test_a_proof_of_a_single_entry_has_no_hashes(signer: NoteSigner) -> None:
    proof = proof_of(signer, 0, 1)
    assert proof.hashes == ()
    verifier = NoteVerifier.parse(signer.vkey)
    assert verify_proof(parse_proof(proof.to_text()), b"leaf 0", verifier, ORIGIN).size == 1


def test_a_proof_for_other_data_another_log_or_another_key_is_refused(signer: NoteSigner) -> None:
    proof = proof_of(signer, 5, 11)
    verifier = NoteVerifier.parse(signer.vkey)
    with pytest.raises(InvalidProof, match="leaf 5 in a tree of 11"):
        verify_proof(proof, b"leaf 6", verifier, ORIGIN)
    with pytest.raises(InvalidCheckpoint, match="expected a checkpoint of other"):
        verify_proof(proof, b"leaf 5", verifier, "other")
    stranger = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(InvalidNote, match="not signed by a known key"):
        verify_proof(proof, b"leaf 5", NoteVerifier.parse(stranger.vkey), ORIGIN)


def test_a_damaged_proof_file_is_refused(signer: NoteSigner) -> None:
    text = proof_of(signer, 5, 11, b"x").to_text()
    damaged = [
        text.replace("@v1", "@v2"),
        text.replace("index 5", "index 05"),
        text.replace("index 5", "index -5"),
        text.replace("index 5", "index 99999999999999999999"),
        text.replace("index 5\n", ""),
        text.replace("extra eA==", "extra eB=="),
        text.replace("\n\n", "\n", 1).replace("\n\n", "\n"),
        text.replace("index 5\n", "index 5\nAAAA\n"),
        text.replace("index 5\n", "index 5\n" + ("A" * 43 + "=\n") * 64),
    ]
    for bad in damaged:
        assert bad != text
        with pytest.raises(InvalidProof):
            parse_proof(bad)
