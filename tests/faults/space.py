"""The space under test: nodes as processes, behind the proxy, some in worlds of their own."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2

from dataspace.client import Client
from dataspace.home import Home, create_home, free_port
from dataspace.identity.did import did_of_url
from dataspace.regulator import join_as_regulator
from dataspace.settings import ParticipantKind
from tests.faults import nursery
from tests.faults.plan import CONSUMER, NODES, OPERATOR
from tests.faults.proxy import Proxy
from tests.faults.worlds import (
    Clock,
    DatabaseServer,
    Disk,
    Network,
    NotHere,
    build_clock,
    database_server,
    forwarder,
    new_clock,
    own_network,
    small_disk,
)

KINDS = {
    OPERATOR: ParticipantKind.OPERATOR,
    "civil-affairs": ParticipantKind.GOVERNMENT,
    "insurer": ParticipantKind.ENTERPRISE,
    "health-trust": ParticipantKind.PERSONAL,
    CONSUMER: ParticipantKind.CONSUMER,
}
# Generous: a build server may have much else to do.
HEALTHY_S = 120.0
JOINED_S = 180.0
REQUEST_S = 20.0


@dataclass(frozen=True)
class Layout:
    """Which nodes have a world of their own. PostgreSQL is for those in `databases`."""

    clocks: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()


@dataclass
class FaultyNode:
    """One node: its home, its process, and the way to its owner's API that faults do not meet."""

    name: str
    home: Home
    url: str
    listens: tuple[str, int]
    environment: dict[str, str]
    database: str
    network: Network | None = None
    clock: Clock | None = None
    disk: Disk | None = None
    process: nursery.NodeProcess | None = None
    groups: list[int] = field(default_factory=list)
    # Faults of different threads must not start it twice.
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def did(self) -> str:
        return did_of_url(self.url)

    @property
    def log(self) -> Path:
        # Beside the home: a full disk is no reason not to know what happened.
        return self.home.path.parent / "logs" / f"{self.name}.log"

    @property
    def direct(self) -> str:
        return f"http://{self.listens[0]}:{self.listens[1]}"

    def client(self, timeout_s: float = REQUEST_S) -> Client:
        return Client(self.direct, self.home.api_key(), timeout_s=timeout_s)

    def start(self) -> None:
        with self.lock:
            if self.process is not None and not self.process.ended:
                return
            namespace = self.network.namespace if self.network else None
            self.process = nursery.NodeProcess(
                self.home.path, self.log, self.environment, namespace
            )
            self.groups.append(self.process.pid)

    def kill(self) -> None:
        with self.lock:
            if self.process is not None:
                self.process.kill()

    def running(self) -> bool:
        return self.process is not None and not self.process.ended

    def healthy(self, http: httpx2.Client) -> bool:
        try:
            return http.get(f"{self.direct}/health", timeout=2.0).status_code == 200
        except httpx2.HTTPError:
            return False

    def wait_until_healthy(self) -> None:
        """Raises TimeoutError. A process that ended is started again, as a supervisor would: with
        its database away, a node does not start."""
        until = time.monotonic() + HEALTHY_S
        with httpx2.Client(trust_env=False) as http:
            while not self.healthy(http):
                self.start()
                if time.monotonic() > until:
                    raise TimeoutError(f"{self.name} does not become healthy: {self.log}")
                time.sleep(0.1)


