import pickle

import gmpy2
import pytest
from phe import paillier as phe_paillier

from privacy.errors import InputRejected, ProtocolViolation
from privacy.paillier import (
    Ciphertext,
    Encryptor,
    PrivateKey,
    PublicKey,
    generate_keypair,
    pack,
    unpack,
)

EDGES = [0, 1, -1, 2**63 - 1, -(2**63 - 1), 10**30]


def vector_key(vectors: dict) -> PrivateKey:
    p, q = int(vectors["p"], 16), int(vectors["q"], 16)
    return PrivateKey(PublicKey.parse(vectors["n"]), p, q)


def test_plain_encryption_gives_the_ciphertexts_of_phe(paillier_vectors):
    key = vector_key(paillier_vectors)
    for row in paillier_vectors["encryptions"]:
        randomness = int(row["r"], 16).to_bytes(256, "big")
        ciphertext = key.public_key.encrypt_plain(row["value"], lambda _, r=randomness: r)
        assert f"{ciphertext:x}" == row["ciphertext"]
        assert key.decrypt(ciphertext) == row["value"]


@pytest.mark.parametrize("value", EDGES)
def test_phe_decrypts_what_we_encrypt(private_key, public_key, value):
    for ciphertext in (public_key.encrypt_plain(value), Encryptor(public_key).encrypt(value)):
        number = public_key.ciphertext_to_phe(ciphertext)
        assert private_key.to_phe().decrypt(number) == value


def test_we_decrypt_what_phe_encrypts_and_adds(private_key, public_key):
    phe_key = public_key.to_phe()
    number = phe_key.encrypt(-5) + phe_key.encrypt(47)
    assert private_key.decrypt(public_key.ciphertext_from_phe(number)) == 42


def test_keys_of_phe_are_taken_over_and_back():
    public, private = phe_paillier.generate_paillier_keypair(n_length=2048)
    ours = PrivateKey.from_phe(private)
    assert ours.public_key == PublicKey.from_phe(public) == PublicKey.parse(f"{public.n:x}")
    assert private.decrypt(public.encrypt(7)) == 7
    assert ours.decrypt(Encryptor(ours.public_key).encrypt(-7)) == -7
    assert ours.to_phe() == private


def test_a_fraction_or_another_key_of_phe_is_rejected(public_key, paillier_vectors):
    with pytest.raises(InputRejected, match="not an integer"):
        public_key.ciphertext_from_phe(public_key.to_phe().encrypt(0.5))
    other = vector_key(paillier_vectors).public_key
    with pytest.raises(InputRejected, match="another public key"):
        public_key.ciphertext_from_phe(other.to_phe().encrypt(1))


def test_sums_of_many_ciphertexts_are_sums_of_their_plaintexts(private_key, public_key):
    values = [(-3) ** i for i in range(30)]
    ciphertexts = public_key.encrypt_all(values)
    assert private_key.decrypt(public_key.add_all(ciphertexts)) == sum(values)
    assert private_key.decrypt(public_key.add(ciphertexts[3], ciphertexts[4])) == -27 + 81
    assert private_key.decrypt(public_key.add_all([])) == 0


def test_few_and_many_values_are_encrypted_in_order(private_key, public_key):
    for count in (0, 1, 9, 10, 12):
        ciphertexts = public_key.encrypt_all(range(count))
        assert [private_key.decrypt(ciphertext) for ciphertext in ciphertexts] == list(range(count))


def test_equal_values_get_different_ciphertexts(public_key):
    encryptor = Encryptor(public_key)
    ciphertexts = {encryptor.encrypt(1) for _ in range(8)}
    ciphertexts |= {public_key.encrypt_plain(1) for _ in range(4)}
    assert len(ciphertexts) == 12


def test_rerandomising_changes_the_ciphertext_and_not_the_value(private_key, public_key):
    ciphertext = public_key.encrypt_plain(-12)
    again = public_key.rerandomise(ciphertext)
    assert again != ciphertext
    assert private_key.decrypt(again) == -12


def test_the_table_computes_the_power_that_the_exponent_asks_for(private_key, public_key):
    y, exponent = 12345, bytes(range(100, 156))
    draws = iter([y.to_bytes(256, "big"), exponent])
    ciphertext = Encryptor(public_key, lambda _: next(draws)).encrypt(0)
    n_squared = public_key.n**2
    h_s = pow(-y * y % public_key.n, public_key.n, n_squared)
    assert ciphertext == pow(h_s, int.from_bytes(exponent, "little"), n_squared)


def test_a_value_out_of_range_is_rejected_and_not_shown(public_key):
    for value in (public_key.max_value + 1, -public_key.max_value - 1):
        with pytest.raises(InputRejected) as caught:
            public_key.encrypt_plain(value)
        assert str(value) not in str(caught.value)


