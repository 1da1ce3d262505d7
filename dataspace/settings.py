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
from pydantic import (
    AfterValidator,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dataspace.access.permissions import HOLDABLE, Permission, Role
from dataspace.access.trust import Trust
from dataspace.errors import InputRejected
from dataspace.identity.addresses import AddressPolicy
from dataspace.identity.key_files import SECOND_KEY_FILE, KeyFiles
from dataspace.identity.keys import SigningAlgorithm, SigningKey
from dataspace.sealing_suites import SealingSuite
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


class LogLevel(StrEnum):
    """How much of what happens is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """What a line of the log looks like."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


def _checked_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError("expected an http:// or https:// address such as http://127.0.0.1:8001")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_checked_url)]
Did = Annotated[str, Field(pattern=r"^did:[a-z0-9]+:[^\s#?/]+$", max_length=512)]


def _checked_issuer(value: str) -> str:
    _checked_url(value)
    # As it is, since every token repeats it letter by letter: with its last slash, or without one.
    return value


Issuer = Annotated[str, AfterValidator(_checked_issuer)]


class Settings(BaseSettings):
    """What `node.toml` and `DATASPACE_*` may say; an unknown name is refused as a typing slip."""

    model_config = SettingsConfigDict(env_prefix="DATASPACE_", extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200, description="what people call the participant")
    kind: ParticipantKind = Field(
        description="what it is in the space: operator, government, enterprise, personal, "
        "consumer or regulator"
    )
    url: Url | None = Field(
        default=None, description="where peers reach this node; its identifier is made from it"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="port to listen on; `init` chooses a free one"
    )
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
        default=False,
        description="agreements and checkpoints are signed with ML-DSA-44, too",
    )
    local: bool = Field(
        default=True,
        description="peers on this machine over plain http are allowed; never in production",
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM chain with which this node speaks TLS itself"
    )
    tls_key: Path | None = Field(default=None, description="its private key, PEM, 0600")
    tls_ca: Path | None = Field(
        default=None,
        description="PEM of the authorities by which peers are known, in place of the machine's",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(),
        max_length=64,
        description="networks of the proxies before this node, whose X-Forwarded-For counts",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        max_length=64,
        description="names by which this node may be called, besides its own and this machine's",
    )
    rate_per_address: float = Field(
        default=500.0, gt=0, description="requests a second from one address, before it is known"
    )
    rate_per_member: float = Field(
        default=200.0,
        gt=0,
        description="messages a second from one member; catalogues, orders: less",
    )
    max_open_negotiations: int = Field(
        default=1000, ge=1, description="negotiations one member may have open here"
    )
    max_connections: int = Field(
        default=1000, ge=10, le=100_000, description="connections, and requests, at one time"
    )
    replica: str = Field(
        default="main",
        pattern=r"^[a-z0-9][a-z0-9-]{0,39}$",
        description="this process's name among those that serve one node on one PostgreSQL",
    )
    replica_url: Url | None = Field(
        default=None, description="where its other replicas reach this one; else host and port"
    )
    drain_s: float = Field(
        default=10.0,
        ge=0.0,
        le=86400.0,
        description="how long work in hand may go on after SIGTERM",
    )
    anchor_interval_s: float = Field(default=2.0, ge=0.1, description="least time between anchors")
    computation_deadline_s: float = Field(
        default=300.0, ge=5.0, le=86400.0, description="life of an order"
    )
    zone_list_lifetime_s: int = Field(
        default=300,
        ge=1,
        le=3600,
        description="founder only: for how long a signed list of a zone's members counts, which is "
        "how long an expelled one may still be taken for a member",
    )
    status_list_lifetime_s: int = Field(
        default=3600,
        ge=2,
        le=86400,
        description="founder only: for how long a signed list of revoked and suspended members "
        "counts; within this time the last of them is refused everywhere, and for so long the "
        "space goes on where the operator is away",
    )
    key_announced_s: float = Field(
        default=1200.0,
        ge=0.0,
        le=30 * 86400.0,
        description="for how long a new signing key is listed before it is used; longer than "
        "peers keep a DID document",
    )
    key_overlap_s: float = Field(
        default=3600.0,
        ge=0.0,
        le=30 * 86400.0,
        description="for how long the earlier signing key still authenticates afterwards",
    )
    allowed_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(),
        max_length=64,
        description="private networks in which peers of an intranet may be called",
    )
    trusted_issuers: tuple[Did, ...] = Field(
        default=(),
        max_length=64,
        description="issuers besides the operator whose membership credentials count here",
    )
    token_client_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="a program of the owner that may have self-issued tokens of this node",
    )
    token_client_secret_h: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of that program's secret, 32 random bytes or more, in hex",
    )
    version_check_s: float | None = Field(
        default=None,
        ge=1.0,
        description="how often datasets are looked at for changes; else by how often they change",
    )
    crawl_interval_s: float = Field(
        default=900.0,
        ge=5.0,
        description="how often the catalogues of the space's participants are read for searches",
    )
    data_token_s: float = Field(
        default=600.0, ge=1.0, le=86400.0, description="how long rows can be fetched with a token"
    )
    oidc_issuer: Issuer | None = Field(
        default=None, description="the owner's identity provider, as its own configuration names it"
    )
    oidc_audience: str | None = Field(
        default=None, min_length=1, max_length=500, description="what its access tokens are for"
    )
    oidc_roles_claim: str = Field(
        default="roles", description="the claim that names roles, such as realm_access.roles"
    )
    oidc_roles: dict[str, Role] = Field(
        default={}, max_length=100, description="what its roles are here: owner, steward, …"
    )
    two_persons: tuple[Permission, ...] = Field(
        default=(),
        max_length=len(HOLDABLE),
        description="acts that are held until a second person approves them, such as key.rotate",
    )
    request_lifetime_s: float = Field(
        default=7 * 86400.0, ge=60.0, le=90 * 86400.0, description="how long such an act waits"
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
    log_level: LogLevel = Field(
        default=LogLevel.INFO, description="events from this level on are logged"
    )
    log_format: LogFormat = Field(
        default=LogFormat.AUTO,
        description="form of the log: json, text, or auto: text on a terminal, JSON elsewhere",
    )
    metrics_token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="what a scraper sends to metrics_port as bearer token; from the environment",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="address of the separate port for metrics"
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="a separate port for metrics, which asks for metrics_token where one is set",
    )
    otel_endpoint: Url | None = Field(
        default=None,
        description="base address of the owner's OpenTelemetry collector, such as "
        "http://127.0.0.1:4318; extra `otel`",
    )
    disk_floor_mb: int = Field(
        default=256, ge=0, description="with less free disk than this the node is not ready"
    )

    @model_validator(mode="after")
    def _access_is_whole(self) -> Settings:
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("oidc_issuer and oidc_audience belong together: set both, or neither")
        wrong = sorted(set(self.two_persons) - HOLDABLE)
        if wrong:
            raise ValueError(f"two_persons: {wrong[0]} is nothing that can wait for a second one")
        return self

    @property
    def identity_provider(self) -> Trust | None:
        """Whose access tokens count at the owner's side; None for nobody's."""
        if self.oidc_issuer is None or self.oidc_audience is None:
            return None
        return Trust(
            self.oidc_issuer, self.oidc_audience, self.oidc_roles_claim, dict(self.oidc_roles)
        )

    @property
    def address_policy(self) -> AddressPolicy:
        """Which addresses of peers are called."""
        return AddressPolicy(self.local, self.allowed_networks)

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
    def replica_url(self) -> str:
        """Where this process is reached by the others that serve its node."""
        settings = self.settings
        scheme = "https" if settings.tls_certificate else "http"
        return settings.replica_url or f"{scheme}://{settings.host}:{settings.port}"

    @property
    def database_url(self) -> str:
        return self.settings.database or f"sqlite:///{self.path / 'node.sqlite'}"

    @property
    def chain_path(self) -> Path:
        return self.path / "chain.sqlite"

    @property
    def key_files(self) -> KeyFiles:
        """The files of this node's identity."""
        return KeyFiles(self.path / "keys")

    def signing_key(self) -> SigningKey:
        """Signs tokens, orders, transcripts and, at an operator, credentials."""
        return self.key_files.current()

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

    def retired_log_keys(self) -> list[Ed25519PrivateKey]:
        """The log's earlier keys, the newest one first."""
        paths = sorted((self.path / "keys").glob("log.retired-*.pem"), reverse=True)
        return [_load_ed25519(path) for path in paths]

    def account_key(self) -> str:
        """Hex private key of this node's account on the chain."""
        return read_secret(self.path / "keys" / "account.key")

    def api_key(self) -> str:
        """The owner's key to this node's own API."""
        return read_secret(self.path / "keys" / "api.key")

    def replace_api_key(self) -> None:
        """Write a new one; the node that runs keeps the old one until it is started again."""
        write_secret(self.path / "keys" / "api.key", secrets.token_urlsafe(32))

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


