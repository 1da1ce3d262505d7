"""Faults and frauds, one by one: each is found and named, or survived with nothing lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account

from ledger.anchors import Anchor
from ledger.audit import DirectoryLog, audit, export_log
from ledger.chain import PreparedTransaction, Registry
from ledger.checkpoint import Checkpoint, NoteSigner, NoteVerifier, sign_note
from ledger.cosignature import CosignatureVerifier, Cosigner, verify_cosignatures
from ledger.entry import Entry, EntryType, seal
from ledger.errors import ChainRefused, InvalidNote, InvalidProof
from ledger.log import Log, MemoryNodeStore
from ledger.merkle import root_hash, verify_consistency, verify_inclusion
from ledger.note import NoteSignature
from ledger.tiles import Tile, tile_bytes
from ledger.witness import (
    MemoryWitnessStore,
    Witness,
    WitnessedHead,
    add_checkpoint_request,
    log_id_of,
)

from .space import Space, only

NOW = 1_795_000_000
COSIGNER = Cosigner("witness.example", Ed25519PrivateKey.from_private_bytes(bytes([5]) * 32))
WITNESS_KEY = CosignatureVerifier.parse(COSIGNER.vkey)


@pytest.fixture
def space() -> Space:
    space = Space()
    for _ in range(6):
        space.water.write(EntryType.PUBLISHED)
        space.water.anchor()
    return space


# Bytes


@pytest.fixture
def copies(space: Space, tmp_path: Path) -> dict[str, DirectoryLog]:
    for party in space.all:
        export_log(tmp_path / party.origin, party.checkpoint(), party.commitments_, party.sealed)
    return {party.origin: DirectoryLog(tmp_path / party.origin) for party in space.all}


@pytest.mark.parametrize("index", range(9))
def test_a_flipped_byte_in_an_entry_names_that_entry(
    space: Space, copies: dict[str, DirectoryLog], tmp_path: Path, index: int
) -> None:
    path = tmp_path / space.water.origin / "entries.jsonl"
    lines = path.read_bytes().split(b"\n")
    at = lines[index].index(b'"body": "') + 40
    flipped = b"A" if lines[index][at : at + 1] != b"A" else b"B"
    lines[index] = lines[index][:at] + flipped + lines[index][at + 1 :]
    path.write_bytes(b"\n".join(lines))
    altered = [f for f in audit(space, copies).findings if f.code == "entry-altered"]
    assert [(f.origin, f.index) for f in altered] == [(space.water.origin, index)]


@pytest.mark.parametrize("index", [3, 5, 8])
def test_a_flipped_byte_in_a_bundle_of_commitments_names_its_entry(
    space: Space, copies: dict[str, DirectoryLog], tmp_path: Path, index: int
) -> None:
    path = tmp_path / space.water.origin / "tile/entries/000.p/9"
    content = bytearray(path.read_bytes())
    content[index * 34 + 10] ^= 1
    path.write_bytes(content)
    found = {(f.code, f.index) for f in audit(space, copies).findings}
    # One anchor a record, so that the range in which history changed is the entry itself.
    assert found >= {("entry-altered", index), ("history-rewritten", index)}


def test_a_flipped_byte_in_a_tile_spoils_every_proof_that_uses_it_and_no_other() -> None:
    log, store = log_of(*map(str, range(300)))
    good = tile_bytes(store, Tile(0, 0))
    spoiled = bytearray(good)
    spoiled[37 * 32] ^= 1
    damaged = MemoryNodeStore()
    copied = Log(damaged)
    for data in map(str, range(300)):
        copied.append(data.encode())
    damaged._levels[0][37] = bytes(spoiled[37 * 32 : 38 * 32])
    leaf = store.get(0, 36)
    with pytest.raises(InvalidProof, match="inclusion of leaf 36 in a tree of 300"):
        verify_inclusion(leaf, 36, 300, copied.inclusion_proof(36), log.root())
    verify_inclusion(store.get(0, 38), 38, 300, copied.inclusion_proof(38), log.root())


# History


def test_a_dropped_entry_is_found_where_it_was(space: Space) -> None:
    del space.water.sealed[5], space.water.commitments_[5]
    space.water.write(EntryType.PUBLISHED)
    finding = next(f for f in space.audit().findings if f.code == "history-rewritten")
    assert (finding.origin, finding.index) == (space.water.origin, 5)


def test_a_rewound_log_is_told_which_entries_it_removed(space: Space) -> None:
    del space.water.sealed[7:], space.water.commitments_[7:]
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("log-rewound", 7)
    assert "entries 7 to 8 were removed" in finding.sentence


def test_a_replayed_old_checkpoint_is_taken_for_a_rewound_log(space: Space) -> None:
    old = sign_note(
        Checkpoint(space.water.origin, 4, root_hash(space.water.commitments_[:4])).body(),
        [space.water.signer],
    )
    space.water.checkpoint = lambda: old  # type: ignore[method-assign]
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("log-rewound", 4)


def test_two_histories_at_one_size_are_told_apart_by_the_anchor(space: Space) -> None:
    """The log shows the auditor another last entry than the one it anchored."""
    other = seal(
        Entry.model_validate_json(space.water.replace_body(8, outcome="other").body), bytes(16)
    )
    space.water.sealed[8], space.water.commitments_[8] = other, other.commitment
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("history-rewritten", 8)


def test_two_histories_that_fork_after_the_last_anchor_meet_at_the_next_audit(
    space: Space,
) -> None:
    space.water.write(EntryType.PUBLISHED, outcome="for the first auditor")
    state = space.audit().state
    space.water.sealed.pop()
    space.water.commitments_.pop()
    space.water.write(EntryType.PUBLISHED, outcome="for the second auditor")
    assert space.audit().ok
    finding = only(space.audit(state=state))
    assert (finding.code, finding.index) == ("history-rewritten", 9)


# Witnesses


def log_of(*leaves: str) -> tuple[Log, MemoryNodeStore]:
    store = MemoryNodeStore()
    log = Log(store)
    for leaf in leaves:
        log.append(leaf.encode())
    return log, store


ORIGIN = "water.city.example/tlog"
SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
LEAVES = [str(at) for at in range(12)]
HONEST, _ = log_of(*LEAVES)
FORKED_AT_SIZE, _ = log_of(*LEAVES[:7], "other", *LEAVES[8:])
FORKED_LATER, _ = log_of(*LEAVES[:9], "other", "other")


def request(log: Log, old: int, new: int) -> bytes:
    note = sign_note(Checkpoint(ORIGIN, new, log.root(new)).body(), [SIGNER])
    return add_checkpoint_request(old, log.consistency_proof(old, new), note)


@pytest.fixture
def witnessed() -> tuple[Witness, MemoryWitnessStore]:
    """A witness that has cosigned the honest log at sizes 8 and 10."""
    store = MemoryWitnessStore()
    keys = [NoteVerifier.parse(SIGNER.vkey)]
    witness = Witness([COSIGNER], store, logs=lambda _: keys, clock=lambda: NOW)
    for old, new in ((0, 8), (8, 10)):
        assert witness.add_checkpoint(request(HONEST, old, new)).status == 200
    return witness, store


@pytest.mark.parametrize(
    ("fork", "status"),
    [
        (request(FORKED_AT_SIZE, 10, 10), 422),
        (request(FORKED_AT_SIZE, 10, 12), 422),
        (request(FORKED_LATER, 10, 11), 422),
        (request(FORKED_LATER, 8, 11), 409),
        (request(FORKED_LATER, 0, 11), 409),
        (request(HONEST, 8, 10), 409),
    ],
)
def test_a_witness_shown_a_fork_or_an_old_head_signs_nothing_and_keeps_its_own(
    witnessed: tuple[Witness, MemoryWitnessStore], fork: bytes, status: int
) -> None:
    witness, store = witnessed
    answer = witness.add_checkpoint(fork)
    assert answer.status == status
    assert "—".encode() not in answer.body
    head = store.head(log_id_of(ORIGIN))
    assert head is not None
    assert (head.size, head.root) == (10, HONEST.root(10))


def test_a_cosigned_head_and_a_fork_of_it_cannot_both_extend_the_same_tree() -> None:
    for fork, size in ((FORKED_AT_SIZE, 12), (FORKED_LATER, 11)):
        with pytest.raises(InvalidProof, match="the proof leads to"):
            verify_consistency(
                10, size, fork.consistency_proof(10, size), HONEST.root(10), fork.root(size)
            )


def test_a_forged_cosignature_is_refused_and_named(space: Space) -> None:
    forged = NoteSignature(
        COSIGNER.name, COSIGNER.key_id, NOW.to_bytes(8) + SIGNER.sign("something else")
    )
    note = space.water.checkpoint() + forged.line
    with pytest.raises(InvalidNote, match=r"cosignature of witness\.example does not match"):
        verify_cosignatures(
            note, NoteVerifier.parse(space.water.signer.vkey), [WITNESS_KEY], threshold=1
        )
    space.water.checkpoint = lambda: note  # type: ignore[method-assign]
    finding = only(space.audit(witnesses=[WITNESS_KEY]))
    assert (finding.code, finding.origin) == ("cosignature-invalid", space.water.origin)


class CrashingStore(MemoryWitnessStore):
    """Keeps the head, and the process dies before it answers."""

    def advance(self, log_id: str, expected: WitnessedHead | None, new: WitnessedHead) -> bool:
        super().advance(log_id, expected, new)
        raise KeyboardInterrupt


def test_a_witness_that_died_after_keeping_a_head_cosigns_it_when_asked_again() -> None:
    crashing, keys = CrashingStore(), [NoteVerifier.parse(SIGNER.vkey)]
    witness = Witness([COSIGNER], crashing, logs=lambda _: keys, clock=lambda: NOW)
    with pytest.raises(KeyboardInterrupt):
        witness.add_checkpoint(request(HONEST, 0, 8))
    restarted = MemoryWitnessStore()
    head = crashing.head(log_id_of(ORIGIN))
    assert head is not None
    restarted.advance(log_id_of(ORIGIN), None, head)
    again = Witness([COSIGNER], restarted, logs=lambda _: keys, clock=lambda: NOW)
    assert again.add_checkpoint(request(HONEST, 0, 8)).body == b"8\n"
    assert again.add_checkpoint(request(FORKED_AT_SIZE, 8, 8)).status == 422
    assert again.add_checkpoint(request(HONEST, 8, 8)).status == 200


# The chain


@pytest.fixture
def owner(served: Any, new_key: Callable[[], str]) -> Registry:
    registrar, key = served.deploy(), new_key()
    opened: Registry = served.open(registrar, key)
    registrar.register(ORIGIN, Account.from_key(key).address, SIGNER.vkey, "https://x")
    return opened


def test_an_anchor_transaction_lost_on_the_way_is_sent_again_as_it_was_stored(
    owner: Registry,
) -> None:
    prepared = owner.prepare_anchor(ORIGIN, 8, HONEST.root(8))
    stored = prepared.to_text()
    # It never arrived: the chain has no receipt, and the process was restarted.
    assert owner.receipt(prepared.hash) is None
    again = PreparedTransaction.parse(stored)
    owner.submit(again)
    owner.submit(again)
    assert owner.receipt(again.hash) is not None
    assert [anchor.size for anchor in owner.anchors(ORIGIN)] == [8]


def test_a_fork_cannot_be_anchored_after_the_honest_head(owner: Registry) -> None:
    owner.submit(owner.prepare_anchor(ORIGIN, 8, HONEST.root(8)))
    with pytest.raises(ChainRefused) as same_size:
        owner.prepare_anchor(ORIGIN, 8, FORKED_AT_SIZE.root(8))
    with pytest.raises(ChainRefused) as rewound:
        owner.prepare_anchor(ORIGIN, 7, HONEST.root(7))
    assert (same_size.value.name, rewound.value.name) == ("ConflictingRoot", "SmallerSize")


def test_an_anchor_lost_for_good_is_late_and_named(space: Space) -> None:
    space.water.anchors = space.water.anchors[:1]
    late = [
        f
        for f in space.audit(max_anchor_delay_s=1e9, now_s=2.9e9).findings
        if f.code == "anchor-late"
    ]
    assert [(f.origin, f.index) for f in late] == [(space.water.origin, 3)]
    assert "is not anchored yet" in late[0].sentence


# Crashes


class SqliteNodes:
    """Nodes in a SQLite file, inside one transaction, as a node keeps them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def size(self) -> int:
        found = self._connection.execute("SELECT size FROM state").fetchone()
        return int(found[0])

    def set_size(self, size: int) -> None:
        self._connection.execute("UPDATE state SET size = ?", (size,))

    def get(self, level: int, index: int) -> bytes:
        found = self._connection.execute(
            "SELECT value FROM node WHERE level = ? AND position = ?", (level, index)
        ).fetchone()
        return bytes(found[0])

    def put(self, level: int, index: int, value: bytes) -> None:
        self._connection.execute("INSERT INTO node VALUES (?, ?, ?)", (level, index, value))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "log.sqlite", isolation_level=None)
    connection.executescript(
        "CREATE TABLE state (size INTEGER); INSERT INTO state VALUES (0);"
        "CREATE TABLE node (level INTEGER, position INTEGER, value BLOB,"
        " PRIMARY KEY (level, position));"
    )
    yield connection
    connection.close()


