"""Vectors of bounded numbers under encryption: many to a ciphertext, added, summed, sent.

    vector = encrypt_vector(public_key, values, bits=32, addends=3)
    total = add_vectors([vector, theirs, others])
    decrypt_vector(private_key, total)

The bounds of the elements and the number of vectors that may be added are declared first, and what
would go past them is refused before it is done; `SlotLayout` has the proof that nothing overflows.
Work goes through a `Workers` port; in a role, which tells its progress, the same pieces go through
`privacy.workers.spread`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from secrets import token_bytes

from phe import paillier as phe_paillier

from privacy.errors import InputRejected
from privacy.paillier.encryption import (
    Randomness,
    decrypt_piece,
    decryption_pieces,
    encrypt_piece,
    encryption_pieces,
)
from privacy.paillier.fixed_base import FixedBase, RandomBytes
from privacy.paillier.keys import Ciphertext, PrivateKey, PublicKey
from privacy.paillier.packing import SlotLayout
from privacy.workers import InThisThread, Workers


@dataclass(frozen=True)
class EncryptedVector:
    """`count` elements under encryption, the sum of `added` vectors of the same layout.

    Invariants: `layout` is for keys of this size, 1 <= added <= layout.addends, and there are
    exactly as many ciphertexts as `count` elements take. Raises InputRejected otherwise.
    """

    public_key: PublicKey
    layout: SlotLayout
    count: int
    ciphertexts: tuple[Ciphertext, ...] = field(repr=False)
    added: int = 1

    def __post_init__(self) -> None:
        if self.layout.key_bits != self.public_key.bits:
            raise InputRejected(
                f"a layout for {self.layout.key_bits} bits does not fit a key of "
                f"{self.public_key.bits}"
            )
        if not 1 <= self.added <= self.layout.addends:
            raise InputRejected(
                f"a vector that is the sum of 1 to {self.layout.addends} expected, "
                f"not of {self.added}"
            )
        expected = self.layout.plaintexts_of(self.count)
        if self.count < 0 or len(self.ciphertexts) != expected:
            raise InputRejected(
                f"{self.count} elements take {expected} ciphertexts, got {len(self.ciphertexts)}"
            )

    def to_phe(self) -> list[phe_paillier.EncryptedNumber]:
        """Return the elements for phe, as integers; InputRejected for packed ones."""
        if self.layout.packed:
            raise InputRejected("phe has no packed vectors: encrypt with packed=False")
        return [self.public_key.ciphertext_to_phe(one) for one in self.ciphertexts]

    @classmethod
    def from_phe(
        cls,
        public_key: PublicKey,
        numbers: Sequence[phe_paillier.EncryptedNumber],
        layout: SlotLayout,
    ) -> "EncryptedVector":
        """Take over encrypted integers of phe, one an element.

        That each is within the bounds of `layout` is the word of who encrypted them; decrypting
        says so if it was not true. Raises InputRejected for another key, fractions, packed layouts.
        """
        if layout.packed:
            raise InputRejected("numbers of phe are not packed: packed=False expected")
        ciphertexts = tuple(map(public_key.ciphertext_from_phe, numbers))
        return cls(public_key, layout, len(ciphertexts), ciphertexts)


@dataclass(frozen=True)
class EncryptedTotal:
    """The sum of the `count` elements of a vector that was the sum of `added` ones."""

    public_key: PublicKey
    layout: SlotLayout
    count: int
    ciphertext: Ciphertext = field(repr=False)
    added: int = 1


def encrypt_vector(
    key: PublicKey | PrivateKey,
    values: Sequence[int | Decimal],
    *,
    bits: int,
    addends: int = 1,
    signed: bool = False,
    decimals: int = 0,
    packed: bool = True,
    randomness: Randomness = Randomness.SHORT,
    workers: Workers | None = None,
    random_bytes: RandomBytes = token_bytes,
) -> EncryptedVector:
    """Encrypt `values` in the layout that the other parameters declare (see `SlotLayout`).

    The owner of a key may hand in the private one, which is faster with plain randomness. What is
    assumed for secrecy is told at each `Randomness`. Raises InputRejected, before anything is
    encrypted, if a value is out of its bounds or a slot does not fit the key.
    """
    public_key = key.public_key if isinstance(key, PrivateKey) else key
    layout = SlotLayout(
        key_bits=public_key.bits,
        value_bits=bits,
        addends=addends,
        signed=signed,
        decimals=decimals,
        packed=packed,
    )
    plaintexts = layout.plaintexts(layout.units(values))
    ciphertexts = encrypt_many(
        key, plaintexts, randomness=randomness, workers=workers, random_bytes=random_bytes
    )
    return EncryptedVector(public_key, layout, len(values), tuple(ciphertexts))


def encrypt_many(
    key: PublicKey | PrivateKey,
    plaintexts: Sequence[int],
    *,
    randomness: Randomness = Randomness.SHORT,
    base: FixedBase | None = None,
    workers: Workers | None = None,
    random_bytes: RandomBytes = token_bytes,
) -> list[Ciphertext]:
    """Encrypt signed plaintexts of the key's whole range, one a ciphertext, in order."""
    workers = workers or InThisThread()
    pieces = encryption_pieces(
        key,
        plaintexts,
        randomness=randomness,
        base=base,
        workers=workers.count,
        random_bytes=random_bytes,
    )
    return [one for done in workers.map(encrypt_piece, pieces) for one in done]


