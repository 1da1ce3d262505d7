"""What a node of the space may have of its own: a clock, a disk, a network, a database.

Each is a context manager that takes away what it made. What this machine does not allow raises
`NotHere`, with the reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.servers import start, stop, wait_until_listening

SOURCE = Path(__file__).with_name("clock.c")
# Room for a node that works, and quickly filled.
DISK_MB = 96
FORWARDER_S = 20.0


class NotHere(Exception):
    """This machine does not allow a kind of fault; the reason."""


def build_clock(directory: Path) -> Path:
    """Compile the library that shifts clocks."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotHere("there is no C compiler, so clocks stay right")
    library = directory / "clock.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotHere(f"the clocks' library does not compile: {done.stderr[-300:]}")
    return library


@dataclass(frozen=True)
class Clock:
    """The wall clock of one node."""

    file: Path
    library: Path

    def set_wrong_by(self, seconds: float) -> None:
        with self.file.open("r+b") as written:
            written.write(struct.pack("q", int(seconds * 1e6)))

    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "FAULTS_CLOCK": str(self.file)}


def new_clock(file: Path, library: Path) -> Clock:
    file.write_bytes(struct.pack("q", 0))
    return Clock(file, library)


@dataclass(frozen=True)
class Disk:
    """A small file system of one node's own, mounted at its home."""

    home: Path

    @property
    def _filler(self) -> Path:
        return self.home / "filler"

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(b"\0" * 4096)

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(home: Path) -> Iterator[Disk]:
    home.mkdir(parents=True, exist_ok=True)
    size = f"size={DISK_MB}m,mode=700"
    _run("mount", "-t", "tmpfs", "-o", size, "tmpfs", str(home))
    try:
        yield Disk(home)
    finally:
        # What it holds is wanted by whoever reads about a failure.
        kept = home.with_name(f"{home.name}-kept")
        with suppress(OSError, shutil.Error):
            shutil.copytree(home, kept)
        subprocess.run(["umount", str(home)], check=False, capture_output=True)
        if kept.exists() and not any(home.iterdir()):
            home.rmdir()
            kept.rename(home)


@dataclass(frozen=True)
class Network:
    """A network namespace of one node's own; `inside` and `outside` are the ends of its line."""

    namespace: str
    inside: str
    outside: str

    def cut(self) -> None:
        """Outside, packets vanish; inside, there is no network."""
        _run("ip", "-n", self.namespace, "link", "set", "line", "down")

    def mend(self) -> None:
        _run("ip", "-n", self.namespace, "link", "set", "line", "up")


@contextmanager
def own_network(number: int) -> Iterator[Network]:
    """A namespace joined to ours by one line. The network is one that no other run has."""
    name = f"faults{os.getpid()}n{number}"
    veth = f"f{os.getpid() % 10**7}n{number}"
    subnet = f"10.{64 + os.getpid() % 128}.{os.getpid() // 128 % 256}"
    inside, outside = f"{subnet}.{number * 4 + 2}", f"{subnet}.{number * 4 + 1}"
    _run("ip", "netns", "add", name)
    try:
        _run(*f"ip link add {veth} type veth peer name line netns {name}".split())
        _run(*f"ip addr add {outside}/30 dev {veth}".split())
        _run(*f"ip link set {veth} up".split())
        _run(*f"ip -n {name} link set lo up".split())
        _run(*f"ip -n {name} addr add {inside}/30 dev line".split())
        _run(*f"ip -n {name} link set line up".split())
        yield Network(name, inside, outside)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", veth], check=False, capture_output=True)


@contextmanager
def forwarder(network: Network, ports: Sequence[int], directory: Path) -> Iterator[None]:
    """Within the namespace, the loopback `ports` lead out to the same ports of our end."""
    script = Path(__file__).with_name("forward.py")
    words = ["ip", "netns", "exec", network.namespace, sys.executable, str(script)]
    ready = directory / f"{network.namespace}.ready"
    with (directory / f"{network.namespace}.log").open("wb") as log:
        process = subprocess.Popen(
            [*words, network.outside, str(ready), *map(str, ports)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + FORWARDER_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise NotHere("the forwarder of a namespace did not start")
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait(10.0)


@dataclass
class DatabaseServer:
    """A PostgreSQL that can be stopped and started."""

    server: Any
    user: str | None
    # A server is sent a signal when the thread that started it ends; this one stays.
    _starter: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def stop(self) -> None:
        """At once, as after a crash."""
        stop(self.server.process, by=signal.SIGQUIT)

    def start(self) -> None:
        arguments = self.server.process.args
        where = {"directory": self.server.directory, "user": self.user}
        process = self._starter.submit(start, arguments, **where).result()
        self.server = replace(self.server, process=process)
        wait_until_listening(process, self.server.port, log=self.server.directory / "log")

    def new_database(self, name: str) -> str:
        """A database of the owner's; its SQLAlchemy address."""
        from tests.servers_databases import connect_postgresql

        with connect_postgresql(self.server, "postgres", "postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}" OWNER owner TEMPLATE template0')
        password = self.server.password("owner")
        return f"postgresql+psycopg://owner:{password}@127.0.0.1:{self.server.port}/{name}"


@contextmanager
def database_server() -> Iterator[DatabaseServer]:
    import pytest

    from tests.servers import unprivileged
    from tests.servers_databases import connect_postgresql, postgresql

    try:
        with postgresql() as server:
            kept = DatabaseServer(server, unprivileged("postgres"))
            # The tests' server forgets the last moments when it crashes; nodes rely on commits.
            with connect_postgresql(server, "postgres", "postgres") as connection:
                connection.execute("ALTER ROLE owner SET synchronous_commit = on")
            try:
                yield kept
            finally:
                stop(kept.server.process, by=signal.SIGINT)
    except pytest.skip.Exception as err:
        raise NotHere(str(err)) from err


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(f"{' '.join(words)}: {done.stderr.strip()[:200]}")
