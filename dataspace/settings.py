"""A node's settings: what its `node.toml` may say, and how it is read.

Any setting can be overridden by an environment variable `DATASPACE_<NAME>`.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

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


def load_settings(path: Path) -> Settings:
    """What the `node.toml` of the home at `path` and the environment say. Raises InputRejected."""
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
    return validated(values)


def validated(values: dict[str, Any]) -> Settings:
    """These values as settings, the environment's before them. Raises InputRejected."""
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
