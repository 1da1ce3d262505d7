"""Keys are replaced: who may vouch for a checkpoint, and what the chain tells about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account
from web3.exceptions import Web3RPCError

from ledger.anchors import Anchor, RotationRecord
from ledger.chain import Registry
from ledger.chain_events import read_key_history
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.errors import ChainRefused, InvalidCheckpoint, InvalidNote, RetiredKey
from ledger.rotation import verify_with_history

ORIGIN = "water.city.example/tlog"
KEYS = [NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in range(4)]
HISTORY = [
    RotationRecord(KEYS[0].vkey, 0, 3),
    RotationRecord(KEYS[1].vkey, 5, 10),
    RotationRecord(KEYS[2].vkey, 9, 20),
]
ANCHORS = [
    Anchor(5, bytes([5]) * 32, 9, 0),
    Anchor(7, bytes([7]) * 32, 15, 0),
    Anchor(12, bytes([12]) * 32, 25, 0),
]


def note(size: int, signer: NoteSigner, root: bytes | None = None) -> str:
    return sign_note(Checkpoint(ORIGIN, size, root or bytes([size]) * 32).body(), [signer])


@pytest.mark.parametrize(("size", "at"), [(5, 0), (5, 1), (7, 1), (5, 2), (12, 2), (13, 2), (6, 2)])
def test_a_checkpoint_of_the_present_key_or_anchored_in_time_is_accepted(
    size: int, at: int
) -> None:
    signed = note(size, KEYS[at])
    checkpoint, key = verify_with_history(signed, ORIGIN, HISTORY, ANCHORS)
    assert (checkpoint.size, key.key_id) == (size, KEYS[at].key_id)


@pytest.mark.parametrize(("size", "at"), [(6, 0), (7, 0), (12, 0), (6, 1), (12, 1), (13, 1)])
def test_a_checkpoint_of_a_replaced_key_that_was_not_anchored_in_time_is_refused(
    size: int, at: int
) -> None:
    with pytest.raises(RetiredKey, match=f"the checkpoint of {size} entries is signed by a key"):
        verify_with_history(note(size, KEYS[at]), ORIGIN, HISTORY, ANCHORS)


def test_another_root_at_an_anchored_size_was_not_anchored() -> None:
    with pytest.raises(RetiredKey):
        verify_with_history(note(5, KEYS[0], root=bytes(32)), ORIGIN, HISTORY, ANCHORS)


def test_a_key_the_log_never_had_and_another_origin_are_refused() -> None:
    with pytest.raises(InvalidNote, match="not signed by a known key"):
        verify_with_history(note(5, KEYS[3]), ORIGIN, HISTORY, ANCHORS)
    with pytest.raises(InvalidNote, match="no key"):
        verify_with_history(note(5, KEYS[0]), ORIGIN, [], ANCHORS)
    with pytest.raises(InvalidCheckpoint):
        verify_with_history(note(5, KEYS[2]), "other.example", HISTORY, ANCHORS)


@pytest.fixture
def rotated(served: Any, new_key: Callable[[], str]) -> Registry:
    """A log that anchored 5 entries, rotated, anchored 9, rotated twice."""
    registrar, key = served.deploy(), new_key()
    owner: Registry = served.open(registrar, key)
    registrar.register("other.example", Account.from_key(key).address, KEYS[3].vkey, "https://o")
    registrar.register(ORIGIN, Account.from_key(key).address, KEYS[0].vkey, "https://x")
    owner.submit(owner.prepare_anchor(ORIGIN, 5, bytes(32)))
    owner.rotate(ORIGIN, KEYS[1].vkey)
    owner.submit(owner.prepare_anchor(ORIGIN, 9, bytes(32)))
    owner.rotate(ORIGIN, KEYS[2].vkey)
    owner.rotate(ORIGIN, KEYS[3].vkey)
    owner.rotate("other.example", KEYS[0].vkey)
    return owner


def test_the_chain_tells_every_key_with_the_size_it_begins_at(rotated: Registry) -> None:
    history = rotated.key_history(ORIGIN)
    assert [(record.vkey, record.size) for record in history] == [
        (KEYS[0].vkey, 0),
        (KEYS[1].vkey, 5),
        (KEYS[2].vkey, 9),
        (KEYS[3].vkey, 9),
    ]
    assert [record.block for record in history] == sorted(record.block for record in history)
    assert rotated.key_history("nobody.example") == []


class Event:
    """An event source that answers only for a limited range of blocks, as public endpoints do."""

    def __init__(self, at: list[int], limit: int) -> None:
        self.at, self.limit, self.asked = at, limit, 0

    def get_logs(self, from_block: int, to_block: int, argument_filters: object) -> list[Any]:
        self.asked += 1
        if to_block - from_block > self.limit:
            raise Web3RPCError("query exceeds max block range")
        return [
            {"args": {"vkey": f"key {block}", "size": block}, "blockNumber": block}
            for block in self.at
            if from_block <= block <= to_block
        ]


def chain_of(registered: Event, rotated: Event, blocks: int) -> tuple[Any, Any]:
    events = type("Events", (), {"Registered": registered, "Rotated": rotated})
    eth = type("Eth", (), {"block_number": blocks})
    return type("Web3", (), {"eth": eth}), type("Contract", (), {"events": events})


def test_a_range_the_endpoint_finds_too_long_is_asked_in_halves() -> None:
    registered, rotated = Event([7], 5000), Event([8, 40_000, 99_999], 5000)
    web3, contract = chain_of(registered, rotated, 100_000)
    history = read_key_history(web3, contract, bytes(32))
    assert [record.block for record in history] == [7, 8, 40_000, 99_999]
    assert (history[0].size, history[1].size) == (0, 8)
    assert rotated.asked < 100


def test_an_endpoint_that_gives_no_events_at_all_is_a_refusal() -> None:
    web3, contract = chain_of(Event([], -1), Event([], -1), 3_000)
    with pytest.raises(ChainRefused):
        read_key_history(web3, contract, bytes(32))
