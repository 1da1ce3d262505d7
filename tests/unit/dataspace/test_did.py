"""Identifiers resolve to keys through their own address only, and never into our network."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.identity.addresses import AddressPolicy, verify_address
from dataspace.identity.did import (
    MAX_DOCUMENT_BYTES,
    ListedKey,
    Resolver,
    did_of_key,
    did_of_url,
    document_of_node,
    document_url,
    freshness_s,
    url_of_did,
)
from dataspace.identity.keys import SigningAlgorithm, SigningKey, public_jwk_of
from dataspace.identity.tokens import Identity


def test_a_did_names_the_address_and_back() -> None:
    assert did_of_url("http://127.0.0.1:8001") == "did:web:127.0.0.1%3A8001"
    assert url_of_did("did:web:127.0.0.1%3A8001", local=True) == "http://127.0.0.1:8001"
    assert url_of_did("did:web:city.example:civil", local=True) == "https://city.example/civil"
    assert did_of_url("https://city.example/civil") == "did:web:city.example:civil"


def test_plain_http_is_for_loopback_in_a_local_space_only() -> None:
    assert url_of_did("did:web:127.0.0.1", local=False).startswith("https://")
    assert url_of_did("did:web:city.example", local=True).startswith("https://")


@pytest.mark.parametrize(
    "did", ["", "did:web:", "did:key:z6Mk", "did:web:a%2Fb", "http://x", "did:web:a:b%2Fc"]
)
def test_what_is_no_did_web_is_refused(did: str) -> None:
    with pytest.raises(ProtocolViolation):
        url_of_did(did, local=True)


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "169.254.169.254", "::1", "0.0.0.0"])
def test_addresses_inside_our_network_are_not_called(host: str) -> None:
    with pytest.raises(ProtocolViolation, match="private network"):
        verify_address(host, AddressPolicy(local=False))


def test_a_local_space_adds_loopback_and_nothing_else() -> None:
    verify_address("127.0.0.1", AddressPolicy(local=True))
    with pytest.raises(ProtocolViolation):
        verify_address("10.0.0.1", AddressPolicy(local=True))


class Documents:
    """A small server whose answer a test sets, counting how often it was asked."""

    def __init__(self) -> None:
        self.body = b"{}"
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.did = did_of_url(self.url)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, identity: Identity) -> None:
        document = document_of_node(did=self.did, url=self.url, keys=[ListedKey(identity.key)])
        self.body = json.dumps(document).encode()


@pytest.fixture
def documents() -> Iterator[Documents]:
    served = Documents()
    yield served
    served.server.shutdown()
    served.server.server_close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def resolver(clock: Clock) -> Iterator[Resolver]:
    with httpx2.Client(trust_env=False) as http:
        yield Resolver(http, local=True, clock=clock)


def test_a_key_is_fetched_once_and_then_remembered(
    documents: Documents, resolver: Resolver
) -> None:
    identity = Identity.of(documents.did, Ed25519PrivateKey.generate())
    documents.publish(identity)
    for _ in range(3):
        assert resolver.key(identity.kid).thumbprint() == identity.key.thumbprint()
    assert documents.asked == 1


def test_a_new_key_is_found_after_a_rotation(
    documents: Documents, resolver: Resolver, clock: Clock
) -> None:
    old, new = (Identity.of(documents.did, Ed25519PrivateKey.generate()) for _ in range(2))
    documents.publish(old)
    resolver.key(old.kid)
    documents.publish(new)
    clock.now += 10
    assert resolver.key(new.kid).thumbprint() == new.key.thumbprint()
    with pytest.raises(ProtocolViolation):
        resolver.key(old.kid)


def test_invented_keys_do_not_make_us_fetch_again_and_again(
    documents: Documents, resolver: Resolver
) -> None:
    documents.publish(Identity.of(documents.did, Ed25519PrivateKey.generate()))
    for number in range(20):
        with pytest.raises(ProtocolViolation, match="does not list"):
            resolver.key(f"{documents.did}#invented-{number}")
    assert documents.asked == 1


def test_a_document_of_somebody_else_is_refused(documents: Documents, resolver: Resolver) -> None:
    other = Identity.of("did:web:other.example", Ed25519PrivateKey.generate())
    document = document_of_node(did=other.did, url=documents.url, keys=[ListedKey(other.key)])
    documents.body = json.dumps(document).encode()
    with pytest.raises(ProtocolViolation, match="not its own"):
        resolver.key(f"{documents.did}#k")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b'{"id": 3}', b"x" * (MAX_DOCUMENT_BYTES + 1)]
)
def test_rubbish_documents_are_refused(
    documents: Documents, resolver: Resolver, body: bytes
) -> None:
    documents.body = body
    with pytest.raises(ProtocolViolation):
        resolver.key(f"{documents.did}#k")


def test_a_node_that_is_down_can_be_tried_again(resolver: Resolver) -> None:
    with pytest.raises(Unavailable, match="cannot be fetched"):
        resolver.key("did:web:127.0.0.1%3A1#k")


def test_a_did_key_carries_its_key_itself(resolver: Resolver) -> None:
    private = Ed25519PrivateKey.generate()
    identity = Identity.of(did_of_key(SigningKey.of(private).jwk), private)
    assert resolver.key(identity.kid).thumbprint() == identity.key.thumbprint()


@pytest.mark.parametrize("did", ["did:key:z", "did:key:zzzz", "did:key:x6Mk", "did:key:z0OIl"])
def test_a_malformed_did_key_is_refused(resolver: Resolver, did: str) -> None:
    with pytest.raises(ProtocolViolation):
        resolver.key(f"{did}#k")


def test_the_published_example_of_did_key_is_read(resolver: Resolver) -> None:
    # did:key method specification, test vector for Ed25519.
    did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
    key = resolver.key(f"{did}#z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp")
    assert key.as_dict(private=False)["x"] == "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"


@pytest.mark.parametrize(
    ("did", "address"),
    [
        # The method specification's own examples, and an IPv6 address.
        ("did:web:w3c-ccg.github.io", "https://w3c-ccg.github.io/.well-known/did.json"),
        (
            "did:web:w3c-ccg.github.io:user:alice",
            "https://w3c-ccg.github.io/user/alice/did.json",
        ),
        (
            "did:web:example.com%3A3000:user:alice",
            "https://example.com:3000/user/alice/did.json",
        ),
        (
            "did:web:%5B2001%3Adb8%3A%3A1%5D%3A8443",
            "https://[2001:db8::1]:8443/.well-known/did.json",
        ),
    ],
)
def test_a_did_names_where_its_document_is(did: str, address: str) -> None:
    assert document_url(did, local=False) == address


@pytest.mark.parametrize(
    "did",
    [
        "did:web:user@host",
        "did:web:host%3A0",
        "did:web:host%3A99999999",
        "did:web:host%3Fx",
        "did:web:host%23x",
        "did:web:host:",
        "did:web:host::a",
        "did:web:host:..",
        "did:web:host:%2E%2E",
        "did:web:host:a%00b",
        "did:web:host:a%3Fb",
        "did:web:ho st",
        "did:web:-host",
    ],
)
def test_a_did_that_would_lead_elsewhere_is_refused(did: str) -> None:
    with pytest.raises(ProtocolViolation):
        url_of_did(did, local=True)


@pytest.mark.parametrize(
    ("written", "kept_s"),
    [
        ("", 300.0),
        ("public, max-age=600", 600.0),
        ("max-age=0", 30.0),
        ("max-age=999999", 900.0),
        ("no-store", 30.0),
        ("s-maxage=5", 300.0),
        ("MAX-AGE=60", 60.0),
        ("max-age=" + "9" * 400, 300.0),
    ],
)
def test_a_document_is_kept_as_its_server_says_within_bounds(written: str, kept_s: float) -> None:
    assert freshness_s(written) == kept_s


def test_what_is_no_document_is_not_fetched_again_at_once(
    documents: Documents, resolver: Resolver, clock: Clock
) -> None:
    documents.body = b"rubbish"
    with pytest.raises(ProtocolViolation, match="is not JSON"):
        resolver.key(f"{documents.did}#k")
    for _ in range(5):
        with pytest.raises(Unavailable, match="a moment ago"):
            resolver.key(f"{documents.did}#k")
    assert documents.asked == 1
    # Each failure doubles the pause, up to a bound.
    for pause_s in (1.1, 2.1, 4.1, 8.1, 8.1):
        clock.now += pause_s
        with pytest.raises(ProtocolViolation):
            resolver.key(f"{documents.did}#k")
    assert documents.asked == 6
    identity = Identity.of(documents.did, Ed25519PrivateKey.generate())
    documents.publish(identity)
    clock.now += 8.1
    resolver.key(identity.kid)


def test_a_retired_key_signs_statements_and_proves_no_presence(
    documents: Documents, resolver: Resolver
) -> None:
    now, before = (Identity.of(documents.did, Ed25519PrivateKey.generate()) for _ in range(2))
    keys = [ListedKey(now.key), ListedKey(before.key, authenticates=False)]
    document = document_of_node(did=documents.did, url=documents.url, keys=keys)
    documents.body = json.dumps(document).encode()
    assert resolver.key(before.kid).thumbprint() == before.key.thumbprint()
    assert resolver.authentication_key(now.kid).thumbprint() == now.key.thumbprint()
    with pytest.raises(ProtocolViolation, match="for authentication"):
        resolver.authentication_key(before.kid)


def test_documents_of_other_makes_are_read(documents: Documents, resolver: Resolver) -> None:
    key = SigningKey.generate(SigningAlgorithm.ES256)
    jwk = public_jwk_of(key.jwk)
    strange = {"id": "#x", "type": "JsonWebKey", "controller": documents.did}
    secp256k1 = {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}
    documents.body = json.dumps(
        {
            "id": documents.did,
            "verificationMethod": [
                {**strange, "publicKeyJwk": secp256k1},
                {**strange, "id": "#none", "publicKeyMultibase": "z6Mk"},
                {**strange, "id": "#relative", "publicKeyJwk": jwk},
            ],
            "authentication": ["#relative", "#x"],
        }
    ).encode()
    found = resolver.authentication_key(f"{documents.did}#relative")
    assert found.thumbprint() == key.thumbprint
    assert [one.thumbprint() for one in resolver.keys(documents.did)] == [key.thumbprint]
