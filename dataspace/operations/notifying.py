"""Telling the service manager how it goes (sd_notify(3)): a datagram to the socket it names."""

from __future__ import annotations

import socket
from collections.abc import Mapping

NOTIFY_SOCKET, WATCHDOG_USEC = "NOTIFY_SOCKET", "WATCHDOG_USEC"
READY, STOPPING, ALIVE = b"READY=1", b"STOPPING=1", b"WATCHDOG=1"


def notify(environment: Mapping[str, str], state: bytes) -> None:
    """Say `state` to the service manager, where one started us and asked to be told.

    Never raises: whether somebody listens must not decide whether a node runs.
    """
    address = environment.get(NOTIFY_SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    # "@" stands for the zero byte of Linux' abstract names.
    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(name)
            channel.sendall(state)
    except OSError:
        return


def watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """How often the service manager wants to hear from us: half of what it waits for; None where
    it does not."""
    try:
        microseconds = int(environment.get(WATCHDOG_USEC, ""))
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 else None
