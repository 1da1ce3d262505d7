"""Whatever a log asks of a witness, what the witness has cosigned is one growing history."""

from __future__ import annotations

from itertools import pairwise

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint, NoteSigner, NoteVerifier, sign_note
from ledger.cosignature import CosignatureVerifier, Cosigner, verify_cosignatures
from ledger.log import Log, MemoryNodeStore
from ledger.merkle import verify_consistency
from ledger.witness import (
    MemoryWitnessStore,
    Witness,
    add_checkpoint_request,
    log_id_of,
    parse_conflict,
)

ORIGIN = "city.example/tlog"
SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
LOG_KEY = NoteVerifier.parse(SIGNER.vkey)
COSIGNER = Cosigner("witness.example", Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32))
LENGTH = 20


def history(fork_at: int) -> Log:
    """A log that differs from history(LENGTH) from this entry on."""
    log = Log(MemoryNodeStore())
    log.extend(f"{at}{' forked' if at >= fork_at else ''}".encode() for at in range(LENGTH))
    return log


HISTORIES = [history(fork_at) for fork_at in (LENGTH, 16, 7, 1)]


def new_witness() -> tuple[Witness, MemoryWitnessStore]:
    store = MemoryWitnessStore()
    return Witness([COSIGNER], store, logs=lambda _: [LOG_KEY], clock=lambda: 1), store


requests = st.tuples(
    st.sampled_from(HISTORIES), st.integers(0, LENGTH), st.integers(0, LENGTH), st.booleans()
)


@given(st.lists(requests, max_size=30))
@settings(deadline=None)
def test_all_that_was_cosigned_is_consistent(asked: list[tuple[Log, int, int, bool]]) -> None:
    witness, store = new_witness()
    cosigned: list[tuple[int, bytes, Log]] = []
    for log, old, new, tells_true_size in asked:
        if tells_true_size:
            # As a log does that has been told of the conflict.
            head = store.head(log_id_of(ORIGIN))
            old = head.size if head else 0
        if old > new:
            continue
        note = sign_note(Checkpoint(ORIGIN, new, log.root(new)).body(), [SIGNER])
        answer = witness.add_checkpoint(
            add_checkpoint_request(old, log.consistency_proof(old, new), note)
        )
        assert answer.status in (200, 409, 422)
        if answer.status == 409:
            assert parse_conflict(answer.body) != old
        if answer.status == 200:
            cosigned.append((new, log.root(new), log))
            verify_cosignatures(
                note + answer.body.decode(), LOG_KEY, [CosignatureVerifier.parse(COSIGNER.vkey)], 1
            )
    for (size, root, _), (next_size, next_root, log) in pairwise(cosigned):
        assert size <= next_size
        if size:
            proof = log.consistency_proof(size, next_size)
            verify_consistency(size, next_size, proof, root, next_root)


@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_any_bytes_are_answered_as_a_bad_request(body: bytes) -> None:
    witness, store = new_witness()
    assert witness.add_checkpoint(body).status == 400
    assert store.head(log_id_of(ORIGIN)) is None


GOOD = add_checkpoint_request(
    0, [], sign_note(Checkpoint(ORIGIN, 9, HISTORIES[0].root(9)).body(), [SIGNER])
)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_request_with_one_changed_byte_is_never_cosigned_as_another_head(
    at: int, change: int
) -> None:
    witness, store = new_witness()
    changed = GOOD[:at] + bytes([GOOD[at] ^ change]) + GOOD[at + 1 :]
    answer = witness.add_checkpoint(changed)
    head = store.head(log_id_of(ORIGIN))
    if answer.status == 200:
        assert head is not None
        assert (head.size, head.root) == (9, HISTORIES[0].root(9))
    else:
        assert head is None
