"""Paillier's additively homomorphic encryption, compatible with `phe` in keys and ciphertexts.

A plaintext is a signed integer of absolute value at most n // 3 - 1 (the bound of phe).
Multiplying ciphertexts modulo n^2 adds plaintexts. Source: Paillier, EUROCRYPT 1999, with g = n+1.

`pack` puts several bounded integers in one plaintext, so that one ciphertext adds them all at once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from secrets import token_bytes
from typing import NewType, TypeAlias

import gmpy2
from gmpy2 import mpz
from phe import paillier as phe_paillier

from privacy.errors import InputRejected, ProtocolViolation

RandomBytes: TypeAlias = Callable[[int], bytes]
# A ciphertext under a key known from the context; a gmpy2 integer in all but name.
Ciphertext = NewType("Ciphertext", int)

KEY_BITS = (2048, 3072)
# Bits of the random exponent, by key size. Two times the security level (112 and 128 bits) resists
# Pollard's kangaroo; four times is as cheap as the table allows.
SHORT_EXPONENT_BITS = {2048: 448, 3072: 512}
# A prime factor below this bound would be found by anyone at once.
SMALL_FACTOR_BOUND = 2**16
_SMALL_PRIMES = gmpy2.primorial(SMALL_FACTOR_BOUND)
# Miller-Rabin rounds: an error below 4^-40 on top of GMP's Baillie-PSW test.
PRIMALITY_ROUNDS = 40
# From so many encryptions on the fixed-base table, which costs nine plain ones, pays for itself.
TABLE_PAYS_FROM = 10


def _power(base: int, exponent: int, modulus: int) -> mpz:
    """Compute base^exponent mod modulus without the interpreter lock."""
    with gmpy2.context(gmpy2.get_context(), allow_release_gil=True):
        return gmpy2.powmod(base, exponent, modulus)


def _secret_power(base: int, exponent: int, modulus: int) -> mpz:
    """Compute base^exponent mod an odd modulus in time that does not depend on the exponent."""
    with gmpy2.context(gmpy2.get_context(), allow_release_gil=True):
        return gmpy2.powmod_sec(base, exponent, modulus)


def _random_unit(n: int, random_bytes: RandomBytes) -> mpz:
    """Draw uniformly from the integers below `n` that are coprime to it."""
    bits = n.bit_length()
    while True:
        drawn = mpz(int.from_bytes(random_bytes((bits + 7) // 8), "big") & ((1 << bits) - 1))
        if 0 < drawn < n and gmpy2.gcd(drawn, n) == 1:
            return drawn


@dataclass(frozen=True)
class PublicKey:
    """A modulus n and what it can do. `parse` checks a peer's modulus, `PublicKey(n)` does not."""

    n: int

    def __repr__(self) -> str:
        return f"PublicKey({self.bits} bits)"

    @classmethod
    def parse(cls, n_hex: str) -> "PublicKey":
        """Read a modulus a peer chose, in lower-case hexadecimal.

        Raises ProtocolViolation unless it has exactly 2048 or 3072 bits, is odd, composite, no
        perfect power and free of factors below 2**16. That it is a product of two large primes
        cannot be seen; its owner alone suffers if it is not.
        """
        digits = {bits // 4 for bits in KEY_BITS}
        if len(n_hex) not in digits or not set(n_hex) <= set("0123456789abcdef"):
            raise ProtocolViolation("public key: 512 or 768 lower-case hexadecimal digits expected")
        n = int(n_hex, 16)
        if n.bit_length() not in KEY_BITS:
            raise ProtocolViolation(
                f"public key: exactly 2048 or 3072 bits expected, got {n.bit_length()}"
            )
        if gmpy2.gcd(n, _SMALL_PRIMES) != 1:
            raise ProtocolViolation("public key: the modulus has a factor below 65536")
        if gmpy2.is_power(n) or gmpy2.is_prime(n):
            raise ProtocolViolation("public key: the modulus is a prime or a perfect power")
        return cls(n)

    def to_hex(self) -> str:
        """Write the modulus so that `parse` reads it."""
        return f"{self.n:x}"

    @property
    def bits(self) -> int:
        """The size of the modulus."""
        return self.n.bit_length()

    @property
    def ciphertext_bytes(self) -> int:
        """The fixed width of an encoded ciphertext: 512 bytes for 2048 bits."""
        return (2 * self.bits + 7) // 8

    @property
    def max_value(self) -> int:
        """The greatest absolute value of a plaintext."""
        return self.n // 3 - 1

    @cached_property
    def _n(self) -> mpz:
        return mpz(self.n)

    @cached_property
    def _n_squared(self) -> mpz:
        return mpz(self.n) ** 2

    def _with_mask(self, value: int, mask: mpz) -> Ciphertext:
        """Combine (n+1)^value with the random n-th power `mask`."""
        if abs(value) > self.max_value:
            raise InputRejected("a plaintext is out of the range of the key")
        return Ciphertext((self._n * value + 1) * mask % self._n_squared)

    def encrypt_plain(self, value: int, random_bytes: RandomBytes = token_bytes) -> Ciphertext:
        """Encrypt with a uniformly random unit to the power n, as Paillier has it; 9 ms.

        Raises InputRejected if `value` is out of range.
        """
        mask = _power(_random_unit(self.n, random_bytes), self._n, self._n_squared)
        return self._with_mask(value, mask)

    def encrypt_all(
        self, values: Sequence[int], random_bytes: RandomBytes = token_bytes
    ) -> list[Ciphertext]:
        """Encrypt many values in order, through an `Encryptor` where its table pays."""
        if len(values) < TABLE_PAYS_FROM:
            return [self.encrypt_plain(value, random_bytes) for value in values]
        encryptor = Encryptor(self, random_bytes)
        return [encryptor.encrypt(value) for value in values]

    def add(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        """Return an encryption of the sum of both plaintexts."""
        return Ciphertext(a * b % self._n_squared)

    def add_all(self, ciphertexts: Iterable[Ciphertext]) -> Ciphertext:
        """Return an encryption of the sum of all plaintexts, of 0 for none (not a random one)."""
        product = mpz(1)
        for ciphertext in ciphertexts:
            product = product * ciphertext % self._n_squared
        return Ciphertext(product)

    def rerandomise(
        self, ciphertext: Ciphertext, random_bytes: RandomBytes = token_bytes
    ) -> Ciphertext:
        """Return a ciphertext of the same plaintext that cannot be traced to its summands.

        The randomness is plain, not short: the owner of the key knows the factors, may have chosen
        them so that discrete logarithms are easy, and could tell a short exponent from others.
        """
        return self.add(ciphertext, self.encrypt_plain(0, random_bytes))

    def encode(self, ciphertext: Ciphertext) -> bytes:
        """Write a ciphertext as a big-endian integer of `ciphertext_bytes`."""
        return int(ciphertext).to_bytes(self.ciphertext_bytes, "big")

    def parse_ciphertext(self, encoded: bytes, sender: str) -> Ciphertext:
        """Read what `encode` wrote; ProtocolViolation unless it is a unit modulo n^2."""
        if len(encoded) != self.ciphertext_bytes:
            raise ProtocolViolation(
                f"{sender} sent a ciphertext of {len(encoded)} bytes, "
                f"{self.ciphertext_bytes} expected"
            )
        value = mpz(int.from_bytes(encoded, "big"))
        if not 0 < value < self._n_squared or gmpy2.gcd(value, self._n) != 1:
            raise ProtocolViolation(f"{sender} sent a number that is no ciphertext of this key")
        return Ciphertext(value)

    def to_phe(self) -> phe_paillier.PaillierPublicKey:
        """Return the same key for phe."""
        return phe_paillier.PaillierPublicKey(self.n)

    def ciphertext_to_phe(self, ciphertext: Ciphertext) -> phe_paillier.EncryptedNumber:
        """Return the same ciphertext for phe, as an integer (exponent 0)."""
        return phe_paillier.EncryptedNumber(self.to_phe(), int(ciphertext), exponent=0)

    @classmethod
    def from_phe(cls, key: phe_paillier.PaillierPublicKey) -> "PublicKey":
        """Take over a key of phe."""
        return cls(int(key.n))

    def ciphertext_from_phe(self, number: phe_paillier.EncryptedNumber) -> Ciphertext:
        """Take over an encrypted integer of phe; InputRejected for another key or a fraction."""
        if int(number.public_key.n) != self.n:
            raise InputRejected("the encrypted number belongs to another public key")
        if number.exponent != 0:
            raise InputRejected("the encrypted number is not an integer: its exponent is not 0")
        return Ciphertext(mpz(number.ciphertext()))


class Encryptor:
    """Encrypts many values under one key, 0.3 ms each, with a table of 7 MB built in 0.1 s.

    Instead of r^n for a random r it takes h_s^a, where h = -y^2 mod n for a random unit y,
    h_s = h^n mod n^2 and a is a random exponent of 448 bits (512 for a key of 3072); the powers of
    h_s are looked up byte by byte of a. Source: Damgård, Jurik, Nielsen, International Journal of
    Information Security 9 (2010), section 4.2; the exponent shorter than theirs rests on the
    assumption that short exponents are as hard to find as long ones. `random_bytes` must be
    of cryptographic quality.
    """

    def __init__(self, public_key: PublicKey, random_bytes: RandomBytes = token_bytes) -> None:
        self.public_key = public_key
        self._random_bytes = random_bytes
        default_bits = SHORT_EXPONENT_BITS[KEY_BITS[-1]]
        self._exponent_bytes = SHORT_EXPONENT_BITS.get(public_key.bits, default_bits) // 8
        y = _random_unit(public_key.n, random_bytes)
        h = -y * y % public_key._n
        self._table = self._build_table(_power(h, public_key._n, public_key._n_squared))

    def _build_table(self, base: mpz) -> list[list[mpz]]:
        """Return rows of 256 powers: row i holds base^(b * 256^i) at b."""
        n_squared = self.public_key._n_squared
        table = []
        for _ in range(self._exponent_bytes):
            row = [mpz(1)]
            for _ in range(256):
                row.append(row[-1] * base % n_squared)
            base = row.pop()
            table.append(row)
        return table

    def encrypt(self, value: int) -> Ciphertext:
        """Encrypt `value`; InputRejected if it is out of the range of the key."""
        n_squared = self.public_key._n_squared
        mask = mpz(1)
        for row, byte in zip(self._table, self._random_bytes(self._exponent_bytes), strict=True):
            mask = mask * row[byte] % n_squared
        return self.public_key._with_mask(value, mask)


@dataclass(frozen=True)
class PrivateKey:
    """The primes of a key. Both stay out of `repr`, so that no log or traceback shows them."""

    public_key: PublicKey
    p: int = field(repr=False)
    q: int = field(repr=False)

    def __post_init__(self) -> None:
        if self.p * self.q != self.public_key.n or self.p == self.q:
            raise InputRejected("the two primes do not belong to the public key")

    @cached_property
    def _crt(self) -> tuple[mpz, mpz, mpz, mpz, mpz]:
        """p, q, the inverses of L((n+1)^(prime-1)) modulo each prime, and that of p modulo q."""
        p, q = mpz(self.p), mpz(self.q)
        # L((n+1)^(p-1) mod p^2) = (p-1) q mod p = -q mod p; likewise for q.
        return p, q, gmpy2.invert(-q, p), gmpy2.invert(-p, q), gmpy2.invert(p, q)

    def decrypt(self, ciphertext: Ciphertext) -> int:
        """Return the signed plaintext; 4 ms. Source: Paillier 1999, section 7 (by remainders).

        Raises ProtocolViolation if it is out of the range in which sums are certain.
        """
        p, q, at_p, at_q, p_inverse = self._crt
        modulo_p = (_secret_power(ciphertext % p**2, p - 1, p**2) - 1) // p * at_p % p
        modulo_q = (_secret_power(ciphertext % q**2, q - 1, q**2) - 1) // q * at_q % q
        plaintext = int(modulo_p + (modulo_q - modulo_p) * p_inverse % q * p)
        if plaintext > self.public_key.n // 2:
            plaintext -= self.public_key.n
        if abs(plaintext) > self.public_key.max_value:
            raise ProtocolViolation("a ciphertext decrypts to a number out of the agreed range")
        return plaintext

    def to_phe(self) -> phe_paillier.PaillierPrivateKey:
        """Return the same key for phe."""
        return phe_paillier.PaillierPrivateKey(self.public_key.to_phe(), self.p, self.q)

    @classmethod
    def from_phe(cls, key: phe_paillier.PaillierPrivateKey) -> "PrivateKey":
        """Take over a key of phe."""
        return cls(PublicKey.from_phe(key.public_key), int(key.p), int(key.q))


def generate_keypair(bits: int = 2048, random_bytes: RandomBytes = token_bytes) -> PrivateKey:
    """Make a key of exactly `bits` (2048 or 3072) bits; 0.3 s for 2048.

    Both primes are 3 modulo 4 and p - 1 and q - 1 share no factor but 2, as Damgård, Jurik and
    Nielsen (2010, section 4.2) ask for the short exponents of `Encryptor`.
    """
    if bits not in KEY_BITS:
        raise InputRejected(f"a key has 2048 or 3072 bits, not {bits}")
    while True:
        p, q = (_random_prime(bits // 2, random_bytes) for _ in range(2))
        # Primes this far apart resist Fermat's factoring. FIPS 186-5, appendix A.1.3.
        if abs(p - q) >> (bits // 2 - 100) and gmpy2.gcd(p - 1, q - 1) == 2:
            return PrivateKey(PublicKey(p * q), p, q)


def _random_prime(bits: int, random_bytes: RandomBytes) -> int:
    """Draw a prime that is 3 modulo 4 and has its two top bits set, so that products fill up."""
    forced = (0b11 << (bits - 2)) | 0b11
    while True:
        candidate = mpz(int.from_bytes(random_bytes(bits // 8), "big") | forced)
        if gmpy2.gcd(candidate, _SMALL_PRIMES) == 1 and gmpy2.is_prime(candidate, PRIMALITY_ROUNDS):
            return int(candidate)


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
