"""Stopping without dropping anything: first no new work, then an end to what is in hand.

At the first SIGTERM or SIGINT the node says that it is not ready, begins no new work, and goes on
answering: its peers' frames are what the computations in hand wait for. When nothing is in hand any
more, or `drain_s` is over, the server stops. A second signal stops it at once. Whatever was not
finished then is taken up at the next start, or by another replica, as after any other end.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from socket import socket
from types import FrameType
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn

from dataspace.operations.notifying import READY, STOPPING, notify

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.draining")

LOOK_S: Final = 0.02


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which has its node finish its work before it stops."""

    def __init__(self, config: uvicorn.Config, node: Node) -> None:
        super().__init__(config)
        self._node = node
        self._draining = False
        self._at_once = threading.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Open the port, and tell the service manager that it is open."""
        await super().startup(sockets)
        if self.started:
            notify(os.environ, READY)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called in the main thread for SIGINT and SIGTERM."""
        if not self._draining:
            self._draining = True
            notify(os.environ, STOPPING)
            threading.Thread(
                target=self._drain, args=(sig, frame), name="drain", daemon=True
            ).start()
            return
        self._at_once.set()
        super().handle_exit(signal.SIGTERM, frame)

    def stop_at_once(self) -> None:
        """Stop without waiting for the work in hand."""
        self._draining = True
        self._at_once.set()
        self.should_exit = True

    def _drain(self, sig: int, frame: FrameType | None) -> None:
        self._node.drain()
        until = time.monotonic() + self._node.home.settings.drain_s
        while not self._node.idle() and time.monotonic() < until:
            if self._at_once.wait(LOOK_S):
                return
        log.info("drained", idle=self._node.idle())
        super().handle_exit(sig, frame)
