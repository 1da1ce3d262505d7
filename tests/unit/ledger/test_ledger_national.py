"""Trees under SM3 and notes signed by SM2: published answers, a second implementation, mixes."""

import pytest
from tongsuopy.crypto import hashes as second

from contracts.sm2 import Sm2Key
from ledger.errors import InputRejected, InvalidNote, InvalidProof
from ledger.hashing import SHA256, SM3, hash_suite
from ledger.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)
from ledger.note import NoteVerifier, sign_note, verify_note
from ledger.sm2_note import Sm2NoteSigner, Sm2NoteVerifier

LEAVES = [bytes([number]) * number for number in range(13)]
KEY = Sm2Key.generate()
NAME = "log.example/tlog"
SIGNER = Sm2NoteSigner(NAME, KEY.point, KEY.sign)
BODY = "log.example/tlog\n13\nAAAA\n"


def verifies(point: bytes, text: bytes, signature: bytes) -> bool:
    return Sm2Key(point).verifies(text, signature)


VERIFIER = Sm2NoteVerifier.parse(SIGNER.vkey, verifies)


def independent(content: bytes) -> bytes:
    hashing = second.Hash(second.SM3())
    hashing.update(content)
    return bytes(hashing.finalize())


def plain_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word, over the second implementation's hash."""
    if not leaves:
        return independent(b"")
    if len(leaves) == 1:
        return independent(b"\x00" + leaves[0])
    half = 1 << ((len(leaves) - 1).bit_length() - 1)
    return independent(b"\x01" + plain_root(leaves[:half]) + plain_root(leaves[half:]))


def test_the_published_answers_of_sm3_hold() -> None:
    # GB/T 32905, A.1 and A.2.
    assert SM3.of(b"abc").digest().hex() == (
        "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    )
    assert SM3.of(b"abcd" * 16).digest().hex() == (
        "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"
    )


@pytest.mark.parametrize("size", range(14))
def test_a_root_is_that_of_the_plain_definition_over_another_implementation(size: int) -> None:
    assert root_hash(LEAVES[:size], SM3) == plain_root(LEAVES[:size])


@pytest.mark.parametrize("size", [1, 2, 7, 8, 13])
def test_proofs_verify_under_the_hash_they_were_made_with_and_no_other(size: int) -> None:
    leaves, root = LEAVES[:size], root_hash(LEAVES[:size], SM3)
    for index in range(size):
        path = inclusion_proof(leaves, index, SM3)
        verify_inclusion(SM3.leaf(leaves[index]), index, size, path, root, SM3)
        if path:
            with pytest.raises(InvalidProof, match="leads to root"):
                verify_inclusion(SM3.leaf(leaves[index]), index, size, path, root)
    for old in range(1, size):
        path, before = consistency_proof(leaves, old, SM3), root_hash(leaves[:old], SM3)
        verify_consistency(old, size, path, before, root, SM3)
        with pytest.raises(InvalidProof):
            verify_consistency(old, size, path, before, root, SHA256)


@pytest.mark.parametrize("place", range(4))
def test_a_flipped_bit_of_a_proof_is_refused(place: int) -> None:
    root = root_hash(LEAVES, SM3)
    path = [bytearray(one) for one in inclusion_proof(LEAVES, 5, SM3)]
    path[place][7] ^= 16
    with pytest.raises(InvalidProof, match="leads to root"):
        verify_inclusion(SM3.leaf(LEAVES[5]), 5, 13, [bytes(one) for one in path], root, SM3)


def test_the_hash_of_before_is_what_it_was() -> None:
    assert SHA256.leaf(b"x") == leaf_hash(b"x")
    assert SHA256.node(bytes(32), bytes(32)) == node_hash(bytes(32), bytes(32))
    assert SHA256.empty_root == EMPTY_ROOT != SM3.empty_root
    assert (hash_suite("sha256"), hash_suite("sm3")) == (SHA256, SM3)
    with pytest.raises(InputRejected, match="sha256 or sm3"):
        hash_suite("md5")


def test_a_note_is_signed_by_sm2_and_verified_by_its_key_alone() -> None:
    note = sign_note(BODY, [SIGNER])
    assert verify_note(note, [VERIFIER]) == BODY
    other = Sm2NoteSigner(NAME, Sm2Key.generate().point, KEY.sign)
    with pytest.raises(InvalidNote, match="not signed by a known key"):
        verify_note(note, [Sm2NoteVerifier.parse(other.vkey, verifies)])
    with pytest.raises(InvalidNote, match="does not match the text"):
        verify_note(note.replace("\n13\n", "\n14\n"), [VERIFIER])
    # Signed by somebody else in the name of this key.
    forged = Sm2NoteSigner(NAME, KEY.point, Sm2Key.generate().sign)
    with pytest.raises(InvalidNote, match="does not match the text"):
        verify_note(sign_note(BODY, [forged]), [VERIFIER])


@pytest.mark.parametrize("bit", range(0, 512, 101))
def test_a_flipped_bit_of_a_notes_signature_is_refused(bit: int) -> None:
    signature = bytearray(SIGNER.sign(BODY))
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidNote, match="does not match"):
        VERIFIER.verify(BODY, bytes(signature))
    with pytest.raises(InvalidNote, match="does not match"):
        VERIFIER.verify(BODY, bytes(signature[:-1]))


def test_a_verifier_key_is_of_one_kind() -> None:
    with pytest.raises(InvalidNote, match="expected an Ed25519 key"):
        NoteVerifier.parse(SIGNER.vkey)
    ordinary = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    with pytest.raises(InvalidNote, match="expected an SM2 key"):
        Sm2NoteVerifier.parse(ordinary, verifies)
