"""The other end of a `LocalPool`: a process that does one piece of work after another.

It imports what a piece names and nothing of the node, so that it starts fast and stays small.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import traceback
from multiprocessing.connection import Connection

# prctl(2): the signal this process is sent when the thread that started it ends.
PR_SET_PDEATHSIG = 1

# What an answer says about its value.
DONE, FAILED = "done", "failed"


def serve(fd: int, parent: int, memory_mb: int | None) -> None:
    """Answer the pieces that come over the socket `fd` until it is closed.

    `parent` is the process that started this one: it ends with it. Everything allocated here stays
    below `memory_mb` MiB.
    """
    # Ctrl-C at a terminal goes to all processes; the node ends this one when it is done with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(parent)
    if memory_mb is not None:
        limit = memory_mb * 2**20
        # What is allocated, not what is mapped: shared libraries are the same for all workers.
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    channel = Connection(fd)
    while True:
        try:
            request = channel.recv_bytes()
        except (EOFError, OSError):
            return
        channel.send_bytes(answer(request))


def answer(request: bytes) -> bytes:
    """Do one pickled (work, piece) and return the pickled (DONE, result) or (FAILED, error)."""
    try:
        work, piece = pickle.loads(request)  # noqa: S301 - it comes from our own node
        return pickle.dumps((DONE, work(piece)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> bytes:
    """Pack an error with the lines of code it went through; values are not among them."""
    lines = "".join(traceback.format_tb(error.__traceback__))
    error.add_note(f"in a worker process:\n{lines}")
    try:
        packed = pickle.dumps((FAILED, error), pickle.HIGHEST_PROTOCOL)
        pickle.loads(packed)  # noqa: S301 - just made here
    except Exception:
        # Some errors cannot be made again from their arguments; the node must still hear of it.
        stand_in = RuntimeError(f"a worker's {type(error).__name__} could not be sent")
        stand_in.add_note(f"in a worker process:\n{lines}")
        packed = pickle.dumps((FAILED, stand_in), pickle.HIGHEST_PROTOCOL)
    return packed


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have ended before that took hold.
    if os.getppid() != parent:
        sys.exit(1)
