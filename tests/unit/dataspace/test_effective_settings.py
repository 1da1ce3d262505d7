"""What settings come to is printed whole, without a secret, and held against the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dataspace.cli.config_commands import BEGIN, END
from dataspace.errors import InputRejected
from dataspace.operations.effective import (
    OTHER_VARIABLES,
    Level,
    read_configuration,
    settings_table,
    shown,
)
from dataspace.settings import Settings

from ...nodes.command_line import dataspace

ROOT = Path(__file__).resolve().parents[3]
MEMBER = 'name = "firm"\nkind = "enterprise"\n\n# where it listens\nport = 8001\n'


def home(tmp_path: Path, more: str = "", text: str = MEMBER) -> Path:
    (tmp_path / "node.toml").write_text(text + more, encoding="utf-8")
    return tmp_path


def test_each_setting_says_its_value_and_where_that_comes_from(tmp_path: Path) -> None:
    found = read_configuration(home(tmp_path), {"DATASPACE_MAX_ROWS": "5", "PATH": "/bin"})
    told = {one.name: (one.value, one.source) for one in found.effective}
    assert told.keys() == Settings.model_fields.keys()
    assert told["port"] == (8001, "node.toml, line 5")
    assert told["host"] == ("127.0.0.1", "default")
    assert found.remarks == ()


def test_the_environment_wins_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASPACE_PORT", "9000")
    done = dataspace("config", "show", "--home", home(tmp_path), "--json")
    [port] = [one for one in json.loads(done.stdout)["settings"] if one["name"] == "port"]
    assert port == {"name": "port", "value": 9000, "from": "environment, DATASPACE_PORT"}


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://node:geheim@db.example:5432/node",
        "postgresql://db.example/node?user=node&password=geheim",
        "postgresql://db.example/node?sslpassword=geheim&passfile=/etc/pass",
        "postgresql://node:geheim@[broken/node",
        "https://node:geheim@collector.example/",
    ],
)
def test_no_password_in_an_address_is_printed(address: str) -> None:
    told = shown("database", address)
    assert "geheim" not in told
    if "passfile" in address:
        assert "pass" in told


def test_no_secret_is_printed_even_where_the_settings_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASPACE_METRICS_TOKEN", "short")
    monkeypatch.setenv("DATASPACE_DATABASE", "postgresql://node:geheim@db/node")
    monkeypatch.setenv("DATASPACE_PASSPHRASE", "streng-geheim")
    for words in (("show",), ("show", "--json"), ("check",), ("check", "--json")):
        done = dataspace("config", *words, "--home", home(tmp_path))
        printed = done.stdout + done.stderr
        assert "geheim" not in printed
        assert "short" not in printed.replace("shorter", "")
    assert done.returncode == 1


def test_unknown_names_are_named_in_the_file_and_in_the_environment(tmp_path: Path) -> None:
    found = read_configuration(
        home(tmp_path, "prot = 1\n"), {"DATASPACE_PROT": "1", "DATASPACE_HOME": "x"}
    )
    assert [(one.level, one.setting) for one in found.remarks] == [
        (Level.ERROR, "prot"),
        (Level.WARNING, "DATASPACE_PROT"),
    ]
    assert not found.usable


@pytest.mark.parametrize(
    ("more", "setting", "level"),
    [
        ('founder = true\noperator = "http://127.0.0.1:1"\n', "operator", Level.WARNING),
        ('chain = "http://127.0.0.1:8545"\n', "chain", Level.WARNING),
        ('founder = true\nchain = "http://a"\nchain_id = 5\n', "chain_id", Level.WARNING),
        ('local = false\nurl = "http://firm.example"\n', "local", Level.ERROR),
        ('host = "0.0.0.0"\n', "local", Level.WARNING),
        ('tls_key = "/k.pem"\n', "tls_key", Level.WARNING),
        ('cluster = "tcp://a:1"\nworker_processes = 2\n', "worker_processes", Level.WARNING),
        ('spu_public_host = "10.0.0.1"\n', "spu_listen_host", Level.WARNING),
        ('metrics_host = "127.0.0.1"\n', "metrics_host", Level.WARNING),
        ('metrics_port = 9100\nmetrics_host = "0.0.0.0"\n', "metrics_host", Level.ERROR),
        ('metrics_token = "0123456789abcdef"\n', "metrics_token", Level.WARNING),
        ("metrics_port = 8001\n", "metrics_port", Level.ERROR),
    ],
)
def test_settings_that_do_not_go_together_are_named(
    tmp_path: Path, more: str, setting: str, level: Level
) -> None:
    found = read_configuration(home(tmp_path, more), {})
    assert [(one.setting, one.level) for one in found.remarks] == [(setting, level)]
    assert all(one.remedy for one in found.remarks)


def test_a_home_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputRejected):
        read_configuration(tmp_path, {})
    with pytest.raises(InputRejected):
        read_configuration(home(tmp_path, text="name ="), {})


def test_the_documented_settings_are_those_of_this_version() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    documented = text.partition(BEGIN)[2].partition(END)[0].strip()
    hint = "run: dataspace config table --write docs/settings.md"
    assert documented == settings_table().strip(), hint
    assert not [name for name in OTHER_VARIABLES if name not in text]


def test_every_variable_that_the_program_reads_is_known() -> None:
    """Otherwise `config check` would call it one that nothing reads."""
    named = {
        name
        for source in (ROOT / "dataspace").rglob("*.py")
        for name in re.findall(r"DATASPACE_[A-Z][A-Z_]*[A-Z]", source.read_text(encoding="utf-8"))
    }
    settings = {f"DATASPACE_{name.upper()}" for name in Settings.model_fields}
    assert named - settings - OTHER_VARIABLES.keys() == set()


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, one in Settings.model_fields.items() if not one.description] == []
