"""A node's second, post-quantum key: listed, changed, and demanded of whoever lists one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from contracts.messages import ContractAgreementVerificationMessage
from contracts.odrl import Agreement
from contracts.signature import sign_agreement
from dataspace.cli.agreement_commands import app
from dataspace.errors import ProtocolViolation
from dataspace.home import create_home
from dataspace.identity.did import Use, _keys_of_document, _second_keys_of_document
from dataspace.keyring import RETIRE
from dataspace.keyring import USE as USE_FIRST
from dataspace.node import Node
from dataspace.post_quantum import NEXT_FILE, SECOND_KEY_FILE, USE, SecondKeys
from dataspace.store.tables import NegotiationRow

from .agreement_examples import row
from .wired_nodes import WiredSpace, process_of, wired_space

VALUES = {"name": "n", "kind": "enterprise", "url": "http://127.0.0.1:7"}


def node_of(path: Path, *, post_quantum: bool) -> Node:
    return Node(create_home(path, {**VALUES, "post_quantum": post_quantum}))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = node_of(tmp_path / "node", post_quantum=True)
    yield made
    made.http.close()
    made.store.close()


def set_post_quantum(node: Node, wanted: bool) -> None:
    node.home.settings = node.home.settings.model_copy(update={"post_quantum": wanted})
    node.second_key_change.follow_setting()


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WiredSpace]:
    """A member with a second key, and an operator without."""
    with wired_space(tmp_path_factory.mktemp("hybrid")) as made:
        made.add("member", 20, post_quantum=True)
        yield made


@pytest.fixture(scope="module")
def member(space: WiredSpace) -> Node:
    return space.nodes[1]


def announce_and_fail(node: Node) -> None:
    with node.store.transaction() as tx:
        node.second_keys.announce(tx, announced_s=0.0)
        raise ProtocolViolation("something else in the same transaction")


def listed(node: Node) -> dict[str, bool]:
    return {one.key.thumbprint(): one.required for one in node.second_keys.listed()}


def current(node: Node) -> str:
    key = node.second_keys.current()
    assert key is not None
    return key.thumbprint()


def test_a_new_home_has_its_second_key_in_use_and_readable_by_its_owner_only(member: Node) -> None:
    assert listed(member) == {current(member): True}
    path = member.home.path / "keys" / SECOND_KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    document: Any = member.document()
    kid = f"{member.did}#{current(member)}"
    assert kid in document["authentication"]
    assert kid in document["assertionMethod"]
    written = next(one for one in document["verificationMethod"] if one["id"] == kid)
    assert set(written["publicKeyJwk"]) == {"kty", "alg", "pub"}


def test_who_knows_no_second_keys_reads_the_document_as_before(member: Node) -> None:
    keys = _keys_of_document(member.did, dict(member.document()))
    assert set(keys[Use.AUTHENTICATION]) == {member.identity.kid}
    assert set(keys[Use.ASSERTION]) == {member.identity.kid}


def test_the_second_key_changes_along_with_the_first(node: Node) -> None:
    old = current(node)
    first = node.key_change.rotate(None, compromised=False)
    new = next(one for one in listed(node) if one != old)
    # Announced: a peer may meet its signature, and must not ask for it yet.
    assert listed(node) == {old: True, new: False}
    assert current(node) == old
    node.key_change._use(process_of(USE_FIRST, first))
    node.second_key_change._use(process_of(USE, new))
    assert current(node) == new
    assert listed(node) == {old: True, new: True}
    node.key_change._retire(process_of(RETIRE, old))
    assert listed(node) == {old: False, new: True}
    assert not (node.home.path / "keys" / NEXT_FILE).exists()
    assert node.keyring.identity.signing_key.thumbprint == first


def test_a_compromised_key_takes_the_second_one_along(node: Node) -> None:
    old = current(node)
    node.key_change.rotate(None, compromised=True)
    assert listed(node) == {current(node): True}
    assert current(node) != old


def test_a_node_that_begins_to_sign_with_two_keys_announces_the_second(tmp_path: Path) -> None:
    node = node_of(tmp_path / "node", post_quantum=False)
    assert node.second_keys.current() is None
    set_post_quantum(node, True)
    [thumbprint] = listed(node)
    assert listed(node) == {thumbprint: False}
    assert node.second_keys.current() is None
    # Repeating it, as each start of the node does, makes no further key.
    node.second_key_change.follow_setting()
    assert list(listed(node)) == [thumbprint]
    node.second_key_change._use(process_of(USE, thumbprint))
    assert current(node) == thumbprint
    set_post_quantum(node, False)
    assert listed(node) == {thumbprint: False}
    assert node.second_keys.current() is None
    node.http.close()
    node.store.close()


def test_a_kill_between_the_commit_and_the_files_is_repaired(node: Node) -> None:
    node.key_change.rotate(None, compromised=False)
    new = next(one for one, required in listed(node).items() if not required)
    with node.store.transaction() as tx:
        node.second_keys.use(tx, new)
    assert current(node) != new
    SecondKeys(node.store, node.home.path / "keys", node.did)
    assert current(node) == new
    assert not (node.home.path / "keys" / NEXT_FILE).exists()


def test_a_second_key_of_no_committed_transaction_is_forgotten(node: Node) -> None:
    before = listed(node)
    with pytest.raises(ProtocolViolation):
        announce_and_fail(node)
    node.second_keys.settle()
    assert listed(node) == before
    assert not (node.home.path / "keys" / NEXT_FILE).exists()


def agreed(provider: Node, consumer: Node) -> NegotiationRow:
    document = row(provider=provider.did, consumer=consumer.did).document
    return NegotiationRow(
        pid="urn:uuid:n",
        role="CONSUMER",
        peer=provider.did,
        callback=provider.home.url,
        dataset="residents",
        state="AGREED",
        agreement=document,
        created_at=1.0,
        updated_at=1.0,
    )


def said(first: str | None, second: str | None) -> ContractAgreementVerificationMessage:
    return ContractAgreementVerificationMessage(
        provider_pid="p", consumer_pid="c", signature=first, post_quantum_signature=second
    )


def test_a_signature_that_a_listed_key_should_have_made_cannot_be_left_out(
    space: WiredSpace, member: Node
) -> None:
    door = space.operator
    negotiation = agreed(door, member)
    agreement = Agreement.model_validate(negotiation.agreement)
    first, second = member.agreements.sign(negotiation)
    assert second is not None
    assert door.peers.resolver.second_keys(member.did).required

    def verify(one: str | None, other: str | None) -> None:
        door.agreements.verify_signatures(said(one, other), agreement, member.did)

    verify(first, second)
    for one in (first, None):
        with pytest.raises(ProtocolViolation, match="is not signed with it"):
            verify(one, None)
    with pytest.raises(ProtocolViolation, match="beside the first one only"):
        verify(None, second)
    with pytest.raises(Exception, match="over another text"):
        door.agreements.verify_signatures(
            said(first, second),
            agreement.model_copy(update={"target": "other"}),
            member.did,
        )
    # One key is enough for whoever lists one.
    alone, none = door.agreements.sign(negotiation)
    assert none is None
    assert not member.peers.resolver.second_keys(door.did).required
    member.agreements.verify_signatures(said(alone, None), agreement, door.did)


@pytest.mark.parametrize("bad", ["", "AAAA", None])
def test_a_malformed_second_key_makes_the_document_unusable(member: Node, bad: str | None) -> None:
    document: dict[str, Any] = dict(member.document())
    jwk = document["verificationMethod"][-1]["publicKeyJwk"]
    assert jwk["kty"] == "AKP"
    jwk["pub"] = bad
    with pytest.raises(ProtocolViolation, match="malformed key"):
        _second_keys_of_document(member.did, document)


def test_another_ones_second_key_in_a_document_is_none_of_its_owners(member: Node) -> None:
    document: dict[str, Any] = dict(member.document())
    document["verificationMethod"][-1]["controller"] = "did:web:other.example"
    assert not _second_keys_of_document(member.did, document).keys


def test_an_agreement_signed_with_one_key_by_hand_is_no_hybrid(member: Node) -> None:
    negotiation = agreed(member, member)
    own = member.identity
    text = sign_agreement(
        Agreement.model_validate(negotiation.agreement), own.key, own.kid, own.alg
    )
    first, second = member.agreements.sign(negotiation)
    assert first.split(".")[1] == text.split(".")[1]
    assert second is not None
    assert second.split(".")[1] == text.split(".")[1]


def test_a_deed_of_one_hybrid_party_is_verified_on_the_command_line(
    space: WiredSpace, member: Node, tmp_path: Path
) -> None:
    door, negotiation = space.operator, agreed(space.operator, member)
    kept = row(provider=door.did, consumer=member.did)
    kept.document, kept.id = negotiation.agreement or {}, "urn:uuid:deed"
    kept.provider_signature, _ = door.agreements.sign(negotiation)
    kept.consumer_signature, kept.consumer_post_quantum = member.agreements.sign(negotiation)
    with member.store.transaction() as tx:
        tx.add(kept)
    file = tmp_path / "deed.json"
    file.write_text(json.dumps(member.agreements.deed(kept.id)))

    def verify(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["verify", str(file), *arguments])

    pin = f"{member.did}={current(member)}"
    found = verify("--post-quantum-key", pin)
    assert found.exit_code == 0, found.output
    assert f"post-quantum key: {current(member)}, the one you named" in found.output
    assert "signed with this key only, and no post-quantum one" in found.output
    told = json.loads(verify("--json").output)["signers"]
    assert [one["post_quantum"] is not None for one in told] == [False, True]
    document = json.loads(file.read_text())
    del document["signatures"][2]
    file.write_text(json.dumps(document))
    assert verify().exit_code == 0
    stripped = verify("--post-quantum-key", pin)
    assert stripped.exit_code == 1
    assert "has not signed it with that" in stripped.output


def test_a_signature_by_a_retired_second_key_verifies_and_is_asked_for_no_more(
    space: WiredSpace, member: Node
) -> None:
    """Last of those that share the space: the member signs with one key from here on."""
    door = space.operator
    negotiation = agreed(door, member)
    agreement = Agreement.model_validate(negotiation.agreement)
    first, second = member.agreements.sign(negotiation)
    set_post_quantum(member, False)
    door.peers.resolver._cache.clear()
    assert not door.peers.resolver.second_keys(member.did).required
    for other in (second, None):
        door.agreements.verify_signatures(said(first, other), agreement, member.did)
