"""Runs a node's application under uvicorn until it is told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading

import uvicorn

from dataspace.draining import DrainingServer
from dataspace.errors import InputRejected
from dataspace.home import Home
from dataspace.node import Node
from dataspace.operations.logs import configure_logging
from dataspace.serving import serving_alone
from dataspace.store.engine import shares
from dataspace.tls import ServerCertificate
from dataspace.web import problems
from dataspace.web.app import create_app
from dataspace.web.connections import bounded_protocol
from dataspace.web.limits import OwnHosts

GRACE_S = 5
# Longer than our own clients keep a connection they do not use (5 s): were it the same, the server
# would now and then close one just as the next request is on its way.
KEEP_ALIVE_S = 15


def serve_home(home: Home) -> None:
    """Serve the node of this home. Returns after a clean stop on SIGINT or SIGTERM.

    Raises InputRejected where the port is taken.
    """
    settings = home.settings
    configure_logging(settings.log_level, settings.log_format)
    # The database holds results; nothing this process creates is for others to read.
    os.umask(0o077)
    if settings.port is None:
        raise InputRejected("this home has no port to listen on", remedy="set port in node.toml")
    certificate = ServerCertificate.of(settings)
    _verify_scheme(home, certificate)
    with serving_alone(home, settings.replica, shared=shares(home.database_url)):
        _serve(home, certificate)


def _serve(home: Home, certificate: ServerCertificate | None) -> None:
    settings = home.settings
    assert settings.port is not None
    node = Node(home)
    config = uvicorn.Config(
        OwnHosts(create_app(node), settings=settings, refuse=problems.refusal),
        http=bounded_protocol(settings),
        # There are none, and none of the libraries for them is let in.
        ws="none",
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        host=settings.host,
        port=settings.port,
        # What uvicorn logs goes where everything goes.
        log_config=None,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        # Whose X-Forwarded-For counts is decided in dataspace.web.limits.
        proxy_headers=False,
    )
    server = DrainingServer(config, node)
    node.replicas.on_replaced = server.stop_at_once
    closing = threading.Event()
    if certificate is not None:
        _keep_certificate(certificate, closing)
    if os.environ.get("DATASPACE_STOP_WITH_PARENT"):
        _stop_with_parent(server)
    # uvicorn stops on these and then raises them again for whoever handled them before; here that
    # is nobody, so that a clean stop ends with 0.
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, lambda *_: None)
    try:
        server.run()
    except SystemExit as stopped:
        raise InputRejected(
            f"the node cannot listen on {settings.host}:{settings.port}",
            remedy="stop what uses the port, or init a node with another --port",
        ) from stopped
    finally:
        closing.set()


def _verify_scheme(home: Home, certificate: ServerCertificate | None) -> None:
    """Peers call the node's url: a certificate behind an http one would be met by no TLS."""
    if certificate is not None and not home.url.startswith("https:"):
        raise InputRejected(
            "this node has a TLS certificate, and its url begins with http:",
            remedy="init the node with --url https://NAME:PORT; its identity is made from the url",
        )


def _keep_certificate(certificate: ServerCertificate, closing: threading.Event) -> None:
    """Read the certificate again when its files change, and at once on SIGHUP."""
    threading.Thread(
        target=certificate.watch, args=(closing,), name="certificate-watch", daemon=True
    ).start()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: certificate.try_reload(certificate.reload))


def _stop_with_parent(server: DrainingServer) -> None:
    """Stop when the process that started us is gone, so that a killed demo leaves no orphan.

    The parent holds the other end of our standard input; it closes when the parent ends.
    """

    def watch() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        server.stop_at_once()
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
