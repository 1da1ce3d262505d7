"""A node's home directory: its settings file, its keys, and where everything else lies.

    home/
      node.toml        settings (`dataspace.settings`), readable; nothing secret
      keys/            one file a key, each 0600 in a directory 0700
      node.sqlite      the node's database, unless `database` names another
      chain.sqlite     the embedded chain, at the founder of a space only
      logs/            what the demo's processes print

Opening one gives its settings; keys are read from their files when they are asked for.
"""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dataspace.errors import InputRejected
from dataspace.identity.key_files import SECOND_KEY_FILE, KeyFiles
from dataspace.identity.keys import SigningAlgorithm, SigningKey
from dataspace.sealing_suites import SealingSuite
from dataspace.secret_files import read_secret, write_secret
from dataspace.settings import SETTINGS_FILE, load_settings, validated

# As applications take them.
INVITATION_LETTERS = (16, 128)


class Home:
    """A node's directory. Opening one that was never initialised says what to run."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.settings = load_settings(self.path)

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
        _verify_invitation(code)
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
    if invitation is not None:
        _verify_invitation(invitation)
    path = path.expanduser().resolve()
    if (path / SETTINGS_FILE).exists():
        raise InputRejected(
            f"{path} already is a node's home",
            remedy="choose another --home, or serve this one",
        )
    validated(values)
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


def _verify_invitation(code: str) -> None:
    """Raises InputRejected for what no operator gives out, without quoting it."""
    least, most = INVITATION_LETTERS
    if not least <= len(code) <= most:
        raise InputRejected(
            f"invitation: expected {least} to {most} letters, got {len(code)}",
            remedy="give the code whole, as dataspace invite printed it",
        )
