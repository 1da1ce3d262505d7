"""Deeds: what both parties signed opens offline, and a file changed anywhere does not."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, Key, KeySet, OKPKey

from contracts.deed import make_deed, open_deed
from contracts.errors import InputRejected, ProtocolViolation
from contracts.odrl import Agreement
from contracts.signature import TYPE, agreement_bytes, sign_agreement

PROVIDER, CONSUMER = "did:web:bureau.example", "did:web:institute.example"
# One party signs with each of the two algorithms.
SIGNING: dict[str, tuple[Key, str]] = {
    PROVIDER: (OKPKey.generate_key("Ed25519"), "Ed25519"),
    CONSUMER: (ECKey.generate_key("P-256"), "ES256"),
}
AGREEMENT = Agreement.model_validate(
    {
        "@id": "urn:uuid:1",
        "@type": "Agreement",
        "target": "residents",
        "assigner": PROVIDER,
        "assignee": CONSUMER,
        "timestamp": "2026-11-25T08:00:00Z",
        "permission": [{"action": "use"}],
    }
)


def kid(did: str) -> str:
    return f"{did}#key-1"


def key_of(key_id: str) -> Key:
    return SIGNING[key_id.partition("#")[0]][0]


def signed(did: str, agreement: Agreement = AGREEMENT) -> str:
    key, alg = SIGNING[did]
    return sign_agreement(agreement, key, kid(did), alg)


def thumbprint(did: str) -> str:
    return SIGNING[did][0].thumbprint()


def made() -> dict[str, Any]:
    return make_deed((signed(PROVIDER), signed(CONSUMER)), key_of)


def written(document: object) -> bytes:
    return json.dumps(document).encode()


def test_a_deed_opens_as_the_agreement_with_its_two_signers() -> None:
    deed = open_deed(written(made()))
    assert deed.agreement == AGREEMENT
    assert [(one.did, one.kid, one.thumbprint, one.pinned) for one in deed.signers] == [
        (PROVIDER, kid(PROVIDER), thumbprint(PROVIDER), False),
        (CONSUMER, kid(CONSUMER), thumbprint(CONSUMER), False),
    ]


def test_the_order_of_the_signatures_does_not_matter() -> None:
    deed = open_deed(written(make_deed((signed(CONSUMER), signed(PROVIDER)), key_of)))
    assert (deed.provider.did, deed.consumer.did) == (PROVIDER, CONSUMER)


def test_a_deed_holds_the_signatures_as_they_were_made() -> None:
    compact = [signed(PROVIDER), signed(CONSUMER)]
    deed = make_deed(compact, key_of)
    assert [
        f"{part['protected']}.{deed['payload']}.{part['signature']}" for part in deed["signatures"]
    ] == compact


def test_a_standard_library_for_jose_verifies_a_deed_with_the_parties_keys() -> None:
    named = [
        type(key).import_key({**key.as_dict(private=False), "kid": kid(did)})
        for did, (key, _) in SIGNING.items()
    ]
    read = jws.deserialize_json(made(), KeySet(named), algorithms=["Ed25519", "ES256"])
    assert read.payload == agreement_bytes(AGREEMENT)


def test_a_deed_shows_public_keys_and_nothing_beside_them() -> None:
    def talkative(key_id: str) -> Key:
        key = key_of(key_id)
        return type(key).import_key({**key.as_dict(private=True), "use": "sig", "note": "hello"})

    deed = make_deed((signed(PROVIDER), signed(CONSUMER)), talkative)
    shown = [part["header"]["jwk"] for part in deed["signatures"]]
    assert [sorted(jwk) for jwk in shown] == [["crv", "kty", "x"], ["crv", "kty", "x", "y"]]
    assert open_deed(written(deed)).agreement == AGREEMENT


def test_signatures_over_different_agreements_make_no_deed() -> None:
    other = AGREEMENT.model_copy(update={"target": "contracts"})
    with pytest.raises(InputRejected, match="one and the same agreement"):
        make_deed((signed(PROVIDER), signed(CONSUMER, other)), key_of)


def test_what_is_no_signature_makes_no_deed() -> None:
    for text in ("", "a", "a.b.c", signed(PROVIDER).replace(".", "")):
        with pytest.raises(ProtocolViolation):
            make_deed((signed(PROVIDER), text), key_of)


def test_a_pinned_key_is_reported_as_pinned_and_only_that_one() -> None:
    deed = open_deed(written(made()), {CONSUMER: thumbprint(CONSUMER)})
    assert (deed.provider.pinned, deed.consumer.pinned) == (False, True)


def test_another_key_than_the_pinned_one_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match=f"the key of {CONSUMER} is not the pinned one"):
        open_deed(written(made()), {CONSUMER: thumbprint(PROVIDER)})


def test_a_pin_for_somebody_who_did_not_sign_is_refused() -> None:
    pinned = {"did:web:institut.example": thumbprint(CONSUMER)}
    with pytest.raises(ProtocolViolation, match=r"did:web:institut\.example.* has not signed it"):
        open_deed(written(made()), pinned)


def test_a_deed_signed_twice_by_one_party_is_refused() -> None:
    deed = make_deed((signed(PROVIDER), signed(PROVIDER)), key_of)
    with pytest.raises(ProtocolViolation, match="one signature of each"):
        open_deed(written(deed))


def test_one_signature_or_three_are_no_deed() -> None:
    for parties in ([PROVIDER], [PROVIDER, CONSUMER, CONSUMER], [PROVIDER, CONSUMER] * 3):
        deed = make_deed([signed(did) for did in parties], key_of)
        reason = r"two to four signatures|one signature of each"
        with pytest.raises(ProtocolViolation, match=reason):
            open_deed(written(deed))


def test_a_third_partys_signature_is_refused_although_it_is_genuine() -> None:
    """The text is signed by somebody whom it does not name."""
    mallory = "did:web:mallory.example"
    body = agreement_bytes(AGREEMENT)
    key = OKPKey.generate_key("Ed25519")
    header = {"alg": "Ed25519", "kid": kid(mallory), "typ": TYPE}
    text = jws.serialize_compact(header, body, key, algorithms=["Ed25519"])
    deed = make_deed((signed(PROVIDER), text), lambda k: key if mallory in k else key_of(k))
    with pytest.raises(ProtocolViolation, match="one signature of each"):
        open_deed(written(deed))


def test_the_key_of_another_signature_does_not_verify_this_one() -> None:
    deed = made()
    headers = [part["header"] for part in deed["signatures"]]
    deed["signatures"][0]["header"], deed["signatures"][1]["header"] = headers[::-1]
    with pytest.raises(ProtocolViolation):
        open_deed(written(deed))


def test_signed_text_that_is_no_canonical_agreement_is_refused() -> None:
    loose = json.dumps(AGREEMENT.to_json(), indent=1).encode()
    for body in (loose, b"[]", b"{}", b'{"@type": "Agreement"}', b"\xff"):
        texts = []
        for did, (key, alg) in SIGNING.items():
            header = {"alg": alg, "kid": kid(did), "typ": TYPE}
            texts.append(jws.serialize_compact(header, body, key, algorithms=[alg]))
        with pytest.raises(ProtocolViolation):
            open_deed(written(make_deed(texts, key_of)))


def test_a_private_key_in_a_deed_is_refused() -> None:
    deed = made()
    deed["signatures"][0]["header"]["jwk"] = SIGNING[PROVIDER][0].as_dict(private=True)
    with pytest.raises(ProtocolViolation, match="a private key"):
        open_deed(written(deed))


STRANGE_KEYS: list[Any] = [
    None,
    {},
    "key",
    {"kty": "OKP"},
    {"kty": "oct", "k": "c2VjcmV0"},
    {"kty": ["OKP"], "crv": "Ed25519", "x": "AA"},
    {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
    {"kty": "OKP", "crv": "Ed25519", "x": 1},
    {"kty": "OKP", "crv": "Ed25518", "x": SIGNING[PROVIDER][0].as_dict(private=False)["x"]},
    {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    OKPKey.generate_key("X25519").as_dict(private=False),
    OKPKey.generate_key("Ed448").as_dict(private=False),
    ECKey.generate_key("P-384").as_dict(private=False),
    {**SIGNING[PROVIDER][0].as_dict(private=False), "use": "enc"},
]


@pytest.mark.parametrize("jwk", STRANGE_KEYS, ids=range(len(STRANGE_KEYS)))
def test_a_key_of_another_kind_is_refused(jwk: Any) -> None:
    deed = made()
    deed["signatures"][0]["header"]["jwk"] = jwk
    with pytest.raises(ProtocolViolation):
        open_deed(written(deed))


def test_one_key_has_one_text_so_that_its_thumbprint_cannot_be_varied() -> None:
    deed = made()
    jwk = deed["signatures"][0]["header"]["jwk"]
    assert base64.urlsafe_b64decode(jwk["x"] + "==") == base64.urlsafe_b64decode(jwk["x"] + "=")
    jwk["x"] += "="
    with pytest.raises(ProtocolViolation, match="without padding"):
        open_deed(written(deed))


def _place(document: dict[str, Any], *path: Any) -> dict[str, Any]:
    found: Any = document
    for step in path:
        found = found[step]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("path", [(), ("signatures", 0), ("signatures", 0, "header")], ids=str)
@pytest.mark.parametrize("more", [{"alg": "none"}, {"comment": "agreed by telephone"}], ids=str)
def test_nothing_unsigned_stands_in_a_deed(path: tuple[Any, ...], more: dict[str, str]) -> None:
    deed = made()
    _place(deed, *path).update(more)
    with pytest.raises(ProtocolViolation):
        open_deed(written(deed))


PLACES = [
    ("payload",),
    *(("signatures", number, name) for number in (0, 1) for name in ("protected", "signature")),
    ("signatures", 0, "header", "jwk", "x"),
    *(("signatures", 1, "header", "jwk", name) for name in ("x", "y")),
]


@settings(max_examples=200, deadline=None)
@given(chosen=st.data())
def test_a_deed_changed_in_any_letter_is_refused(chosen: st.DataObject) -> None:
    deed = made()
    *path, name = chosen.draw(st.sampled_from(PLACES))
    holder = _place(deed, *path)
    text = holder[name]
    place = chosen.draw(st.integers(0, len(text) - 1))
    letter = chosen.draw(st.sampled_from("AQgwz09-_.=+/ \u00e9").filter(lambda c: c != text[place]))
    holder[name] = text[:place] + letter + text[place + 1 :]
    with pytest.raises(ProtocolViolation):
        open_deed(written(deed))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@settings(max_examples=120, deadline=None)
@given(chosen=st.data())
def test_a_deed_with_anything_in_place_of_a_part_is_refused(chosen: st.DataObject) -> None:
    deed = made()
    whole = [("signatures",), ("signatures", 0, "header"), ("signatures", 0, "header", "jwk")]
    *path, name = chosen.draw(st.sampled_from(PLACES + whole))
    _place(deed, *path)[name] = chosen.draw(ANYTHING)
    with pytest.raises(ProtocolViolation):
        open_deed(written(deed))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | ANYTHING.map(written))
def test_any_file_is_refused(document: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        open_deed(document)
