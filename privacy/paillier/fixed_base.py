"""Random n-th powers modulo n^2 by table: one base, short exponents, many powers.

What is random in a ciphertext of Paillier is a factor r^n. Instead of drawing r anew, h_s^a is
taken: h = -y^2 mod n for a random unit y, h_s = h^n mod n^2, and a random exponent a of 448 bits
(512 for a key of 3072). Source: Damgård, Jurik, Nielsen, "A generalization of Paillier's public-key
system with applications to electronic voting", International Journal of Information Security 9
(2010), section 4.2, whose exponents have half as many bits as n; lengths of 448 and 512 bits are
those of Ma, Han, Lei, "Optimized Paillier's Cryptosystem with Fast Encryption and Decryption",
ACSAC 2021.

What this assumes. With exponents of half the modulus: that random n-th residues cannot be told
from other units (decisional composite residuosity, DCR), for a modulus whose primes are 3 modulo 4
and whose p - 1 and q - 1 share no factor but 2; `generate` makes such keys, others may not, and
nobody but the owner can tell. With our shorter exponents, besides: that h_s^a cannot be told from
a power with a long exponent. The best attack known on short exponents takes the square root of
their range (van Oorschot, Wiener, EUROCRYPT 1996): 2^224 steps here, twice the security level in
bits, which leaves room for what is learnt of an exponent from small factors of the group's order.
Whoever does not want to assume it encrypts with plain randomness, r^n.

h_s is no secret (in the paper it is part of the public key), and neither is the table. The exponent
is. The rows are read by its digits, so that whoever can watch the processor's cache while we
encrypt may learn it; such a neighbour could usually read our memory as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import gmpy2
from gmpy2 import mpz

RandomBytes: TypeAlias = Callable[[int], bytes]

# Bits of the random exponent, up to a size of key.
EXPONENT_BITS = {2048: 448, 3072: 512}
# A window of 10 bits makes a table of 28 MB (43 for 3072 bits) in 0.25 s. 12 bits would be a tenth
# faster and four times as large, in every worker.
MAX_WINDOW_BITS = 10
# A new entry of the table costs as much as so many look-ups. Measured.
ENTRY_COST = 1.8


def power(base: int, exponent: int, modulus: int) -> mpz:
    """Compute base^exponent mod modulus without the interpreter lock."""
    with gmpy2.context(gmpy2.get_context(), allow_release_gil=True):
        return gmpy2.powmod(base, exponent, modulus)


def random_unit(n: int, random_bytes: RandomBytes) -> mpz:
    """Draw uniformly from the integers below `n` that are coprime to it."""
    bits = n.bit_length()
    while True:
        drawn = mpz(int.from_bytes(random_bytes((bits + 7) // 8), "big") & ((1 << bits) - 1))
        if 0 < drawn < n and gmpy2.gcd(drawn, n) == 1:
            return drawn


def exponent_bytes(n: int) -> int:
    """The bytes of one random exponent for the modulus `n`."""
    default = EXPONENT_BITS[max(EXPONENT_BITS)]
    return EXPONENT_BITS.get(n.bit_length(), default) // 8


def window_bits_for(n: int, count: int) -> int:
    """Return the digits' size with which a table and `count` look-ups take the least time."""
    bits = 8 * exponent_bytes(n)
    return min(
        range(1, MAX_WINDOW_BITS + 1),
        key=lambda window: -(-bits // window) * (ENTRY_COST * 2**window + count),
    )


@dataclass(frozen=True)
class FixedBase:
    """A generator of n-th residues modulo n^2 and how its table is cut; small, and no secret.

    It goes to workers in place of its table, which each of them makes once (`table_of`).
    """

    n: int
    generator: int
    window_bits: int

    @classmethod
    def draw(cls, n: int, random_bytes: RandomBytes, *, count: int) -> "FixedBase":
        """Choose a generator, for about `count` powers in each process that makes its table."""
        modulus = mpz(n)
        y = random_unit(n, random_bytes)
        generator = power(-y * y % modulus, modulus, modulus**2)
        return cls(n, int(generator), window_bits_for(n, count))


class PowerTable:
    """Powers of a fixed base, each kept as (t, u) that stands for t * (1 + u n) modulo n^2.

    Products of such pairs need n^2 only for the t, which have half its size, so that two of them
    are multiplied before anything is reduced; the u just add up, and the plaintext with them,
    because (1 + n)^m = 1 + m n. That is 1.8 times as fast as powers modulo n^2 themselves.
    """

    def __init__(self, base: FixedBase) -> None:
        self._n = mpz(base.n)
        self._n_squared = self._n**2
        self._exponent_bytes = exponent_bytes(base.n)
        self._window_bits = base.window_bits
        self._rows: list[tuple[list[mpz], list[mpz]]] = []
        generator = mpz(base.generator)
        left = 8 * self._exponent_bytes
        while left > 0:
            digits = 1 << min(left, base.window_bits)
            row, generator = self._row(generator, digits)
            self._rows.append(row)
            left -= base.window_bits

    def _row(self, generator: mpz, digits: int) -> tuple[tuple[list[mpz], list[mpz]], mpz]:
        """Return the powers from 0 to digits - 1 of `generator`, and that to `digits`."""
        n = self._n
        first = generator % n
        inverse = gmpy2.invert(first, n)
        rest = generator // n * inverse % n
        ts, us = [mpz(1), first], [mpz(0), rest]
        t, u, inverse_of_t = first, rest, inverse
        for _ in range(digits - 1):
            # t * first = carry n + next = next * (1 + carry / next * n) modulo n^2.
            carry, t = gmpy2.f_divmod(t * first, n)
            inverse_of_t = inverse_of_t * inverse % n
            u = (u + rest + carry * inverse_of_t) % n
            ts.append(t)
            us.append(u)
        return (ts[:digits], us[:digits]), ts[digits] * (1 + us[digits] * n) % self._n_squared

    def encrypt(self, plaintext: int, exponent: bytes) -> mpz:
        """Return (n + 1)^plaintext * generator^exponent modulo n^2; `exponent` is little-endian."""
        n, n_squared = self._n, self._n_squared
        left, digit = int.from_bytes(exponent, "little"), (1 << self._window_bits) - 1
        product, total = mpz(1), mpz(plaintext)
        waiting: mpz | None = None
        for ts, us in self._rows:
            at = left & digit
            left >>= self._window_bits
            total += us[at]
            if waiting is None:
                waiting = ts[at]
            else:
                product = product * (waiting * ts[at]) % n_squared
                waiting = None
        if waiting is not None:
            product = product * waiting % n_squared
        return product * (1 + total % n * n) % n_squared


@lru_cache(maxsize=2)
def table_of(base: FixedBase) -> PowerTable:
    """Return the table of `base`, made at the first call in this process.

    Two are kept, as runs under two keys may take turns in one worker.
    """
    return PowerTable(base)
