"""Figures of contracts: decisions, and whole negotiations between two nodes.

    python tests/benchmarks/bench_contracts.py [--json] [--small]

A negotiation is four messages and a look at the catalogue, each signed for, checked, answered and
stored with what follows from it. Beside it stands what this machine can do at most of the two
things it is made of, measured in the same run: durable commits of SQLite, and HTTP requests between
two processes.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from ledger_figures import Figure, figure, rate

from contracts.evaluation import Facts, Request, decide
from contracts.odrl import Offer
from dataspace.client import Client
from dataspace.demo.space import LocalSpace
from dataspace.home import free_port
from dataspace.settings import ParticipantKind

# The dataset's description, request, agreement, verification, and the event that finalizes.
REQUESTS_EACH = 5
AT_ONCE = 8
ROUNDS = 3
COMMITS = 400
REQUESTS = 1500
START_S = 20.0
END_S = 600.0

# What a message between two nodes weighs, token included.
BODY = b"x" * 1500
BARE_SERVER = """
import sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
"""


# Decisions


def bench_decisions(count: int) -> list[Figure]:
    """`decide` on a permission of ten clauses, every one of them visited."""
    now = datetime(2026, 11, 25, tzinfo=UTC)
    clauses = [
        ("ds:computation", "isAnyOf", ["psi/1", "private-sum/1"]),
        ("purpose", "isA", "research"),
        ("ds:minCohort", "gteq", "20"),
        ("count", "lteq", "1000000"),
        ("dateTime", "lteq", "2030-01-01T00:00:00Z"),
        ("dateTime", "gteq", "2020-01-01T00:00:00Z"),
        ("spatial", "isPartOf", "44"),
        ("ds:grade", "lteq", "important"),
        ("ds:recipientRole", "isAnyOf", ["government", "enterprise"]),
        ("ds:consent", "eq", "required"),
    ]
    constraint = [
        {"leftOperand": left, "operator": operator, "rightOperand": right}
        for left, operator, right in clauses
    ]
    policy = Offer.model_validate(
        {"@id": "urn:o", "permission": [{"action": "use", "constraint": constraint}]}
    )
    request = Request("use", "did:web:c", "research/medical", "private-sum/1", 20, spatial="440305")
    facts = Facts(now, 3, "government", "general", True)
    assert decide(policy, request, facts).allowed

    def run() -> None:
        for _ in range(count):
            decide(policy, request, facts)

    best = max(_rate_of_one_core(count, run) for _ in range(ROUNDS))
    return [figure("decisions on ten clauses, one core", best, "/s", least=20_000)]


def _rate_of_one_core(count: int, act: Callable[[], object]) -> float:
    """How many a second of processor time: neighbours do not count."""
    start = time.process_time()
    act()
    return count / (time.process_time() - start)


# Floors


def bench_commits(directory: Path) -> float:
    """Durable commits per second of one row each, as a node's database does them."""
    database = sqlite3.connect(directory / "floor.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body TEXT)")
    body = BODY.decode()

    def run() -> None:
        for _ in range(COMMITS):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO row (body) VALUES (?)", (body,))
            database.execute("COMMIT")

    best = max(rate(COMMITS, run) for _ in range(ROUNDS))
    database.close()
    return best


