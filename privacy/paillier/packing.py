"""Several bounded integers in one plaintext, so that one ciphertext adds them all at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

from privacy.errors import InputRejected, ProtocolViolation

# No result has more digits after the point.
MAX_DECIMALS = 18
# Beyond these a number could not be in any slot, and is not even multiplied out.
_MAX_DECIMAL_DIGITS = 1000


def value_bits(slot_bits: int, addends: int) -> int:
    """Bits a value may use in a slot when `addends` packed numbers will be added."""
    bits = slot_bits - (addends - 1).bit_length()
    if addends < 1 or bits < 1:
        raise InputRejected(f"a slot of {slot_bits} bits cannot hold {addends} addends")
    return bits


def pack(values: Sequence[int], slot_bits: int, *, addends: int = 1) -> int:
    """Put each value, from 0 to below 2**value_bits(slot_bits, addends), in a slot of its own.

    Slot 0 is the lowest. The top bits of a slot are guard bits: with `addends` packed numbers
    added, no slot flows over into the next, because every value was checked to leave them free.
    Raises InputRejected, naming the slot and not the value, if one is out of these bounds. Shift
    signed values by an offset first.
    """
    limit = 1 << value_bits(slot_bits, addends)
    packed = 0
    for slot, value in enumerate(values):
        if not 0 <= value < limit:
            raise InputRejected(
                f"slot {slot}: a value from 0 to below 2**{limit.bit_length() - 1} expected"
            )
        packed |= value << (slot * slot_bits)
    return packed


def unpack(packed: int, slot_bits: int, slots: int) -> tuple[int, ...]:
    """Return the values of all `slots`; InputRejected if the number does not fit in them."""
    if slot_bits < 1 or slots < 0 or packed < 0 or packed >> (slot_bits * slots):
        raise InputRejected(f"a packed number of {slots} slots of {slot_bits} bits expected")
    mask = (1 << slot_bits) - 1
    return tuple(packed >> (slot * slot_bits) & mask for slot in range(slots))


@dataclass(frozen=True, kw_only=True)
class SlotLayout:
    """How the elements of a vector lie in plaintexts, and how many vectors may be added.

    An element is an integer of `value_bits` bits: from 0 to 2^b - 1, or from -2^(b-1) to
    2^(b-1) - 1 if `signed`. With `decimals` it counts units of 10^-decimals. Up to `addends`
    plaintexts may be added. Packed, as many elements as fit share a plaintext, a signed one lifted
    by 2^(b-1) so that a slot never holds less than 0. Not packed, an element is a plaintext as it
    is, which phe can decrypt.

    No sum ever leaves its slot. Let A be `addends`, S = b + ceil(log2 A) the bits of a slot, k the
    number of slots and B the bits of the modulus n.

    1. What is put in a slot is from 0 to 2^b - 1: elements out of bounds are refused first.
    2. A sum of at most A of those is at most A (2^b - 1) < 2^(b + ceil(log2 A)) = 2^S, so no slot
       carries into the next, and the whole plaintext is below 2^(k S).
    3. k is chosen so that k S <= B - 3. As n >= 2^(B-1), the greatest plaintext n // 3 - 1 is at
       least 2^(B-3), so that no plaintext wraps around either.
    4. That at most A are added is counted: a vector knows how many it is the sum of, and an
       addition that would be one too many is refused before it is done.

    Not packed, a sum lies between -A 2^(b-1) and A (2^b - 1), in the same bounds. The proof is
    about honest encryptors: whoever encrypts something else chooses other addends for its
    neighbours' slots too, which it could do anyway.

    Raises InputRejected if not even one slot fits.
    """

    key_bits: int
    value_bits: int
    addends: int = 1
    signed: bool = False
    decimals: int = 0
    packed: bool = True

    def __post_init__(self) -> None:
        if self.value_bits < 1 or self.addends < 1:
            raise InputRejected("a slot layout needs at least one bit and one addend")
        if self.slot_bits > self.key_bits - 3:
            raise InputRejected(
                f"{self.value_bits} bits with {self.addends} addends do not fit a plaintext "
                f"of a {self.key_bits}-bit key"
            )
        if not 0 <= self.decimals <= MAX_DECIMALS:
            raise InputRejected(f"0 to {MAX_DECIMALS} decimals expected, got {self.decimals}")

    @property
    def slot_bits(self) -> int:
        """Bits of one slot, guard bits included."""
        return self.value_bits + (self.addends - 1).bit_length()

    @property
    def slots(self) -> int:
        """Elements of one plaintext."""
        return (self.key_bits - 3) // self.slot_bits if self.packed else 1

    @property
    def minimum(self) -> int:
        """The least element, in units."""
        return -(1 << (self.value_bits - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """The greatest element, in units."""
        return self.minimum + (1 << self.value_bits) - 1

    def plaintexts_of(self, count: int) -> int:
        """How many plaintexts `count` elements take."""
        return -(-count // self.slots)

    @property
    def _offset(self) -> int:
        """What is added to an element in its slot."""
        return -self.minimum if self.packed else 0

    def units(self, values: Sequence[int | Decimal]) -> list[int]:
        """Return `values` as whole numbers of 10^-decimals.

        Raises InputRejected, naming the position, for what is no number, has more decimals or is
        out of the bounds of an element.
        """
        units = [self._units_of(value, at) for at, value in enumerate(values)]
        if units and not (self.minimum <= min(units) and max(units) <= self.maximum):
            at = next(i for i, one in enumerate(units) if not self.minimum <= one <= self.maximum)
            sign = "signed " if self.signed else ""
            raise InputRejected(
                f"value {at} is out of bounds: {sign}{self.value_bits} bits expected"
                + (f" in units of 10^-{self.decimals}" if self.decimals else "")
            )
        return units

    def _units_of(self, value: int | Decimal, at: int) -> int:
        scale: int = 10**self.decimals
        if type(value) is int:
            return value * scale
        if not isinstance(value, Decimal) or not value.is_finite():
            raise InputRejected(f"value {at} is neither an integer nor a finite decimal")
        if abs(value.adjusted()) > _MAX_DECIMAL_DIGITS and value:
            raise InputRejected(f"value {at} is out of bounds")
        numerator, denominator = value.as_integer_ratio()
        units, rest = divmod(numerator * scale, denominator)
        if rest:
            raise InputRejected(f"value {at} has more than {self.decimals} decimals")
        return units

    def in_decimals(self, units: int) -> Decimal:
        """Return a number of units as an exact decimal."""
        sign, digits, _ = Decimal(units).as_tuple()
        return Decimal((sign, digits, -self.decimals))

    def plaintexts(self, units: Sequence[int]) -> list[int]:
        """Put elements, which `units` has checked, in plaintexts; unused slots hold 0."""
        if not self.packed:
            return list(units)
        return [
            pack(
                [unit + self._offset for unit in units[start : start + self.slots]],
                self.slot_bits,
                addends=self.addends,
            )
            for start in range(0, len(units), self.slots)
        ]

    def sums(self, plaintexts: Sequence[int], *, count: int, added: int) -> list[int]:
        """Return the `count` elements of a vector that is the sum of `added` ones.

        Raises ProtocolViolation if one is out of the bounds that such a sum has.
        """
        least, most = added * self.minimum, added * self.maximum
        if not self.packed:
            sums = list(plaintexts)
        else:
            lifted = added * self._offset
            slots = chain.from_iterable(map(self._unpacked, plaintexts))
            sums = [slot - lifted for slot in slots]
            # What no element was put in holds nothing.
            if any(one != -lifted for one in sums[count:]):
                raise ProtocolViolation("a decrypted vector has more elements than it should")
            del sums[count:]
        if len(sums) != count or any(not least <= one <= most for one in sums):
            raise ProtocolViolation("a decrypted vector has an element out of the agreed range")
        return sums

    def total(self, plaintext: int, *, count: int, added: int) -> int:
        """Return the sum of all elements from the sum of all plaintexts of a vector.

        Raises ProtocolViolation if it is out of the bounds that such a sum has.
        """
        slots = self._unpacked(plaintext) if self.packed else (plaintext,)
        total = sum(slots) - count * added * self._offset
        if not count * added * self.minimum <= total <= count * added * self.maximum:
            raise ProtocolViolation("a decrypted total is out of the agreed range")
        return total

    def _unpacked(self, plaintext: int) -> tuple[int, ...]:
        try:
            return unpack(plaintext, self.slot_bits, self.slots)
        except InputRejected as err:
            raise ProtocolViolation("a decrypted plaintext does not fit in its slots") from err


def addends_to_sum(key_bits: int, value_bits: int, count: int) -> int:
    """The `addends` with which a packed vector of `count` elements is shortest and can be summed.

    Its plaintexts are added to one another, so there must be no more of them than addends, and the
    more addends a slot has room for, the fewer slots there are in one. To sum a vector that is
    itself the sum of several, take as many times more.
    """
    for guard_bits in range(count.bit_length() + 1):
        layout = SlotLayout(key_bits=key_bits, value_bits=value_bits, addends=1 << guard_bits)
        if layout.plaintexts_of(count) <= layout.addends:
            return max(1, layout.plaintexts_of(count))
    raise AssertionError("as many addends as elements always suffice")
