"""A node killed at any moment comes back with everything it had promised."""

import csv
import os
import shutil
import signal
import time
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from dataspace.client import ApiError, Refused
from dataspace.demo.space import RunningNode

from .command_line import dataspace
from .conftest import PURPOSE, City, terms


def ended(state: dict[str, Any]) -> bool:
    return state.get("state", state.get("status")) in (
        "FINALIZED",
        "TERMINATED",
        "COMPLETED",
        "REFUSED",
        "FAILED",
    )


def revive(city: City, name: str) -> None:
    node = city.node(name)
    node.start()
    node.wait_until_healthy()


def wait_until_rewound(node: RunningNode) -> None:
    """Such a node is never ready: it only tells how it stands."""
    deadline = time.monotonic() + 60.0
    verdict = None
    while verdict != "rewound":
        assert time.monotonic() < deadline, node.log_tail()
        time.sleep(0.05)
        try:
            verdict = node.client.status()["log"]["standing"]["verdict"]
        except ApiError:
            # It does not listen yet.
            continue


def run_audit(city: City) -> CompletedProcess[str]:
    space = city.space.operator.client.status()["space"]
    where = ("--rpc", space["rpc_url"], "--contract", space["contract"])
    return dataspace("audit", "--json", *where, "--home", city.regulator.path)


def test_the_chain_survives_the_death_of_the_operator(city: City) -> None:
    city.space.wait_until_anchored()
    before = city.node("insurer").client.status()["log"]["anchored"]
    city.space.operator.kill()
    # Evidence goes on without a chain, and catches up when there is one again.
    result = city.compute("psi-cardinality/1", ["residents", "contracts"])
    assert result.value["count"] > 0
    revive(city, "operator")
    city.space.wait_until_anchored()
    assert city.node("insurer").client.status()["log"]["anchored"] > before
    audited = run_audit(city)
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_an_order_waits_for_a_provider_that_is_down(city: City) -> None:
    provider = city.node("insurer")
    # The dataset's description is read when ordering, so the order is made first.
    asked = {
        "kind": "private-sum/1",
        "agreements": [city.agreements["health"], city.agreements["contracts"]],
        "purpose": PURPOSE,
    }
    begun = city.consumer.call("POST", "/api/computations", asked)
    provider.kill()
    revive(city, "insurer")
    found = city.consumer.poll(f"/api/computations/{begun['id']}", ended, 90.0)
    # Killed before its role ran, it runs now; killed while it ran, both sides know that it failed.
    if found["status"] == "FAILED":
        assert "restarted" in found["refusal"]["reason"]
    else:
        assert found["status"] == "COMPLETED"
    expected = city.compute("private-sum/1", ["health", "contracts"])
    assert expected.value["count"] > 0


def test_a_negotiation_survives_the_death_of_the_consumer(city: City) -> None:
    body = {"provider": city.node("insurer").url, "dataset": "contracts"}
    begun = city.consumer.call("POST", "/api/negotiations", body)
    city.node("institute").kill()
    revive(city, "institute")
    found = city.consumer.poll(f"/api/negotiations/{begun['id']}", ended, 60.0)
    assert found["state"] == "FINALIZED"
    theirs = city.node("insurer").client.agreements()
    assert found["agreement"] in {one["id"] for one in theirs}


def test_a_provider_killed_while_it_computes_ends_the_run_on_both_sides(
    city: City, tmp_path: Path
) -> None:
    provider = city.node("civil-affairs")
    big = tmp_path / "big.csv"
    with big.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["person"])
        writer.writerows([f"person-{number}"] for number in range(60_000))
    identifier = {"name": "person", "role": "identifier"}
    provider.client.publish("big", big, [identifier], terms=terms())
    agreement = city.consumer.negotiate(provider.url, "big")
    asked = {
        "kind": "psi/1",
        "agreements": [agreement],
        "purpose": PURPOSE,
        "own": {"source": str(big), "identifier": "person"},
    }
    begun = city.consumer.call("POST", "/api/computations", asked)

    def running(one: dict[str, Any]) -> bool:
        return bool(one["status"] == "RUNNING")

    # The consumer runs when every provider has started.
    city.consumer.poll(f"/api/computations/{begun['id']}", running, 60.0)
    provider.kill()
    revive(city, "civil-affairs")
    found = city.consumer.poll(f"/api/computations/{begun['id']}", ended, 90.0)
    assert found["status"] == "FAILED"
    assert "restarted" in found["refusal"]["reason"]
    theirs = provider.client.call("GET", f"/api/computations/{begun['id']}")
    assert theirs["status"] == "FAILED"
    with pytest.raises(Refused):
        city.consumer.compute("psi/1", [agreement], purpose="marketing", own=(big, "person"))


