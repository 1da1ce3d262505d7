import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import InputRejected
from privacy.paillier import pack, unpack, value_bits


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
