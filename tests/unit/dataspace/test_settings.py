"""A home holds keys that only its owner can read, and says plainly what is wrong with it."""

import stat
from pathlib import Path

import pytest

from dataspace.errors import InputRejected
from dataspace.home import Home, create_home

VALUES = {
    "name": 'Bureau "民政"',
    "kind": "government",
    "url": "http://127.0.0.1:8001",
    "port": 8001,
    "founder": True,
}


def test_a_new_home_opens_with_what_it_was_made_with(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home", VALUES)
    assert home.settings.name == 'Bureau "民政"'
    assert Home(home.path).settings == home.settings
    assert len(home.api_key()) >= 40


def test_every_secret_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home", VALUES, invitation="an-invitation-code")
    keys = list((home.path / "keys").iterdir())
    assert {key.name for key in keys} == {
        "root.key",
        "signing.pem",
        "log.pem",
        "account.key",
        "api.key",
        "invitation.key",
    }
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE((home.path / "keys").stat().st_mode) == 0o700


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home", VALUES)
    (home.path / "keys" / "api.key").chmod(0o644)
    with pytest.raises(InputRejected, match="can be read by others") as refused:
        home.api_key()
    assert "chmod 600" in (refused.value.remedy or "")


def test_a_missing_key_is_not_replaced_silently(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home", VALUES)
    (home.path / "keys" / "signing.pem").unlink()
    with pytest.raises(InputRejected, match="missing"):
        home.signing_key()


def test_a_home_is_not_made_over_another(tmp_path: Path) -> None:
    create_home(tmp_path / "home", VALUES)
    with pytest.raises(InputRejected, match="already is"):
        create_home(tmp_path / "home", VALUES)


def test_a_directory_that_is_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="not a node's home") as refused:
        Home(tmp_path)
    assert "dataspace init" in (refused.value.remedy or "")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"port": 70000}, "port"),
        ({"kind": "village"}, "kind"),
        ({"url": "ftp://x"}, "url"),
        ({"colour": "red"}, "colour"),
        ({"name": ""}, "name"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, change: dict[str, object], named: str) -> None:
    with pytest.raises(InputRejected, match=f"setting {named}"):
        create_home(tmp_path / "home", {**VALUES, **change})
    assert not (tmp_path / "home" / "node.toml").exists()


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = create_home(tmp_path / "home", VALUES)
    monkeypatch.setenv("DATASPACE_ANCHOR_INTERVAL_S", "9")
    assert Home(home.path).settings.anchor_interval_s == 9


def test_broken_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("name = [", encoding="utf-8")
    with pytest.raises(InputRejected, match="not valid TOML"):
        Home(tmp_path)


def test_an_invitation_that_is_none_is_refused_before_a_home_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="16 to 128 letters, got 5") as refused:
        create_home(tmp_path / "home", {"name": "A", "kind": "enterprise"}, invitation="wrong")
    assert "wrong" not in str(refused.value)
    assert not (tmp_path / "home").exists()
