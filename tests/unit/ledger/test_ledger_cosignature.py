"""Cosignatures as C2SP tlog-cosignature defines them, Ed25519 and ML-DSA-44."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.checkpoint import (
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    parse_checkpoint,
    parse_tree_head,
    sign_note,
    verify_checkpoint,
    verify_note,
)
from ledger.cosignature import (
    CosignatureVerifier,
    Cosigned,
    Cosigner,
    merge_cosignatures,
    signed_message,
    verify_cosignatures,
)
from ledger.errors import (
    InputRejected,
    InvalidCheckpoint,
    InvalidNote,
    InvalidProof,
    TooFewCosignatures,
)
from ledger.log import Log, MemoryNodeStore
from ledger.note import NoteSignature, signature_of
from ledger.proof import LogProof, verify_proof

ORIGIN = "city.example/water/tlog"
NOW = 1_795_000_000
HEAD = Checkpoint(ORIGIN, 20_852_163, bytes(range(32)))
LOG = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
LOG_VERIFIER = NoteVerifier.parse(LOG.vkey)


def ed25519(name: str = "witness.example/w1", seed: int = 1) -> Cosigner:
    return Cosigner(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def mldsa(name: str = "witness.example/w1", seed: int = 1) -> Cosigner:
    return Cosigner(name, MLDSA44PrivateKey.from_seed_bytes(bytes([seed]) * 32))


KINDS = pytest.mark.parametrize("make", [ed25519, mldsa])


def key(of: Cosigner) -> CosignatureVerifier:
    return CosignatureVerifier.parse(of.vkey)


def cosigned_by(*cosigners: Cosigner, time: int = NOW, body: str | None = None) -> str:
    return sign_note(body or HEAD.body(), [LOG, *(one.at(time) for one in cosigners)])


def test_the_signed_note_specifications_example_verifies() -> None:
    note = (
        "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2"
        "ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    assert verify_note(note, [NoteVerifier.parse(vkey)]) == "This is an example message.\n"


def test_the_ed25519_message_is_the_specifications_example() -> None:
    body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    message = signed_message(b"\x04", "witness.example.com/w1", 1679315147, body)
    assert message == f"cosignature/v1\ntime 1679315147\n{body}".encode()


def test_the_mldsa_message_is_the_specifications_structure() -> None:
    message = signed_message(b"\x06", "w.example", NOW, HEAD.body())
    assert message == (
        b"subtree/v1\n\0"
        + b"\x09w.example"
        + NOW.to_bytes(8)
        + bytes([len(ORIGIN)])
        + ORIGIN.encode()
        + bytes(8)
        + HEAD.size.to_bytes(8)
        + HEAD.root
    )


@KINDS
def test_the_signature_is_the_time_and_a_signature_of_the_scheme(
    make: Callable[[], Cosigner],
) -> None:
    signature = make().sign(HEAD.body(), NOW)
    assert signature[:8] == NOW.to_bytes(8)
    assert len(signature) - 8 == (64 if make is ed25519 else 2420)


def test_the_key_id_and_the_vkey_tell_the_types_apart() -> None:
    plain = NoteSigner("n", Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32))
    assert len({plain.key_id, ed25519("n").key_id, mldsa("n").key_id}) == 3
    for cosigner, kind, length in ((ed25519(), 4, 33), (mldsa(), 6, 1313)):
        typed = base64.b64decode(cosigner.vkey.split("+", 2)[2])
        assert (typed[0], len(typed)) == (kind, length)
        assert key(cosigner).key_id == cosigner.key_id


@KINDS
def test_a_cosigned_checkpoint_names_its_witness_and_time(make: Callable[[], Cosigner]) -> None:
    cosigned = verify_cosignatures(cosigned_by(make()), LOG_VERIFIER, [key(make())], 1)
    assert cosigned == (Cosigned("witness.example/w1", NOW),)


@KINDS
def test_every_part_that_a_cosignature_covers_is_covered(make: Callable[[], Cosigner]) -> None:
    good = make().sign(HEAD.body(), NOW)
    others = [
        Checkpoint("other.example", HEAD.size, HEAD.root),
        Checkpoint(ORIGIN, HEAD.size + 1, HEAD.root),
        Checkpoint(ORIGIN, HEAD.size, bytes(32)),
    ]
    for other in others:
        with pytest.raises(InvalidNote, match="does not match the text"):
            key(make()).verify(other.body(), good)
    for changed in (good[:7] + bytes([good[7] ^ 1]) + good[8:], good[:-1] + bytes([good[-1] ^ 1])):
        with pytest.raises(InvalidNote, match="does not match the text"):
            key(make()).verify(HEAD.body(), changed)
    with pytest.raises(InvalidNote, match="bytes"):
        key(make()).verify(HEAD.body(), good[:-1])
    with pytest.raises(InvalidNote, match="beyond"):
        key(make()).verify(HEAD.body(), (1 << 63).to_bytes(8) + good[8:])


def test_an_mldsa_cosignature_commits_to_the_cosigners_name() -> None:
    signature = mldsa("a.example").sign(HEAD.body(), NOW)
    with pytest.raises(InvalidNote):
        key(mldsa("b.example")).verify(HEAD.body(), signature)


def test_extension_lines_are_covered_by_ed25519_and_not_by_mldsa() -> None:
    extended = HEAD.body() + "an extension\n"
    assert parse_tree_head(extended) == HEAD
    with pytest.raises(InvalidCheckpoint):
        parse_checkpoint(extended)
    key(mldsa()).verify(extended, mldsa().sign(HEAD.body(), NOW))
    with pytest.raises(InvalidNote):
        key(ed25519()).verify(extended, ed25519().sign(HEAD.body(), NOW))


def test_a_witness_counts_once_however_many_keys_it_signs_with() -> None:
    note = sign_note(HEAD.body(), [LOG, ed25519().at(NOW), mldsa().at(NOW + 5)])
    keys = [key(ed25519()), key(mldsa()), key(ed25519("other.example", 2))]
    assert verify_cosignatures(note, LOG_VERIFIER, keys, 1) == (
        Cosigned("witness.example/w1", NOW + 5),
    )
    with pytest.raises(TooFewCosignatures, match="has 1 cosignatures of known witnesses"):
        verify_cosignatures(note, LOG_VERIFIER, keys, 2)


def test_witnesses_are_told_by_name_in_order_and_strangers_are_ignored() -> None:
    first, second, stranger = ed25519("b.example", 1), mldsa("a.example", 2), ed25519("c", 3)
    note = cosigned_by(first, stranger, second)
    found = verify_cosignatures(note, LOG_VERIFIER, [key(first), key(second)], 2)
    assert [one.name for one in found] == ["a.example", "b.example"]


def test_a_forged_cosignature_of_a_known_witness_refuses_the_note() -> None:
    forged = NoteSignature(ed25519().name, ed25519().key_id, ed25519(seed=2).sign(HEAD.body(), NOW))
    note = sign_note(HEAD.body(), [LOG]) + forged.line
    with pytest.raises(InvalidNote, match="does not match the text"):
        verify_cosignatures(note, LOG_VERIFIER, [key(ed25519())], 0)


def test_cosignatures_without_the_logs_own_signature_are_refused() -> None:
    note = sign_note(HEAD.body(), [ed25519().at(NOW)])
    with pytest.raises(InvalidNote, match="not signed by the log's key"):
        verify_cosignatures(note, LOG_VERIFIER, [key(ed25519())], 1)


def test_a_time_of_zero_is_for_a_logs_own_mldsa_signature_only() -> None:
    with pytest.raises(InputRejected):
        ed25519().at(0)
    with pytest.raises(InputRejected):
        mldsa().at(1 << 63)
    own = mldsa(ORIGIN)
    note = sign_note(HEAD.body(), [own.at(0)])
    assert verify_checkpoint(note, key(own), ORIGIN) == HEAD
    with pytest.raises(InvalidNote, match="states no time"):
        verify_cosignatures(cosigned_by(mldsa(), time=0), LOG_VERIFIER, [key(mldsa())], 1)


def test_mldsa_signs_checkpoints_only_and_names_of_up_to_255_bytes() -> None:
    with pytest.raises(InvalidCheckpoint):
        sign_note("no checkpoint\n", [mldsa().at(NOW)])
    with pytest.raises(InvalidNote, match="allow 255"):
        sign_note(Checkpoint("o" * 256, 1, bytes(32)).body(), [mldsa().at(NOW)])


def test_a_plain_key_is_no_cosigners_key() -> None:
    with pytest.raises(InvalidNote, match="expected a cosigner's key"):
        CosignatureVerifier.parse(LOG.vkey)
    with pytest.raises(InvalidNote, match="expected an Ed25519 key"):
        NoteVerifier.parse(ed25519().vkey)


def test_merging_keeps_verified_lines_of_known_witnesses_and_the_newest_of_each() -> None:
    known, stranger = ed25519(), ed25519("stranger.example", 9)
    answer = "".join(signature_of(one.at(NOW + 1), HEAD.body()).line for one in (known, stranger))
    merged = merge_cosignatures(cosigned_by(known), answer, [key(known)])
    assert verify_cosignatures(merged, LOG_VERIFIER, [key(known), key(stranger)], 1) == (
        Cosigned(known.name, NOW + 1),
    )
    assert merged.count("— ") == 2
    with pytest.raises(InvalidNote, match="no signature of a key known"):
        merge_cosignatures(merged, answer, [key(ed25519("nobody.example", 8))])
    lie = NoteSignature(known.name, known.key_id, bytes(7) + b"\x01" + bytes(64)).line
    with pytest.raises(InvalidNote, match="does not match the text"):
        merge_cosignatures(merged, lie, [key(known)])


def test_a_proof_can_ask_for_witnesses() -> None:
    log = Log(MemoryNodeStore())
    for data in (b"a", b"b", b"c"):
        log.append(data)
    body = Checkpoint(ORIGIN, 3, log.root()).body()
    proof = LogProof(1, tuple(log.inclusion_proof(1)), cosigned_by(mldsa(), body=body))
    witnesses = [key(mldsa())]
    found = verify_proof(proof, b"b", LOG_VERIFIER, ORIGIN, witnesses=witnesses, threshold=1)
    assert found.size == 3
    with pytest.raises(TooFewCosignatures):
        verify_proof(proof, b"b", LOG_VERIFIER, ORIGIN, witnesses=witnesses, threshold=2)
    with pytest.raises(InvalidProof):
        verify_proof(proof, b"x", LOG_VERIFIER, ORIGIN, witnesses=witnesses, threshold=1)
