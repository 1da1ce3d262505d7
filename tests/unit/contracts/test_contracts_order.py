"""Signed orders: what was signed opens, and nothing else does."""

import base64
import hashlib
import json
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey
from pydantic import ValidationError

from contracts.errors import InputRejected, ProtocolViolation
from contracts.order import (
    TYPE,
    ComputationOrder,
    OrderParticipant,
    open_order,
    order_hash,
    sign_order,
)

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
CONSUMER = "did:web:space.example%3A8443:consumer"
KID = CONSUMER + "#key-1"
KEYS: dict[str, Key] = {
    "Ed25519": OKPKey.generate_key("Ed25519"),
    "ES256": ECKey.generate_key("P-256"),
}


def order(**changes: Any) -> ComputationOrder:
    values: dict[str, Any] = {
        "id": "6f0d2a34-0000-4000-8000-1234567890ab",
        "kind": "private-sum/1",
        "consumer": CONSUMER,
        "participants": (
            OrderParticipant(role="consumer", did=CONSUMER),
            OrderParticipant(
                role="values",
                did="did:web:water.example",
                agreement="urn:uuid:a",
                dataset="urn:uuid:d",
                columns={"identifier": "id_card", "value": "litres"},
                canonicaliser="cn-resident-id",
            ),
        ),
        "purpose": "research",
        "min_cohort": 20,
        "public_key": "AQAB",
        "groups": ("440305", "440306"),
        "nonce": "n" * 22,
        "issued_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
    }
    return ComputationOrder(**(values | changes))


def public(alg: str) -> Callable[[str], Key]:
    key = KEYS[alg]
    known = {KID: type(key).import_key(key.as_dict(private=False))}
    return lambda kid: known[kid]


def sealed(header: dict[str, Any], payload: bytes, key: Key, sign_with: str) -> str:
    """A JWS with a header of the caller's choosing, signed for real."""
    parts = [json.dumps(header).encode(), payload]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = jws.JWSRegistry.algorithms[sign_with].sign(signed, key)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_a_signed_order_opens_as_what_was_signed(alg: str) -> None:
    text = sign_order(order(), KEYS[alg], KID, alg)
    opened = open_order(text, public(alg), NOW)
    assert opened == order()
    assert opened.participants[1].columns["value"] == "litres"


def test_the_signed_bytes_are_canonical_and_say_only_what_is_there() -> None:
    header, payload, _ = sign_order(order(), KEYS["Ed25519"], KID, "Ed25519").split(".")
    body = base64.urlsafe_b64decode(payload + "==")
    assert body == rfc8785.dumps(json.loads(body))
    written = json.loads(body)
    assert written["issuedAt"] == "2026-11-25T04:00:00Z"
    assert written["participants"][0] == {"role": "consumer", "did": CONSUMER}
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {
        "alg": "Ed25519",
        "kid": KID,
        "typ": TYPE,
    }


def test_an_order_without_a_region_has_the_bytes_it_always_had() -> None:
    canonical = rfc8785.dumps(order().to_json())
    assert hashlib.sha256(canonical).hexdigest() == (
        "3e64ad3c4d4060aaa98106acbdf3490f7ae6d1497c81d4368d817c2ce2906a81"
    )
    text = sign_order(order(spatial="4403"), KEYS["Ed25519"], KID, "Ed25519")
    assert open_order(text, public("Ed25519"), NOW).spatial == "4403"


def test_a_standard_library_for_jose_reads_our_orders() -> None:
    text = sign_order(order(), KEYS["ES256"], KID, "ES256")
    read = jws.deserialize_compact(text, KEYS["ES256"], algorithms=["ES256"])
    assert json.loads(read.payload)["id"] == order().id


def test_the_older_name_of_ed25519_is_read_without_a_warning() -> None:
    payload = rfc8785.dumps(order().to_json())
    text = sealed({"alg": "EdDSA", "kid": KID, "typ": TYPE}, payload, KEYS["Ed25519"], "Ed25519")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_order(text, public("Ed25519"), NOW) == order()


def test_the_hash_is_of_the_text_that_came() -> None:
    text = sign_order(order(), KEYS["Ed25519"], KID, "Ed25519")
    assert order_hash(text) == hashlib.sha256(text.encode()).hexdigest()


