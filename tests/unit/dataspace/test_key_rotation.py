"""A node changes the key that speaks for it, and everything signed before still verifies."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.jwk import OKPKey

from contracts.jws import open_compact, sign_compact
from dataspace.errors import InputRejected, NotFound, ProtocolViolation, Unauthenticated
from dataspace.home import create_home
from dataspace.identity.did import did_of_key
from dataspace.identity.key_files import KeyFiles
from dataspace.identity.key_states import NEXT, KeyAct, KeyState, next_state
from dataspace.identity.keys import (
    SigningAlgorithm,
    SigningKey,
    algorithm_of,
    public_jwk_of,
    read_jwk,
    verify_bytes,
)
from dataspace.identity.tokens import Identity, issue_token, open_token
from dataspace.keyring import RETIRE, USE, Keyring
from dataspace.node import Node
from dataspace.store.tables import Setting

from .wired_nodes import WiredSpace, process_of, wired_space

ED25519, ES256, SM2 = SigningAlgorithm
DID_KEYS = {ED25519: "did:key:z6Mk", ES256: "did:key:zDn", SM2: "did:key:zEPJ"}
VALUES = {"name": "n", "kind": "enterprise", "url": "http://127.0.0.1:7"}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WiredSpace]:
    with wired_space(tmp_path_factory.mktemp("rotation")) as made:
        yield made


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(create_home(tmp_path / "node", VALUES))
    yield made
    made.http.close()
    made.store.close()


def reopened(node: Node) -> Keyring:
    """The ring as the node's next life finds it."""
    return Keyring(node.store, node.home.key_files, node.did)


def states(ring: Keyring) -> dict[str, str]:
    return {one["thumbprint"]: one["state"] for one in ring.all()}


def listed_for(node: Node, use: str) -> set[str]:
    document: Any = node.document()
    return {kid.partition("#")[2] for kid in document[use]}


def rotate(node: Node, algorithm: SigningAlgorithm | None = None) -> tuple[str, str]:
    """Change the key all the way to where the new one is in use; both thumbprints."""
    old = node.identity.signing_key.thumbprint
    new = node.key_change.rotate(algorithm, compromised=False)
    node.key_change._use(process_of(USE, new))
    return old, new


def test_a_new_key_is_listed_before_it_is_used(node: Node) -> None:
    old = node.identity.signing_key.thumbprint
    new = node.key_change.rotate(None, compromised=False)
    assert states(node.keyring) == {old: "in use", new: "announced"}
    assert listed_for(node, "authentication") == {old, new}
    assert node.identity.signing_key.thumbprint == old
    with pytest.raises(InputRejected, match="being changed already"):
        node.key_change.rotate(None, compromised=False)


def test_the_old_key_overlaps_and_is_then_for_statements_only(node: Node) -> None:
    old, new = rotate(node)
    assert node.identity.signing_key.thumbprint == new
    assert states(node.keyring) == {old: "overlapping", new: "in use"}
    assert listed_for(node, "authentication") == {old, new}
    node.key_change._retire(process_of(RETIRE, old))
    assert listed_for(node, "authentication") == {new}
    assert listed_for(node, "assertionMethod") == {old, new}


def test_its_private_part_is_gone_and_the_nodes_other_secrets_stay(node: Node) -> None:
    before, old = node.derived_key("x"), node.home.signing_key()
    rotate(node)
    assert node.derived_key("x") == before
    texts = [path.read_text() for path in (node.home.path / "keys").iterdir()]
    assert old.to_pem().strip() not in [text.strip() for text in texts]


def test_what_the_old_key_signed_verifies_and_proves_no_presence(space: WiredSpace) -> None:
    member = space.add("member", 20)
    space.join(member)
    door = space.operator
    digest, old = b"transcript", member.identity
    signature = member.identity_signer()(digest)
    statement = sign_compact(b"{}", old.key, old.kid, old.alg, typ="t", limit=9000)
    assert space.ask(member, door).status == 200
    thumbprint, _ = rotate(member, ES256)
    # A node that has the earlier document looks again when it meets the new key.
    door.peers.resolver._clock = lambda: 1e9
    assert space.ask(member, door).status == 200
    during = issue_token(old, audience=door.did, now=int(_now()), membership=None)
    assert door.peers.authenticate_did(f"Bearer {during}") == member.did
    member.key_change.retire(thumbprint, withdraw=False)
    door.peers.resolver._clock = lambda: 2e9
    door.verify_signature(member.did, digest, signature)
    assert open_compact(statement, member.did, door.key_of, typ="t", what="w", limit=9000) == b"{}"
    late = issue_token(old, audience=door.did, now=int(_now()), membership=None)
    with pytest.raises(Unauthenticated, match="does not list the key"):
        door.peers.authenticate_did(f"Bearer {late}")


