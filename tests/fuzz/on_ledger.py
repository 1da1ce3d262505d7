"""Targets of the evidence log: notes, proofs, tiles, requests to a witness, entries, the chain."""

from __future__ import annotations

import base64
import json
import random
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dataspace.errors import SHOWN
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note, verify_checkpoint
from ledger.cosignature import Cosigner
from ledger.entry import Entry, EntryType, SealedEntry, commitment_of, open_entry, seal, uuid7
from ledger.evm import EmbeddedChain
from ledger.merkle import consistency_proof, inclusion_proof, root_hash
from ledger.note import NoteVerifier, add_signatures, parse_vkey, signature_of
from ledger.proof import LogProof, parse_proof, verify_proof
from ledger.tiles import Tile, entry_bundle, parse_entry_bundle, parse_tile, parse_tile_path
from ledger.witness import MemoryWitnessStore, Witness, add_checkpoint_request
from tests.fuzz.altering import lines, octets, tree
from tests.fuzz.target import Prepared, Target

ORIGIN = "city.example/tlog"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = NoteSigner(ORIGIN, KEY)
WITNESS = Cosigner("witness.example", Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
LEAVES = [f"leaf {number}".encode() for number in range(300)]


def _note(size: int = len(LEAVES)) -> str:
    body = Checkpoint(ORIGIN, size, root_hash(LEAVES[:size])).body()
    note = sign_note(body, [SIGNER])
    return add_signatures(note, [signature_of(WITNESS.at(1_790_000_000), body)])


def _proof() -> str:
    return LogProof(index=7, hashes=tuple(inclusion_proof(LEAVES, 7)), checkpoint=_note()).to_text()


def _checkpoints() -> Prepared:
    verifier = NoteVerifier.parse(SIGNER.vkey)
    return Prepared(
        read=lambda given: verify_checkpoint(given.decode("utf-8", "replace"), verifier, ORIGIN),
        examples=[_note().encode(), _note(1).encode()],
        alter=lines,
    )


def _keys() -> Prepared:
    return Prepared(
        read=lambda given: parse_vkey(given.decode("utf-8", "replace")),
        examples=[SIGNER.vkey.encode(), WITNESS.vkey.encode()],
        alter=octets,
    )


def _proofs() -> Prepared:
    verifier = NoteVerifier.parse(SIGNER.vkey)

    def read(given: bytes) -> None:
        verify_proof(parse_proof(given.decode("utf-8", "replace")), LEAVES[7], verifier, ORIGIN)

    return Prepared(read=read, examples=[_proof().encode()], alter=lines)


def _tiles() -> Prepared:
    tile = Tile(0, 0, 3)

    def read(given: bytes) -> None:
        parse_tile(given, tile)

    return Prepared(read=read, examples=[bytes(96)], alter=octets)


def _tile_paths() -> Prepared:
    return Prepared(
        read=lambda given: parse_tile_path(given.decode("utf-8", "replace")),
        examples=[b"tile/0/x001/x234/067", b"tile/2/000.p/7"],
        alter=octets,
    )


def _bundles() -> Prepared:
    return Prepared(read=parse_entry_bundle, examples=[entry_bundle(LEAVES[:40])], alter=octets)


def _requests() -> Prepared:
    def read(given: bytes) -> None:
        # Each request meets a witness that has seen the first ten leaves.
        witness = Witness(
            [WITNESS],
            MemoryWitnessStore(),
            logs=lambda origin: (NoteVerifier.parse(SIGNER.vkey),) if origin == ORIGIN else (),
            clock=lambda: 1_790_000_000,
        )
        witness.add_checkpoint(add_checkpoint_request(0, [], _note(10)))
        answer = witness.add_checkpoint(given)
        assert answer.status < 500, f"answered {answer.status}"

    request = add_checkpoint_request(10, consistency_proof(LEAVES[:12], 10), _note(12))
    return Prepared(read=read, examples=[request], alter=lines)


def _entries() -> Prepared:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    entry = Entry(
        log=ORIGIN,
        id=uuid7(now, bytes(10)),
        ts="2026-01-02T00:00:00.000Z",
        type=EntryType.DECIDED,
        actor="did:web:a.example",
        peer="did:web:b.example",
        decision="permit",
        recipients=("enterprise",),
    )
    shown = seal(entry, bytes(16)).to_json()

    def read(given: bytes) -> None:
        sealed = SealedEntry.parse(json.loads(given))
        open_entry(sealed.body, sealed.salt, sealed.commitment)

    def altered_body(rng: random.Random, example: bytes) -> bytes:
        """Often the body alone, committed to anew, so that its commitment is right."""
        if rng.random() < 0.3:
            return tree(rng, example)
        body = tree(rng, base64.b64decode(json.loads(example)["body"]))
        with suppress(ValueError, RecursionError, rfc8785.CanonicalizationError):
            # What has no canonical form stays as it is.
            body = rfc8785.dumps(json.loads(body))
        sealed = SealedEntry(body=body, salt=bytes(16), commitment=commitment_of(body, bytes(16)))
        return json.dumps(sealed.to_json()).encode()

    return Prepared(
        read=read,
        examples=[json.dumps(shown).encode()],
        alter=altered_body,
        # The text is read as JSON by whoever fetched it; what is not JSON is refused there.
        refusals=(*SHOWN, ValueError, RecursionError),
    )


def _chain() -> Prepared:
    directory = Path(tempfile.mkdtemp(prefix="fuzz-chain-"))
    chain = EmbeddedChain(
        directory / "chain.sqlite",
        chain_id=440300,
        funded={"0x" + "11" * 20: 10**24},
        clock=lambda: 1_790_000_000,
    )

    def read(given: bytes) -> None:
        try:
            asked = json.loads(given)
        except (ValueError, RecursionError):
            return
        json.dumps(chain.handle(asked))

    examples = [
        {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
        for name, params in (
            ("eth_chainId", []),
            ("eth_getBlockByNumber", ["latest", True]),
            (
                "eth_getLogs",
                [{"fromBlock": "0x0", "address": "0x" + "22" * 20}],
            ),
            ("eth_call", [{"to": "0x" + "22" * 20, "data": "0x00"}, "latest"]),
            ("eth_getBalance", ["0x" + "11" * 20, "latest"]),
            ("eth_sendRawTransaction", ["0x02f8"]),
            ("eth_feeHistory", ["0x4", "latest", [25, 75]]),
        )
    ]
    return Prepared(read=read, examples=[json.dumps(one).encode() for one in examples], alter=tree)


TARGETS = (
    Target("checkpoints", "a signed checkpoint from any log", _checkpoints),
    Target("verifier-keys", "a log's verifier key", _keys),
    Target("proofs", "a proof that an entry is in a log", _proofs),
    Target("tiles", "a tile of hashes", _tiles),
    Target("tile-paths", "the address of a tile", _tile_paths),
    Target("bundles", "a bundle of leaves", _bundles),
    Target("witness-requests", "a request to cosign a checkpoint", _requests),
    Target("entries", "an entry as a log shows it", _entries),
    Target("chain-requests", "JSON-RPC of the embedded chain", _chain),
)
