"""A space on PostgreSQL of which two nodes are two processes each, behind a balancer."""

from __future__ import annotations

import csv
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dataspace.demo.space import LocalSpace
from dataspace.home import Home
from dataspace.settings import ParticipantKind
from tests.servers_databases import Database, connect_postgresql

from .command_line import dataspace
from .conftest import terms
from .replicated import ReplicatedNode

PEOPLE, COMMON = 2000, 700
SETTINGS = {
    "anchor_interval_s": 0.5,
    "local": True,
    "key_announced_s": 0.5,
    "key_overlap_s": 5.0,
}


class Town:
    """Bureau and institute as two processes each, insurer and operator as one."""

    def __init__(self, directory: Path, server: Database, stack: ExitStack) -> None:
        self.space = stack.enter_context(LocalSpace(directory))
        self.space.found({"insurer": ParticipantKind.ENTERPRISE})
        self.bureau, self.institute = (
            ReplicatedNode(
                directory / name,
                kind,
                operator=self.space.operator.url,
                database=new_database(server),
                names=("a", "b"),
                settings=SETTINGS,
            )
            for name, kind in (
                # It may hold people's records in trust.
                ("bureau", ParticipantKind.PERSONAL),
                ("institute", ParticipantKind.CONSUMER),
            )
        )
        self.server = server
        for node in (self.bureau, self.institute):
            stack.callback(node.close)
            # Both at once: one of them migrates the empty database, the other waits.
            for name in node.ports:
                node.start(name)
        for node in (self.bureau, self.institute):
            for name in node.ports:
                node.wait_until_healthy(name)
            kind = node.home.settings.kind
            node.client.join(self.space.operator.client.invite(kind))
        self.regulator: Home = self.space.add_regulator("regulator")
        self.own = people(directory / "own.csv", range(COMMON))
        identifier = {"name": "person", "role": "identifier"}
        value = {"name": "amount", "role": "value"}
        rows = people(directory / "rows.csv", range(PEOPLE))
        self.bureau.client.publish("people", rows, [identifier, value], terms=terms())
        self.space.nodes["insurer"].client.publish(
            "contracts", rows, [identifier, value], terms=terms()
        )

    def wait_until_anchored(self) -> None:
        self.space.wait_until_anchored()
        for node in (self.bureau, self.institute):
            node.client.wait_until(
                lambda status: bool(status["log"]["anchored"] == status["log"]["size"]),
                timeout_s=60.0,
            )

    def audit(self) -> Any:
        space = self.space.operator.client.status()["space"]
        where = ("--rpc", space["rpc_url"], "--contract", space["contract"])
        return dataspace("audit", "--json", *where, "--home", self.regulator.path)


def new_database(server: Database) -> str:
    """The address of an empty database."""
    name = f"n{secrets.token_hex(4)}"
    with connect_postgresql(server, "postgres", "postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER owner TEMPLATE template0")
    password = server.password("owner")
    return f"postgresql://owner:{password}@127.0.0.1:{server.port}/{name}"


def people(path: Path, numbers: range) -> Path:
    """A table of people with an amount each."""
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["person", "amount"])
        writer.writerows([f"person-{number}", number % 7] for number in numbers)
    return path


def ended(state: dict[str, Any]) -> bool:
    """Whether a negotiation, transfer or computation is over."""
    return state.get("state", state.get("status")) in (
        "FINALIZED",
        "TERMINATED",
        "COMPLETED",
        "REFUSED",
        "FAILED",
    )
