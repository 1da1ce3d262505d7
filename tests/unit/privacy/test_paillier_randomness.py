import hashlib
import pickle

import pytest

from privacy.errors import InputRejected
from privacy.paillier import (
    FixedBase,
    PrivateKey,
    decrypt_vector,
    encrypt_many,
    encrypt_piece,
    encrypt_vector,
    encryption_pieces,
)
from privacy.paillier.encryption import TABLE_PIECE
from privacy.paillier.fixed_base import PowerTable, exponent_bytes, window_bits_for


class TwoAtOnce:
    """Workers that send every piece and result through pickle, as processes do."""

    count = 2

    def map(self, work, pieces):
        for piece in pieces:
            yield pickle.loads(pickle.dumps(work(pickle.loads(pickle.dumps(piece)))))


def numbered_bytes(label: str):
    """Random bytes that anybody can make again."""
    drawn = 0

    def take(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(f"{label}/{drawn}".encode()).digest(size)

    return take


def test_workers_get_pieces_that_survive_pickling_and_keep_the_order(private_key, public_key):
    values = list(range(TABLE_PIECE + 4))
    vector = encrypt_vector(public_key, values, bits=32, packed=False, workers=TwoAtOnce())
    few = (0, 1, TABLE_PIECE - 1, TABLE_PIECE, TABLE_PIECE + 3)
    assert [private_key.decrypt(vector.ciphertexts[at]) for at in few] == list(few)
    small = encrypt_vector(public_key, values[:70], bits=30, addends=8, workers=TwoAtOnce())
    assert decrypt_vector(private_key, small, workers=TwoAtOnce()) == values[:70]


def test_a_piece_done_again_gives_the_same_ciphertexts(public_key):
    base = FixedBase.draw(public_key.n, numbered_bytes("base"), count=4)
    (piece,) = encryption_pieces(public_key, [1, 2], base=base)
    assert encrypt_piece(piece) == encrypt_piece(pickle.loads(pickle.dumps(piece)))
    assert "plaintexts" not in repr(piece)
    assert "randomness" not in repr(piece)


def test_many_batches_can_share_a_base_and_its_table(private_key, public_key):
    base = FixedBase.draw(public_key.n, numbered_bytes("shared"), count=4)
    batches = [[-1], [2, 3]]
    ciphertexts = [one for batch in batches for one in encrypt_many(public_key, batch, base=base)]
    assert [private_key.decrypt(one) for one in ciphertexts] == [-1, 2, 3]
    assert len(set(ciphertexts)) == 3


def test_a_base_of_another_key_or_an_unknown_randomness_is_refused(public_key, paillier_vectors):
    other = FixedBase.draw(int(paillier_vectors["n"], 16), numbered_bytes("other"), count=4)
    with pytest.raises(InputRejected, match="another public key"):
        encryption_pieces(public_key, [1], base=other)
    (piece,) = encryption_pieces(public_key, [1], randomness="plain")
    assert piece.base is None
    with pytest.raises(ValueError, match="none"):
        encryption_pieces(public_key, [1], randomness="none")


def test_a_plaintext_out_of_range_is_refused_before_a_piece_is_cut(public_key):
    with pytest.raises(InputRejected, match="plaintext 1 is out of the range"):
        encryption_pieces(public_key, [0, public_key.max_value + 1])


def test_the_table_of_every_window_computes_the_same_powers(public_key):
    n, n_squared = public_key.n, public_key.n**2
    drawn = FixedBase.draw(n, numbered_bytes("windows"), count=1)
    exponents = [bytes(56), b"\xff" * 56, numbered_bytes("exponent")(56)]
    for window_bits in (1, 2, 3, 5, 6):
        table = PowerTable(FixedBase(n, drawn.generator, window_bits))
        for exponent in exponents:
            power = pow(drawn.generator, int.from_bytes(exponent, "little"), n_squared)
            for plaintext in (0, -3, n - 1):
                expected = (1 + plaintext * n) * power % n_squared
                assert table.encrypt(plaintext, exponent) == expected


def test_the_table_grows_with_what_it_is_for_and_stays_bounded(public_key):
    assert exponent_bytes(public_key.n) == 56
    windows = [window_bits_for(public_key.n, 10**digits) for digits in range(10)]
    assert windows == sorted(windows)
    assert windows[0] <= 2
    assert windows[-1] == 10


# The owner's key


def test_the_owner_makes_the_ciphertexts_everybody_makes(private_key, public_key):
    for value in (0, -1, public_key.max_value):
        draw = numbered_bytes("owner")
        ours = private_key.encrypt_plain(value, draw)
        assert ours == public_key.encrypt_plain(value, numbered_bytes("owner"))
    with pytest.raises(InputRejected, match="out of the range"):
        private_key.encrypt_plain(public_key.max_value + 1)


def test_a_wiped_key_has_forgotten_its_primes(private_key):
    key = PrivateKey(private_key.public_key, private_key.p, private_key.q)
    assert key == private_key
    assert hash(key) == hash(private_key)
    ciphertext = key.public_key.encrypt_plain(5)
    key.wipe()
    assert not any(key._primes)
    assert key != private_key
    for use in (
        lambda: key.p,
        lambda: key.decrypt(ciphertext),
        lambda: key.encrypt_plain(1),
        lambda: pickle.dumps(key),
        key.to_phe,
    ):
        with pytest.raises(InputRejected, match="was wiped"):
            use()


def test_primes_that_cannot_be_are_rejected(public_key):
    for p, q in ((1, public_key.n), (-1, -public_key.n), (0, 0)):
        with pytest.raises(InputRejected, match="do not belong"):
            PrivateKey(public_key, p, q)
