"""A stolen disk gives nobody a key, where a passphrase was set."""

from pathlib import Path

import pytest

from dataspace.errors import InputRejected
from dataspace.home import create_home
from dataspace.secret_files import SEALED, read_secret, write_secret

SECRET = "a secret that must not be found"


def test_without_a_passphrase_a_secret_is_only_protected_by_its_mode(tmp_path: Path) -> None:
    write_secret(tmp_path / "k", SECRET)
    assert read_secret(tmp_path / "k") == SECRET
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


def test_with_a_passphrase_nothing_of_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASPACE_PASSPHRASE", "correct horse")
    write_secret(tmp_path / "k", SECRET)
    stored = (tmp_path / "k").read_text(encoding="utf-8")
    assert stored.startswith(SEALED)
    assert SECRET not in stored
    assert read_secret(tmp_path / "k") == SECRET


@pytest.mark.parametrize("passphrase", ["", "wrong"])
def test_without_the_right_passphrase_it_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str
) -> None:
    monkeypatch.setenv("DATASPACE_PASSPHRASE", "correct horse")
    write_secret(tmp_path / "k", SECRET)
    monkeypatch.setenv("DATASPACE_PASSPHRASE", passphrase)
    with pytest.raises(InputRejected) as refused:
        read_secret(tmp_path / "k")
    assert SECRET not in str(refused.value)


def test_two_encrypted_files_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASPACE_PASSPHRASE", "correct horse")
    write_secret(tmp_path / "one", SECRET)
    (tmp_path / "one").rename(tmp_path / "two")
    with pytest.raises(InputRejected, match="does not open"):
        read_secret(tmp_path / "two")


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASPACE_PASSPHRASE", "correct horse")
    write_secret(tmp_path / "k", SECRET)
    stored = (tmp_path / "k").read_text(encoding="utf-8")
    write_secret(tmp_path / "k", SECRET)
    (tmp_path / "k").write_text(stored[:-8] + "AAAAAAA=", encoding="utf-8")
    with pytest.raises(InputRejected, match="damaged"):
        read_secret(tmp_path / "k")


def test_a_whole_home_can_be_kept_under_a_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrase = tmp_path / "passphrase"
    phrase.write_text("correct horse\n", encoding="utf-8")
    monkeypatch.setenv("DATASPACE_PASSPHRASE_FILE", str(phrase))
    values = {"name": "n", "kind": "government", "url": "http://127.0.0.1:1", "port": 1}
    home = create_home(tmp_path / "home", values)
    for key in (home.path / "keys").iterdir():
        assert key.read_text(encoding="utf-8").startswith(SEALED)
    assert len(home.account_key()) == 64
    home.signing_key()
    home.log_key()
