"""Encrypting and decrypting many plaintexts in pieces that workers can take.

A piece holds all that its result depends on, random bytes included. So the work is pure: a piece
that is done again, because a worker died, gives the same ciphertexts, and a run can be repeated.
Pieces hold secrets (plaintexts and randomness, or the private key): the workers must be of their
owner, as those of a node are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from secrets import token_bytes

from privacy.errors import InputRejected
from privacy.paillier.fixed_base import (
    FixedBase,
    RandomBytes,
    exponent_bytes,
    random_unit,
    table_of,
)
from privacy.paillier.keys import TABLE_PAYS_FROM, Ciphertext, PrivateKey, PublicKey
from privacy.workers import pieces_of

# About a twentieth of a second of work each: for a table's look-ups, plain powers, decryptions.
TABLE_PIECE = 256
PLAIN_PIECE = 8
DECRYPTION_PIECE = 16


class Randomness(StrEnum):
    """Where the random n-th residue of a ciphertext comes from. The owner's is like all others.

    SHORT: a fixed base to a short random exponent, 0.2 ms or less each. Assumes DCR for a modulus
    of the special form that `generate` makes, and that powers with short exponents cannot be told
    from others: see `privacy.paillier.fixed_base`. Fewer than 4 plaintexts are encrypted as PLAIN.
    PLAIN: a uniformly random unit to the power n, 9 ms each, 4 ms for the owner of the key. Assumes
    DCR only, of whatever modulus. To be taken where the form of the modulus must not be assumed
    (keys of phe have primes of any form), and to hide from the owner itself who made a ciphertext.
    """

    SHORT = "short"
    PLAIN = "plain"


@dataclass(frozen=True)
class EncryptionPiece:
    """Some plaintexts, all in range, and for each its random bytes.

    Those are exponents of `base` where there is one, else units modulo n, big-endian.
    """

    key: PublicKey | PrivateKey
    base: FixedBase | None
    plaintexts: Sequence[int] = field(repr=False)
    randomness: Sequence[bytes] = field(repr=False)


@dataclass(frozen=True)
class DecryptionPiece:
    """Some ciphertexts and the key to them."""

    private_key: PrivateKey
    ciphertexts: Sequence[Ciphertext]


def encryption_pieces(
    key: PublicKey | PrivateKey,
    plaintexts: Sequence[int],
    *,
    randomness: Randomness = Randomness.SHORT,
    base: FixedBase | None = None,
    workers: int = 1,
    random_bytes: RandomBytes = token_bytes,
) -> Iterator[EncryptionPiece]:
    """Cut `plaintexts` in pieces for `encrypt_piece`, random bytes drawn here.

    With SHORT each process that works makes a table of its own; `workers` is how many there are,
    because the table's size follows from it. Who encrypts batch after batch hands in one `base`.
    Raises InputRejected, before the first piece, if a plaintext is out of range or the base is not
    one of this key.
    """
    public_key = key.public_key if isinstance(key, PrivateKey) else key
    for position, plaintext in enumerate(plaintexts):
        public_key.verify_plaintext(plaintext, position)
    if base is not None and base.n != public_key.n:
        raise InputRejected("the fixed base is one of another public key")
    too_few = base is None and len(plaintexts) < TABLE_PAYS_FROM
    # A plain text must not pass for SHORT where no type checker looks.
    if Randomness(randomness) is Randomness.PLAIN or too_few:
        return _plain_pieces(key, plaintexts, random_bytes)
    if base is None:
        expected = -(-len(plaintexts) // workers)
        base = FixedBase.draw(public_key.n, random_bytes, count=expected)
    return _table_pieces(public_key, base, plaintexts, random_bytes)


def _plain_pieces(
    key: PublicKey | PrivateKey, plaintexts: Sequence[int], random_bytes: RandomBytes
) -> Iterator[EncryptionPiece]:
    n = key.public_key.n if isinstance(key, PrivateKey) else key.n
    size = (n.bit_length() + 7) // 8
    for piece in pieces_of(plaintexts, PLAIN_PIECE):
        units = [int(random_unit(n, random_bytes)).to_bytes(size, "big") for _ in piece]
        yield EncryptionPiece(key, None, piece, units)


def _table_pieces(
    key: PublicKey, base: FixedBase, plaintexts: Sequence[int], random_bytes: RandomBytes
) -> Iterator[EncryptionPiece]:
    size = exponent_bytes(key.n)
    for piece in pieces_of(plaintexts, TABLE_PIECE):
        yield EncryptionPiece(key, base, piece, [random_bytes(size) for _ in piece])


def encrypt_piece(piece: EncryptionPiece) -> list[Ciphertext]:
    """Encrypt the plaintexts of a piece in order."""
    if piece.base is None:
        return [
            piece.key.encrypt_plain(plaintext, lambda _, unit=unit: unit)  # type: ignore[misc]
            for plaintext, unit in zip(piece.plaintexts, piece.randomness, strict=True)
        ]
    table = table_of(piece.base)
    return [
        Ciphertext(table.encrypt(plaintext, exponent))
        for plaintext, exponent in zip(piece.plaintexts, piece.randomness, strict=True)
    ]


def decryption_pieces(
    private_key: PrivateKey, ciphertexts: Sequence[Ciphertext]
) -> list[DecryptionPiece]:
    """Cut `ciphertexts` in pieces for `decrypt_piece`."""
    pieces = pieces_of(ciphertexts, DECRYPTION_PIECE)
    return [DecryptionPiece(private_key, piece) for piece in pieces]


def decrypt_piece(piece: DecryptionPiece) -> list[int]:
    """Decrypt the ciphertexts of a piece in order, as `PrivateKey.decrypt` does."""
    return piece.private_key.decrypt_all(piece.ciphertexts)
