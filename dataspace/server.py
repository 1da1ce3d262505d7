"""Runs a node's application under uvicorn until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

import structlog
import uvicorn

from dataspace.errors import InputRejected
from dataspace.node import Node
from dataspace.settings import Home
from dataspace.web.app import create_app

GRACE_S = 5


def configure_logging() -> None:
    """One event a line: for people on a terminal, JSON otherwise."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=terminal)
            if terminal
            else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


def serve_home(home: Home) -> None:
    """Serve the node of this home. Returns after a clean stop on SIGINT or SIGTERM.

    Raises InputRejected where the port is taken.
    """
    configure_logging()
    # The database holds results; nothing this process creates is for others to read.
    os.umask(0o077)
    settings = home.settings
    if settings.port is None:
        raise InputRejected("this home has no port to listen on", remedy="set port in node.toml")
    node = Node(home)
    config = uvicorn.Config(
        create_app(node),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        # Nobody here asks for the caller's address, and whoever says X-Forwarded-For may lie.
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
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


def _stop_with_parent(server: uvicorn.Server) -> None:
    """Stop when the process that started us is gone, so that a killed demo leaves no orphan.

    The parent holds the other end of our standard input; it closes when the parent ends.
    """

    def watch() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        server.should_exit = True
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