def test_an_order_is_not_open_before_its_time_nor_after_it() -> None:
    text = sign_order(order(), KEYS["Ed25519"], KID, "Ed25519")
    last = NOW + timedelta(hours=1)
    assert open_order(text, public("Ed25519"), last - timedelta(microseconds=1)) == order()
    with pytest.raises(ProtocolViolation, match="expired at 2026-11-25T05:00:00Z"):
        open_order(text, public("Ed25519"), last)
    assert open_order(text, public("Ed25519"), NOW - timedelta(minutes=5)) == order()
    with pytest.raises(ProtocolViolation, match="issued in the future"):
        open_order(text, public("Ed25519"), NOW - timedelta(minutes=6))


@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_another_signer_is_refused(alg: str) -> None:
    other = {"Ed25519": OKPKey.generate_key("Ed25519"), "ES256": ECKey.generate_key("P-256")}[alg]
    text = sign_order(order(), other, KID, alg)
    with pytest.raises(ProtocolViolation, match="not the signer's"):
        open_order(text, public(alg), NOW)


def test_a_key_of_someone_else_is_never_asked_for() -> None:
    asked: list[str] = []

    def key_of(kid: str) -> Key:
        asked.append(kid)
        return KEYS["Ed25519"]

    payload = rfc8785.dumps(order().to_json())
    for kid in ("did:web:mallory.example#key-1", CONSUMER, CONSUMER + "2#key-1"):
        header = {"alg": "Ed25519", "kid": kid, "typ": TYPE}
        with pytest.raises(ProtocolViolation, match="another party's"):
            open_order(sealed(header, payload, KEYS["Ed25519"], "Ed25519"), key_of, NOW)
    assert asked == []


def test_an_unknown_key_is_refused() -> None:
    text = sign_order(order(), KEYS["Ed25519"], CONSUMER + "#gone", "Ed25519")
    with pytest.raises(ProtocolViolation, match="unknown one"):
        open_order(text, public("Ed25519"), NOW)


HEADERS: list[dict[str, Any]] = [
    {"alg": "none", "kid": KID, "typ": TYPE},
    {"alg": "None", "kid": KID, "typ": TYPE},
    {"alg": "HS256", "kid": KID, "typ": TYPE},
    {"alg": "Ed448", "kid": KID, "typ": TYPE},
    {"alg": "ES256", "kid": KID, "typ": TYPE},
    {"alg": "Ed25519", "kid": KID, "typ": "JWT"},
    {"alg": "Ed25519", "kid": KID},
    {"alg": "Ed25519", "typ": TYPE},
    {"alg": "Ed25519", "kid": 1, "typ": TYPE},
    {"alg": "Ed25519", "kid": KID, "typ": TYPE, "crit": ["b64"], "b64": False},
    {"alg": "Ed25519", "kid": KID, "typ": TYPE, "jwk": {}},
    {"alg": ["Ed25519"], "kid": KID, "typ": TYPE},
]


@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_a_header_that_is_not_an_orders_is_refused(header: dict[str, Any]) -> None:
    payload = rfc8785.dumps(order().to_json())
    with pytest.raises(ProtocolViolation):
        open_order(sealed(header, payload, KEYS["Ed25519"], "Ed25519"), public("Ed25519"), NOW)


def test_an_unsigned_order_is_refused() -> None:
    header, payload, _ = sign_order(order(), KEYS["Ed25519"], KID, "Ed25519").split(".")
    none = base64.urlsafe_b64encode(
        json.dumps({"alg": "none", "kid": KID, "typ": TYPE}).encode()
    ).decode()
    for text in (f"{header}.{payload}.", f"{none.rstrip('=')}.{payload}.", f"{header}.{payload}"):
        with pytest.raises(ProtocolViolation):
            open_order(text, public("Ed25519"), NOW)


def test_the_public_key_used_as_a_shared_secret_is_refused() -> None:
    secret = OctKey.import_key(KEYS["Ed25519"].as_dict(private=False)["x"])
    header = {"alg": "HS256", "kid": KID, "typ": TYPE}
    text = sealed(header, rfc8785.dumps(order().to_json()), secret, "HS256")
    with pytest.raises(ProtocolViolation, match="expected the algorithm"):
        open_order(text, public("Ed25519"), NOW)


