"""An agreement's signature: over exactly its text, by exactly one of its parties."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey

from contracts.errors import InputRejected, ProtocolViolation
from contracts.odrl import Agreement
from contracts.signature import TYPE, agreement_bytes, sign_agreement, verify_agreement_signature

PROVIDER, CONSUMER = "did:web:bureau.example", "did:web:institute.example"
KID = PROVIDER + "#key-1"
KEYS: dict[str, Key] = {
    "Ed25519": OKPKey.generate_key("Ed25519"),
    "ES256": ECKey.generate_key("P-256"),
}
AGREEMENT = Agreement.model_validate(
    {
        "@id": "urn:uuid:1",
        "@type": "Agreement",
        "target": "residents",
        "assigner": PROVIDER,
        "assignee": CONSUMER,
        "timestamp": "2026-11-25T08:00:00Z",
        "permission": [
            {
                "action": "use",
                "constraint": [
                    {"leftOperand": "purpose", "operator": "isAnyOf", "rightOperand": ["研究"]}
                ],
            }
        ],
        "dct:description": "as agreed on the telephone",
    }
)


def public(alg: str) -> Callable[[str], Key]:
    key = KEYS[alg]
    known = {KID: type(key).import_key(key.as_dict(private=False))}
    return lambda kid: known[kid]


def verify(text: str, alg: str = "Ed25519", agreement: Agreement = AGREEMENT) -> None:
    verify_agreement_signature(text, agreement, PROVIDER, public(alg))


@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_the_signature_of_a_party_holds_over_the_agreement(alg: str) -> None:
    verify(sign_agreement(AGREEMENT, KEYS[alg], KID, alg), alg)


def test_what_is_signed_is_the_whole_agreement_in_canonical_json() -> None:
    header, payload, _ = sign_agreement(AGREEMENT, KEYS["Ed25519"], KID, "Ed25519").split(".")
    body = base64.urlsafe_b64decode(payload + "==")
    assert body == rfc8785.dumps(AGREEMENT.to_json())
    assert json.loads(body)["dct:description"] == "as agreed on the telephone"
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {
        "alg": "Ed25519",
        "kid": KID,
        "typ": TYPE,
    }


def test_both_parties_sign_the_same_payload() -> None:
    ours = sign_agreement(AGREEMENT, KEYS["Ed25519"], KID, "Ed25519")
    theirs = sign_agreement(AGREEMENT, KEYS["ES256"], CONSUMER + "#key-1", "ES256")
    assert ours.split(".")[1] == theirs.split(".")[1]


def test_a_standard_library_for_jose_reads_the_signature() -> None:
    text = sign_agreement(AGREEMENT, KEYS["ES256"], KID, "ES256")
    read = jws.deserialize_compact(text, KEYS["ES256"], algorithms=["ES256"])
    assert read.payload == agreement_bytes(AGREEMENT)


@pytest.mark.parametrize(
    "change",
    [
        {"target": "contracts"},
        {"assignee": "did:web:mallory.example"},
        {"timestamp": "2026-11-25T08:00:01Z"},
        {"timestamp": None},
        {"id": "urn:uuid:2"},
        {"obligation": ({"action": "delete"},)},
    ],
    ids=str,
)
def test_a_signature_over_another_agreement_is_refused(change: dict[str, Any]) -> None:
    text = sign_agreement(AGREEMENT, KEYS["Ed25519"], KID, "Ed25519")
    other = Agreement.model_validate({**AGREEMENT.model_dump(), **change})
    with pytest.raises(ProtocolViolation, match="another text than the agreement"):
        verify(text, agreement=other)


def test_the_same_agreement_in_other_bytes_is_refused() -> None:
    loose = json.dumps(AGREEMENT.to_json(), indent=1).encode()
    parts = [json.dumps({"alg": "Ed25519", "kid": KID, "typ": TYPE}).encode(), loose]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = jws.JWSRegistry.algorithms["Ed25519"].sign(signed, KEYS["Ed25519"])
    text = (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
    with pytest.raises(ProtocolViolation, match="another text than the agreement"):
        verify(text)


def test_the_other_partys_signature_does_not_count_as_ones_own() -> None:
    text = sign_agreement(AGREEMENT, KEYS["Ed25519"], CONSUMER + "#key-1", "Ed25519")
    with pytest.raises(ProtocolViolation, match="another party's"):
        verify(text)


def test_a_key_that_is_not_the_signers_is_refused() -> None:
    text = sign_agreement(AGREEMENT, OKPKey.generate_key("Ed25519"), KID, "Ed25519")
    with pytest.raises(ProtocolViolation, match="not the signer's"):
        verify(text)


def test_a_signed_order_is_not_a_signed_agreement() -> None:
    text = sign_agreement(AGREEMENT, KEYS["Ed25519"], KID, "Ed25519")
    header = base64.urlsafe_b64encode(
        json.dumps({"alg": "Ed25519", "kid": KID, "typ": "computation-order+jwt"}).encode()
    ).rstrip(b"=")
    with pytest.raises(ProtocolViolation, match="expected the type usage-agreement"):
        verify(".".join([header.decode(), *text.split(".")[1:]]))


def test_only_a_party_of_the_agreement_signs_it() -> None:
    for kid in ("did:web:mallory.example#key-1", PROVIDER + "2#key-1", ""):
        with pytest.raises(InputRejected, match="one of the agreement's two parties"):
            sign_agreement(AGREEMENT, KEYS["Ed25519"], kid, "Ed25519")


def test_signing_takes_a_private_key_that_fits_the_algorithm() -> None:
    with pytest.raises(InputRejected, match="a private key that signs ES256"):
        sign_agreement(AGREEMENT, KEYS["Ed25519"], KID, "ES256")
    with pytest.raises(InputRejected, match="a private key that signs Ed25519"):
        sign_agreement(AGREEMENT, public("Ed25519")(KID), KID, "Ed25519")
    with pytest.raises(InputRejected, match="expected the algorithm Ed25519, ES256"):
        sign_agreement(AGREEMENT, KEYS["Ed25519"], KID, "HS256")


@pytest.mark.parametrize("value", [2**60, -(2**53), {"deep": [2**53]}])
def test_an_agreement_without_a_canonical_form_is_neither_signed_nor_verified(value: Any) -> None:
    strange = Agreement.model_validate({**AGREEMENT.to_json(), "dct:size": value})
    with pytest.raises(ProtocolViolation, match="canonical JSON"):
        sign_agreement(strange, KEYS["Ed25519"], KID, "Ed25519")
    with pytest.raises(ProtocolViolation, match="canonical JSON"):
        verify(sign_agreement(AGREEMENT, KEYS["Ed25519"], KID, "Ed25519"), agreement=strange)


# Signed once: an ES256 signature is another each time, and examples have to come again unchanged.
SIGNED = {alg: sign_agreement(AGREEMENT, KEYS[alg], KID, alg) for alg in ("Ed25519", "ES256")}


@settings(max_examples=120, deadline=None)
@given(chosen=st.data(), alg=st.sampled_from(["Ed25519", "ES256"]))
def test_a_signature_changed_anywhere_is_refused(chosen: st.DataObject, alg: str) -> None:
    text = SIGNED[alg]
    place = chosen.draw(st.integers(0, len(text) - 1))
    letter = chosen.draw(st.sampled_from("Az09-_.=+/ \u00e9").filter(lambda c: c != text[place]))
    with pytest.raises(ProtocolViolation):
        verify(text[:place] + letter + text[place + 1 :], alg)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        verify(text)
