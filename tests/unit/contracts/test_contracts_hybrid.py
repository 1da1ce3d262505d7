"""Agreements signed with a post-quantum key beside the first one, and their deeds."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from joserfc.jwk import OKPKey

from contracts.deed import make_deed, open_deed, public_jwk
from contracts.errors import InputRejected, ProtocolViolation
from contracts.keys import SignatureKey, key_of_jwk
from contracts.mldsa import ALGORITHM, MlDsaKey
from contracts.order import sign_order
from contracts.signature import (
    sign_agreement,
    verify_agreement_signature,
    verify_post_quantum_signature,
)

from .test_contracts_deed import AGREEMENT, CONSUMER, PROVIDER, signed
from .test_contracts_deed import key_of as first_key_of
from .test_contracts_order import order

SECOND = {did: MlDsaKey.generate() for did in (PROVIDER, CONSUMER)}
VECTOR = json.loads(
    (Path(__file__).parents[2] / "vectors" / "contracts" / "ml-dsa-44-jose.json").read_text()
)


def second_kid(did: str) -> str:
    return f"{did}#{SECOND[did].thumbprint()}"


def signed_second(did: str, key: MlDsaKey | None = None) -> str:
    return sign_agreement(AGREEMENT, key or SECOND[did], second_kid(did), ALGORITHM)


def key_of(kid: str) -> SignatureKey:
    did = kid.partition("#")[0]
    return SECOND[did] if kid == second_kid(did) else first_key_of(kid)


def deed(*second: str) -> dict[str, Any]:
    return make_deed([signed(PROVIDER), signed(CONSUMER), *map(signed_second, second)], key_of)


def written(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def test_a_key_and_a_signature_of_the_published_example_are_read() -> None:
    key = key_of_jwk(VECTOR["jwk"])
    assert isinstance(key, MlDsaKey)
    assert key.thumbprint() == VECTOR["jwk"]["kid"]
    made = MlDsaKey.of_private(MLDSA44PrivateKey.from_seed_bytes(bytes(32)))
    assert made.as_dict() == {name: VECTOR["jwk"][name] for name in ("alg", "kty", "pub")}
    text, _, signature = VECTOR["jws"].rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    assert key.verifies(text.encode(), raw)
    assert not key.verifies(text.encode() + b" ", raw)


def test_a_deed_tells_which_parties_signed_with_two_keys() -> None:
    both = open_deed(written(deed(PROVIDER, CONSUMER)))
    assert all(one.post_quantum is not None for one in both.signers)
    mixed = open_deed(written(deed(CONSUMER)))
    assert mixed.provider.post_quantum is None
    assert mixed.consumer.post_quantum is not None
    assert mixed.consumer.post_quantum.thumbprint == SECOND[CONSUMER].thumbprint()
    assert open_deed(written(deed())).consumer.post_quantum is None


def test_who_pins_the_second_key_demands_its_signature() -> None:
    pins = {CONSUMER: SECOND[CONSUMER].thumbprint()}
    found = open_deed(written(deed(CONSUMER)), None, pins)
    assert found.consumer.post_quantum is not None
    assert found.consumer.post_quantum.pinned
    with pytest.raises(ProtocolViolation, match="post-quantum key is pinned, has not signed"):
        open_deed(written(deed()), None, pins)
    with pytest.raises(ProtocolViolation, match="not the pinned one"):
        open_deed(written(deed(CONSUMER)), None, {CONSUMER: SECOND[PROVIDER].thumbprint()})


def test_a_second_signature_stands_in_for_no_first_one() -> None:
    only = make_deed([signed(PROVIDER), signed_second(CONSUMER)], key_of)
    with pytest.raises(ProtocolViolation, match="one signature of each"):
        open_deed(written(only))
    with pytest.raises(ProtocolViolation, match="got another"):
        verify_agreement_signature(signed_second(CONSUMER), AGREEMENT, CONSUMER, key_of)
    with pytest.raises(ProtocolViolation, match="got another"):
        verify_post_quantum_signature(signed(CONSUMER), AGREEMENT, CONSUMER, key_of)
    with pytest.raises(InputRejected, match="expected the algorithm"):
        sign_order(order(), SECOND[CONSUMER], order().consumer + "#k", ALGORITHM)


def test_two_second_signatures_of_one_party_are_refused() -> None:
    twice = deed(CONSUMER, CONSUMER)
    with pytest.raises(ProtocolViolation, match="one signature of each kind"):
        open_deed(written(twice))


def test_a_second_signature_verifies_under_the_signers_key_and_no_other() -> None:
    verify_post_quantum_signature(signed_second(CONSUMER), AGREEMENT, CONSUMER, key_of)
    forged = signed_second(CONSUMER, MlDsaKey.generate())
    with pytest.raises(ProtocolViolation, match="not the signer's"):
        verify_post_quantum_signature(forged, AGREEMENT, CONSUMER, key_of)
    with pytest.raises(ProtocolViolation, match="another party's"):
        verify_post_quantum_signature(signed_second(CONSUMER), AGREEMENT, PROVIDER, key_of)
    # Under the name of one kind, a key of the other.
    with pytest.raises(ProtocolViolation, match="key of the signer for ML-DSA-44"):
        verify_post_quantum_signature(
            signed_second(CONSUMER), AGREEMENT, CONSUMER, lambda kid: OKPKey.generate_key()
        )
    with pytest.raises(ProtocolViolation, match="key of the signer for"):
        verify_agreement_signature(
            signed(CONSUMER), AGREEMENT, CONSUMER, lambda kid: SECOND[CONSUMER]
        )


@pytest.mark.parametrize("place", [0, 1, 700, 1500, 2419])
@pytest.mark.parametrize("bit", [1, 128])
def test_a_flipped_bit_of_a_second_signature_is_refused(place: int, bit: int) -> None:
    def flip(text: str) -> str:
        head, _, encoded = text.rpartition(".")
        raw = bytearray(base64.urlsafe_b64decode(encoded + "=="))
        raw[place] ^= bit
        return f"{head}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"

    altered = flip(signed_second(CONSUMER))
    document = make_deed([signed(PROVIDER), signed(CONSUMER), altered], key_of)
    with pytest.raises(ProtocolViolation, match="not the signer's"):
        open_deed(written(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda jwk: jwk | {"priv": "AAAA"},
        lambda jwk: jwk | {"alg": "ML-DSA-65"},
        lambda jwk: jwk | {"pub": jwk["pub"][:-4]},
        lambda jwk: jwk | {"pub": jwk["pub"] + "="},
        lambda jwk: jwk | {"pub": "é"},
        lambda jwk: jwk | {"pub": 5},
        lambda jwk: jwk | {"crv": "Ed25519"},
        lambda jwk: {name: jwk[name] for name in ("kty", "pub")},
    ],
)
def test_a_second_key_is_exactly_that_or_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    document = deed(CONSUMER)
    header = document["signatures"][2]["header"]
    assert header["jwk"] == public_jwk(SECOND[CONSUMER])
    header["jwk"] = change(header["jwk"])
    with pytest.raises(ProtocolViolation, match="deed: "):
        open_deed(written(document))
