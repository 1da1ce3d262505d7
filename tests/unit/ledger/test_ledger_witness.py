"""A witness as C2SP tlog-witness defines it: every answer, and that it never cosigns a fork."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.checkpoint import Checkpoint, NoteSigner, NoteVerifier, sign_note
from ledger.cosignature import (
    CosignatureVerifier,
    Cosigned,
    Cosigner,
    merge_cosignatures,
    verify_cosignatures,
)
from ledger.errors import InputRejected
from ledger.log import Log, MemoryNodeStore
from ledger.merkle import EMPTY_ROOT
from ledger.note import Verifier
from ledger.witness import (
    MemoryWitnessStore,
    Witness,
    WitnessAnswer,
    WitnessedHead,
    add_checkpoint_request,
    log_id_of,
    parse_add_checkpoint,
    parse_conflict,
)

ORIGIN = "city.example/water/tlog"
NOW = 1_795_000_000
SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
STRANGER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32))
COSIGNER = Cosigner("witness.example", Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32))
QUANTUM = Cosigner("witness.example", MLDSA44PrivateKey.from_seed_bytes(bytes([2]) * 32))
WITNESS_KEYS = [CosignatureVerifier.parse(one.vkey) for one in (COSIGNER, QUANTUM)]


def keys_of(origin: str) -> Sequence[Verifier]:
    return [NoteVerifier.parse(SIGNER.vkey)] if origin == ORIGIN else []


def witness_over(store: MemoryWitnessStore) -> Witness:
    return Witness([COSIGNER, QUANTUM], store, logs=keys_of, clock=lambda: NOW)


@pytest.fixture
def store() -> MemoryWitnessStore:
    return MemoryWitnessStore()


@pytest.fixture
def witness(store: MemoryWitnessStore) -> Witness:
    return witness_over(store)


def log_of(*leaves: str) -> Log:
    log = Log(MemoryNodeStore())
    for leaf in leaves:
        log.append(leaf.encode())
    return log


LEAVES = [f"entry {at}" for at in range(13)]
HONEST = log_of(*LEAVES)


def note_at(log: Log, size: int, signer: NoteSigner = SIGNER) -> str:
    return sign_note(Checkpoint(ORIGIN, size, log.root(size)).body(), [signer])


def request(old: int, new: int, log: Log = HONEST) -> bytes:
    return add_checkpoint_request(old, log.consistency_proof(old, new), note_at(log, new))


def test_a_growing_log_is_cosigned_at_every_step(
    witness: Witness, store: MemoryWitnessStore
) -> None:
    for old, new in ((0, 3), (3, 8), (8, 8), (8, 13)):
        answer = witness.add_checkpoint(request(old, new))
        assert answer.status == 200
        merged = merge_cosignatures(note_at(HONEST, new), answer.body.decode(), WITNESS_KEYS)
        found = verify_cosignatures(merged, keys_of(ORIGIN)[0], WITNESS_KEYS, 1)
        assert found == (Cosigned("witness.example", NOW),)
        assert answer.body.decode().count("— witness.example ") == 2
        head = store.head(log_id_of(ORIGIN))
        assert head is not None
        assert (head.size, head.root) == (new, HONEST.root(new))


def test_an_update_that_another_implementation_accepts_is_accepted() -> None:
    # Keys, checkpoints and proof of the tests of transparency-dev's witness, in Go.
    log_key = NoteVerifier.parse("monkeys+db4d9f7e+AULaJMvTtDLHPUcUrjdDad9vDlh/PTfC2VV60JUtCfWT")
    seed = base64.b64decode("AaLa/dfyBhyo/m0Z7WCi98ENVZWtrP8pxgRNrx7tIWiA")[1:]
    cosigner = Cosigner("witness", Ed25519PrivateKey.from_private_bytes(seed))
    witness = Witness([cosigner], MemoryWitnessStore(), logs=lambda _: [log_key], clock=lambda: NOW)
    first = (
        "monkeys\n5\n41smjBUiAU70EtKlT6lIOIYtRTYxYXsDB+XHfcvu/BE=\n\n— monkeys 202fftzGl3LVoqjXfwC"
        "FZZXs8I+5G22+Ek2K0AOyBuSJ/8/CZawNF+6fNlTKOCd622pbzJNkkJFWuw9DbicZCkEx9AY=\n"
    )
    second = (
        "monkeys\n8\nV8K9aklZ4EPB+RMOk1/8VsJUdFZR77GDtZUQq84vSbo=\n\n— monkeys 202ffoUEboiQYpHzICe"
        "aFmoy3RNviHTpAxYrq/eO4QQVQMvu9UebKBMX2MJC76NLthZaKsnKbCA8GxrjePZhvDCH7Ag=\n"
    )
    proof = [
        bytes.fromhex(text)
        for text in (
            "b9e1d62618f7fee8034e4c5010f727ab24d8e4705cb296c374bf2025a87a10d2",
            "aac66cd7a79ce4012d80762fe8eec3a77f22d1ca4145c3f4cee022e7efcd599d",
            "89d0f753f66a290c483b39cd5e9eafb12021293395fad3d4a2ad053cfbcfdc9e",
            "29e40bb79c966f4c6fe96aff6f30acfce5f3e8d84c02215175d6e018a5dee833",
        )
    ]
    assert witness.add_checkpoint(add_checkpoint_request(0, [], first)).status == 200
    assert witness.add_checkpoint(add_checkpoint_request(5, proof[:3], second)).status == 422
    assert witness.add_checkpoint(add_checkpoint_request(5, proof, second)).status == 200


def test_another_old_size_is_answered_with_the_size_it_has(witness: Witness) -> None:
    untouched = witness.add_checkpoint(request(3, 8))
    assert (untouched.status, untouched.body) == (409, b"0\n")
    assert witness.add_checkpoint(request(0, 8)).status == 200
    for old in (0, 3, 7):
        answer = witness.add_checkpoint(request(old, 8))
        assert answer == WitnessAnswer(409, b"8\n", "text/x.tlog.size")
        assert parse_conflict(answer.body) == 8


def test_an_unknown_origin_is_not_found(witness: Witness) -> None:
    body = Checkpoint("other.example", 1, bytes(32)).body()
    unknown = add_checkpoint_request(0, [], sign_note(body, [SIGNER]))
    assert witness.add_checkpoint(unknown).status == 404


def test_a_checkpoint_without_a_good_signature_of_a_trusted_key_is_forbidden(
    witness: Witness,
) -> None:
    stranger = add_checkpoint_request(0, [], note_at(HONEST, 3, STRANGER))
    assert witness.add_checkpoint(stranger).status == 403
    good = request(0, 3).decode()
    forged = good.replace(
        base64.b64encode(HONEST.root(3)).decode(), base64.b64encode(bytes(32)).decode()
    )
    answer = witness.add_checkpoint(forged.encode())
    assert answer.status == 403
    assert b"does not match the text" in answer.body


def test_an_old_size_beyond_the_new_one_is_a_bad_request(witness: Witness) -> None:
    assert witness.add_checkpoint(request(0, 8)).status == 200
    backwards = f"old 8\n\n{note_at(HONEST, 3)}".encode()
    assert witness.add_checkpoint(backwards).status == 400
    with pytest.raises(InputRejected, match="beyond the new size"):
        add_checkpoint_request(8, [], note_at(HONEST, 3))


FORK = log_of(*LEAVES[:7], "another entry", *LEAVES[8:])


def test_a_fork_is_never_cosigned(witness: Witness, store: MemoryWitnessStore) -> None:
    assert witness.add_checkpoint(request(0, 8)).status == 200
    kept = store.head(log_id_of(ORIGIN))
    for fork in (request(8, 8, FORK), request(8, 13, FORK)):
        assert witness.add_checkpoint(fork).status == 422
    assert store.head(log_id_of(ORIGIN)) == kept


def test_a_wrong_or_superfluous_proof_is_unprocessable(witness: Witness) -> None:
    superfluous = add_checkpoint_request(0, [bytes(32)], note_at(HONEST, 3))
    assert witness.add_checkpoint(superfluous).status == 422
    assert witness.add_checkpoint(request(0, 3)).status == 200
    proof = HONEST.consistency_proof(3, 8)
    for wrong in ([], proof[:-1], [*proof, bytes(32)], [bytes(32), *proof[1:]]):
        refused = witness.add_checkpoint(add_checkpoint_request(3, wrong, note_at(HONEST, 8)))
        assert refused.status == 422


def test_an_empty_log_has_the_root_of_the_empty_tree(witness: Witness) -> None:
    wrong = sign_note(Checkpoint(ORIGIN, 0, bytes(32)).body(), [SIGNER])
    assert witness.add_checkpoint(add_checkpoint_request(0, [], wrong)).status == 422
    empty = sign_note(Checkpoint(ORIGIN, 0, EMPTY_ROOT).body(), [SIGNER])
    assert witness.add_checkpoint(add_checkpoint_request(0, [], empty)).status == 200
    assert witness.add_checkpoint(add_checkpoint_request(0, [], empty)).status == 200
    assert witness.add_checkpoint(request(0, 13)).status == 200


NOTE = note_at(HONEST, 3)
HASH = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\n\n",
        f"old 00\n\n{NOTE}".encode(),
        f"old 1\n{NOTE}".encode(),
        f"new 0\n\n{NOTE}".encode(),
        f"old 0 \n\n{NOTE}".encode(),
        f"old 9223372036854775808\n\n{NOTE}".encode(),
        f"old 0\nAAAA\n\n{NOTE}".encode(),
        f"old 0\nnot base64\n\n{NOTE}".encode(),
        f"old 0\n{f'{HASH}{chr(10)}' * 64}\n{NOTE}".encode(),
        b"old 0\n\nnot a checkpoint\n",
        f"old 0\n\n{sign_note('text' + chr(10), [SIGNER])}".encode(),
        f"old 0\n\n{NOTE}".encode() + b"x" * 600_000,
    ],
)
def test_a_malformed_request_is_a_bad_request(witness: Witness, body: bytes) -> None:
    assert witness.add_checkpoint(body).status == 400


def test_sixty_three_proof_lines_are_still_parsed() -> None:
    parsed = parse_add_checkpoint(f"old 0\n{f'{HASH}{chr(10)}' * 63}\n{NOTE}".encode())
    assert len(parsed.proof) == 63


def test_extension_lines_of_a_foreign_log_are_cosigned_whole(witness: Witness) -> None:
    body = Checkpoint(ORIGIN, 3, HONEST.root(3)).body() + "extension\n"
    note = sign_note(body, [SIGNER])
    answer = witness.add_checkpoint(add_checkpoint_request(0, [], note))
    assert answer.status == 200
    merged = merge_cosignatures(note, answer.body.decode(), WITNESS_KEYS)
    assert len(verify_cosignatures(merged, keys_of(ORIGIN)[0], WITNESS_KEYS, 1)) == 1


def test_an_origin_too_long_for_the_cosigners_kind_is_refused() -> None:
    signer = NoteSigner("long", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    keys = [NoteVerifier.parse(signer.vkey)]
    witness = Witness([QUANTUM], MemoryWitnessStore(), logs=lambda _: keys, clock=lambda: NOW)
    note = sign_note(Checkpoint("o" * 300, 1, bytes(32)).body(), [signer])
    answer = witness.add_checkpoint(add_checkpoint_request(0, [], note))
    assert answer.status == 400
    assert b"cannot be cosigned" in answer.body


def test_monitors_get_the_checkpoint_with_the_logs_signature_and_ours(witness: Witness) -> None:
    log_id = log_id_of(ORIGIN)
    assert witness.checkpoint(log_id).status == 404
    note = sign_note(Checkpoint(ORIGIN, 3, HONEST.root(3)).body(), [STRANGER, SIGNER])
    witness.add_checkpoint(add_checkpoint_request(0, [], note))
    shown = witness.checkpoint(log_id)
    assert shown.status == 200
    assert len(verify_cosignatures(shown.body.decode(), keys_of(ORIGIN)[0], WITNESS_KEYS, 1)) == 1
    # The line of the key it does not trust was dropped; the log's and its own two remain.
    assert shown.body.decode().count("— ") == 3


class FailingStore(MemoryWitnessStore):
    """A disk that is full."""

    def advance(self, log_id: str, expected: WitnessedHead | None, new: WitnessedHead) -> bool:
        raise OSError("no space left on device")


def test_nothing_is_answered_before_the_head_is_kept() -> None:
    with pytest.raises(OSError, match="no space left"):
        witness_over(FailingStore()).add_checkpoint(request(0, 3))


class MeetingStore(MemoryWitnessStore):
    """Lets two requests read the same head before either advances it."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = threading.Barrier(2)

    def advance(self, log_id: str, expected: WitnessedHead | None, new: WitnessedHead) -> bool:
        self.meeting.wait(timeout=10)
        return super().advance(log_id, expected, new)


