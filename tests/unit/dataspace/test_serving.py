"""A home is served by one process, and a process that is told to stop ends what it has begun."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn

from dataspace.draining import DrainingServer
from dataspace.errors import InputRejected
from dataspace.home import Home, create_home
from dataspace.serving import serving_alone

HOLD = """
import sys, pathlib
from types import SimpleNamespace
from dataspace.serving import serving_alone
with serving_alone(SimpleNamespace(path=pathlib.Path(sys.argv[1])), "main", shared=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    values = {"name": "n", "kind": "enterprise", "url": "http://127.0.0.1:1"}
    return create_home(tmp_path / "home", values)


def test_a_home_that_is_served_is_refused_to_a_second_process_until_the_first_dies(
    home: Home,
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(InputRejected, match=f"served already, by process {holder.pid}"),
        serving_alone(home, "main", shared=False),
    ):
        pass
    # As a power cut would: nobody removes the file.
    holder.kill()
    holder.wait(20)
    with serving_alone(home, "main", shared=False):
        assert (home.path / "serving.lock").read_text() == f"{os.getpid()}\n"


def test_two_replicas_of_a_home_need_two_names(home: Home) -> None:
    with (
        serving_alone(home, "a", shared=True),
        serving_alone(home, "b", shared=True),
        pytest.raises(InputRejected, match="replica 'a' of this home is served"),
        serving_alone(home, "a", shared=True),
    ):
        pass


class Busy:
    """A node that has something in hand until it is let go."""

    def __init__(self, drain_s: float) -> None:
        self.home = SimpleNamespace(settings=SimpleNamespace(drain_s=drain_s))
        self.done, self.draining = threading.Event(), threading.Event()

    def drain(self) -> None:
        self.draining.set()

    def idle(self) -> bool:
        return self.done.is_set()


def server_of(node: Busy) -> DrainingServer:
    return DrainingServer(uvicorn.Config(lambda: None), node)  # type: ignore[arg-type]


def stopped(server: DrainingServer) -> bool:
    """Whether it is told to stop, once the thread that waits for the node has ended."""
    for thread in threading.enumerate():
        if thread.name == "drain":
            thread.join(20)
    return server.should_exit


def test_a_server_told_to_stop_serves_until_nothing_is_in_hand() -> None:
    node = Busy(drain_s=60.0)
    server = server_of(node)
    server.handle_exit(signal.SIGTERM, None)
    assert node.draining.wait(20)
    assert not server.should_exit
    node.done.set()
    assert stopped(server)
    assert not server.force_exit


def test_a_server_told_to_stop_waits_no_longer_than_it_may() -> None:
    server = server_of(Busy(drain_s=0.0))
    server.handle_exit(signal.SIGTERM, None)
    assert stopped(server)


def test_a_second_signal_stops_a_server_at_once() -> None:
    server = server_of(Busy(drain_s=60.0))
    server.handle_exit(signal.SIGTERM, None)
    server.handle_exit(signal.SIGTERM, None)
    assert stopped(server)