def test_a_compromised_key_counts_for_nothing_from_one_commit_on(space: WiredSpace) -> None:
    member = space.add("robbed", 21)
    space.join(member)
    door, stolen = space.operator, member.identity
    assert space.ask(member, door).status == 200
    signature = member.identity_signer()(b"x")
    announced = member.key_change.rotate(None, compromised=False)
    new = member.key_change.rotate(None, compromised=True)
    found = states(member.keyring)
    assert found[stolen.signing_key.thumbprint] == found[announced] == "withdrawn"
    assert member.identity.signing_key.thumbprint == new
    assert listed_for(member, "assertionMethod") == {new}
    door.peers.resolver._clock = lambda: 3e9
    assert space.ask(member, door).status == 200
    with pytest.raises(ProtocolViolation, match="not one of"):
        door.verify_signature(member.did, b"x", signature)
    forged = issue_token(stolen, audience=door.did, now=int(_now()), membership=None)
    with pytest.raises(Unauthenticated):
        door.peers.authenticate_did(f"Bearer {forged}")


def test_a_new_key_that_nobody_was_told_of_is_looked_up_for_a_transcript(
    space: WiredSpace,
) -> None:
    member, door = space.add("hasty", 22), space.operator
    door.verify_signature(member.did, b"x", member.identity_signer()(b"x"))
    member.key_change.rotate(ES256, compromised=True)
    clock = door.peers.resolver._clock() + 10
    door.peers.resolver._clock = lambda: clock
    door.verify_signature(member.did, b"x", member.identity_signer()(b"x"))


# ---- kills ------------------------------------------------------------------------------------


