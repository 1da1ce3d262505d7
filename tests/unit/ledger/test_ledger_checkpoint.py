"""Signed notes as C2SP signed-note and the Go package golang.org/x/mod/sumdb/note define them."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import (
    MAX_SIGNATURES,
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    parse_checkpoint,
    sign_note,
    verify_checkpoint,
    verify_note,
)
from ledger.errors import InvalidCheckpoint, InvalidNote

# The example of the Go package's documentation: key, text, signature.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = "YEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6"
    "KE6RyyBwJnAM=\n"
)
GO_NOTE = f"{GO_TEXT}\n{GO_LINE}"

ORIGIN = "city.example/water/tlog"


def signer(name: str = ORIGIN, seed: int = 7) -> NoteSigner:
    return NoteSigner(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def verifier(of: NoteSigner) -> NoteVerifier:
    return NoteVerifier.parse(of.vkey)


def test_the_go_documentations_note_verifies() -> None:
    assert verify_note(GO_NOTE, [NoteVerifier.parse(GO_VKEY)]) == GO_TEXT


def test_signing_with_the_go_documentations_key_gives_the_same_bytes() -> None:
    seed = base64.b64decode("A" + GO_SEED)[1:]
    peter = NoteSigner("PeterNeumann", Ed25519PrivateKey.from_private_bytes(seed))
    assert peter.vkey == GO_VKEY
    assert sign_note(GO_TEXT, [peter]) == GO_NOTE


def test_every_changed_character_of_a_note_is_noticed() -> None:
    key = NoteVerifier.parse(GO_VKEY)
    for at, character in enumerate(GO_NOTE):
        changed = GO_NOTE[:at] + ("b" if character == "a" else "a") + GO_NOTE[at + 1 :]
        with pytest.raises(InvalidNote):
            verify_note(changed, [key])


def test_unknown_keys_are_ignored_even_when_they_share_a_name() -> None:
    known, namesake, stranger = signer(seed=1), signer(seed=2), signer("other.example", seed=3)
    note = sign_note("text\n", [namesake, stranger, known])
    assert verify_note(note, [verifier(known)]) == "text\n"


def test_a_note_without_a_signature_of_a_known_key_is_refused() -> None:
    with pytest.raises(InvalidNote, match="not signed by a known key, expected one of: "):
        verify_note(sign_note("text\n", [signer(seed=1)]), [verifier(signer(seed=2))])
    with pytest.raises(InvalidNote, match="nobody"):
        verify_note(sign_note("text\n", [signer()]), [])


def test_a_bad_signature_of_a_known_key_spoils_the_note_beside_good_ones() -> None:
    good, bad = signer("good.example", 1), signer("bad.example", 2)
    forged = base64.b64encode(bad.key_id + bad.sign("another text\n")).decode()
    note = sign_note("text\n", [good]) + f"— bad.example {forged}\n"
    assert verify_note(note, [verifier(good)]) == "text\n"
    with pytest.raises(InvalidNote, match=r"signature of bad\.example does not match"):
        verify_note(note, [verifier(good), verifier(bad)])


def test_the_text_may_contain_empty_lines_and_the_last_one_ends_it() -> None:
    text = "Ognuno sta solo sul cuor della terra\n\ned è subito sera.\n"
    assert verify_note(sign_note(text, [signer()]), [verifier(signer())]) == text
    signed_twice = sign_note(sign_note("inner\n", [signer(seed=1)]), [signer(seed=2)])
    inner = verify_note(signed_twice, [verifier(signer(seed=2))])
    assert verify_note(inner, [verifier(signer(seed=1))]) == "inner\n"


def test_at_least_sixteen_signatures_are_accepted_and_a_flood_is_not() -> None:
    cosigners = [signer(f"w{at}.example", at) for at in range(MAX_SIGNATURES)]
    assert MAX_SIGNATURES >= 16
    note = sign_note("text\n", cosigners)
    assert verify_note(note, [verifier(cosigners[-1])]) == "text\n"
    flood = note + note.split("\n\n")[1].split("\n")[0] + "\n"
    with pytest.raises(InvalidNote, match="65 signatures, at most 64"):
        verify_note(flood, [verifier(cosigners[-1])])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "text\n",
        "text\n\n",
        GO_TEXT + GO_LINE,
        GO_NOTE.rstrip("\n"),
        GO_NOTE + "\n",
        GO_NOTE.replace("— ", "- "),
        GO_NOTE.replace("— ", "—"),
        GO_NOTE.replace("\n", "\r\n"),
        GO_NOTE.replace("JnAM=", "JnAN="),
        GO_NOTE.replace("JnAM=", "JnAM"),
        GO_NOTE + "— unknown.example !!!!\n",
        GO_NOTE + "— unknown.example AAAA\n",
        GO_NOTE + "— un+known AAAAAAAA\n",
        GO_NOTE.replace("problem is", "problem\tis"),
        "a" * (600 * 1024) + GO_NOTE,
        "\ud800" + GO_NOTE,
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(InvalidNote):
        verify_note(note, [NoteVerifier.parse(GO_VKEY)])


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("c74f20a3", "c74f20"),
        GO_VKEY.replace("Peter", "peter"),
        GO_VKEY.replace("Peter", "Peter "),
        GO_VKEY.replace("+AR", "+BR"),
        GO_VKEY[:-4],
        GO_VKEY.replace("PeterNeumann", ""),
    ],
)
def test_a_malformed_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(InvalidNote):
        NoteVerifier.parse(vkey)


@pytest.mark.parametrize("name", ["", "with space", "with+plus", "ideographic\u3000space", "a\nb"])
def test_a_key_name_has_neither_spaces_nor_plus_signs(name: str) -> None:
    with pytest.raises(InvalidNote):
        signer(name)


def test_unfit_texts_and_no_signers_are_refused_when_signing() -> None:
    for text in ("", "no newline", "bell\a\n"):
        with pytest.raises(InvalidNote):
            sign_note(text, [signer()])
    with pytest.raises(InvalidNote, match="at least one signature"):
        sign_note("text\n", [])


def test_the_specifications_checkpoint_body_round_trips() -> None:
    body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    checkpoint = parse_checkpoint(body)
    assert checkpoint.origin == "example.com/behind-the-sofa"
    assert checkpoint.size == 20_852_163
    assert checkpoint.root.hex().startswith("0ac5186a91863e8e")
    assert checkpoint.body() == body


@pytest.mark.parametrize(
    "body",
    [
        "",
        "o\n1\n",
        f"o\n1\n{'A' * 43}=",
        f"o\n1\n{'A' * 43}=\nextension\n",
        f"o\n01\n{'A' * 43}=\n",
        f"o\n-1\n{'A' * 43}=\n",
        f"o\n+1\n{'A' * 43}=\n",
        f"o\n１\n{'A' * 43}=\n",
        f"o\n9223372036854775808\n{'A' * 43}=\n",
        f"\n1\n{'A' * 43}=\n",
        f"o\n1\n{'A' * 42}B=\n",
        "o\n1\nAAAA\n",
        "o\n1\nnot base64\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(body: str) -> None:
    with pytest.raises(InvalidCheckpoint):
        parse_checkpoint(body)


def test_an_unfit_checkpoint_is_never_written() -> None:
    for checkpoint in (
        Checkpoint("", 1, bytes(32)),
        Checkpoint("two\nlines", 1, bytes(32)),
        Checkpoint(ORIGIN, -1, bytes(32)),
        Checkpoint(ORIGIN, 1 << 63, bytes(32)),
        Checkpoint(ORIGIN, 1, bytes(31)),
    ):
        with pytest.raises(InvalidCheckpoint):
            checkpoint.body()


def test_a_checkpoint_of_another_log_is_refused_although_its_signature_is_good() -> None:
    note = sign_note(Checkpoint(ORIGIN, 3, bytes(32)).body(), [signer()])
    assert verify_checkpoint(note, verifier(signer()), ORIGIN).size == 3
    with pytest.raises(InvalidCheckpoint, match=r"expected a checkpoint of other\.example, got"):
        verify_checkpoint(note, verifier(signer()), "other.example")
