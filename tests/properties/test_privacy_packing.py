import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import InputRejected, ProtocolViolation
from privacy.paillier import (
    EncryptedVector,
    PrivateKey,
    PublicKey,
    SlotLayout,
    add_vectors,
    addends_to_sum,
    decrypt_total,
    decrypt_vector,
    encode_vector,
    encrypt_vector,
    pack,
    parse_vector,
    sum_vector,
    unpack,
    value_bits,
)

HEADER_BYTES = 32
STORED = Path(__file__).parents[1] / "vectors" / "privacy" / "paillier-phe.json"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    stored = json.loads(STORED.read_text("utf-8"))
    n, p, q = (int(stored[name], 16) for name in "npq")
    return PrivateKey(PublicKey(n), p, q)


@st.composite
def addends(draw: st.DrawFn) -> tuple[int, int, list[list[int]]]:
    """Slot width, number of addends allowed, and that many rows or fewer of bounded values."""
    slot_bits = draw(st.integers(5, 80))
    count = draw(st.integers(1, 16))
    slots = draw(st.integers(0, 8))
    top = (1 << value_bits(slot_bits, count)) - 1
    # The greatest value is the one that would flow over, so it is drawn often.
    value = st.one_of(st.just(top), st.integers(0, top))
    row = st.lists(value, min_size=slots, max_size=slots)
    return slot_bits, count, draw(st.lists(row, min_size=1, max_size=count))


@given(addends())
def test_sums_of_packed_rows_are_the_sums_of_their_slots(case):
    slot_bits, count, rows = case
    total = sum(pack(row, slot_bits, addends=count) for row in rows)
    assert unpack(total, slot_bits, len(rows[0])) == tuple(map(sum, zip(*rows, strict=True)))


@given(st.integers(1, 64), st.integers(0, 8), st.integers())
def test_any_number_is_unpacked_and_packed_again_or_rejected(slot_bits, slots, number):
    if 0 <= number < 1 << (slot_bits * slots):
        assert pack(unpack(number, slot_bits, slots), slot_bits) == number
    else:
        with pytest.raises(InputRejected):
            unpack(number, slot_bits, slots)


@st.composite
def layouts(draw: st.DrawFn) -> SlotLayout:
    bits = draw(st.one_of(st.integers(1, 64), st.integers(1, 2045)))
    room = 2045 - bits
    addends = draw(st.integers(1, min(50, 1 << min(room, 6))))
    return SlotLayout(
        key_bits=2048,
        value_bits=bits,
        addends=addends,
        signed=draw(st.booleans()),
        packed=draw(st.booleans()),
    )


@st.composite
def vectors(draw: st.DrawFn, most: int = 40) -> tuple[SlotLayout, list[list[int]]]:
    """A layout and as many rows as it has room for or fewer, their values often at a bound."""
    layout = draw(layouts())
    value = st.one_of(
        st.sampled_from([layout.minimum, layout.maximum]),
        st.integers(layout.minimum, layout.maximum),
    )
    count = draw(st.integers(0, most))
    rows = draw(st.integers(1, layout.addends))
    row = st.lists(value, min_size=count, max_size=count)
    return layout, draw(st.lists(row, min_size=rows, max_size=rows))


@given(vectors())
@settings(max_examples=50)
def test_sums_in_plaintexts_of_any_layout_are_the_sums_of_the_elements(case):
    layout, rows = case
    plaintexts = [layout.plaintexts(layout.units(row)) for row in rows]
    added = list(map(sum, zip(*plaintexts, strict=True)))
    # No plaintext of a 2048-bit key wraps around, whichever modulus it has.
    assert all(abs(plaintext) <= 2**2047 // 3 - 1 for plaintext in added)
    expected = list(map(sum, zip(*rows, strict=True)))
    assert layout.sums(added, count=len(rows[0]), added=len(rows)) == expected
    if added and len(rows) * len(added) <= layout.addends:
        total = layout.total(sum(added), count=len(expected), added=len(rows))
        assert total == sum(expected)


@given(layouts(), st.integers(0, 70), st.integers(0, 3), st.booleans())
@settings(max_examples=50)
def test_one_past_a_bound_is_refused_wherever_it_is(layout, at, past, above):
    wrong = layout.maximum + 1 + past if above else layout.minimum - 1 - past
    with pytest.raises(InputRejected, match=f"value {at} is out of bounds"):
        layout.units([layout.minimum] * at + [wrong])


@given(vectors(most=3))
@settings(max_examples=10, deadline=None)
def test_encrypted_sums_are_sums_and_one_addition_past_the_room_is_refused(key, case):
    layout, rows = case
    declared = {
        "bits": layout.value_bits,
        "addends": layout.addends,
        "signed": layout.signed,
        "packed": layout.packed,
    }
    rows = rows[:3]
    encrypted = [encrypt_vector(key, row, **declared) for row in rows]
    total = add_vectors(encrypted)
    payload = encode_vector(total)
    came = parse_vector(
        payload,
        "left",
        public_key=key.public_key,
        layout=layout,
        count=len(rows[0]),
        added=len(rows),
    )
    expected = list(map(sum, zip(*rows, strict=True)))
    assert decrypt_vector(key, came) == expected
    if expected and len(rows) * len(total.ciphertexts) <= layout.addends:
        assert decrypt_total(key, sum_vector(total)) == sum(expected)
    full = EncryptedVector(key.public_key, layout, total.count, total.ciphertexts, layout.addends)
    with pytest.raises(InputRejected, match="room for the sum"):
        add_vectors([full, encrypted[0]])


@given(st.integers(1, 200), st.integers(0, 200_000))
def test_the_addends_told_for_a_sum_are_enough(bits, count):
    addends = addends_to_sum(2048, bits, count)
    layout = SlotLayout(key_bits=2048, value_bits=bits, addends=addends)
    assert layout.plaintexts_of(count) <= addends


@given(st.integers(-(10**20), 10**20), st.integers(0, 18), st.integers(0, 18))
def test_decimals_are_taken_exactly_or_refused(digits, places, decimals):
    layout = SlotLayout(key_bits=2048, value_bits=200, signed=True, decimals=decimals)
    value = Decimal((digits < 0, tuple(map(int, str(abs(digits)))), -places))
    if digits * 10**decimals % 10**places:
        with pytest.raises(InputRejected, match="more than"):
            layout.units([value])
    else:
        (units,) = layout.units([value])
        assert layout.in_decimals(units) == value


@given(st.data())
@settings(max_examples=100)
def test_an_altered_vector_is_refused_or_has_other_ciphertexts_only(key, data):
    layout = SlotLayout(key_bits=2048, value_bits=32)
    ciphertexts = tuple(key.public_key.add_all([]) + i for i in range(2))
    vector = EncryptedVector(key.public_key, layout, 70, ciphertexts)
    payload = bytearray(encode_vector(vector))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    expected = {"public_key": key.public_key, "layout": layout, "count": 70}
    if at < HEADER_BYTES:
        with pytest.raises(ProtocolViolation, match="left sent a vector of another"):
            parse_vector(bytes(payload), "left", **expected)
        return
    try:
        came = parse_vector(bytes(payload), "left", **expected)
    except ProtocolViolation:
        return
    assert encode_vector(came) == bytes(payload)


@given(st.binary(max_size=2000))
def test_bytes_that_are_no_vector_are_refused(key, payload):
    layout = SlotLayout(key_bits=2048, value_bits=32)
    with pytest.raises(ProtocolViolation, match="left sent"):
        parse_vector(payload, "left", public_key=key.public_key, layout=layout, count=70)