@pytest.mark.parametrize("before", [0, 1, 3, 7, 8])
@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_crash_between_append_and_checkpoint_loses_the_append_whole(
    database: sqlite3.Connection, before: int, lost: int
) -> None:
    log = Log(SqliteNodes(database))
    database.execute("BEGIN IMMEDIATE")
    for at in range(before):
        log.append(str(at).encode())
    database.execute("COMMIT")
    root = log.root()
    database.execute("BEGIN IMMEDIATE")
    for _ in range(lost):
        log.append(b"lost")
    database.execute("ROLLBACK")
    assert (log.size, log.root()) == (before, root)
    database.execute("BEGIN IMMEDIATE")
    for at in range(before, 12):
        log.append(str(at).encode())
    database.execute("COMMIT")
    assert log.root() == HONEST.root(12)


def test_an_owner_that_signed_before_a_crash_is_caught_by_its_own_signature(
    space: Space,
) -> None:
    """A checkpoint of entries that were rolled back must never have left the node."""
    leaked = sign_note(
        Checkpoint(space.water.origin, 11, bytes([1]) * 32).body(), [space.water.signer]
    )
    space.water.write(EntryType.PUBLISHED)
    space.water.checkpoint = lambda: leaked  # type: ignore[method-assign]
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("commitments-missing", 10)


def test_an_anchor_of_a_tree_the_log_never_had_is_found(space: Space) -> None:
    space.water.anchors.append(Anchor(10, bytes([9]) * 32, 40, NOW))
    space.water.write(EntryType.PUBLISHED)
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("history-rewritten", 9)
