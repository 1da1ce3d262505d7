"""Processes of nodes that can be killed with all they started, each in its own world.

As `dataspace.demo.nursery`, forked from one process that has imported a node already; besides, a
node may live in a network namespace and have a wrong clock (`clock.c`), which all of them preload.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

STOP_S = 20.0
_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["dataspace.cli", "dataspace.server", "ledger.evm"])
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000


class NodeProcess:
    """`dataspace serve` of one home, the leader of a process group of its own."""

    def __init__(
        self, home: Path, log: Path, environment: Mapping[str, str], namespace: str | None
    ) -> None:
        self._process = _CONTEXT.Process(
            target=_serve, args=(str(home), str(log), dict(environment), namespace)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.exitcode is not None

    def signal(self, number: int) -> None:
        """To the node and to every process that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would, its workers with it."""
        if self.ended:
            return
        # Just started, it may not lead a group yet.
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)
        self._process.join(STOP_S)

    def stop(self) -> bool:
        """Ask it to end; whether it did, within a time, of itself."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self._process.join(STOP_S)
        if self.ended:
            return True
        self.kill()
        return False


def start_forkserver(preloaded: Path | None) -> None:
    """Start the process that nodes are forked from, with this library before all others."""
    from multiprocessing import forkserver

    if preloaded is not None:
        os.environ["LD_PRELOAD"] = str(preloaded)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("LD_PRELOAD", None)


def members_of_group(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[2]) == group:
            found.append(int(entry.name))
    return found


def _serve(home: str, log: str, environment: Mapping[str, str], namespace: str | None) -> None:
    os.setsid()
    library = ctypes.CDLL(None, use_errno=True)
    # The forkserver ends with the harness, and this with the forkserver.
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if namespace is not None:
        with open(f"/run/netns/{namespace}", "rb") as entered:
            if library.setns(entered.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    os.environ.clear()
    os.environ.update(environment)
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.close(written)
    sys.argv = ["dataspace", "serve", "--home", home]

    from dataspace.cli import main

    main()
