"""SM2 with SM3: published answers, a second implementation, and what is refused."""

import base64
import builtins
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from joserfc.jwk import ECKey
from tongsuopy.crypto import hashes as second_hashes
from tongsuopy.crypto.asymciphers import ec as second_ec
from tongsuopy.crypto.serialization import load_pem_private_key

from contracts.deed import make_deed, open_deed
from contracts.errors import InputRejected, ProtocolViolation, SuiteMissing
from contracts.keys import key_of_jwk
from contracts.order import open_order, sign_order
from contracts.signature import sign_agreement, verify_agreement_signature
from contracts.sm2 import ALGORITHM, N, Sm2Key

from .test_contracts_deed import AGREEMENT, CONSUMER, PROVIDER, key_of, signed
from .test_contracts_order import NOW, order

KEY = Sm2Key.generate()
KID = f"{CONSUMER}#{KEY.thumbprint()}"
PUBLIC = Sm2Key(KEY.point)

# GB/T 32918.5-2017, A.2: the key, the message, and r ‖ s.
SCALAR = bytes.fromhex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
POINT = bytes.fromhex(
    "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
)
SIGNATURE = bytes.fromhex(
    "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
    "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
)
SECOND = second_ec.ECDSA(second_hashes.SM3())


def test_the_standards_own_signature_verifies_and_its_key_belongs_together() -> None:
    known = Sm2Key(POINT, SCALAR)
    assert known.verifies(b"message digest", SIGNATURE)
    assert not known.verifies(b"message digest.", SIGNATURE)
    assert known.verifies(b"x", known.sign(b"x"))
    # What a standard key is does not depend on how it is written.
    assert Sm2Key.of_compressed(known.compressed()).thumbprint() == known.thumbprint()


def test_each_implementation_verifies_the_others_signatures() -> None:
    theirs: Any = load_pem_private_key(KEY.to_pem().encode(), None)
    public = theirs.public_key()
    ours = KEY.sign(b"text")
    r, s = int.from_bytes(ours[:32]), int.from_bytes(ours[32:])
    public.verify(encode_dss_signature(r, s), b"text", SECOND)
    r, s = decode_dss_signature(theirs.sign(b"text", SECOND))
    assert PUBLIC.verifies(b"text", r.to_bytes(32) + s.to_bytes(32))
    assert not PUBLIC.verifies(b"text", s.to_bytes(32) + r.to_bytes(32))


@pytest.mark.parametrize("bit", range(0, 512, 37))
def test_a_flipped_bit_of_a_signature_is_refused(bit: int) -> None:
    altered = bytearray(SIGNATURE)
    altered[bit // 8] ^= 1 << bit % 8
    assert not Sm2Key(POINT).verifies(b"message digest", bytes(altered))


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        SIGNATURE[:-1],
        SIGNATURE + b"\0",
        bytes(64),
        SIGNATURE[:32] + bytes(32),
        bytes(32) + SIGNATURE[32:],
        N.to_bytes(32) + SIGNATURE[32:],
        SIGNATURE[:32] + N.to_bytes(32),
        b"\xff" * 64,
    ],
)
def test_numbers_out_of_range_are_no_signature(signature: bytes) -> None:
    assert not Sm2Key(POINT).verifies(b"message digest", signature)


@pytest.mark.parametrize(
    ("point", "scalar"),
    [
        (bytes(64), None),
        (POINT[:-1] + b"\0", None),
        (POINT[:-1], None),
        (b"\xff" * 64, None),
        (POINT, bytes(32)),
        (POINT, (N - 1).to_bytes(32)),
        (POINT, b"\xff" * 32),
    ],
)
def test_what_is_no_key_of_the_curve_is_none(point: bytes, scalar: bytes | None) -> None:
    with pytest.raises(ValueError, match="SM2"):
        Sm2Key(point, scalar)


def test_a_public_key_in_json_says_nothing_private_and_has_one_spelling() -> None:
    jwk = KEY.as_dict(private=False)
    assert set(jwk) == {"kty", "crv", "x", "y"}
    assert key_of_jwk(jwk).thumbprint() == KEY.thumbprint()
    for name in ("x", "y"):
        for spoiled in (jwk[name] + "=", jwk[name][:-1], 5, "é"):
            with pytest.raises(ProtocolViolation, match="malformed public key"):
                key_of_jwk({**jwk, name: spoiled})


def test_a_private_key_goes_through_its_file_and_no_other_curves_does() -> None:
    again = Sm2Key.of_pem(KEY.to_pem())
    assert again is not None
    assert again.scalar == KEY.scalar
    assert Sm2Key.of_pem(ECKey.generate_key("P-256").as_pem(private=True).decode()) is None
    assert Sm2Key.of_pem("nothing") is None
    # The public half of another key beside this one's private half.
    mixed = Sm2Key(POINT, KEY.scalar).to_pem()
    with pytest.raises(ValueError, match="do not belong together"):
        Sm2Key.of_pem(mixed)
    with pytest.raises(ValueError, match="not a private key"):
        PUBLIC.to_pem()
    with pytest.raises(InputRejected, match="private key"):
        PUBLIC.sign(b"x")


def test_agreements_orders_and_deeds_are_signed_with_it() -> None:
    text = sign_agreement(AGREEMENT, KEY, KID, ALGORITHM)
    verify_agreement_signature(text, AGREEMENT, CONSUMER, lambda kid: PUBLIC)
    deed = make_deed([signed(PROVIDER), text], lambda kid: PUBLIC if kid == KID else key_of(kid))
    found = open_deed(json.dumps(deed).encode(), {CONSUMER: KEY.thumbprint()})
    assert found.consumer.pinned
    asked = order()
    signed_order = sign_order(asked, KEY, f"{asked.consumer}#k", ALGORITHM)
    assert open_order(signed_order, lambda kid: PUBLIC, NOW) == asked


def test_a_key_of_another_curve_signs_nothing_under_its_name() -> None:
    other = ECKey.generate_key("P-256")
    text = sign_agreement(AGREEMENT, KEY, KID, ALGORITHM)
    with pytest.raises(ProtocolViolation, match="expected a key of the signer"):
        verify_agreement_signature(text, AGREEMENT, CONSUMER, lambda kid: other)
    with pytest.raises(InputRejected, match="a private key that signs"):
        sign_agreement(AGREEMENT, other, KID, ALGORITHM)
    with pytest.raises(InputRejected, match="a private key that signs ES256"):
        sign_agreement(AGREEMENT, KEY, KID, "ES256")
    header = json.dumps({"alg": "ES256", "kid": KID, "typ": "usage-agreement+jwt"}).encode()
    renamed = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
    with pytest.raises(ProtocolViolation, match="expected a key of the signer for ES256"):
        verify_agreement_signature(
            f"{renamed}.{text.partition('.')[2]}", AGREEMENT, CONSUMER, lambda kid: PUBLIC
        )


def test_without_the_extra_keys_are_read_and_signatures_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "gmssl_pyx":
            raise ImportError(name)
        return load(name, *arguments, **more)

    text = sign_agreement(AGREEMENT, KEY, KID, ALGORITHM)
    monkeypatch.setattr(builtins, "__import__", without)
    assert key_of_jwk(KEY.as_dict(private=False)).thumbprint() == KEY.thumbprint()
    for act in (
        Sm2Key.generate,
        lambda: KEY.sign(b""),
        lambda: verify_agreement_signature(text, AGREEMENT, CONSUMER, lambda kid: PUBLIC),
    ):
        with pytest.raises(SuiteMissing, match=r"city-dataspace\[sm\]"):
            act()