@settings(max_examples=120, deadline=None)
@given(chosen=st.data(), alg=st.sampled_from(["Ed25519", "ES256"]))
def test_an_order_changed_anywhere_is_refused(chosen: st.DataObject, alg: str) -> None:
    text = sign_order(order(), KEYS[alg], KID, alg)
    place = chosen.draw(st.integers(0, len(text) - 1))
    letter = chosen.draw(st.sampled_from("Az09-_.=+/ \u00e9").filter(lambda c: c != text[place]))
    with pytest.raises(ProtocolViolation):
        open_order(text[:place] + letter + text[place + 1 :], public(alg), NOW)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        open_order(text, public("Ed25519"), NOW)


def test_a_payload_that_is_not_an_order_is_refused_although_it_is_signed() -> None:
    header = {"alg": "Ed25519", "kid": KID, "typ": TYPE}
    body = order().to_json()
    wrong = [
        b"[]",
        b"{",
        json.dumps(body | {"more": 1}).encode(),
        json.dumps(body | {"minCohort": "20"}).encode(),
        json.dumps(body | {"minCohort": True}).encode(),
        json.dumps(body | {"issuedAt": "2026-11-25T04:00:00"}).encode(),
        json.dumps({name: value for name, value in body.items() if name != "nonce"}).encode(),
        json.dumps(body)[:-1].encode() + b', "purpose": "marketing"}',
    ]
    for payload in wrong:
        with pytest.raises(ProtocolViolation):
            open_order(sealed(header, payload, KEYS["Ed25519"], "Ed25519"), public("Ed25519"), NOW)


def test_a_huge_order_is_neither_signed_nor_read() -> None:
    groups = tuple(f"{number:04d}" + "g" * 190 for number in range(256))
    with pytest.raises(InputRejected, match="at most 65536 bytes"):
        sign_order(order(groups=groups), KEYS["Ed25519"], KID, "Ed25519")
    with pytest.raises(ProtocolViolation, match="at most 65536 bytes"):
        open_order("a" * 65537, public("Ed25519"), NOW)


def test_signing_takes_the_consumers_key_id_and_a_fitting_key() -> None:
    with pytest.raises(InputRejected, match="begins with the consumer's DID"):
        sign_order(order(), KEYS["Ed25519"], "did:web:other#key-1", "Ed25519")
    with pytest.raises(InputRejected, match="expected the algorithm Ed25519, ES256"):
        sign_order(order(), KEYS["Ed25519"], KID, "EdDSA")
    with pytest.raises(InputRejected, match="a private key that signs ES256"):
        sign_order(order(), KEYS["Ed25519"], KID, "ES256")
    with pytest.raises(InputRejected, match="a private key that signs Ed25519"):
        sign_order(order(), public("Ed25519")(KID), KID, "Ed25519")


TWICE = OrderParticipant(role="consumer", did="did:web:water.example")
STRANGE: list[dict[str, Any]] = [
    {"spatial": "4"},
    {"spatial": "4403050000001"},
    {"spatial": "Shenzhen"},
    {"participants": (TWICE, OrderParticipant(role="consumer", did=CONSUMER))},
    {"participants": (TWICE, OrderParticipant(role="values", did="did:web:b"))},
    {"participants": (OrderParticipant(role="consumer", did=CONSUMER),)},
    {"expires_at": NOW},
    {"expires_at": NOW + timedelta(hours=24, microseconds=1)},
    {"issued_at": datetime(2026, 11, 25, 4, 0)},  # noqa: DTZ001
    {"id": "6F0D2A34-0000-4000-8000-1234567890AB"},
    {"kind": "private-sum"},
    {"consumer": "https://consumer.example"},
    {"nonce": "short"},
    {"min_cohort": -1},
    {"groups": ("a", "a")},
    {"groups": tuple(str(number) for number in range(257))},
    {"purpose": ""},
]


@pytest.mark.parametrize("changes", STRANGE, ids=lambda each: str(next(iter(each))))
def test_an_order_that_makes_no_sense_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        order(**changes)


def test_the_longest_life_is_a_day() -> None:
    assert order(expires_at=NOW + timedelta(hours=24)).expires_at == NOW + timedelta(hours=24)


def test_the_columns_of_an_order_cannot_be_changed() -> None:
    columns = {"identifier": "id_card"}
    made = OrderParticipant(role="values", did="did:web:b", columns=columns)
    columns["identifier"] = "name"
    assert made.columns["identifier"] == "id_card"
    with pytest.raises(TypeError):
        made.columns["identifier"] = "name"
