"""SM4 at rest: published answers, a second implementation, and homes that change their suite."""

import json
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SM3, Hash
from tongsuopy.crypto.ciphers.aead import SM4GCM
from typer.testing import CliRunner

from dataspace import secret_files
from dataspace.cli.node_commands import app as node_app
from dataspace.cli.sealing_commands import app
from dataspace.errors import InputRejected
from dataspace.home import create_home
from dataspace.identity.keys import SigningAlgorithm, SigningKey
from dataspace.sealed_rows import RowSealing, pieces, sealing_suite_of_file
from dataspace.sealed_stream import CHUNK_BYTES
from dataspace.sealing_suites import SealingSuite, Sm4Gcm, derived_key
from dataspace.secret_files import BEGINNINGS, read_secret, write_secret

AES, SM4 = SealingSuite.AES, SealingSuite.SM4
ROOT = bytes(range(32))
VALUES = {"name": "n", "kind": "enterprise", "url": "http://127.0.0.1:7", "port": 7}


def test_the_standards_answers_hold() -> None:
    digest = Hash(SM3())
    digest.update(b"abc")
    assert digest.finalize().hex() == (
        "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    )
    # GB/T 32907, A.1: key and text are the same.
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")
    block = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()
    assert block.update(key).hex() == "681edf34d206965e86b3e94f536e4246"


def test_the_answers_of_rfc_8998_hold() -> None:
    text = "".join(letter * 16 for letter in "ABCDEFEA")
    sealed = Sm4Gcm(bytes.fromhex("0123456789abcdeffedcba9876543210")).encrypt(
        bytes.fromhex("00001234567800000000abcd"),
        bytes.fromhex(text),
        bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
    )
    assert sealed.hex() == (
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
        "83de3541e4c2b58177e065a9bf7b62ec"
    )


def test_each_implementation_opens_what_the_other_sealed() -> None:
    key, nonce = bytes(range(16)), bytes(range(12))
    ours, theirs = Sm4Gcm(key), SM4GCM(key)
    assert theirs.decrypt(nonce, ours.encrypt(nonce, b"text", b"aad"), b"aad") == b"text"
    assert ours.decrypt(nonce, theirs.encrypt(nonce, b"text", b"aad"), b"aad") == b"text"


@pytest.mark.parametrize("place", [0, 3, 4, 11, 19])
def test_a_flipped_bit_opens_nothing(place: int) -> None:
    cipher = Sm4Gcm(bytes(16))
    sealed = bytearray(cipher.encrypt(bytes(12), b"text", b"aad"))
    sealed[place] ^= 1
    with pytest.raises(InvalidTag):
        cipher.decrypt(bytes(12), bytes(sealed), b"aad")


def test_what_is_cut_or_of_another_context_opens_nothing() -> None:
    cipher = Sm4Gcm(bytes(16))
    sealed = cipher.encrypt(bytes(12), b"text", b"aad")
    for data, aad in ((sealed[:-1], b"aad"), (sealed[:15], b"aad"), (b"", b"aad"), (sealed, b"x")):
        with pytest.raises(InvalidTag):
            cipher.decrypt(bytes(12), data, aad)


def test_the_suites_share_no_key() -> None:
    keys = [derived_key(suite, ROOT, salt=None, use=b"x") for suite in SealingSuite]
    assert [len(key) for key in keys] == [32, 16]
    assert not keys[0].startswith(keys[1])


@pytest.fixture(autouse=True)
def guessed_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases become keys without the work that makes guessing them dear."""
    monkeypatch.setattr(secret_files, "SCRYPT_N", 2)


def content(sealing: RowSealing, path: Path) -> bytes:
    with sealing.opened(path, path.name) as reading:
        return b"".join(pieces(reading))


def test_files_and_values_of_either_suite_open_whatever_is_chosen_now(tmp_path: Path) -> None:
    national = RowSealing(ROOT, seals=True, suite=SM4)
    ordinary = RowSealing(ROOT, seals=True)
    rows, path = b"id,sum\n" * (CHUNK_BYTES // 3), tmp_path / "rows.csv"
    path.write_bytes(rows)
    for sealing in (ordinary, national, ordinary):
        sealing.seal_file(path, path.name)
        assert sealing_suite_of_file(path) is sealing.suite
        assert rows[:100] not in path.read_bytes()
        assert content(national, path) == content(ordinary, path) == rows
    value = national.seal_value({"sum": 5}, "c")
    assert ordinary.open_value(value, "c") == {"sum": 5}
    with pytest.raises(InputRejected, match="does not open"):
        national.open_value({"sealed/1": next(iter(value.values()))}, "c")


@pytest.mark.parametrize("change", [b"AES-256-GCM", b"SM4-CBC"])
def test_a_file_that_names_another_suite_than_its_own_does_not_open(
    tmp_path: Path, change: bytes
) -> None:
    sealing, path = RowSealing(ROOT, seals=True, suite=SM4), tmp_path / "rows.csv"
    path.write_bytes(b"id\n1\n")
    sealing.seal_file(path, path.name)
    path.write_bytes(path.read_bytes().replace(b"SM4-GCM", change, 1))
    with pytest.raises(InputRejected, match=r"does not open|is damaged"):
        content(sealing, path)


def test_a_new_secret_is_sealed_as_the_root_key_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASPACE_PASSPHRASE", "one")
    home = create_home(tmp_path / "home", VALUES, algorithm=SigningAlgorithm.SM2, sealing=SM4)
    texts = [path.read_text() for path in (home.path / "keys").iterdir()]
    assert all(text.startswith(BEGINNINGS[SM4]) for text in texts)
    assert home.key_files.sealing_suite() is SM4
    assert home.signing_key().algorithm is SigningAlgorithm.SM2
    path = home.path / "keys" / "later.key"
    write_secret(path, "secret")
    assert path.read_text().startswith(BEGINNINGS[SM4])
    assert read_secret(path) == "secret"
    # One secret in the place of another opens no more than with the older suite.
    (home.path / "keys" / "api.key").write_text(path.read_text())
    with pytest.raises(InputRejected, match="does not open"):
        home.api_key()


def test_a_home_is_given_another_suite_and_back_and_its_keys_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passphrase"
    file.write_text("one\n")
    monkeypatch.setenv("DATASPACE_PASSPHRASE_FILE", str(file))
    made = create_home(tmp_path / "home", {**VALUES, "url": None, "port": None})
    before = made.signing_key().thumbprint
    for suite in (SM4, AES):
        arguments = ["seal", "--home", str(made.path), "--passphrase-file", str(file)]
        found = CliRunner().invoke(app, [*arguments, "--suite", suite.value, "--json"])
        assert found.exit_code == 0, found.output
        assert json.loads(found.output)["keys"] == len(list((made.path / "keys").iterdir()))
        for path in (made.path / "keys").iterdir():
            assert path.read_text().startswith(BEGINNINGS[suite])
        assert made.signing_key().thumbprint == before


def test_a_suite_without_a_passphrase_is_refused(tmp_path: Path) -> None:
    arguments = ["init", "--home", str(tmp_path / "h"), "--name", "n", "--kind", "enterprise"]
    found = CliRunner().invoke(node_app, [*arguments, "--found", "--sealing-suite", "SM4-GCM"])
    assert found.exit_code == 1
    assert "without a passphrase" in found.output
    assert not (tmp_path / "h" / "node.toml").exists()


def test_a_home_with_an_sm2_key_needs_the_extra_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create_home(tmp_path / "made", VALUES, algorithm=SigningAlgorithm.SM2)
    monkeypatch.setitem(sys.modules, "gmssl_pyx", None)
    arguments = ["init", "--home", str(tmp_path / "h"), "--name", "n", "--kind", "enterprise"]
    found = CliRunner().invoke(node_app, [*arguments, "--found", "--signing-algorithm", "SM2"])
    assert found.exit_code == 1
    assert "city-dataspace[sm]" in found.output
    assert not (tmp_path / "h" / "node.toml").exists()
    with pytest.raises(InputRejected, match="not installed here") as refused:
        made.signing_key()
    assert "city-dataspace[sm]" in str(refused.value.remedy)


def test_a_signing_key_of_sm2_that_is_damaged_is_said_to_be(tmp_path: Path) -> None:
    pem = SigningKey.generate(SigningAlgorithm.SM2).to_pem().splitlines()
    pem[2] = pem[2][::-1]
    with pytest.raises(InputRejected, match="holds no private key"):
        SigningKey.from_pem("\n".join(pem), name="signing.pem")
