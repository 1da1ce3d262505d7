"""Keys of Paillier's cryptosystem, their values one by one, and the same for `phe`.

A plaintext is a signed integer of absolute value at most n // 3 - 1 (the bound of phe).
Multiplying ciphertexts modulo n^2 adds plaintexts. Source: Paillier, EUROCRYPT 1999, with g = n+1.
Ciphertexts are secret against whoever lacks the primes if random n-th residues modulo n^2 cannot be
told from other units (decisional composite residuosity, DCR); they are malleable on purpose.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hmac import compare_digest
from secrets import token_bytes
from typing import NewType

import gmpy2
from gmpy2 import mpz
from phe import paillier as phe_paillier

from privacy.errors import InputRejected, ProtocolViolation
from privacy.paillier.fixed_base import (
    FixedBase,
    PowerTable,
    RandomBytes,
    exponent_bytes,
    power,
    random_unit,
)

# A ciphertext under a key known from the context; a gmpy2 integer in all but name.
Ciphertext = NewType("Ciphertext", int)

KEY_BITS = (2048, 3072)
# A prime factor below this bound would be found by anyone at once.
SMALL_FACTOR_BOUND = 2**16
_SMALL_PRIMES = gmpy2.primorial(SMALL_FACTOR_BOUND)
# Miller-Rabin rounds: an error below 4^-40 on top of GMP's Baillie-PSW test.
PRIMALITY_ROUNDS = 40
# From so many encryptions on a table takes less time than plain randomness.
TABLE_PAYS_FROM = 4


def _secret_power(base: int, exponent: int, modulus: int) -> mpz:
    """Compute base^exponent mod an odd modulus in time that does not depend on the exponent."""
    with gmpy2.context(gmpy2.get_context(), allow_release_gil=True):
        return gmpy2.powmod_sec(base, exponent, modulus)


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

    def encrypt_plain(self, value: int, random_bytes: RandomBytes = token_bytes) -> Ciphertext:
        """Encrypt with a uniformly random unit to the power n, as Paillier has it; 9 ms.

        Secret under DCR alone, for any modulus. Raises InputRejected if `value` is out of range.
        """
        self.verify_plaintext(value)
        mask = power(random_unit(self.n, random_bytes), self._n, self._n_squared)
        return Ciphertext((self._n * value + 1) * mask % self._n_squared)

    def encrypt_all(
        self, values: Sequence[int], random_bytes: RandomBytes = token_bytes
    ) -> list[Ciphertext]:
        """Encrypt many values in order in the calling thread, by a table where that pays.

        Rests on what `privacy.paillier.fixed_base` assumes, as soon as there are 4 values.
        """
        for position, value in enumerate(values):
            self.verify_plaintext(value, position)
        if len(values) < TABLE_PAYS_FROM:
            return [self.encrypt_plain(value, random_bytes) for value in values]
        encryptor = Encryptor(self, random_bytes, count=len(values))
        return [encryptor.encrypt(value) for value in values]

    def verify_plaintext(self, value: int, position: int = 0) -> None:
        """Raise InputRejected unless `value` can be encrypted; `position` says which it was."""
        if abs(value) > self.max_value:
            raise InputRejected(f"plaintext {position} is out of the range of the key")

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
    """Encrypts values one by one under one key, 0.15 to 0.2 ms each, by a table of its own.

    `count` is about how many there will be; the table is as large as that is worth. Rests on what
    `privacy.paillier.fixed_base` assumes. `random_bytes` must be of cryptographic quality.
    """

    def __init__(
        self, public_key: PublicKey, random_bytes: RandomBytes = token_bytes, *, count: int = 1000
    ) -> None:
        self.public_key = public_key
        self._random_bytes = random_bytes
        self._exponent_bytes = exponent_bytes(public_key.n)
        self._table = PowerTable(FixedBase.draw(public_key.n, random_bytes, count=count))

    def encrypt(self, value: int) -> Ciphertext:
        """Encrypt `value`; InputRejected if it is out of the range of the key."""
        self.public_key.verify_plaintext(value)
        return Ciphertext(self._table.encrypt(value, self._random_bytes(self._exponent_bytes)))


class PrivateKey:
    """The two primes of a key, which stay out of `repr`, logs and tracebacks.

    How far secrets are erased. `wipe` overwrites the one lasting copy of the primes, here, and the
    key can do nothing afterwards. Everything else is out of Python's hands: each operation works on
    integers, which cannot be overwritten; they are given up when it ends, but neither Python nor
    GMP clears memory it gives back. The same holds for the integers this key was made from, for its
    pickled form on the way to a worker (and the worker's copy, gone when the piece is done), for
    plaintexts, and for random exponents. So primes, plaintexts and exponents can be in a core dump
    or on a swap device taken after `wipe`, until their memory is used again: switch both off where
    that matters. Nothing here writes a prime to a disk.
    """

    __slots__ = ("_primes", "public_key")

    def __init__(self, public_key: PublicKey, p: int, q: int) -> None:
        if p <= 1 or q <= 1 or p * q != public_key.n or p == q:
            raise InputRejected("the two primes do not belong to the public key")
        self.public_key = public_key
        width = (public_key.bits + 7) // 8
        self._primes = bytearray(int(p).to_bytes(width, "big") + int(q).to_bytes(width, "big"))

    def __repr__(self) -> str:
        return f"PrivateKey({self.public_key.bits} bits)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrivateKey):
            return NotImplemented
        same = compare_digest(self._primes, other._primes)
        return self.public_key == other.public_key and same

    def __hash__(self) -> int:
        return hash(self.public_key)

    def __reduce__(self) -> "tuple[type[PrivateKey], tuple[PublicKey, int, int]]":
        return PrivateKey, (self.public_key, self.p, self.q)

    @property
    def p(self) -> int:
        """One prime; InputRejected once the key was wiped."""
        return self._prime(0)

    @property
    def q(self) -> int:
        """The other prime; InputRejected once the key was wiped."""
        return self._prime(len(self._primes) // 2)

    def _prime(self, start: int) -> int:
        prime = int.from_bytes(self._primes[start : start + len(self._primes) // 2], "big")
        if not prime:
            raise InputRejected("this private key was wiped")
        return prime

    def wipe(self) -> None:
        """Overwrite the primes with zeros; see above for what that does not reach."""
        self._primes[:] = bytes(len(self._primes))

    def decrypt(self, ciphertext: Ciphertext) -> int:
        """Return the signed plaintext; 4 ms. Source: Paillier 1999, section 7 (by remainders).

        Raises ProtocolViolation if it is out of the range in which sums are certain.
        """
        return self.decrypt_all([ciphertext])[0]

    def decrypt_all(self, ciphertexts: Iterable[Ciphertext]) -> list[int]:
        """Return the signed plaintexts of many ciphertexts in order, in the calling thread."""
        p, q = mpz(self.p), mpz(self.q)
        p_squared, q_squared = p**2, q**2
        # L((n+1)^(p-1) mod p^2) = (p-1) q mod p = -q mod p; likewise for q.
        at_p, at_q, p_inverse = gmpy2.invert(-q, p), gmpy2.invert(-p, q), gmpy2.invert(p, q)
        n, max_value = self.public_key.n, self.public_key.max_value
        plaintexts = []
        for ciphertext in ciphertexts:
            left = _secret_power(ciphertext % p_squared, p - 1, p_squared)
            right = _secret_power(ciphertext % q_squared, q - 1, q_squared)
            modulo_p = (left - 1) // p * at_p % p
            modulo_q = (right - 1) // q * at_q % q
            plaintext = int(modulo_p + (modulo_q - modulo_p) * p_inverse % q * p)
            if plaintext > n // 2:
                plaintext -= n
            if abs(plaintext) > max_value:
                raise ProtocolViolation("a ciphertext decrypts to a number out of the agreed range")
            plaintexts.append(plaintext)
        return plaintexts

    def encrypt_plain(self, value: int, random_bytes: RandomBytes = token_bytes) -> Ciphertext:
        """Encrypt as `PublicKey.encrypt_plain` does, same ciphertexts included, in 4 ms, not 9.

        r^n is computed modulo p^2 and q^2. Of r only its remainders modulo p and q count, and n
        can be taken modulo the order of the group. Secret under DCR alone.
        """
        self.public_key.verify_plaintext(value)
        n, p, q = self.public_key._n, mpz(self.p), mpz(self.q)
        p_squared, q_squared = p**2, q**2
        unit = random_unit(n, random_bytes)
        # r^n = (r^q)^p: the power q modulo p is cheap, and that to p lifts it to p^2.
        left = _secret_power(_secret_power(unit % p, q % (p - 1), p), p, p_squared)
        right = _secret_power(_secret_power(unit % q, p % (q - 1), q), q, q_squared)
        mask = left + (right - left) * gmpy2.invert(p_squared, q_squared) % q_squared * p_squared
        return Ciphertext((n * value + 1) * mask % self.public_key._n_squared)

    def to_phe(self) -> phe_paillier.PaillierPrivateKey:
        """Return the same key for phe; `wipe` does not reach it."""
        return phe_paillier.PaillierPrivateKey(self.public_key.to_phe(), self.p, self.q)

    @classmethod
    def from_phe(cls, key: phe_paillier.PaillierPrivateKey) -> "PrivateKey":
        """Take over a key of phe."""
        return cls(PublicKey.from_phe(key.public_key), int(key.p), int(key.q))


def generate(bits: int = 2048, random_bytes: RandomBytes = token_bytes) -> PrivateKey:
    """Make a key of exactly `bits` (2048 or 3072) bits; 0.3 s for 2048.

    Both primes are 3 modulo 4 and p - 1 and q - 1 share no factor but 2, as Damgård, Jurik and
    Nielsen (2010, section 4.2) ask for what `privacy.paillier.fixed_base` does.
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
