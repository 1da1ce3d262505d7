import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pytest

from privacy.errors import InputRejected, ProtocolViolation
from privacy.paillier import (
    EncryptedVector,
    PrivateKey,
    PublicKey,
    Randomness,
    SlotLayout,
    add_vectors,
    addends_to_sum,
    decrypt_decimals,
    decrypt_total,
    decrypt_vector,
    encode_vector,
    encrypt_vector,
    generate,
    parse_vector,
    sum_vector,
    vector_size_bytes,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "privacy" / "paillier-vectors.json"
STORED = json.loads(VECTORS.read_text("utf-8"))


def numbered_bytes(label: str):
    """Random bytes that anybody can make again."""
    drawn = 0

    def take(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(f"{label}/{drawn}".encode()).digest(size)

    return take


@pytest.fixture(scope="module")
def stored_key(paillier_vectors) -> PrivateKey:
    n, p, q = (int(paillier_vectors[name], 16) for name in "npq")
    return PrivateKey(PublicKey(n), p, q)


def unpack_by_hand(plaintexts: list[int], layout: dict, count: int) -> list[int]:
    """What the docstring of `SlotLayout` says, once more, for who only has phe."""
    slot_bits = layout["bits"] + (layout["addends"] - 1).bit_length()
    slots = (2048 - 3) // slot_bits
    offset = 2 ** (layout["bits"] - 1) if layout["signed"] else 0
    return [
        plaintexts[at // slots] // 2 ** (slot_bits * (at % slots)) % 2**slot_bits - offset
        for at in range(count)
    ]


# Stored data, and phe


@pytest.mark.parametrize("case", STORED["phe"], ids=lambda case: case["name"])
def test_vectors_that_phe_encrypted_are_decrypted_and_made_again(case, stored_key):
    declared, values = case["layout"], case["values"]
    for key in (stored_key, stored_key.public_key):
        units = iter(bytes.fromhex(r) for r in case["randomness"])
        vector = encrypt_vector(
            key,
            values,
            **declared,
            randomness=Randomness.PLAIN,
            random_bytes=lambda _, units=units: next(units),
        )
        assert [f"{one:x}" for one in vector.ciphertexts] == case["ciphertexts"]
    assert decrypt_vector(stored_key, vector) == values


def test_the_stored_vector_of_ours_is_made_again_and_phe_decrypts_it(stored_key):
    layout, values = STORED["ours"]["layout"], STORED["ours"]["values"]
    encoded = bytes.fromhex(STORED["ours"]["encoded"])
    again = encrypt_vector(
        stored_key.public_key, values, **layout, random_bytes=numbered_bytes("ours")
    )
    assert encode_vector(again) == encoded
    vector = parse_vector(
        encoded,
        "left",
        public_key=stored_key.public_key,
        layout=again.layout,
        count=len(values),
    )
    assert decrypt_vector(stored_key, vector) == values
    phe_key = stored_key.to_phe()
    numbers = [stored_key.public_key.ciphertext_to_phe(one) for one in vector.ciphertexts]
    plaintexts = [phe_key.decrypt(number) for number in numbers]
    assert unpack_by_hand(plaintexts, layout, len(values)) == values


def test_phe_and_we_add_up_each_other_s_single_slots(private_key, public_key):
    ours = encrypt_vector(
        public_key, [-7, 2**31 - 1], bits=32, addends=3, signed=True, packed=False
    )
    phe_public, phe_private = public_key.to_phe(), private_key.to_phe()
    theirs = [phe_public.encrypt(5), phe_public.encrypt(-(2**31))]
    summed = [a + b for a, b in zip(ours.to_phe(), theirs, strict=True)]
    assert [phe_private.decrypt(number) for number in summed] == [-2, -1]
    taken = EncryptedVector.from_phe(public_key, theirs, ours.layout)
    assert decrypt_vector(private_key, add_vectors([ours, taken])) == [-2, -1]


def test_a_number_of_phe_out_of_its_declared_bounds_is_a_violation(private_key, public_key):
    layout = SlotLayout(key_bits=2048, value_bits=8, packed=False)
    vector = EncryptedVector.from_phe(public_key, [public_key.to_phe().encrypt(256)], layout)
    with pytest.raises(ProtocolViolation, match="out of the agreed range"):
        decrypt_vector(private_key, vector)


def test_packed_vectors_fractions_and_other_keys_of_phe_are_rejected(public_key, stored_key):
    packed = encrypt_vector(public_key, [1], bits=8)
    with pytest.raises(InputRejected, match="no packed vectors"):
        packed.to_phe()
    with pytest.raises(InputRejected, match="not packed"):
        EncryptedVector.from_phe(public_key, [], packed.layout)
    layout = SlotLayout(key_bits=2048, value_bits=8, packed=False)
    for key, value, reason in (
        (public_key, 0.5, "not an integer"),
        (stored_key.public_key, 1, "another public key"),
    ):
        with pytest.raises(InputRejected, match=reason):
            EncryptedVector.from_phe(public_key, [key.to_phe().encrypt(value)], layout)


# Bounds


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_sums_at_the_limit_of_their_slots_are_exact(private_key, public_key, signed, packed):
    layout = SlotLayout(key_bits=2048, value_bits=500, addends=4, signed=signed, packed=packed)
    edges = [layout.maximum, layout.minimum, 0, layout.maximum, layout.maximum]
    vector = encrypt_vector(public_key, edges, bits=500, addends=4, signed=signed, packed=packed)
    # The same ciphertexts four times: what is added does not matter to the head-room.
    total = add_vectors([add_vectors([vector, vector]), vector, vector])
    assert decrypt_vector(private_key, total) == [4 * edge for edge in edges]
    with pytest.raises(InputRejected, match="room for the sum of 4 values, not of 5"):
        add_vectors([total, vector])


def test_one_past_a_bound_is_refused_before_anything_is_encrypted(public_key):
    def no_bytes(size: int) -> bytes:
        raise AssertionError("randomness was drawn")

    for signed, value in ((False, 2**32), (False, -1), (True, 2**31), (True, -(2**31) - 1)):
        for packed in (False, True):
            with pytest.raises(InputRejected, match="value 2 is out of bounds") as caught:
                encrypt_vector(
                    public_key,
                    [0, 1, value],
                    bits=32,
                    signed=signed,
                    packed=packed,
                    random_bytes=no_bytes,
                )
            assert str(value) not in str(caught.value)


def test_an_addition_past_the_room_is_refused_before_it_is_done(public_key):
    vector = encrypt_vector(public_key, [1], bits=8, addends=2)
    broken = EncryptedVector(public_key, vector.layout, 1, (None,), 2)  # type: ignore[arg-type]
    with pytest.raises(InputRejected, match="not of 3"):
        add_vectors([broken, vector])
    many = EncryptedVector(public_key, vector.layout, 1000, (None,) * 5, 1)  # type: ignore[arg-type]
    with pytest.raises(InputRejected, match="room for the sum of 2 values, not of 5"):
        sum_vector(many)
    two = EncryptedVector(public_key, vector.layout, 400, (None,) * 2, 2)  # type: ignore[arg-type]
    with pytest.raises(InputRejected, match="not of 4"):
        sum_vector(two)


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"bits": 0}, "at least one bit"),
        ({"bits": 8, "addends": 0}, "one addend"),
        ({"bits": 2046}, "do not fit a plaintext of a 2048-bit key"),
        ({"bits": 2044, "addends": 3}, "do not fit"),
        ({"bits": 2044, "addends": 3, "packed": False}, "do not fit"),
        ({"bits": 8, "decimals": -1}, "0 to 18 decimals"),
        ({"bits": 8, "decimals": 19}, "0 to 18 decimals"),
    ],
)
def test_a_layout_that_cannot_be_is_rejected(public_key, declared, reason):
    with pytest.raises(InputRejected, match=reason):
        encrypt_vector(public_key, [1], **declared)


