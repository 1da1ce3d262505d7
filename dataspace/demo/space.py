"""A space of real node processes on this machine, for the demonstration and for tests.

Every node is an operating-system process with its own home, keys, database and log file. Leaving
the `with` block stops them all; a killed parent takes them along, because each watches for its end
(`dataspace.demo.nursery`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
from eth_account import Account

from dataspace.client import Client
from dataspace.demo.anvil import give_money
from dataspace.demo.nursery import NodeProcess
from dataspace.errors import Unavailable
from dataspace.home import Home, create_home, free_port
from dataspace.identity.did import did_of_url
from dataspace.identity.keys import SigningAlgorithm
from dataspace.outbound import outbound_client
from dataspace.regulator import join_as_regulator
from dataspace.sealing_suites import SealingSuite
from dataspace.settings import ParticipantKind
from dataspace.tls import client_trust

START_S = 60.0
STOP_S = 15.0
ANCHOR_INTERVAL_S = 0.5


@dataclass
class RunningNode:
    """One node's process and the way to talk to it."""

    name: str
    home: Home
    log_path: Path
    process: NodeProcess | None = None
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        trusted = self.home.settings.tls_ca
        self.client = Client(self.home.url, self.home.api_key(), ca=trusted)

    @property
    def did(self) -> str:
        return did_of_url(self.home.url)

    @property
    def url(self) -> str:
        return self.home.url

    def start(self) -> None:
        """Start the process; `wait_until_healthy` waits for it."""
        self.process = NodeProcess(self.home.path, self.log_path)

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_S
        trust = client_trust(self.home.settings.tls_ca)
        with httpx2.Client(trust_env=False, verify=trust) as http:
            while True:
                if self.process is not None and self.process.poll() is not None:
                    raise Unavailable(
                        f"{self.name} ended while starting; its log ends: {self.log_tail()}",
                        remedy=f"read {self.log_path}",
                    )
                try:
                    if http.get(f"{self.url}/health", timeout=2.0).status_code == 200:
                        return
                except httpx2.HTTPError:
                    pass
                if time.monotonic() > deadline:
                    raise Unavailable(f"{self.name} did not start", remedy=f"read {self.log_path}")
                time.sleep(0.05)

    def log_tail(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "(empty)"

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S)


class LocalSpace:
    """A space on this machine: `found` it with its participants, then `add_regulator`.

    `settings` are given to every node besides its own, and `settings_of` to the one of that name;
    `address` is where all of them are, each at a port of its own; all sign with `algorithm`, and
    seal with `sealing` where the environment has a passphrase.
    """

    def __init__(
        self,
        directory: Path,
        *,
        chain: str | None = None,
        settings: Mapping[str, Any] | None = None,
        settings_of: Mapping[str, Mapping[str, Any]] | None = None,
        address: str = "http://127.0.0.1",
        algorithm: SigningAlgorithm = SigningAlgorithm.ED25519,
        sealing: SealingSuite = SealingSuite.AES,
    ) -> None:
        self._suites: Mapping[str, Any] = {"algorithm": algorithm, "sealing": sealing}
        self.directory = directory
        self._address = address
        self._chain = chain
        self._settings = dict(settings or {})
        self._settings_of = dict(settings_of or {})
        self._stack = ExitStack()
        self.nodes: dict[str, RunningNode] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # All are told to stop before any is waited for.
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGTERM)
        for node in reversed(self.nodes.values()):
            node.stop()
            node.client.close()
        self._stack.close()

    @property
    def operator(self) -> RunningNode:
        return next(node for node in self.nodes.values() if node.home.settings.founder)

    def found(self, participants: dict[str, ParticipantKind]) -> None:
        """Start an operator and these participants, all at once; each joins when it can."""
        operator = self._make("operator", ParticipantKind.OPERATOR, founder=True, chain=self._chain)
        if self._chain is not None:
            give_money(self._chain, Account.from_key(operator.home.account_key()).address)
        members = [
            self._make(name, kind, operator=operator.url) for name, kind in participants.items()
        ]
        for node in (operator, *members):
            node.start()
        operator.wait_until_healthy()
        operator.client.wait_until(lambda status: bool(status["joined"]), timeout_s=START_S)
        for node in members:
            node.wait_until_healthy()
            node.client.join(operator.client.invite(node.home.settings.kind))

    def add_regulator(self, name: str) -> Home:
        """A regulator: an identity that may see entry bodies, and no server."""
        code = self.operator.client.invite(ParticipantKind.REGULATOR)
        values = {
            "name": name,
            "kind": ParticipantKind.REGULATOR.value,
            "operator": self.operator.url,
            "tls_ca": self._settings.get("tls_ca"),
        }
        home = create_home(self.directory / name, values, invitation=code, **self._suites)
        with outbound_client(home.settings.tls_ca) as http:
            join_as_regulator(home, http)
        return home

    def wait_until_anchored(self, timeout_s: float = 60.0) -> None:
        """Wait until the chain holds every node's newest entry."""

        def anchored(status: dict[str, Any]) -> bool:
            return bool(status["log"]["anchored"] == status["log"]["size"])

        for node in self.nodes.values():
            node.client.wait_until(anchored, timeout_s=timeout_s)

    def _make(
        self,
        name: str,
        kind: ParticipantKind,
        *,
        founder: bool = False,
        operator: str | None = None,
        chain: str | None = None,
    ) -> RunningNode:
        port = free_port()
        values: dict[str, Any] = {
            "name": name,
            "kind": kind.value,
            "url": f"{self._address}:{port}",
            "port": port,
            "founder": founder,
            "operator": operator,
            "chain": chain,
            "anchor_interval_s": ANCHOR_INTERVAL_S,
            **self._settings,
            **self._settings_of.get(name, {}),
        }
        home = create_home(self.directory / name, values, **self._suites)
        (home.path / "logs").mkdir()
        node = RunningNode(name, home, home.path / "logs" / "node.log")
        self.nodes[name] = node
        return node