def test_a_kill_between_the_commit_and_the_files_is_repaired(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = node.key_change.rotate(None, compromised=False)
    monkeypatch.setattr(KeyFiles, "use_next", _killed)
    with pytest.raises(KeyboardInterrupt):
        node.key_change._use(process_of(USE, new))
    monkeypatch.undo()
    ring = reopened(node)
    assert ring.identity.signing_key.thumbprint == new
    assert node.home.key_files.next() is None


def test_a_kill_between_the_two_files_is_repaired(node: Node) -> None:
    new = node.key_change.rotate(None, compromised=False)
    keys = node.home.path / "keys"
    with node.store.transaction() as tx:
        assert node.keyring.use(tx, new)
    shutil.copy2(keys / "signing.next.pem", keys / "signing.pem")
    ring = reopened(node)
    assert ring.identity.signing_key.thumbprint == new
    assert not (keys / "signing.next.pem").exists()


def test_a_kill_before_the_announcement_is_committed_leaves_the_old_key(node: Node) -> None:
    old = node.identity.signing_key.thumbprint
    node.home.key_files.make_next(ED25519)
    ring = reopened(node)
    assert states(ring) == {old: "in use"}
    assert node.home.key_files.next() is None


def test_an_announced_key_whose_file_is_gone_is_withdrawn(node: Node) -> None:
    old = node.identity.signing_key.thumbprint
    new = node.key_change.rotate(None, compromised=False)
    node.home.key_files.forget_next()
    node.key_change._use(process_of(USE, new))
    assert states(node.keyring) == {old: "in use", new: "withdrawn"}
    assert node.key_change.rotate(None, compromised=False) != new


def test_files_of_an_earlier_time_are_taken_up_unless_their_key_was_withdrawn(node: Node) -> None:
    path = node.home.path / "keys" / "signing.pem"
    kept = path.read_bytes()
    old, new = rotate(node)
    path.write_bytes(kept)
    assert states(reopened(node)) == {old: "in use", new: "retired"}
    node.keyring._look()
    node.key_change.rotate(None, compromised=True)
    path.write_bytes(kept)
    with pytest.raises(InputRejected, match="was withdrawn as compromised"):
        reopened(node)


def test_another_process_of_the_node_takes_up_the_new_key(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = reopened(node)
    _, new = rotate(node)
    monkeypatch.setattr("dataspace.keyring.LOOK_S", 0.0)
    assert other.identity.signing_key.thumbprint == new


def test_a_home_of_an_earlier_version_derives_the_same_secrets(node: Node) -> None:
    root = node.home.path / "keys" / "root.key"
    root.unlink()
    with pytest.raises(InputRejected, match=r"root\.key is missing"):
        reopened(node)
    with node.store.transaction() as tx:
        tx.delete(tx.get_one(Setting, "identity.root"))
    private = node.home.signing_key().jwk.private_key
    assert isinstance(private, Ed25519PrivateKey)
    assert reopened(node).root == private.private_bytes_raw()
    rotate(node)
    assert reopened(node).root == private.private_bytes_raw()


def test_the_key_in_use_is_not_retired_and_an_unknown_one_not_found(node: Node) -> None:
    with pytest.raises(InputRejected, match="replaced, not retired"):
        node.key_change.retire(node.identity.signing_key.thumbprint, withdraw=True)
    with pytest.raises(NotFound):
        node.key_change.retire("x" * 43, withdraw=False)


def test_a_withdrawn_key_is_final() -> None:
    assert not [act for state, act in NEXT if state is KeyState.WITHDRAWN]
    with pytest.raises(InputRejected, match="cannot be asked to use"):
        next_state(KeyState.WITHDRAWN, KeyAct.USE)


# ---- algorithms -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", list(SigningAlgorithm))
def test_a_key_of_each_algorithm_signs_and_verifies(algorithm: SigningAlgorithm) -> None:
    key = SigningKey.generate(algorithm)
    again = SigningKey.from_pem(key.to_pem(), name="k")
    assert (again.algorithm, again.thumbprint) == (algorithm, key.thumbprint)
    public = read_jwk(public_jwk_of(key.jwk))
    assert public is not None
    assert algorithm_of(public) is algorithm
    verify_bytes(public, b"x", again.sign(b"x"))
    for signed, signature in ((b"y", key.sign(b"x")), (b"x", b""), (b"x", bytes(64))):
        with pytest.raises(ProtocolViolation):
            verify_bytes(public, signed, signature)
    assert did_of_key(public).startswith(DID_KEYS[algorithm])


@pytest.mark.parametrize("algorithm", list(SigningAlgorithm))
def test_a_token_names_the_algorithm_its_key_is_for(algorithm: SigningAlgorithm) -> None:
    me = Identity("did:web:me.example", SigningKey.generate(algorithm))
    token = issue_token(me, audience="did:web:you", now=100, membership=None)
    assert open_token(token, audience="did:web:you", now=100, key_of=lambda _: me.key).did == me.did
    other = ED25519 if algorithm is ES256 else ES256
    wrong = SigningKey.generate(other).jwk
    with pytest.raises(Unauthenticated, match="malformed or its signature is wrong"):
        open_token(token, audience="did:web:you", now=100, key_of=lambda _: wrong)


def test_eddsa_is_read_for_ed25519_and_for_no_other_curve() -> None:
    me = Identity.of("did:web:me.example", Ed25519PrivateKey.generate())
    claims = {
        "iss": me.did,
        "sub": me.did,
        "aud": "a",
        "iat": 100,
        "exp": 160,
        "jti": "12345678",
    }
    header = {"alg": "EdDSA", "kid": me.kid}
    token = jwt.encode(header, claims, me.key, algorithms=["EdDSA"])
    assert open_token(token, audience="a", now=100, key_of=lambda _: me.key).did == me.did
    ed448 = OKPKey.import_key(Ed448PrivateKey.generate())
    token = jwt.encode(header, claims, ed448, algorithms=["EdDSA"])
    with pytest.raises(ProtocolViolation, match="expected a key for one of"):
        open_token(token, audience="a", now=100, key_of=lambda _: ed448)
    assert read_jwk(ed448.as_dict(private=False)) is None


def test_keys_of_other_curves_are_no_signing_keys() -> None:
    with pytest.raises(InputRejected, match="for one of"):
        SigningKey.of(ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(InputRejected, match="no private key"):
        SigningKey.from_pem("rubbish", name="k")


def _killed(_: object) -> None:
    raise KeyboardInterrupt


def _now() -> float:
    return time.time()