@pytest.mark.slow
def test_a_database_older_than_its_anchors_signs_nothing_and_says_so(
    city: City, tmp_path: Path
) -> None:
    provider = city.node("health-trust")
    city.space.wait_until_anchored()
    provider.stop()
    database = provider.home.path / "node.sqlite"
    backup = tmp_path / "older.sqlite"
    shutil.copy(database, backup)
    revive(city, "health-trust")
    city.compute("psi-cardinality/1", ["residents", "health"])
    city.space.wait_until_anchored()
    provider.stop()
    newest = tmp_path / "newest.sqlite"
    shutil.copy(database, newest)
    # Without the write-ahead log: it belongs to the newer one.
    for beside in ("-wal", "-shm"):
        database.with_name(database.name + beside).unlink(missing_ok=True)
    shutil.copy(backup, database)
    provider.start()
    wait_until_rewound(provider)
    provider.stop()
    shutil.copy(newest, database)
    revive(city, "health-trust")
    city.space.wait_until_anchored()


def test_after_all_that_the_logs_are_consistent(city: City) -> None:
    city.space.wait_until_anchored()
    audited = run_audit(city)
    assert audited.returncode == 0, audited.stdout + audited.stderr


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["civil-affairs", "institute"])
def test_whoever_is_killed_while_sets_are_compared_goes_on_at_the_last_finished_bucket(
    city: City, tmp_path: Path, victim: str
) -> None:
    provider = city.node("civil-affairs")
    theirs, own = tmp_path / "theirs.csv", tmp_path / "own.csv"
    for path, start in ((theirs, 0), (own, 4000)):
        lines = [f"person-{number}" for number in range(start, start + 6000)]
        path.write_text("\n".join(["person", *lines]), encoding="utf-8")
    name = f"compared-{victim}"
    column = {"name": "person", "role": "identifier"}
    provider.client.publish(name, theirs, [column], terms=terms())
    asked = {
        "kind": "psi/2",
        "agreements": [city.consumer.negotiate(provider.url, name)],
        "purpose": PURPOSE,
        "parameters": {"bucketElements": 1024},
        "own": {"source": str(own), "identifier": "person"},
    }
    begun = city.consumer.call("POST", "/api/computations", asked)["id"]
    killed = city.node(victim)
    spool = killed.home.path / "spool" / begun

    def two_buckets_done(one: dict[str, Any]) -> bool:
        assert not ended(one), one["refusal"]
        return len(list(spool.glob("done-*"))) >= 2

    city.consumer.poll(f"/api/computations/{begun}", two_buckets_done, 60.0)
    killed.kill()
    finished = {path.name: path.stat().st_mtime_ns for path in spool.glob("done-*")}
    assert len(finished) < 8
    revive(city, victim)
    client = killed.client

    def compares_again(one: dict[str, Any]) -> bool:
        return ended(one) or len(list(spool.glob("done-*"))) > len(finished)

    client.poll(f"/api/computations/{begun}", compares_again, 60.0)
    # What was finished was not done again.
    for path in spool.glob("done-*"):
        assert finished.get(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    found = city.consumer.poll(f"/api/computations/{begun}", ended, 90.0)
    assert found["status"] == "COMPLETED", found["refusal"]
    assert found["value"]["count"] == 2000
    assert found["progress"]["attempt"] == 2
    assert found["report"]["distinct"] == 6000
    provider.client.poll(f"/api/computations/{begun}", ended, 30.0)
    # It goes when the result is kept, and not with it.
    client.poll(f"/api/computations/{begun}", lambda _: not spool.exists(), 30.0)


@pytest.mark.slow
def test_a_side_that_hangs_ends_the_run_by_the_orders_deadline_with_its_name(
    city: City, tmp_path: Path
) -> None:
    provider = city.node("civil-affairs")
    people = tmp_path / "people.csv"
    people.write_text("\n".join(["person", *(f"person-{n}" for n in range(9000))]), "utf-8")
    column = {"name": "person", "role": "identifier"}
    provider.client.publish("hanging", people, [column], terms=terms())
    asked = {
        "kind": "psi/2",
        "agreements": [city.consumer.negotiate(provider.url, "hanging")],
        "purpose": PURPOSE,
        "deadline_s": 6,
        "own": {"source": str(people), "identifier": "person"},
    }
    path = "/api/computations/" + city.consumer.call("POST", "/api/computations", asked)["id"]
    city.consumer.poll(path, lambda one: one["progress"]["done_units"] > 0, 60.0)
    assert provider.process is not None
    os.kill(provider.process.pid, signal.SIGSTOP)
    try:
        found = city.consumer.poll(path, ended, 60.0)
    finally:
        os.kill(provider.process.pid, signal.SIGCONT)
    assert found["status"] == "FAILED"
    assert "deadline" in found["refusal"]["reason"]
    theirs = provider.client.poll(path, ended, 60.0)
    assert theirs["status"] == "FAILED"
    # The node goes on.
    assert city.compute("psi-cardinality/2", ["residents", "contracts"]).value["count"] > 0
