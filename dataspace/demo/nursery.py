"""Processes of nodes, forked from one process that has imported a node already.

Importing takes a processor longer than everything else a node does at its start. What is forked
here is the same `dataspace serve`, with its own process group, log file and end.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["dataspace.cli", "dataspace.server", "ledger.evm"])
# Of an interpreter that ends without having stopped them.
_running: set[NodeProcess] = set()


class NodeProcess:
    """A node's process from its start to its end; it also ends when this one does."""

    def __init__(self, home: Path, log: Path, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is what it has besides ours."""
        given = {**os.environ, **(environment or {})}
        self._process = _CONTEXT.Process(
            target=_serve, args=(str(home), str(log), given), name=f"node {home.name}"
        )
        self._process.start()
        _running.add(self)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """How it ended, as `subprocess.Popen.returncode` tells it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended. Raises TimeoutError where it has not by then."""
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise TimeoutError(f"process {self.pid} has not ended within {timeout_s} seconds")
        _running.discard(self)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@atexit.register
def _end_all() -> None:
    # multiprocessing waits for its processes at the end; ours wait for us.
    for process in _running:
        process.kill()


def _serve(home: str, log: str, environment: Mapping[str, str]) -> None:
    # Its own group, so that Ctrl-C reaches the parent alone and it stops the nodes.
    os.setsid()
    os.environ.clear()
    os.environ.update(environment, DATASPACE_STOP_WITH_PARENT="1")
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.close(written)
    _end_input_with_parent()
    sys.argv = ["dataspace", "serve", "--home", home]

    from dataspace.cli import main

    main()


def _end_input_with_parent() -> None:
    """A standard input that ends when the process ends that asked for this one, which
    `dataspace.server` watches."""
    reading, writing = os.pipe()
    sys.stdin = os.fdopen(reading, encoding="utf-8")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def close_after_parent() -> None:
        wait([parent.sentinel])
        os.close(writing)

    threading.Thread(target=close_after_parent, name="parent-watch", daemon=True).start()