def bench_requests() -> float:
    """HTTP requests per second from one process to another that does nothing with them."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", BARE_SERVER, str(port)])
    try:
        with httpx2.Client(trust_env=False) as http:
            _await(http, f"http://127.0.0.1:{port}/")

            def ask(_: int) -> None:
                http.post(f"http://127.0.0.1:{port}/", content=BODY)

            with ThreadPoolExecutor(AT_ONCE) as pool:
                return max(
                    rate(REQUESTS, lambda: list(pool.map(ask, range(REQUESTS))))
                    for _ in range(ROUNDS)
                )
    finally:
        server.terminate()
        server.wait(START_S)


def _await(http: httpx2.Client, url: str) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            http.get(url)
        except httpx2.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the bare server did not start")


# Negotiations


def bench_negotiations(directory: Path, alone: int, together: int) -> list[Figure]:
    """From the owner's request to FINALIZED at the consumer, by the nodes' own clocks."""
    commits, requests = bench_commits(directory), bench_requests()
    with LocalSpace(directory / "space", settings={"anchor_interval_s": 3600.0}) as space:
        space.found({"provider": ParticipantKind.ENTERPRISE, "consumer": ParticipantKind.CONSUMER})
        provider, consumer = space.nodes["provider"], space.nodes["consumer"]
        consumer.client.wait_until(lambda status: bool(status["joined"]))
        _publish(provider.client, directory)
        for _ in range(3):
            consumer.client.negotiate(provider.url, "few")
        # Two nodes are measured; the operator has done its work, and they know its key.
        space.operator.stop()
        latencies = [_seconds(consumer.client, provider.url) for _ in range(alone)]
        best = max(_throughput(consumer.client, provider.url, together) for _ in range(ROUNDS))
    return [
        figure("one negotiation, median", statistics.median(latencies) * 1000, "ms", most=150),
        figure("one negotiation, slowest of ten", _late(latencies) * 1000, "ms"),
        figure(f"negotiations, {AT_ONCE} owners' requests at once", best, "/s", least=60),
        figure("  requests between the nodes", best * REQUESTS_EACH, "/s"),
        figure("  bare HTTP requests between two processes", requests, "/s"),
        figure("  ratio", best * REQUESTS_EACH / requests, ""),
        figure("  durable commits of SQLite, one row each", commits, "/s"),
    ]


def _publish(node: Client, directory: Path) -> None:
    file = directory / "few.csv"
    file.write_text("name\nann\nbob\n", encoding="utf-8")
    columns = [{"name": "name", "role": "identifier", "canonicaliser": "text/1"}]
    terms = {
        "computations": ["psi-cardinality/1"],
        "purposes": ["research"],
        "min_cohort": 5,
        "not_after": (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds"),
    }
    node.publish("few", file, columns, terms=terms)


def _begin(node: Client, provider: str) -> str:
    asked = {"provider": provider, "dataset": "few"}
    return str(node.call("POST", "/api/negotiations", asked)["id"])


def _ended(node: Client, pid: str) -> dict[str, Any]:
    return node.poll(
        f"/api/negotiations/{pid}", lambda one: one["state"] in ("FINALIZED", "TERMINATED"), END_S
    )


def _seconds(node: Client, provider: str) -> float:
    begun = time.time()
    found = _ended(node, _begin(node, provider))
    assert found["state"] == "FINALIZED", found["reason"]
    return float(found["updated_at"] - begun)


def _late(latencies: list[float]) -> float:
    return statistics.quantiles(latencies, n=10)[-1]


def _throughput(node: Client, provider: str, count: int) -> float:
    begun = time.time()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pids = list(pool.map(lambda _: _begin(node, provider), range(count)))
    # The last to begin is among the last to end; looking at all of them would disturb the nodes.
    found = [_ended(node, pid) for pid in reversed(pids)]
    assert all(one["state"] == "FINALIZED" for one in found)
    return count / (max(one["updated_at"] for one in found) - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--small", action="store_true", help="a tenth of the work, to try it out")
    asked = parser.parse_args()
    share = 10 if asked.small else 1
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        figures = [
            *bench_decisions(20_000 // share),
            *bench_negotiations(directory, 50 // share, 400 // share),
        ]
    if asked.json:
        print(json.dumps([asdict(one) for one in figures], indent=2))
        return
    for one in figures:
        aim = "" if one.met is None else f"  {one.aim} {'met' if one.met else 'MISSED'}"
        print(f"{one.name:48} {one.value:12,.2f} {one.unit}{aim}")


if __name__ == "__main__":
    main()
