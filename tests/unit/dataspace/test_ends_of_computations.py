"""What is left of a computation at its end: its files go, and its result stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.order import ComputationOrder
from dataspace.computing.running import RUN
from dataspace.node import Node
from dataspace.processes import Process
from dataspace.store.tables import ComputationRow
from privacy.kinds import CONSUMER
from privacy.role import Outcome
from privacy.transcript import Transcribed

from .transfer_nodes import CONSUMER_URL, make_node

ORDER = "6f0d2a34-0000-4000-8000-1234567890ab"
END = Transcribed(Outcome(None, {}, "long", (CONSUMER,)), b"d" * 32, {CONSUMER: b"mine"})


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = make_node(tmp_path, CONSUMER_URL)
    yield made
    made.store.close()


def keep_computation(node: Node, status: str, *, replica: str) -> Path:
    """A computation and what it has on the disk; returns where that lies."""
    with node.store.transaction() as tx:
        tx.add(
            ComputationRow(
                id=ORDER,
                kind="psi/2",
                role=CONSUMER,
                consumer=node.did,
                purpose="research",
                order_jws="",
                order_h="a" * 64,
                status=status,
                replica=replica,
                created_at=1.0,
            )
        )
    node.running.spools.open(ORDER).put("long", b"{}\n")
    return node.home.path / "spool" / ORDER


def run(node: Node) -> None:
    """What the process does that begins computations."""
    assert node.running.handlers()[RUN].handle(Process(1, RUN, ORDER, {}, 1, 1.0)) is None


@pytest.mark.parametrize("status", ["COMPLETED", "REFUSED", "FAILED"])
def test_one_that_ended_before_it_was_begun_again_leaves_no_files(node: Node, status: str) -> None:
    spool = keep_computation(node, status, replica="")
    run(node)
    assert not spool.exists()


def test_the_files_of_one_that_another_replica_ends_are_left_to_it(node: Node) -> None:
    spool = keep_computation(node, "FAILED", replica="another")
    run(node)
    assert spool.exists()


@pytest.mark.parametrize(("status", "stays"), [("COMPLETED", True), ("FAILED", False)])
def test_who_stores_an_end_again_keeps_the_result_of_what_has_completed(
    node: Node, status: str, stays: bool
) -> None:
    spool = keep_computation(node, status, replica=node.replicas.name)
    # The first commit was done, and its answer was lost with the database's connection.
    order = ComputationOrder.model_construct()
    node.computations.finish(ORDER, order, END, excluded=None)
    assert node.running.spools.result(ORDER).exists() is stays
    assert not spool.exists()
