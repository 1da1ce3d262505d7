"""TLS at both ends: the certificate this node shows, and the authorities by which it knows peers.

TLS 1.3 where both can, 1.2 with forward secrecy where one cannot, nothing older. A client always
verifies; there is no setting that turns it off.
"""

from __future__ import annotations

import os
import ssl
import stat
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2
import structlog

from dataspace.errors import InputRejected
from dataspace.settings import Settings

log = structlog.get_logger("dataspace.tls")

# For TLS 1.2: ephemeral keys and authenticated encryption; 1.3 has no others.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
# How often the files are looked at: a renewed certificate counts this soon, without a signal.
LOOK_S: Final = 10.0
# The environment's name of the setting `tls_ca`, for what is run without a home.
CA_VARIABLE: Final = "DATASPACE_TLS_CA"

# Size, time and number of a file: what differs after it was replaced or written anew.
_Seen = tuple[tuple[int, int, int], ...]


class ServerCertificate:
    """The certificate with which a node answers, read again when its files change.

    Invariant: `context` holds a certificate and the key that belongs to it. Files that do not make
    a pair leave it as it was, so that a renewal caught half-way ends no service.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises InputRejected for files that are no use, and for a key that others can read."""
        self._certificate, self._key = certificate, key
        # Taken again by a signal that comes while it is held.
        self._lock = threading.RLock()
        self._seen = self._look()
        _verify_private(key)
        self.context = _new_context()
        self._load(self.context)

    @classmethod
    def of(cls, settings: Settings) -> ServerCertificate | None:
        """The certificate the settings name; None where a proxy speaks TLS, or nobody does."""
        if settings.tls_certificate is None and settings.tls_key is None:
            return None
        if settings.tls_certificate is None or settings.tls_key is None:
            raise InputRejected(
                "tls_certificate and tls_key belong together, and one is missing",
                remedy="name both in node.toml, or neither where a proxy speaks TLS",
            )
        return cls(settings.tls_certificate.expanduser(), settings.tls_key.expanduser())

    def reload(self) -> None:
        """Take what the files hold now. Raises InputRejected and keeps the old where it is no use.

        Connections there are keep the certificate they began with.
        """
        with self._lock:
            seen = self._look()
            _verify_private(self._key)
            # Loaded into a context of its own first: a certificate without its key must not get
            # half-way into the one that answers.
            self._load(_new_context())
            self._load(self.context)
            self._seen = seen

    def reload_if_changed(self) -> bool:
        """`reload` where a file is another than the one taken; whether it was."""
        if self._look() == self._seen:
            return False
        self.reload()
        return True

    def watch(self, stop: threading.Event, look_s: float = LOOK_S) -> None:
        """Look at the files now and then until `stop`; for a thread of its own."""
        while not stop.wait(look_s):
            self.try_reload(self.reload_if_changed)

    def try_reload(self, how: Callable[[], bool | None]) -> None:
        """`how`, and what came of it in the log: the node goes on with what it has."""
        try:
            if how() is not False:
                log.info("the TLS certificate was read again")
        except InputRejected as err:
            log.error("the TLS certificate was not changed", error=err.sentence, remedy=err.remedy)

    def _look(self) -> _Seen:
        try:
            found = [path.stat() for path in (self._certificate, self._key)]
        except OSError as err:
            raise _unusable(err) from err
        return tuple((one.st_size, one.st_mtime_ns, one.st_ino) for one in found)

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # Asked for a passphrase, OpenSSL would ask the terminal, where nobody sits.
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except (OSError, ssl.SSLError, ValueError) as err:
            raise _unusable(err) from err


def client_trust(ca: Path | None) -> ssl.SSLContext:
    """How a client knows the servers it calls: by the authorities in `ca`, else the machine's.

    Without `ca` it is the same for all clients of a process, and nobody's to change. Raises
    InputRejected where that file holds none.
    """
    if ca is None:
        return _machines_trust()
    try:
        context = ssl.create_default_context(cafile=str(ca.expanduser()))
    except (OSError, ssl.SSLError) as err:
        raise InputRejected(
            "tls_ca cannot be used: it is no file of certificates in PEM",
            remedy="name a file with the certificates of the space's authorities",
        ) from err
    return _hardened(context)


def trust_for(url: str, ca: Path | None) -> ssl.SSLContext:
    """`client_trust` for a client of one address. Where that is of plain http it trusts nobody, as
    reading the machine's authorities takes longer than many an answer."""
    if urlsplit(url).scheme == "https":
        return client_trust(ca)
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def _machines_trust() -> ssl.SSLContext:
    return _hardened(httpx2.create_ssl_context(trust_env=False))


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    return context


def ca_of_environment() -> Path | None:
    """The authorities for what is run without a home, such as an audit of public logs."""
    given = os.environ.get(CA_VARIABLE)
    return Path(given) if given else None


def _new_context() -> ssl.SSLContext:
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    # A client that begins anew for ever costs us and not itself; 1.3 knows no such thing.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _verify_private(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as err:
        raise _unusable(err) from err
    if stat.S_IMODE(mode) & 0o077:
        raise InputRejected(
            f"the TLS key can be read by others (mode {stat.S_IMODE(mode):04o})",
            remedy="chmod 600 the file that tls_key names",
        )


def _no_passphrase() -> str:
    raise ValueError("the TLS key is under a passphrase")


def _unusable(err: Exception) -> InputRejected:
    reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
    return InputRejected(
        f"the TLS certificate and key cannot be used: {reason}",
        remedy="check that tls_certificate names a PEM chain, the node's own certificate first, "
        "and tls_key its key, without a passphrase",
    )
