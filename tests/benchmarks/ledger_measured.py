"""The parts of the ledger's benchmarks that run in a process of their own, for their memory.

python ledger_measured.py PART DIRECTORY SIZE
"""

from __future__ import annotations

import json
import random
import secrets
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_figures import ORIGIN, START, peak_mb, rate, record

from ledger.anchors import Anchor, RegisteredLog
from ledger.audit import AuditState, DirectoryLog, audit, export_log
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.entry import EntryType, SealedEntry, seal
from ledger.log import Log
from ledger.merkle import Frontier, leaf_hash, node_hash, verify_inclusion
from ledger.tile_store import TileStore
from ledger.tiles import TILE_WIDTH, Tile

ANCHOR_EVERY = 500


def write_tiles(directory: Path, size: int) -> None:
    """The tiles of a log of this many leaves, written in bounded memory."""
    waiting: list[list[bytes]] = [[]]
    written: list[int] = [0]

    def flush(level: int) -> None:
        hashes = waiting[level]
        path = directory / Tile(level, written[level], len(hashes)).path
        if written[level] % 1000 == 0 or len(hashes) < TILE_WIDTH:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(hashes))
        written[level] += 1
        if len(hashes) == TILE_WIDTH:
            if level + 1 == len(waiting):
                waiting.append([])
                written.append(0)
            waiting[level + 1].append(_perfect_root(hashes))
        waiting[level] = []
        if level + 1 < len(waiting) and len(waiting[level + 1]) == TILE_WIDTH:
            flush(level + 1)

    for index in range(size):
        waiting[0].append(leaf_hash(index.to_bytes(8)))
        if len(waiting[0]) == TILE_WIDTH:
            flush(0)
    for level in range(len(waiting)):
        if waiting[level]:
            flush(level)


def _perfect_root(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


def measure_proofs(directory: Path, size: int) -> dict[str, float]:
    """Proofs of random leaves from tiles on the disk, and their verification."""
    write_start = time.perf_counter()
    write_tiles(directory, size)
    wrote_s = time.perf_counter() - write_start
    log = Log(TileStore(size, lambda tile: (directory / tile.path).read_bytes()))
    root = log.root()
    choose = random.Random(1)
    indices = [choose.randrange(size) for _ in range(1000)]
    proofs: list[list[bytes]] = []
    made = rate(len(indices), lambda: proofs.extend(map(log.inclusion_proof, indices)))
    old_sizes = [choose.randrange(1, size) for _ in range(200)]
    consistent = rate(200, lambda: [log.consistency_proof(old) for old in old_sizes])
    leaves = [leaf_hash(index.to_bytes(8)) for index in indices]
    repeats = 10

    def verify() -> None:
        for _ in range(repeats):
            for leaf, index, proof in zip(leaves, indices, proofs, strict=True):
                verify_inclusion(leaf, index, size, proof, root)

    def hash_only() -> None:
        for _ in range(repeats):
            for value, proof in zip(leaves, proofs, strict=True):
                for sibling in proof:
                    value = sha256(b"\x01" + sibling + value).digest()

    verified = rate(repeats * len(indices), verify)
    hashed = rate(repeats * len(indices), hash_only)
    return {
        "wrote_s": wrote_s,
        "made": made,
        "consistent": consistent,
        "verified": verified,
        "hashed": hashed,
        "memory_mb": peak_mb(),
    }


@dataclass(frozen=True)
class Chain:
    """The chain's side of one log."""

    log: RegisteredLog
    of_log: list[Anchor]

    def logs(self) -> list[RegisteredLog]:
        return [self.log]

    def anchors(self, origin: str) -> list[Anchor]:
        return self.of_log


def build_copy(directory: Path, size: int) -> dict[str, float]:
    """A copy of a log of this many records on the disk, and its anchors."""
    signer = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    sealed: list[SealedEntry | None] = []
    frontier, anchors = Frontier(), []
    # Every order is permitted and then completed.
    completed: dict[str, object] = {"type": EntryType.COMPLETED, "transcript_h": "c" * 64}
    for index in range(size):
        fields = completed if index % 2 else {}
        entry = seal(record(index, **fields), secrets.token_bytes(16))
        sealed.append(entry)
        frontier.append(leaf_hash(entry.commitment))
        if frontier.size % ANCHOR_EVERY == 0:
            when = int(START.timestamp()) + index // 1000 + 60
            anchors.append([frontier.size, frontier.root().hex(), len(anchors) + 1, when])
    note = sign_note(Checkpoint(ORIGIN, size, frontier.root()).body(), [signer])
    export_log(directory / "copy", note, [one.commitment for one in sealed if one], sealed)
    (directory / "anchors.json").write_text(json.dumps({"vkey": signer.vkey, "anchors": anchors}))
    return {}


def measure_audit(directory: Path, _size: int) -> dict[str, float]:
    stored = json.loads((directory / "anchors.json").read_text())
    log = RegisteredLog(ORIGIN, "0x0", stored["vkey"], "https://bench", False)
    anchors = [Anchor(size, bytes.fromhex(root), *at) for size, root, *at in stored["anchors"]]
    idle_mb = peak_mb()
    start = time.perf_counter()
    report = audit(
        Chain(log, anchors[:-2]), {ORIGIN: DirectoryLog(directory / "copy")}, max_anchor_delay_s=600
    )
    seconds = time.perf_counter() - start
    memory_mb = peak_mb()
    assert report.ok, report.findings[:3]
    assert report.state is not None
    kept = json.dumps(report.state.to_json())
    start = time.perf_counter()
    again = audit(
        Chain(log, anchors),
        {ORIGIN: DirectoryLog(directory / "copy")},
        max_anchor_delay_s=600,
        state=AuditState.parse(json.loads(kept)),
    )
    assert again.ok
    return {
        "seconds": seconds,
        "memory_mb": memory_mb,
        "idle_mb": idle_mb,
        "state_mb": len(kept) / 1e6,
        "resumed_s": time.perf_counter() - start,
    }


PARTS = {"proofs": measure_proofs, "copy": build_copy, "audit": measure_audit}

if __name__ == "__main__":
    part, where, size = sys.argv[1:]
    print(json.dumps(PARTS[part](Path(where), int(size))))