def test_sixty_three_values_of_32_bits_share_a_ciphertext():
    assert SlotLayout(key_bits=2048, value_bits=32).slots == 63
    assert SlotLayout(key_bits=3072, value_bits=32).slots == 95
    # Two slots of 1023 bits would fit 2046 bits, and some keys have plaintexts of 2045 only.
    assert SlotLayout(key_bits=2048, value_bits=1023).slots == 1
    assert SlotLayout(key_bits=2048, value_bits=2045).slots == 1


def test_fixed_point_decimals_are_exact_and_others_are_refused(private_key, public_key):
    values = [Decimal("-0.01"), 3, Decimal("1E+2"), Decimal("99999.990"), Decimal(0)]
    vector = encrypt_vector(public_key, values, bits=32, signed=True, decimals=2, addends=2)
    assert decrypt_vector(private_key, vector) == [-1, 300, 10000, 9999999, 0]
    doubled = decrypt_decimals(private_key, add_vectors([vector, vector]))
    assert doubled == [2 * value for value in values]
    assert str(doubled[0]) == "-0.02"
    for value in (Decimal("0.001"), Decimal("NaN"), Decimal("-Infinity"), 0.5, True, "1", None):
        with pytest.raises(InputRejected, match="value 1"):
            encrypt_vector(public_key, [0, value], bits=32, signed=True, decimals=2)
    for value in (Decimal("1E+999999"), Decimal("1E-999999"), Decimal("21474836.48")):
        with pytest.raises(InputRejected, match="value 0"):
            encrypt_vector(public_key, [value], bits=32, signed=True, decimals=2)