def create_home(
    path: Path,
    values: dict[str, Any],
    *,
    invitation: str | None = None,
    algorithm: SigningAlgorithm = SigningAlgorithm.ED25519,
    sealing: SealingSuite = SealingSuite.AES,
) -> Home:
    """Make a node's home with fresh keys, its own of this algorithm, sealed with `sealing` where
    the environment has a passphrase. Refuses a directory that already is one."""
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
    KeyFiles(keys).make(algorithm, sealing)
    if values.get("post_quantum"):
        write_secret(keys / SECOND_KEY_FILE, _pem(MLDSA44PrivateKey.generate()))
    write_secret(keys / "log.pem", _pem(Ed25519PrivateKey.generate()))
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
        if first["type"] == "extra_forbidden":
            raise InputRejected(
                f"{SETTINGS_FILE} names the setting {where}, which there is not",
                remedy="remove it, or correct its name: dataspace config show lists them",
            ) from err
        raise InputRejected(
            f"setting {where}: {first['msg']}",
            remedy=f"correct it in {SETTINGS_FILE} or in DATASPACE_{where.upper()}",
        ) from err


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _pem(key: Ed25519PrivateKey | MLDSA44PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _load_ed25519(path: Path) -> Ed25519PrivateKey:
    key = load_pem_private_key(read_secret(path).encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise InputRejected(f"{path.name} is not an Ed25519 key", remedy="restore it from backup")
    return key
