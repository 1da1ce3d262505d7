"""Deeds of a node's agreements, and how a third party verifies them from a file."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from contracts.deed import open_deed, public_jwk
from contracts.odrl import Agreement
from contracts.signature import sign_agreement
from dataspace.cli.agreement_commands import app
from dataspace.errors import InputRejected, Unavailable
from dataspace.home import free_port
from dataspace.identity.did import did_of_key, did_of_url
from dataspace.identity.keys import SigningKey
from dataspace.identity.tokens import Identity
from dataspace.node import Node
from dataspace.store.tables import AgreementRow, NegotiationRow

from .agreement_examples import PEER, bureau, row


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = bureau(tmp_path_factory.mktemp("deeds") / "home")
    yield made
    made.stop()


def kept(node: Node, agreement: AgreementRow) -> AgreementRow:
    with node.store.transaction() as tx:
        tx.add(agreement)
    return agreement


def by_both(node: Node, peer: Identity, agreement: AgreementRow) -> AgreementRow:
    """The agreement with the node's signature as provider and the peer's as consumer."""
    text, own = Agreement.model_validate(agreement.document), node.identity
    agreement.provider_signature = sign_agreement(text, own.key, own.kid, "Ed25519")
    agreement.consumer_signature = sign_agreement(text, peer.key, peer.kid, "Ed25519")
    return agreement


def somebody() -> Identity:
    """A consumer whose key is in its DID, so that nobody has to be asked for it."""
    key = Ed25519PrivateKey.generate()
    return Identity.of(did_of_key(SigningKey.of(key).jwk), key)


@pytest.fixture
def signed(node: Node) -> AgreementRow:
    peer = somebody()
    return kept(node, by_both(node, peer, row(consumer=peer.did)))


def test_a_deed_holds_both_signatures_and_opens_with_the_nodes_own_key(
    node: Node, signed: AgreementRow
) -> None:
    document = json.dumps(node.agreements.deed(signed.id)).encode()
    deed = open_deed(document, {node.did: node.identity.key.thumbprint()})
    assert deed.agreement.id == signed.id
    assert (deed.provider.did, deed.provider.pinned) == (node.did, True)
    assert deed.consumer.did == signed.consumer
    assert b'"d"' not in document


def test_a_deed_is_made_with_the_kept_keys_when_the_other_side_has_gone(node: Node) -> None:
    gone = Identity.of(PEER, Ed25519PrivateKey.generate())
    made = by_both(node, gone, row())
    made.keys = {one.kid: public_jwk(one.key) for one in (node.identity, gone)}
    document = json.dumps(node.agreements.deed(kept(node, made).id)).encode()
    assert open_deed(document, {PEER: gone.key.thumbprint()}).consumer.pinned


def concluded(node: Node, peer: Identity) -> AgreementRow:
    """An agreement with `peer` as the end of a negotiation leaves it."""
    made = by_both(node, peer, row(consumer=peer.did))
    negotiation = NegotiationRow(
        pid=made.negotiation,
        role="PROVIDER",
        peer=PEER,
        callback="http://127.0.0.1:8009/dsp/2025-1",
        dataset="residents",
        state="FINALIZED",
        agreement=made.document,
        provider_signature=made.provider_signature,
        consumer_signature=made.consumer_signature,
        created_at=1.0,
        updated_at=1.0,
    )
    with node.store.transaction() as tx:
        node.agreements.conclude(tx, negotiation)
    return node.agreements.get(made.id)


def test_the_keys_that_signed_are_kept_with_the_agreement(node: Node) -> None:
    peer = somebody()
    keys = concluded(node, peer).keys
    assert keys == {one.kid: public_jwk(one.key) for one in (node.identity, peer)}


def test_an_agreement_is_concluded_although_a_signers_key_has_gone(node: Node) -> None:
    gone = Identity.of(did_of_url(f"http://127.0.0.1:{free_port()}"), Ed25519PrivateKey.generate())
    agreement = concluded(node, gone)
    assert agreement.keys == {node.identity.kid: public_jwk(node.identity.key)}
    with pytest.raises(Unavailable, match=r"cannot be fetched|could not be fetched"):
        node.agreements.deed(agreement.id)


@pytest.mark.parametrize("missing", ["provider_signature", "consumer_signature"])
def test_there_is_no_deed_of_what_only_one_side_has_signed(node: Node, missing: str) -> None:
    half = row(provider_signature="a.b.c", consumer_signature="a.b.c")
    setattr(half, missing, None)
    with pytest.raises(InputRejected, match="not signed by both sides"):
        node.agreements.deed(kept(node, half).id)


@pytest.fixture
def file(node: Node, signed: AgreementRow, tmp_path: Path) -> Path:
    path = tmp_path / "residents.deed.json"
    path.write_text(json.dumps(node.agreements.deed(signed.id)), encoding="utf-8")
    return path


def verify(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_a_deed_is_verified_from_its_file_alone_and_says_what_that_does_not_prove(
    file: Path, node: Node
) -> None:
    found = verify(file)
    assert found.exit_code == 0
    assert "valid: both parties signed exactly this agreement" in found.output
    assert found.output.count("its own only by the word of this file") == 2
    assert "whether it was ended since, a deed does not say" in found.output


def test_a_key_the_verifier_knows_is_told_apart(file: Path, node: Node) -> None:
    pin = f"{node.did}={node.identity.key.thumbprint()}"
    found = verify(file, "--key", pin, "--json")
    assert found.exit_code == 0
    signers = json.loads(found.output)["signers"]
    assert [one["key_known_by"] for one in signers] == ["pinned", None]
    assert [one["party"] for one in signers] == ["provider", "consumer"]


def test_a_deed_that_does_not_hold_ends_with_one_sentence(file: Path, node: Node) -> None:
    wrong = verify(file, "--key", f"{node.did}={'A' * 43}")
    assert wrong.exit_code == 1
    assert f"the key of {node.did} is not the pinned one" in wrong.output
    document = json.loads(file.read_text())
    document["payload"] = secrets.token_urlsafe(len(document["payload"]) * 3 // 4)
    file.write_text(json.dumps(document))
    assert verify(file).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--key", "THUMBPRINT"], "DID, an equals sign"),
        (["--key", "did:web:x="], "DID, an equals sign"),
        (["--key", "did:web:x=a", "--key", "did:web:x=b"], "two keys are given"),
        (["--local"], "--online"),
    ],
)
def test_a_verification_that_is_asked_for_wrongly_says_how_to_ask(
    file: Path, arguments: list[str], word: str
) -> None:
    found = verify(file, *arguments)
    assert found.exit_code == 1
    assert word in found.output


def test_a_file_that_is_no_deed_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in verify(tmp_path / "none.json").output
    big = tmp_path / "big.json"
    big.write_bytes(b" " * (4 * 1024 * 1024 + 1))
    assert "too large for a deed" in verify(big).output
    big.write_bytes(b"PK\x03\x04")
    assert verify(big).exit_code == 1