def decrypt_many(
    private_key: PrivateKey, ciphertexts: Sequence[Ciphertext], *, workers: Workers | None = None
) -> list[int]:
    """Decrypt to signed plaintexts in order; ProtocolViolation for one out of the key's range."""
    pieces = decryption_pieces(private_key, ciphertexts)
    return [one for done in (workers or InThisThread()).map(decrypt_piece, pieces) for one in done]


def add_vectors(vectors: Sequence[EncryptedVector]) -> EncryptedVector:
    """Return the sum, element by element.

    Raises InputRejected, before anything is added, unless all have one key, one layout and one
    length, and the sum is one of no more vectors than the layout has room for.
    """
    if not vectors:
        raise InputRejected("at least one vector expected")
    first = vectors[0]
    for vector in vectors:
        if vector.public_key != first.public_key:
            raise InputRejected("vectors under different public keys cannot be added")
        if vector.layout != first.layout or vector.count != first.count:
            raise InputRejected("vectors of different layouts or lengths cannot be added")
    added = _verify_room(first.layout, sum(vector.added for vector in vectors))
    columns = zip(*(vector.ciphertexts for vector in vectors), strict=True)
    sums = tuple(map(first.public_key.add_all, columns))
    return EncryptedVector(first.public_key, first.layout, first.count, sums, added)


def sum_vector(vector: EncryptedVector) -> EncryptedTotal:
    """Return the sum of all elements; only ciphertexts are multiplied, no scalar comes in.

    Raises InputRejected, before anything is added, if there are more ciphertexts than slots have
    room for (`addends_to_sum` says how much that must be), or none. Pass the ciphertext on through
    `PublicKey.rerandomise` where the owner of the key must not recognise what was added.
    """
    if not vector.ciphertexts:
        raise InputRejected("a vector without elements has no sum")
    _verify_room(vector.layout, vector.added * len(vector.ciphertexts))
    total = vector.public_key.add_all(vector.ciphertexts)
    return EncryptedTotal(vector.public_key, vector.layout, vector.count, total, vector.added)


def _verify_room(layout: SlotLayout, added: int) -> int:
    if added > layout.addends:
        raise InputRejected(
            f"slots have room for the sum of {layout.addends} values, not of {added}"
        )
    return added


def decrypt_vector(
    private_key: PrivateKey, vector: EncryptedVector, *, workers: Workers | None = None
) -> list[int]:
    """Return the elements, in units of 10^-decimals.

    Raises InputRejected for the key of another vector, and ProtocolViolation if an element is out
    of the bounds that its layout and the number of vectors added set.
    """
    _verify_owner(private_key, vector.public_key)
    plaintexts = decrypt_many(private_key, vector.ciphertexts, workers=workers)
    return vector.layout.sums(plaintexts, count=vector.count, added=vector.added)


def decrypt_decimals(
    private_key: PrivateKey, vector: EncryptedVector, *, workers: Workers | None = None
) -> list[Decimal]:
    """Return the elements as exact decimals; raises what `decrypt_vector` does."""
    sums = decrypt_vector(private_key, vector, workers=workers)
    return list(map(vector.layout.in_decimals, sums))


def decrypt_total(private_key: PrivateKey, total: EncryptedTotal) -> int:
    """Return the sum of all elements, in units of 10^-decimals; raises as `decrypt_vector`."""
    _verify_owner(private_key, total.public_key)
    plaintext = private_key.decrypt(total.ciphertext)
    return total.layout.total(plaintext, count=total.count, added=total.added)


def _verify_owner(private_key: PrivateKey, public_key: PublicKey) -> None:
    if private_key.public_key != public_key:
        raise InputRejected("the private key is not that of these ciphertexts")
