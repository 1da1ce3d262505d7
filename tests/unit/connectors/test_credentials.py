import os
from pathlib import Path

import pytest

from connectors.credentials import MAX_SECRET_BYTES, secret_at
from connectors.errors import ConnectorError, InputRejected


def write(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return f"file:{path}"


def test_a_secret_comes_from_a_variable_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CITY_DB", "with space ")
    assert secret_at("env:CITY_DB") == "with space "
    assert secret_at(write(tmp_path / "a", "密码 \r\n".encode())) == "密码 "
    assert secret_at(write(tmp_path / "b", b"x", 0o400)) == "x"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o777])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(InputRejected, match=rf"mode 0{mode:o}\); run: chmod 600"):
        secret_at(write(tmp_path / "open", b"hunter2", mode))


@pytest.mark.parametrize("name", ["DATASPACE_PASSPHRASE", "dataspace_passphrase"])
def test_the_nodes_own_settings_are_no_secret_of_a_source(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(InputRejected, match="node's own settings"):
        secret_at(f"env:{name}")


@pytest.mark.parametrize("reference", ["hunter2", "env:", "file:hunter2", "hunter2:x", "", "file:"])
def test_a_secret_in_the_place_of_its_name_is_refused_and_not_repeated(reference: str) -> None:
    with pytest.raises(InputRejected, match="env:NAME") as refused:
        secret_at(reference)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\r\n", "is empty"),
        (b"\xff\xfehunter2", "not UTF-8"),
        (b"x" * (MAX_SECRET_BYTES + 1), "longer than"),
        (b"hunter2\0", "or a null character"),
        (b"hunter2\nsecond line", "more than one line"),
    ],
)
def test_a_file_that_is_no_secret_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InputRejected, match=said) as refused:
        secret_at(write(tmp_path / "s", content))
    assert "hunter2" not in str(refused.value)


def test_a_variable_or_file_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CITY_DB", raising=False)
    with pytest.raises(InputRejected, match="CITY_DB is not set"):
        secret_at("env:CITY_DB")
    with pytest.raises(InputRejected, match="no file gone"):
        secret_at(f"file:{tmp_path}/gone")
    with pytest.raises(InputRejected, match="is a directory"):
        secret_at(f"file:{tmp_path}")


def test_a_secret_is_not_waited_for(tmp_path: Path) -> None:
    # Opening a pipe would stand until somebody writes.
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConnectorError):
        secret_at(f"file:{tmp_path / 'pipe'}")