class FaultySpace:
    """All nodes of the run, and the regulator's home."""

    def __init__(self, directory: Path, proxy: Proxy, layout: Layout, tell: Any) -> None:
        self.directory = directory
        self.proxy = proxy
        self.layout = layout
        self.nodes: dict[str, FaultyNode] = {}
        self.server: DatabaseServer | None = None
        self.regulator: Home | None = None
        self.not_here: list[str] = []
        self._tell = tell
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._stack.close()

    def __getitem__(self, name: str) -> FaultyNode:
        return self.nodes[name]

    @property
    def operator(self) -> FaultyNode:
        return self.nodes[OPERATOR]

    def found(self) -> None:
        """Make the homes and their worlds, start every node, and have all of them join."""
        (self.directory / "logs").mkdir(parents=True, exist_ok=True)
        library = self._library()
        nursery.start_forkserver(library)
        if self.layout.databases:
            try:
                self.server = self._stack.enter_context(database_server())
            except NotHere as err:
                self.not_here.append(f"PostgreSQL: {err}")
        public = {name: free_port() for name in NODES}
        for number, name in enumerate(NODES):
            self.nodes[name] = self._make(number, name, public, library)
        for node in self.nodes.values():
            if node.network is not None:
                ports = list(public.values())
                self._stack.enter_context(forwarder(node.network, ports, self.directory / "logs"))
        for node in self.nodes.values():
            hosts = [one.network.outside for one in self.nodes.values() if one.network]
            self.proxy.add(node.name, public[node.name], node.listens, hosts)
            node.start()
        self.operator.wait_until_healthy()
        with self.operator.client() as operator:
            operator.wait_until(lambda status: bool(status["joined"]), timeout_s=JOINED_S)
            for node in self.nodes.values():
                if node is not self.operator:
                    node.wait_until_healthy()
                    with node.client() as member:
                        code = operator.invite(KINDS[node.name])
                        member.call("POST", "/api/join", {"invitation": code})
                        member.wait_until(lambda one: bool(one["joined"]), timeout_s=JOINED_S)
            code = operator.invite(ParticipantKind.REGULATOR)
        values = {"name": "regulator", "kind": "regulator", "operator": self.operator.url}
        self.regulator = create_home(self.directory / "regulator", values, invitation=code)
        with httpx2.Client(trust_env=False) as http:
            join_as_regulator(self.regulator, http)

    def _library(self) -> Path | None:
        if not self.layout.clocks:
            return None
        try:
            return build_clock(self.directory)
        except NotHere as err:
            self.not_here.append(f"clocks: {err}")
            return None

    def _make(
        self, number: int, name: str, public: Mapping[str, int], library: Path | None
    ) -> FaultyNode:
        path = self.directory / name
        disk = network = clock = None
        try:
            if name in self.layout.disks:
                disk = self._stack.enter_context(small_disk(path))
            if name in self.layout.networks:
                network = self._stack.enter_context(own_network(number))
        except (NotHere, OSError) as err:
            self.not_here.append(f"{name}: {err}")
        if name in self.layout.clocks and library is not None:
            clock = new_clock(self.directory / f"{name}.clock", library)
        host, port = (network.inside if network else "127.0.0.1"), free_port()
        url = f"http://127.0.0.1:{public[name]}"
        database = f"sqlite:///{path / 'node.sqlite'}"
        values: dict[str, Any] = {
            "name": name,
            "kind": KINDS[name].value,
            "url": url,
            "host": host,
            "port": port,
            "founder": name == OPERATOR,
            "operator": None if name == OPERATOR else f"http://127.0.0.1:{public[OPERATOR]}",
            "anchor_interval_s": 0.5,
            "worker_processes": 1,
        }
        if name in self.layout.databases and self.server is not None:
            values["database"] = database = self.server.new_database(name)
        home = create_home(path, values)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("DATASPACE_")
        }
        if clock is not None:
            environment |= clock.environment()
        return FaultyNode(
            name, home, url, (host, port), environment, database, network, clock, disk
        )

    def all_back(self) -> None:
        """Every node runs and is healthy. Raises TimeoutError."""
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            node.wait_until_healthy()

    def stop(self) -> list[str]:
        """Stop every node; what would not end, or left a process behind."""
        left = []
        for node in self.nodes.values():
            if node.running() and node.process is not None and not node.process.stop():
                left.append(f"{node.name} did not end when it was asked to")
        for node in self.nodes.values():
            left += [
                f"{node.name} left process {pid} running"
                for group in node.groups
                for pid in nursery.members_of_group(group)
            ]
            for group in node.groups:
                for pid in nursery.members_of_group(group):
                    os.kill(pid, 9)
        return left

    def chain(self) -> tuple[str, str]:
        """JSON-RPC address and contract of the space."""
        with self.operator.client() as client:
            space = client.status()["space"]
        return str(space["rpc_url"]), str(space["contract"])

    def describe(self) -> str:
        return json.dumps({name: node.direct for name, node in self.nodes.items()})