def test_the_greatest_values_are_decrypted_and_their_sum_is_a_violation(private_key, public_key):
    top = public_key.max_value
    assert private_key.decrypt(public_key.encrypt_plain(top)) == top
    assert private_key.decrypt(public_key.encrypt_plain(-top)) == -top
    overflowing = public_key.add(public_key.encrypt_plain(top), public_key.encrypt_plain(top // 4))
    with pytest.raises(ProtocolViolation, match="out of the agreed range"):
        private_key.decrypt(overflowing)


def test_ciphertexts_have_a_fixed_width_and_survive_it(public_key):
    for ciphertext in (Ciphertext(1), public_key.encrypt_plain(5)):
        encoded = public_key.encode(ciphertext)
        assert len(encoded) == 512
        assert public_key.parse_ciphertext(encoded, "left") == ciphertext


def test_numbers_that_are_no_ciphertexts_are_violations(private_key, public_key):
    n = public_key.n
    for number in (0, n, private_key.p, private_key.q * 7, n * n, n * n + 1, 2**4096 - 1):
        with pytest.raises(ProtocolViolation, match="left sent a number that is no ciphertext"):
            public_key.parse_ciphertext(number.to_bytes(512, "big"), "left")
    for encoded in (b"", bytes(511), bytes(513)):
        with pytest.raises(ProtocolViolation, match="512 expected"):
            public_key.parse_ciphertext(encoded, "left")


def test_a_generated_key_has_the_size_and_primes_that_short_exponents_ask_for(private_key):
    p, q = private_key.p, private_key.q
    assert gmpy2.is_prime(p)
    assert gmpy2.is_prime(q)
    assert (p % 4, q % 4, gmpy2.gcd(p - 1, q - 1)) == (3, 3, 2)
    assert private_key.public_key.n.bit_length() == 2048
    assert PublicKey.parse(private_key.public_key.to_hex()) == private_key.public_key


def test_a_3072_bit_key_works_too():
    key = generate_keypair(3072)
    assert key.public_key.ciphertext_bytes == 768
    assert PublicKey.parse(key.public_key.to_hex()) == key.public_key
    assert key.decrypt(Encryptor(key.public_key).encrypt(-99)) == -99


def test_other_key_sizes_are_rejected():
    for bits in (1024, 2047, 4096):
        with pytest.raises(InputRejected, match="2048 or 3072"):
            generate_keypair(bits)


def hexadecimal(n: int) -> str:
    return f"{n:0512x}"


@pytest.mark.parametrize(
    ("n_hex", "reason"),
    [
        ("", "hexadecimal digits"),
        ("0x" + "f" * 510, "hexadecimal digits"),
        ("F" * 512, "hexadecimal digits"),
        ("f" * 511, "hexadecimal digits"),
        ("f" * 1024, "hexadecimal digits"),
        (hexadecimal(2**2047 - 1), "exactly 2048 or 3072 bits"),
        (hexadecimal(2**2047 + 2), "factor below"),
        (hexadecimal(65521 * int(gmpy2.next_prime(2**2032))), "factor below"),
        (hexadecimal(int(gmpy2.next_prime(2**2047))), "a prime or a perfect power"),
        (hexadecimal(int(gmpy2.next_prime(3 * 2**1022)) ** 2), "a prime or a perfect power"),
    ],
)
def test_a_public_key_that_cannot_be_one_is_a_violation(n_hex, reason):
    with pytest.raises(ProtocolViolation, match=reason):
        PublicKey.parse(n_hex)


def test_primes_of_another_key_are_rejected(private_key, paillier_vectors):
    other = vector_key(paillier_vectors)
    with pytest.raises(InputRejected, match="do not belong"):
        PrivateKey(private_key.public_key, other.p, other.q)


def test_a_private_key_can_go_to_a_worker_process_and_never_shows_its_primes(private_key):
    private_key.decrypt(private_key.public_key.encrypt_plain(1))
    again = pickle.loads(pickle.dumps(private_key))
    assert again == private_key
    assert str(private_key.p) not in repr(private_key)
    assert str(private_key.q) not in repr(private_key)


def test_packed_values_add_up_slot_by_slot(private_key, public_key):
    rows = [(1, 2, 2**59), (5, 0, 2**59), (0, 7, 3)]
    ciphertexts = [public_key.encrypt_plain(pack(row, 64, addends=16)) for row in rows]
    total = private_key.decrypt(public_key.add_all(ciphertexts))
    assert unpack(total, 64, 3) == (6, 9, 2**60 + 3)


def test_thirty_slots_of_64_bits_fit_one_plaintext(private_key, public_key):
    values = tuple(range(2**63, 2**63 + 30))
    assert unpack(private_key.decrypt(public_key.encrypt_plain(pack(values, 64))), 64, 30) == values


def test_the_guard_bits_are_kept_free():
    assert pack((2**60 - 1,), 64, addends=16) == 2**60 - 1
    with pytest.raises(InputRejected, match=r"slot 1: a value from 0 to below 2\*\*60"):
        pack((0, 2**60), 64, addends=16)
    with pytest.raises(InputRejected, match="slot 0"):
        pack((-1,), 64)


def test_slots_too_narrow_for_their_addends_are_rejected():
    for addends in (0, 17, 2**5):
        with pytest.raises(InputRejected, match="cannot hold"):
            pack((0,), 4, addends=addends)


def test_a_number_wider_than_its_slots_is_rejected():
    for packed in (-1, 2**128):
        with pytest.raises(InputRejected, match="2 slots of 64 bits"):
            unpack(packed, 64, 2)
