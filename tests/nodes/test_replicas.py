"""Nodes on PostgreSQL, each of two processes behind a balancer, that are killed while they work."""

import csv
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dataspace.demo.space import LocalSpace
from dataspace.settings import Home, ParticipantKind
from tests.servers_databases import Database, connect_postgresql, postgresql

from .command_line import dataspace
from .conftest import PURPOSE, terms
from .replicated import STOP_S, ReplicatedNode

pytestmark = pytest.mark.slow

PEOPLE, COMMON = 2000, 700
SETTINGS = {"anchor_interval_s": 0.5, "local": True}


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
                database=_database(server),
                names=("a", "b"),
                settings=SETTINGS,
            )
            for name, kind in (
                ("bureau", ParticipantKind.GOVERNMENT),
                ("institute", ParticipantKind.CONSUMER),
            )
        )
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
        self.own = _people(directory / "own.csv", range(COMMON))
        identifier = {"name": "person", "role": "identifier"}
        value = {"name": "amount", "role": "value"}
        rows = _people(directory / "rows.csv", range(PEOPLE))
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


def _database(server: Database) -> str:
    name = f"n{secrets.token_hex(4)}"
    with connect_postgresql(server, "postgres", "postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER owner TEMPLATE template0")
    password = server.password("owner")
    return f"postgresql://owner:{password}@127.0.0.1:{server.port}/{name}"


def _people(path: Path, numbers: range) -> Path:
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["person", "amount"])
        writer.writerows([f"person-{number}", number % 7] for number in numbers)
    return path


def ended(state: dict[str, Any]) -> bool:
    return state.get("state", state.get("status")) in (
        "FINALIZED",
        "TERMINATED",
        "COMPLETED",
        "REFUSED",
        "FAILED",
    )


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with ExitStack() as stack:
        server = stack.enter_context(postgresql())
        yield Town(tmp_path_factory.mktemp("town"), server, stack)


def test_two_processes_of_each_node_agree_compute_and_are_audited_clean(town: Town) -> None:
    consumer = town.institute.client
    people = consumer.negotiate(town.bureau.home.url, "people")
    contracts = consumer.negotiate(town.space.nodes["insurer"].url, "contracts")
    both = {"purpose": PURPOSE, "timeout_s": 120.0}

    def intersect(_: int) -> int:
        found = consumer.compute("psi/2", [people], own=(town.own, "person"), **both)
        return int(found.value["count"])

    def add(_: int) -> int:
        found = consumer.compute("private-sum/2", [people, contracts], **both)
        return int(found.value["count"])

    # Frames come to either process of either node, and the one that does not compute passes
    # them on.
    with ThreadPoolExecutor(6) as pool:
        sets, sums = pool.map(intersect, range(4)), pool.map(add, range(2))
        assert list(sets) == [COMMON] * 4
        assert list(sums) == [PEOPLE] * 2
    town.wait_until_anchored()
    audited = town.audit()
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_processes_that_are_killed_while_they_work_lose_nothing_and_do_nothing_twice(
    town: Town,
) -> None:
    consumer, bureau = town.institute.client, town.bureau
    people = consumer.negotiate(bureau.home.url, "people", reuse=True)
    asked: dict[str, Any] = {
        "kind": "psi/2",
        "agreements": [people],
        "purpose": PURPOSE,
        "own": {"source": str(town.own), "identifier": "person"},
    }

    begun = [consumer.call("POST", "/api/computations", asked) for _ in range(4)]
    talks = [
        consumer.call(
            "POST", "/api/negotiations", {"provider": bureau.home.url, "dataset": "people"}
        )
        for _ in range(4)
    ]
    bureau.kill("a")
    town.institute.kill("b")
    bureau.start("a")
    town.institute.start("b")
    for node, name in ((bureau, "a"), (town.institute, "b")):
        node.wait_until_healthy(name)
    for one in talks:
        assert consumer.poll(f"/api/negotiations/{one['id']}", ended, 90.0)["state"] == "FINALIZED"
    for one in begun:
        found = consumer.poll(f"/api/computations/{one['id']}", ended, 120.0)
        theirs = bureau.client.poll(f"/api/computations/{one['id']}", ended, 60.0)
        assert (found["status"], theirs["status"]) == ("COMPLETED", "COMPLETED"), found
        assert found["value"]["count"] == COMMON
    town.wait_until_anchored()
    audited = town.audit()
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_a_process_that_does_not_come_back_is_taken_over_by_the_other(town: Town) -> None:
    consumer, bureau = town.institute.client, town.bureau
    people = consumer.negotiate(bureau.home.url, "people", reuse=True)
    bureau.kill("b")
    try:
        found = [
            consumer.compute(
                "psi/2", [people], own=(town.own, "person"), purpose=PURPOSE, timeout_s=120.0
            )
            for _ in range(2)
        ]
    finally:
        bureau.start("b")
        bureau.wait_until_healthy("b")
    assert [one.value["count"] for one in found] == [COMMON] * 2


def test_a_process_told_to_stop_finishes_what_it_computes_and_ends_with_0(town: Town) -> None:
    consumer, bureau = town.institute.client, town.bureau
    people = consumer.negotiate(bureau.home.url, "people", reuse=True)
    asked = {
        "kind": "psi/2",
        "agreements": [people],
        "purpose": PURPOSE,
        "own": {"source": str(town.own), "identifier": "person"},
    }
    begun = [consumer.call("POST", "/api/computations", asked)["id"] for _ in range(4)]
    leaving = bureau.processes["a"]
    leaving.send_signal(signal.SIGTERM)
    leaving.wait(STOP_S)
    assert leaving.poll() == 0
    try:
        for one in begun:
            found = consumer.poll(f"/api/computations/{one}", ended, 120.0)
            assert found["status"] == "COMPLETED", found
            assert found["value"]["count"] == COMMON
    finally:
        bureau.start("a")
        bureau.wait_until_healthy("a")
