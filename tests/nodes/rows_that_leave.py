"""Rows of the insurer that may leave, and what both sides' owners ask about their transfers."""

import itertools
import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from dataspace.client import Client
from dataspace.demo.space import RunningNode

from .conftest import PURPOSE, City

SOON_S = 30.0
PULL, PUSH = "HttpData-PULL", "HttpData-PUSH"
PROFILE = "https://w3id.org/city-dataspace/ns/v1"
NAME = {"name": "name", "role": "identifier", "canonicaliser": "text/1"}
AMOUNT = {"name": "amount", "role": "value"}
OWN = 'name,secret,amount\nann,s1,7\n"bob, jr.",s2,-3\n'
LEAVES = b'"name","amount"\n"ann","7"\n"bob, jr.","-3"\n'
BROKEN = "name,secret,amount\nnobody\n"


def clause(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def policy(*clauses: dict[str, Any]) -> dict[str, Any]:
    return {"profile": PROFILE, "permission": [{"action": "use", "constraint": list(clauses)}]}


ROWS_MAY_LEAVE = clause("ds:computation", "isAnyOf", [PULL, PUSH])
FOR_RESEARCH = clause("purpose", "eq", PURPOSE)


@dataclass
class Rows:
    """One published dataset of the insurer, its file, and the institute's agreement about it."""

    dataset: str
    file: Path
    agreement: str

    def spoil(self) -> None:
        """Nothing can be read from it until it is mended, so a transfer of it goes no further."""
        self.file.write_text(BROKEN, encoding="utf-8")

    def mend(self) -> None:
        self.file.write_text(OWN, encoding="utf-8")


_numbers = itertools.count(1)


def offer(
    city: City, directory: Path, *clauses: dict[str, Any], formats: tuple[str, ...] = (PULL, PUSH)
) -> Rows:
    """Publish the rows under this policy, and have the institute agree to it."""
    dataset = f"rows-{next(_numbers)}"
    file = directory / f"{dataset}.csv"
    file.write_text(OWN, encoding="utf-8")
    asked = policy(*(clauses or (ROWS_MAY_LEAVE,)))
    node = city.node("insurer")
    node.client.publish(
        dataset,
        file,
        [NAME, AMOUNT],
        policy=asked,
        formats=formats,
        confirmed=True,
        legal_basis="contract",
    )
    return Rows(dataset, file, city.consumer.negotiate(node.url, dataset))


def begin(city: City, rows: Rows, format_: str = PULL, purpose: str | None = None) -> str:
    asked = {"agreement": rows.agreement, "format": format_, "purpose": purpose}
    return str(city.consumer.call("POST", "/api/transfers", asked)["id"])


def shown(client: Client, pid: str) -> dict[str, Any]:
    found: dict[str, Any] = client.call("GET", f"/api/transfers/{pid}")
    return found


def reached(client: Client, pid: str, *states: str) -> dict[str, Any]:
    return client.poll(f"/api/transfers/{pid}", lambda one: one["state"] in states, SOON_S)


def ended(client: Client, pid: str) -> dict[str, Any]:
    return reached(client, pid, "COMPLETED", "TERMINATED")


def steer(client: Client, pid: str, what: str, **body: str) -> dict[str, Any]:
    found: dict[str, Any] = client.call("POST", f"/api/transfers/{pid}/{what}", body)
    return found


def theirs(city: City, rows: Rows) -> str:
    """The insurer's name for its only transfer under this agreement."""
    path = "/api/transfers"
    client = city.node("insurer").client
    found = client.poll(
        path, lambda all_: any(one["agreement"] == rows.agreement for one in all_), SOON_S
    )
    (one,) = (one for one in found if one["agreement"] == rows.agreement)
    return str(one["id"])


def address_of(node: RunningNode, pid: str) -> tuple[str, str]:
    """Endpoint and token that this node was given for a transfer: what its data plane sends."""
    with sqlite3.connect(f"file:{node.home.path / 'node.sqlite'}?mode=ro", uri=True) as database:
        query = "SELECT data_address FROM transfer WHERE pid = ?"
        address = json.loads(database.execute(query, (pid,)).fetchone()[0])
    properties = {one["name"]: one["value"] for one in address["endpointProperties"]}
    assert properties["authType"] == "bearer"
    return address["endpoint"], properties["authorization"]


def get(http: httpx2.Client, endpoint: str, token: str) -> httpx2.Response:
    """What a fetch is answered, once the rows are not being prepared for another fetch."""
    until = time.monotonic() + SOON_S
    while True:
        answer = http.get(endpoint, headers={"authorization": f"Bearer {token}"})
        if "being prepared" not in answer.text or time.monotonic() > until:
            return answer
        time.sleep(0.05)


@contextmanager
def standing_still(node: RunningNode) -> Iterator[None]:
    """The node's process does nothing in the block."""
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


@contextmanager
def open_pull(city: City, rows: Rows) -> Iterator[tuple[str, str, str]]:
    """A pull that is started and stays so, as its consumer finds the rows unreadable: its pid, and
    the endpoint and token it was given."""
    rows.spoil()
    pid = begin(city, rows)
    reached(city.consumer, pid, "STARTED")
    yield pid, *address_of(city.node("institute"), pid)
