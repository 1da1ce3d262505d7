"""Nodes on PostgreSQL, each of two processes behind a balancer, that are killed while they work."""

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .conftest import PURPOSE
from .replicated import STOP_S
from .replicated_town import COMMON, PEOPLE, Town, ended

pytestmark = pytest.mark.slow


def test_two_processes_of_each_node_agree_compute_and_are_audited_clean(
    replicated_town: Town,
) -> None:
    consumer = replicated_town.institute.client
    people = consumer.negotiate(replicated_town.bureau.home.url, "people")
    contracts = consumer.negotiate(replicated_town.space.nodes["insurer"].url, "contracts")
    both = {"purpose": PURPOSE, "timeout_s": 120.0}

    def intersect(_: int) -> int:
        found = consumer.compute("psi/2", [people], own=(replicated_town.own, "person"), **both)
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
    replicated_town.wait_until_anchored()
    audited = replicated_town.audit()
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_processes_that_are_killed_while_they_work_lose_nothing_and_do_nothing_twice(
    replicated_town: Town,
) -> None:
    consumer, bureau = replicated_town.institute.client, replicated_town.bureau
    people = consumer.negotiate(bureau.home.url, "people", reuse=True)
    asked: dict[str, Any] = {
        "kind": "psi/2",
        "agreements": [people],
        "purpose": PURPOSE,
        "own": {"source": str(replicated_town.own), "identifier": "person"},
    }

    begun = [consumer.call("POST", "/api/computations", asked) for _ in range(4)]
    talks = [
        consumer.call(
            "POST", "/api/negotiations", {"provider": bureau.home.url, "dataset": "people"}
        )
        for _ in range(4)
    ]
    bureau.kill("a")
    replicated_town.institute.kill("b")
    bureau.start("a")
    replicated_town.institute.start("b")
    for node, name in ((bureau, "a"), (replicated_town.institute, "b")):
        node.wait_until_healthy(name)
    for one in talks:
        assert consumer.poll(f"/api/negotiations/{one['id']}", ended, 90.0)["state"] == "FINALIZED"
    for one in begun:
        found = consumer.poll(f"/api/computations/{one['id']}", ended, 120.0)
        theirs = bureau.client.poll(f"/api/computations/{one['id']}", ended, 60.0)
        assert (found["status"], theirs["status"]) == ("COMPLETED", "COMPLETED"), found
        assert found["value"]["count"] == COMMON
    replicated_town.wait_until_anchored()
    audited = replicated_town.audit()
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_a_process_that_does_not_come_back_is_taken_over_by_the_other(
    replicated_town: Town,
) -> None:
    consumer, bureau = replicated_town.institute.client, replicated_town.bureau
    people = consumer.negotiate(bureau.home.url, "people", reuse=True)
    bureau.kill("b")
    try:
        found = [
            consumer.compute(
                "psi/2",
                [people],
                own=(replicated_town.own, "person"),
                purpose=PURPOSE,
                timeout_s=120.0,
            )
            for _ in range(2)
        ]
    finally:
        bureau.start("b")
        bureau.wait_until_healthy("b")
    assert [one.value["count"] for one in found] == [COMMON] * 2


def test_a_process_told_to_stop_finishes_what_it_computes_and_ends_with_0(
    replicated_town: Town,
) -> None:
    consumer, bureau = replicated_town.institute.client, replicated_town.bureau
    people = consumer.negotiate(bureau.home.url, "people", reuse=True)
    asked = {
        "kind": "psi/2",
        "agreements": [people],
        "purpose": PURPOSE,
        "own": {"source": str(replicated_town.own), "identifier": "person"},
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
