"""A node's home directory: its settings file, its keys, and where everything else lies.

    home/
      node.toml        settings, readable; nothing secret
      keys/            one file a key, each 0600 in a directory 0700
      node.sqlite      the node's database, unless `database` names another
      chain.sqlite     the embedded chain, at the founder of a space only
      logs/            what the demo's processes print

Any setting can be overridden by an environment variable `DATASPACE_<NAME>`.
"""

from __future__ import annotations

import secrets
import socket
import time
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dataspace.errors import InputRejected
from dataspace.secret_files import read_secret, write_secret

SETTINGS_FILE = "node.toml"


class ParticipantKind(StrEnum):
    """What a participant of the space is, as its membership credential says."""

    OPERATOR = "operator"
    GOVERNMENT = "government"
    ENTERPRISE = "enterprise"
    PERSONAL = "personal"
    CONSUMER = "consumer"
    REGULATOR = "regulator"


def _checked_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError("expected an http:// or https:// address such as http://127.0.0.1:8001")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_checked_url)]


class Settings(BaseSettings):
    """What `node.toml` and `DATASPACE_*` may say; an unknown name is refused as a typing slip."""

    model_config = SettingsConfigDict(env_prefix="DATASPACE_", extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    kind: ParticipantKind
    url: Url | None = Field(
        default=None, description="where peers reach this node; its identifier is made from it"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int | None = Field(default=None, ge=1, le=65535)
    founder: bool = Field(default=False, description="this node runs the space's operator service")
    operator: Url | None = Field(default=None, description="address of the space's operator")
    database: str | None = Field(default=None, description="SQLAlchemy URL; SQLite in the home")
    chain: Url | None = Field(
        default=None, description="founder only: an EVM JSON-RPC to use in place of our own chain"
    )
    chain_id: int = Field(default=440300, ge=1, description="founder only: of our own chain")
    chain_poa: bool = Field(
        default=False, description="the chain is of the proof-of-authority kind (longer headers)"
    )
    chain_gas_price_wei: int | None = Field(
        default=None, ge=0, description="send legacy transactions at this price; 0 on a free chain"
    )
    chain_confirmations: int = Field(
        default=0, ge=0, le=1000, description="blocks after ours before an anchor counts"
    )
    post_quantum: bool = Field(
        default=False, description="checkpoints are signed with ML-DSA-44 too, beside Ed25519"
    )
    local: bool = Field(
        default=True,
        description="peers on this machine over plain http are allowed; never in production",
    )
    anchor_interval_s: float = Field(default=2.0, ge=0.1, description="least time between anchors")
    computation_deadline_s: float = Field(default=300.0, ge=5.0, le=86400.0)
    zone_list_lifetime_s: int = Field(
        default=300,
        ge=1,
        le=3600,
        description="founder only: for how long a signed list of a zone's members counts, which is "
        "how long an expelled one may still be taken for a member",
    )
    version_check_s: float | None = Field(
        default=None,
        ge=1.0,
        description="how often datasets are looked at for changes; else by how often they change",
    )
    data_token_s: float = Field(
        default=600.0, ge=1.0, le=86400.0, description="how long rows can be fetched with a token"
    )
    max_rows: int = Field(default=20_000_000, ge=1, description="rows one computation may read")
    worker_processes: int | None = Field(
        default=None, ge=1, le=1024, description="processes that compute; one a processor"
    )
    worker_memory_mb: int | None = Field(
        default=None, ge=128, description="memory of one of them; no limit"
    )
    spu_python: Path | None = Field(
        default=None, description="an interpreter that has SecretFlow's spu, for psi-both/1"
    )
    spu_listen_host: str = Field(
        default="127.0.0.1", description="address on which that engine waits for a peer's"
    )
    spu_public_host: str = Field(default="127.0.0.1", description="how peers reach that address")
    cluster: str | None = Field(
        default=None,
        description="scheduler of the owner's own Dask cluster, tcp://HOST:PORT; extra `cluster`",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment wins over the file, so that one node can be started differently once.
        return env_settings, init_settings


class Home:
    """A node's directory. Opening one that was never initialised says what to run."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.settings = _load_settings(self.path)

    @property
    def url(self) -> str:
        """Where peers reach this node. Raises InputRejected for a home that serves nobody."""
        if self.settings.url is None:
            raise InputRejected(
                f"{self.path} is the home of somebody who runs no server",
                remedy="use it with: dataspace audit",
            )
        return self.settings.url

    @property
    def database_url(self) -> str:
        return self.settings.database or f"sqlite:///{self.path / 'node.sqlite'}"

    @property
    def chain_path(self) -> Path:
        return self.path / "chain.sqlite"

    def signing_key(self) -> Ed25519PrivateKey:
        """Signs tokens, orders, transcripts and, at an operator, credentials."""
        return _load_ed25519(self.path / "keys" / "signing.pem")

    def log_key(self) -> Ed25519PrivateKey:
        """Signs the checkpoints of this node's evidence log, and nothing else."""
        return _load_ed25519(self.path / "keys" / "log.pem")

    def post_quantum_log_key(self) -> MLDSA44PrivateKey:
        """The log's second key, where `post_quantum` is set; made when it is first asked for."""
        path = self.path / "keys" / "log-mldsa44.pem"
        if not path.exists():
            write_secret(path, _pem(MLDSA44PrivateKey.generate()))
        key = load_pem_private_key(read_secret(path).encode(), password=None)
        if not isinstance(key, MLDSA44PrivateKey):
            raise InputRejected(f"{path.name} is no ML-DSA-44 key", remedy="restore it from backup")
        return key

    @property
    def _next_log_key_path(self) -> Path:
        return self.path / "keys" / "log.next.pem"

    def has_next_log_key(self) -> bool:
        """Whether the log's key is being changed."""
        return self._next_log_key_path.exists()

    def make_next_log_key(self) -> None:
        write_secret(self._next_log_key_path, _pem(Ed25519PrivateKey.generate()))

    def next_log_key(self) -> Ed25519PrivateKey:
        return _load_ed25519(self._next_log_key_path)

    def use_next_log_key(self) -> None:
        """Put the new log key in place; the old one is kept under the time it was retired."""
        current = self.path / "keys" / "log.pem"
        retired = read_secret(current)
        write_secret(self.path / "keys" / f"log.retired-{int(time.time())}.pem", retired)
        # Written again under its new name: an encrypted secret is bound to its file's name.
        write_secret(current, read_secret(self._next_log_key_path))
        self._next_log_key_path.unlink()

    def account_key(self) -> str:
        """Hex private key of this node's account on the chain."""
        return read_secret(self.path / "keys" / "account.key")

    def api_key(self) -> str:
        """The owner's key to this node's own API."""
        return read_secret(self.path / "keys" / "api.key")

    @property
    def _invitation_path(self) -> Path:
        return self.path / "keys" / "invitation.key"

    def invitation(self) -> str | None:
        """The invitation that lets this node join its space; kept until the node has joined."""
        path = self._invitation_path
        return read_secret(path) if path.exists() else None

    def keep_invitation(self, code: str) -> None:
        write_secret(self._invitation_path, code)

    def forget_invitation(self) -> None:
        self._invitation_path.unlink(missing_ok=True)


def create_home(path: Path, values: dict[str, Any], *, invitation: str | None = None) -> Home:
    """Make a node's home with fresh keys. Refuses a directory that already is one."""
    path = path.expanduser().resolve()
    if (path / SETTINGS_FILE).exists():
        raise InputRejected(
            f"{path} already is a node's home",
            remedy="choose another --home, or serve this one",
        )
    _validated(values)
    keys = path / "keys"
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    keys.mkdir(exist_ok=True, mode=0o700)
    keys.chmod(0o700)
    for name in ("signing.pem", "log.pem"):
        write_secret(keys / name, _pem(Ed25519PrivateKey.generate()))
    # Any 32 random bytes are a secp256k1 key, but for a chance of 2^-127.
    write_secret(keys / "account.key", secrets.token_hex(32))
    write_secret(keys / "api.key", secrets.token_urlsafe(32))
    # Written last: a home without its settings file is no home, and init can run again.
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if value is not None]
    (path / SETTINGS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    home = Home(path)
    if invitation is not None:
        home.keep_invitation(invitation)
    return home


def free_port() -> int:
    """A port of the loopback address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _load_settings(path: Path) -> Settings:
    try:
        values = tomllib.loads((path / SETTINGS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputRejected(
            f"{path} is not a node's home: it has no {SETTINGS_FILE}",
            remedy=f"run: dataspace init --home {path} --name NAME --kind KIND",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise InputRejected(
            f"{path / SETTINGS_FILE} is not valid TOML: {err}", remedy="correct that line"
        ) from err
    return _validated(values)


def _validated(values: dict[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise InputRejected(
            f"setting {where}: {first['msg']}",
            remedy=f"correct it in {SETTINGS_FILE} or in DATASPACE_{where.upper()}",
        ) from err


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _pem(key: Ed25519PrivateKey | MLDSA44PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _load_ed25519(path: Path) -> Ed25519PrivateKey:
    key = load_pem_private_key(read_secret(path).encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise InputRejected(f"{path.name} is not an Ed25519 key", remedy="restore it from backup")
    return key
