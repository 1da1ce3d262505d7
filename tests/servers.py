"""Real servers for tests: started in a directory of their own, gone with the test session.

`server_directory`, `program` and `running` start any of them; `tests.servers_databases` has whole
databases. A test that uses one of those carries the mark DATABASES, so that one worker of a
parallel run starts them, and the others none.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

START_S = 60.0
STOP_S = 15.0
DATABASES = pytest.mark.xdist_group("databases")
# prctl(2): the signal this process is sent when the thread that started it ends.
_PR_SET_PDEATHSIG = 1
# Debian keeps servers out of the PATH of people who are not root.
_ALSO_IN = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")


def program(name: str, *, package: str, title: str, also_in: Sequence[str] = ()) -> str:
    """The path of the program `name`; skips the test, saying what to install, where there is none.

    `title` is what the sentence calls it, such as "PostgreSQL's server"; `package` is Debian's.
    """
    places = os.pathsep.join((os.environ.get("PATH", ""), *_ALSO_IN, *also_in))
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"{title} is not installed: apt-get install {package}")
    return found


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server_directory(name: str, *, user: str | None = None) -> Iterator[Path]:
    """A directory for one server, owned by `user` (see `unprivileged`), removed afterwards.

    Not pytest's own `tmp_path`: other users may not enter that one.
    """
    path = Path(tempfile.mkdtemp(prefix=f"city-{name}-"))
    try:
        if user is not None:
            shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def unprivileged(*candidates: str) -> str | None:
    """Which of the `candidates` a server should run as: some refuse to be run by root.

    None where we are not root and run it ourselves.
    """
    if os.geteuid() != 0:
        return None
    for name in (*candidates, "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise LookupError("this machine has no user nobody")


def start(
    arguments: Sequence[str],
    *,
    directory: Path,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server in `directory`, writing to `directory/log`; it is killed when we end.

    `environment` is added to ours. Give it to `stop`, or use `running`.
    """
    library = ctypes.CDLL(None)

    def end_with_parent() -> None:
        # After the change of user: that change would clear it again.
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            list(arguments),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            # Its own group, so that Ctrl-C reaches pytest alone, which then stops the server.
            start_new_session=True,
            preexec_fn=end_with_parent,
            **_as_user(user),
        )


def stop(process: subprocess.Popen[bytes], *, by: int = signal.SIGTERM) -> None:
    """Ask the server to end, and end it if it does not."""
    if process.poll() is None:
        process.send_signal(by)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)


@contextmanager
def running(
    arguments: Sequence[str],
    *,
    directory: Path,
    port: int,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    stop_by: int = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens on the loopback `port` within the `with` block."""
    process = start(arguments, directory=directory, user=user, environment=environment)
    try:
        wait_until_listening(process, port, log=directory / "log")
        yield process
    finally:
        stop(process, by=stop_by)


def wait_until_listening(process: subprocess.Popen[bytes], port: int, *, log: Path) -> None:
    """Wait until something accepts connections at the loopback `port`.

    Fails with the end of the log where the process ends instead, or takes longer than START_S.
    """

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            return False
        return True

    wait_until(listens, process, log=log)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], *, log: Path) -> None:
    """As `wait_until_listening`, for any sign of life."""
    deadline = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            end = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"a server did not start; its log ends:\n{end}")
        time.sleep(0.02)


def run_as(arguments: Sequence[str], *, directory: Path, user: str | None) -> None:
    """Run a program to its end as `user`; fails with what it wrote where it fails."""
    done = subprocess.run(
        list(arguments),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        **_as_user(user),
    )
    if done.returncode:
        told = (done.stdout + done.stderr).decode("utf-8", "replace")[-2000:]
        raise RuntimeError(f"{arguments[0]} failed:\n{told}")


def _as_user(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
