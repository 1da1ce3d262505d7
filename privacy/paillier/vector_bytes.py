"""How an encrypted vector travels: 32 bytes that say what it is, then its ciphertexts.

    16  the first bytes of SHA-256 of the modulus in hexadecimal
     2  bits of an element          4  addends there is room for
     1  bit 0: signed, bit 1: packed          1  decimals
     4  number of elements          4  number of vectors it is the sum of
     ciphertexts of fixed width, one after the other

All integers are big-endian. The receiver knows from the order what must come; the header is there
so that a difference is named instead of decrypted to nonsense.
"""

import struct
from hashlib import sha256

import gmpy2
from gmpy2 import mpz

from privacy.errors import InputRejected, ProtocolViolation
from privacy.paillier.keys import Ciphertext, PublicKey
from privacy.paillier.packing import SlotLayout
from privacy.paillier.vectors import EncryptedVector

_HEADER = struct.Struct(">16sHIBBII")
# Of elements, and of addends: what four bytes hold.
MAX_COUNT = 2**32 - 1


def vector_size_bytes(public_key: PublicKey, layout: SlotLayout, count: int) -> int:
    """The exact size of an encoded vector of `count` elements."""
    return _HEADER.size + layout.plaintexts_of(count) * public_key.ciphertext_bytes


def encode_vector(vector: EncryptedVector) -> bytes:
    """Write a vector; InputRejected if one of its counts needs more than four bytes."""
    header = _header(vector.public_key, vector.layout, vector.count, vector.added)
    return header + b"".join(map(vector.public_key.encode, vector.ciphertexts))


def _header(public_key: PublicKey, layout: SlotLayout, count: int, added: int) -> bytes:
    if max(count, added, layout.addends) > MAX_COUNT:
        raise InputRejected(f"a vector on its way has at most {MAX_COUNT} elements and addends")
    return _HEADER.pack(
        sha256(public_key.to_hex().encode()).digest()[:16],
        layout.value_bits,
        layout.addends,
        layout.signed + 2 * layout.packed,
        layout.decimals,
        count,
        added,
    )


def parse_vector(
    payload: bytes,
    sender: str,
    *,
    public_key: PublicKey,
    layout: SlotLayout,
    count: int,
    added: int = 1,
) -> EncryptedVector:
    """Read the vector that `sender` must have sent: of this key, layout, length and many addends.

    Raises ProtocolViolation unless it is exactly that and every ciphertext is a unit modulo n^2.
    """
    expected = vector_size_bytes(public_key, layout, count)
    if len(payload) != expected:
        raise ProtocolViolation(
            f"{sender} sent a vector of {len(payload)} bytes, {expected} expected"
        )
    header = _header(public_key, layout, count, added)
    if payload[: len(header)] != header:
        raise ProtocolViolation(
            f"{sender} sent a vector of another {_difference(payload, header)} than expected"
        )
    width = public_key.ciphertext_bytes
    encoded = [payload[at : at + width] for at in range(len(header), len(payload), width)]
    ciphertexts = parse_ciphertexts(public_key, encoded, sender)
    return EncryptedVector(public_key, layout, count, tuple(ciphertexts), added)


def _difference(payload: bytes, header: bytes) -> str:
    names = ("key", "size of element", "room", "layout", "number of decimals", "length", "sum")
    fields = zip(names, _HEADER.unpack_from(payload), _HEADER.unpack(header), strict=True)
    return next(name for name, came, wanted in fields if came != wanted)


def parse_ciphertexts(public_key: PublicKey, encoded: list[bytes], sender: str) -> list[Ciphertext]:
    """Read many ciphertexts as `PublicKey.parse_ciphertext` does each, three times as fast.

    All are coprime to n if and only if their product is.
    """
    n, n_squared = mpz(public_key.n), mpz(public_key.n) ** 2
    product, ciphertexts = mpz(1), []
    for one in encoded:
        if len(one) != public_key.ciphertext_bytes:
            break
        ciphertext = mpz(int.from_bytes(one, "big"))
        if not 0 < ciphertext < n_squared:
            break
        product = product * ciphertext % n
        ciphertexts.append(Ciphertext(ciphertext))
    if len(ciphertexts) == len(encoded) and gmpy2.gcd(product, n) == 1:
        return ciphertexts
    return [public_key.parse_ciphertext(one, sender) for one in encoded]