def test_a_vector_of_nothing_stays_nothing(private_key, public_key):
    vector = encrypt_vector(public_key, [], bits=32)
    assert decrypt_vector(private_key, add_vectors([vector])) == []
    with pytest.raises(InputRejected, match="no sum"):
        sum_vector(vector)
    with pytest.raises(InputRejected, match="at least one vector"):
        add_vectors([])


def test_vectors_that_differ_are_not_added(public_key, stored_key):
    vector = encrypt_vector(public_key, [1, 2], bits=8, addends=9)
    for other, reason in (
        (encrypt_vector(stored_key.public_key, [1, 2], bits=8, addends=9), "public keys"),
        (encrypt_vector(public_key, [1, 2], bits=8, addends=10), "layouts or lengths"),
        (encrypt_vector(public_key, [1, 2], bits=8, addends=9, signed=True), "layouts or lengths"),
        (encrypt_vector(public_key, [1, 2], bits=10, addends=9, decimals=1), "layouts or lengths"),
        (encrypt_vector(public_key, [1, 2, 3], bits=8, addends=9), "layouts or lengths"),
    ):
        with pytest.raises(InputRejected, match=reason):
            add_vectors([vector, other])


def test_a_vector_that_contradicts_itself_cannot_be_made(public_key):
    layout = SlotLayout(key_bits=2048, value_bits=8, addends=2)
    for wrong, reason in (
        ((SlotLayout(key_bits=3072, value_bits=8), 1, (1,)), "does not fit a key"),
        ((layout, 1, ()), "1 elements take 1 ciphertexts, got 0"),
        ((layout, -1, ()), "-1 elements"),
        ((layout, 1, (1,), 3), "the sum of 1 to 2 expected, not of 3"),
        ((layout, 1, (1,), 0), "not of 0"),
    ):
        with pytest.raises(InputRejected, match=reason):
            EncryptedVector(public_key, *wrong)


# Sums of all elements


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_all_elements_of_a_sum_are_summed(private_key, public_key, signed, packed):
    values = [2**15 - 1] * 7 + [-(2**15) if signed else 0] * 4 + [5] * (90 if packed else 1)
    vector = encrypt_vector(public_key, values, bits=16, addends=24, signed=signed, packed=packed)
    both = add_vectors([vector, vector])
    assert decrypt_total(private_key, sum_vector(both)) == 2 * sum(values)


@pytest.mark.parametrize("count", [1, 62, 63, 64, 2000, 100_000])
def test_as_many_addends_as_a_sum_needs_are_told(count):
    addends = addends_to_sum(2048, 32, count)
    layout = SlotLayout(key_bits=2048, value_bits=32, addends=addends)
    assert layout.plaintexts_of(count) <= addends <= count // 40 + 1


# What is wrong with decrypted numbers


