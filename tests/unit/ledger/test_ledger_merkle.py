"""The tree against the published vectors of RFC 6962 logs."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

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

# Leaves and roots of the reference tree in certificate-transparency tests.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def cases(vectors: Path, kind: str) -> list[dict[str, Any]]:
    files = sorted((vectors / "rfc6962-merkle" / "testdata" / kind).rglob("*.json"))
    return [json.loads(file.read_text()) for file in files]


def decoded(value: str | None) -> bytes:
    return base64.b64decode(value or "")


def test_every_published_inclusion_case_is_judged_as_published(shared_vectors: Path) -> None:
    judged = 0
    for case in cases(shared_vectors, "inclusion"):
        arguments = (
            decoded(case["leafHash"]),
            case["leafIdx"],
            case["treeSize"],
            [decoded(value) for value in case["proof"] or []],
            decoded(case["root"]),
        )
        if case["wantErr"]:
            with pytest.raises(InvalidProof):
                verify_inclusion(*arguments)
        else:
            verify_inclusion(*arguments)
        judged += 1
    assert judged >= 98


def test_every_published_consistency_case_is_judged_as_published(shared_vectors: Path) -> None:
    judged = 0
    for case in cases(shared_vectors, "consistency"):
        old_size, new_size = case["size1"], case["size2"]
        # Where the vectors do not care about a root they hold a short text; we want 32 bytes.
        old_root, new_root = (
            root if len(root) == 32 else sha256(root).digest()
            for root in (decoded(case["root1"]), decoded(case["root2"]))
        )
        proof = [decoded(value) for value in case["proof"] or []]
        if case["wantErr"]:
            with pytest.raises(InvalidProof):
                verify_consistency(old_size, new_size, proof, old_root, new_root)
        else:
            verify_consistency(old_size, new_size, proof, old_root, new_root)
        judged += 1
    assert judged >= 98


def test_roots_of_the_reference_tree_are_the_published_ones() -> None:
    log = Log(MemoryNodeStore())
    grown = [log.root().hex()]
    for leaf in LEAVES:
        log.append(leaf)
        grown.append(log.root().hex())
    assert grown == ROOTS
    assert [root_hash(LEAVES[:size]).hex() for size in range(9)] == ROOTS
    assert [log.root(size).hex() for size in range(9)] == ROOTS


def test_proofs_of_the_worked_example_in_rfc_6962_section_2_1_3() -> None:
    # The names are those of the figure: seven leaves d0…d6 with hashes a, b, c, d, e, f, j.
    leaves = [bytes([at]) for at in range(7)]
    a, b, c, d, e, f, j = map(leaf_hash, leaves)
    g, h, i = (root_hash(leaves[at : at + 2]) for at in (0, 2, 4))
    k, m = root_hash(leaves[:4]), root_hash(leaves[4:])
    assert inclusion_proof(leaves, 0) == [b, h, m]
    assert inclusion_proof(leaves, 3) == [c, g, m]
    assert inclusion_proof(leaves, 4) == [f, j, k]
    assert inclusion_proof(leaves, 6) == [i, k]
    assert consistency_proof(leaves, 3) == [c, d, g, m]
    assert consistency_proof(leaves, 4) == [m]
    assert consistency_proof(leaves, 6) == [i, j, k]
    assert {a, e}.isdisjoint({b, c, d, f})


def test_an_index_beyond_the_log_is_the_callers_fault() -> None:
    log = Log(MemoryNodeStore())
    log.append(b"only")
    for ask in (
        lambda: log.inclusion_proof(1),
        lambda: log.inclusion_proof(-1),
        lambda: log.inclusion_proof(0, 0),
        lambda: log.root(2),
        lambda: log.consistency_proof(2),
        lambda: inclusion_proof([b"only"], 1),
        lambda: consistency_proof([b"only"], 2),
    ):
        with pytest.raises(InputRejected):
            ask()


def test_a_failed_proof_says_which_leaf_and_what_was_expected() -> None:
    leaves = [b"a", b"b", b"c"]
    path = inclusion_proof(leaves, 2)
    with pytest.raises(InvalidProof, match="leaf 2 in a tree of 3: 0 hashes are too few"):
        verify_inclusion(leaf_hash(b"c"), 2, 3, [], root_hash(leaves))
    with pytest.raises(InvalidProof, match="1 of 2 hashes are too many"):
        verify_inclusion(leaf_hash(b"c"), 2, 3, [*path, bytes(32)], root_hash(leaves))
    with pytest.raises(InvalidProof, match="the same size has two roots"):
        verify_consistency(3, 3, [], root_hash(leaves), bytes(32))
    with pytest.raises(InvalidProof, match="31 bytes, expected 32"):
        verify_inclusion(leaf_hash(b"c"), 2, 3, [path[0][:31]], root_hash(leaves))


def test_each_node_is_written_once_and_appending_reads_only_its_left_neighbours() -> None:
    class Counting(MemoryNodeStore):
        reads = 0
        written: list[tuple[int, int]]

        def __init__(self) -> None:
            super().__init__()
            self.written = []

        def get(self, level: int, index: int) -> bytes:
            self.reads += 1
            return super().get(level, index)

        def put(self, level: int, index: int, value: bytes) -> None:
            self.written.append((level, index))
            super().put(level, index, value)

    store = Counting()
    log = Log(store)
    assert [log.append(bytes([at])) for at in range(100)] == list(range(100))
    assert len(set(store.written)) == len(store.written)
    # 100 leaves + 50 + 25 + 12 + 6 + 3 + 1 perfect subtrees, each joined with one read.
    assert len(store.written) == 197
    assert store.reads == 97
