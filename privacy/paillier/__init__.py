"""Paillier's additively homomorphic encryption, compatible with `phe` in keys and ciphertexts.

`keys` has public and private keys and single ciphertexts, `vectors` many bounded numbers at once,
`packing` how those share a plaintext, `vector_bytes` how they travel, `encryption` the pieces that
go to workers, and `fixed_base` fast randomness. What each option assumes to be secret is told at
`encryption.Randomness`, how far secrets are erased at `keys.PrivateKey`.
"""

from privacy.paillier.encryption import (
    DecryptionPiece,
    EncryptionPiece,
    Randomness,
    decrypt_piece,
    decryption_pieces,
    encrypt_piece,
    encryption_pieces,
)
from privacy.paillier.fixed_base import FixedBase, RandomBytes
from privacy.paillier.keys import (
    KEY_BITS,
    Ciphertext,
    Encryptor,
    PrivateKey,
    PublicKey,
    generate,
)
from privacy.paillier.packing import SlotLayout, addends_to_sum, pack, unpack, value_bits
from privacy.paillier.vector_bytes import (
    encode_vector,
    parse_ciphertexts,
    parse_vector,
    vector_size_bytes,
)
from privacy.paillier.vectors import (
    EncryptedTotal,
    EncryptedVector,
    add_vectors,
    decrypt_decimals,
    decrypt_many,
    decrypt_total,
    decrypt_vector,
    encrypt_many,
    encrypt_vector,
    sum_vector,
)

# The name before there were vectors.
generate_keypair = generate

__all__ = [
    "KEY_BITS",
    "Ciphertext",
    "DecryptionPiece",
    "EncryptedTotal",
    "EncryptedVector",
    "EncryptionPiece",
    "Encryptor",
    "FixedBase",
    "PrivateKey",
    "PublicKey",
    "RandomBytes",
    "Randomness",
    "SlotLayout",
    "add_vectors",
    "addends_to_sum",
    "decrypt_decimals",
    "decrypt_many",
    "decrypt_piece",
    "decrypt_total",
    "decrypt_vector",
    "decryption_pieces",
    "encode_vector",
    "encrypt_many",
    "encrypt_piece",
    "encrypt_vector",
    "encryption_pieces",
    "generate",
    "generate_keypair",
    "pack",
    "parse_ciphertexts",
    "parse_vector",
    "sum_vector",
    "unpack",
    "value_bits",
    "vector_size_bytes",
]