def test_slots_that_no_honest_sum_can_have_are_violations(private_key, public_key):
    layout = SlotLayout(key_bits=2048, value_bits=8, addends=4)
    slots = layout.slots
    for plaintext, count in (
        (4 * 255 + 1, slots),
        (-1, slots),
        (1 << (layout.slot_bits * slots), slots),
        (1 << layout.slot_bits, 1),
    ):
        vector = EncryptedVector(
            public_key, layout, count, (public_key.encrypt_plain(plaintext),), 4
        )
        with pytest.raises(ProtocolViolation, match="decrypted"):
            decrypt_vector(private_key, vector)
    spare = EncryptedVector(public_key, layout, 1, (public_key.encrypt_plain(4 * 255),), 3)
    with pytest.raises(ProtocolViolation, match="element out of the agreed range"):
        decrypt_vector(private_key, spare)
    with pytest.raises(ProtocolViolation, match="total is out of the agreed range"):
        decrypt_total(private_key, sum_vector(spare))


def test_another_private_key_is_rejected(private_key, stored_key):
    vector = encrypt_vector(stored_key.public_key, [1], bits=8)
    with pytest.raises(InputRejected, match="not that of these ciphertexts"):
        decrypt_vector(private_key, vector)
    with pytest.raises(InputRejected, match="not that of these ciphertexts"):
        decrypt_total(private_key, sum_vector(vector))


# Bytes


@pytest.fixture(scope="module")
def sent(stored_key) -> EncryptedVector:
    layout = STORED["ours"]["layout"]
    return encrypt_vector(stored_key.public_key, STORED["ours"]["values"], **layout)


def parse(payload: bytes, sent: EncryptedVector, **changed) -> EncryptedVector:
    expected = {"public_key": sent.public_key, "layout": sent.layout, "count": sent.count}
    return parse_vector(payload, "left", **(expected | changed))


def test_a_vector_survives_its_bytes(sent):
    payload = encode_vector(sent)
    assert len(payload) == vector_size_bytes(sent.public_key, sent.layout, sent.count)
    assert parse(payload, sent) == sent
    both = add_vectors([sent, sent])
    assert parse(encode_vector(both), both, added=2) == both


def test_a_vector_that_is_not_the_one_expected_is_a_violation(sent, public_key):
    payload = encode_vector(sent)
    declared = {"key_bits": 2048, "value_bits": 48, "addends": 8, "signed": True}
    for changed, reason in (
        ({"public_key": public_key}, "another key"),
        ({"count": sent.count - 1}, "another length"),
        ({"added": 2}, "another sum"),
        ({"layout": SlotLayout(**declared | {"value_bits": 47, "addends": 16})}, "another size"),
        ({"layout": SlotLayout(**declared | {"addends": 7})}, "another room"),
        ({"layout": SlotLayout(**declared | {"signed": False})}, "another layout"),
        ({"layout": SlotLayout(**declared, decimals=2)}, "another number of decimals"),
        ({"count": 1}, "2080 bytes, 544 expected"),
    ):
        with pytest.raises(ProtocolViolation, match=f"left sent a vector of {reason}"):
            parse(payload, sent, **changed)
    for broken in (b"", payload[:-1], payload + b"\0", payload[:32]):
        with pytest.raises(ProtocolViolation, match=r"left sent a vector of \d+ bytes"):
            parse(broken, sent)


def test_a_vector_with_a_number_that_is_no_ciphertext_is_a_violation(sent, stored_key):
    payload, n = encode_vector(sent), stored_key.public_key.n
    for number in (0, n, stored_key.p, 7 * stored_key.q, n * n, 2**4096 - 1):
        for at in (32, 32 + 3 * 512):
            broken = payload[:at] + number.to_bytes(512, "big") + payload[at + 512 :]
            with pytest.raises(ProtocolViolation, match="left sent a number that is no ciphertext"):
                parse(broken, sent)


def test_more_elements_than_four_bytes_count_are_not_sent(public_key):
    layout = SlotLayout(key_bits=2048, value_bits=8, addends=2**32)
    with pytest.raises(InputRejected, match="at most 4294967295"):
        encode_vector(EncryptedVector(public_key, layout, 0, ()))


@pytest.mark.slow
def test_vectors_of_a_3072_bit_key_work_too():
    key = generate(3072)
    values = [(-7) ** i for i in range(20)] * 30
    vector = encrypt_vector(key.public_key, values, bits=64, addends=2, signed=True)
    payload = encode_vector(add_vectors([vector, vector]))
    total = parse_vector(
        payload, "left", public_key=key.public_key, layout=vector.layout, count=600, added=2
    )
    assert decrypt_vector(key, total) == [2 * value for value in values]