@pytest.mark.parametrize("second", [request(0, 13), request(0, 8, FORK)])
def test_of_two_requests_from_the_same_head_one_is_cosigned(second: bytes) -> None:
    store = MeetingStore()
    witness = witness_over(store)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(witness.add_checkpoint, [request(0, 8), second]))
    assert sorted(answer.status for answer in answers) == [200, 409]
    head = store.head(log_id_of(ORIGIN))
    assert head is not None
    conflict = next(answer for answer in answers if answer.status == 409)
    assert conflict.body == f"{head.size}\n".encode()


def test_the_size_never_goes_back_under_concurrent_requests(
    witness: Witness, store: MemoryWitnessStore
) -> None:
    def submit(new: int) -> list[int]:
        old, sizes = 0, []
        for _ in range(40):
            if old > new:
                break
            answer = witness.add_checkpoint(request(old, new))
            if answer.status == 200:
                sizes.append(new)
                break
            assert answer.status == 409
            old = parse_conflict(answer.body)
            sizes.append(old)
        return sizes

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(submit, [3, 5, 8, 13] * 4))
    assert all(sizes == sorted(sizes) for sizes in seen)
    head = store.head(log_id_of(ORIGIN))
    assert head is not None
    assert (head.size, head.root) == (13, HONEST.root(13))


@pytest.mark.parametrize("body", [b"", b"8", b"08\n", b"-1\n", b"8\n8\n", b"9223372036854775808\n"])
def test_a_conflict_that_tells_no_size_is_refused(body: bytes) -> None:
    with pytest.raises(InputRejected):
        parse_conflict(body)


def test_a_witness_without_a_key_is_refused(store: MemoryWitnessStore) -> None:
    with pytest.raises(InputRejected):
        Witness([], store, logs=keys_of, clock=lambda: NOW)
