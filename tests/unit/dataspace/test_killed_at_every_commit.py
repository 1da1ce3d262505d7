"""A negotiation and a computation end well whichever commit was the last of a node's life."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from dataspace.computing.ordering import ComputationRequest, OwnInput
from dataspace.errors import Unavailable
from dataspace.node import Node
from dataspace.store.tables import (
    AgreementRow,
    ComputationRow,
    EntryRow,
    NegotiationRow,
    ProcessRow,
)
from ledger.entry import open_entry

from .mortal_nodes import Couple, Dead, Moment, Mortal, MortalStore, couple
from .transfer_nodes import DATASET

pytestmark = pytest.mark.slow

PERSON = {
    "name": "person",
    "role": "identifier",
    "canonicaliser": "text/1",
    "scale": 0,
    "values": [],
}
COMMON = 12
MOST_COMMITS = 200
# All of them take minutes: `./run killed`.
STRIDE = 1 if os.environ.get("DATASPACE_EVERY_COMMIT") else 12


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Couple]:
    monkeypatch.setattr("dataspace.node.Store", MortalStore)
    told = threading.excepthook
    monkeypatch.setattr(
        threading, "excepthook", lambda it: None if it.exc_type is Dead else told(it)
    )
    rows = tmp_path / "rows.csv"
    rows.write_text("person\n" + "".join(f"p{number}\n" for number in range(40)))
    (tmp_path / "own.csv").write_text(
        "person\n" + "".join(f"p{number}\n" for number in range(COMMON))
    )
    with couple(tmp_path, rows, [PERSON]) as made:
        yield made


def entries(node: Node) -> list[tuple[str, str | None, str | None]]:
    """What the log says: type, subject, order."""
    with node.store.transaction() as tx:
        rows = tx.exec(select(EntryRow).order_by(EntryRow.position)).all()
    opened = [open_entry(row.body, row.salt, row.commitment) for row in rows]
    return [(str(one.type), one.corr, one.order_h) for one in opened]


def negotiate(pair: Couple) -> str:
    while True:
        try:
            provider, consumer = pair.provider.life.node, pair.consumer.life.node
            return consumer.proposals.request(provider.did, DATASET)
        except (Dead, Unavailable):
            # The owner's request was not answered, and is made again.
            pair.revive_the_dead()


def every_commit(pair: Couple, whose: Callable[[Couple], Mortal], play: Callable[[], None]) -> int:
    """Play until no commit is left at which a life could end; how many there were."""
    for commit in range(1, MOST_COMMITS, STRIDE):
        for moment in Moment:
            life = whose(pair).life
            whose(pair).die_at(commit, moment)
            play()
            if not life.store.dead.is_set():
                life.store.dies_at = None
                return commit - 1
    raise AssertionError(f"more than {MOST_COMMITS} commits")


@pytest.mark.parametrize("side", ["provider", "consumer"])
def test_a_negotiation_ends_in_one_agreement_whichever_commit_was_the_last_of_a_life(
    pair: Couple, side: str
) -> None:
    def play() -> None:
        pid = negotiate(pair)

        def finalized() -> bool:
            for one in pair.both:
                with one.life.node.store.transaction() as tx:
                    found = tx.exec(
                        select(NegotiationRow).where(
                            (NegotiationRow.pid == pid) | (NegotiationRow.peer_pid == pid)
                        )
                    ).first()
                    if found is None or found.state != "FINALIZED":
                        return False
            return True

        pair.wait(finalized)

    commits = every_commit(pair, lambda it: getattr(it, side), play)
    assert commits >= 4
    held: list[set[str]] = []
    for one in pair.both:
        node = one.life.node
        with node.store.transaction() as tx:
            rows = tx.exec(select(AgreementRow)).all()
            assert tx.exec(select(ProcessRow).where(ProcessRow.state == "failed")).all() == []
        # One agreement for each negotiation, and one entry of evidence for each agreement.
        assert max(Counter(row.negotiation for row in rows).values()) == 1
        told = Counter(corr for kind, corr, _ in entries(node) if kind == "agreed")
        assert set(told.values()) <= {1}
        held.append({row.document_h for row in rows})
    assert held[0] == held[1]


@pytest.mark.parametrize("side", ["provider", "consumer"])
def test_a_computation_ends_once_with_its_result_whichever_commit_was_the_last_of_a_life(
    pair: Couple, tmp_path: Path, side: str
) -> None:
    pid = negotiate(pair)

    def agreed() -> bool:
        with pair.consumer.life.node.store.transaction() as tx:
            return tx.get_one(NegotiationRow, pid).state == "FINALIZED"

    pair.wait(agreed)
    with pair.consumer.life.node.store.transaction() as tx:
        (agreement,) = tx.exec(select(AgreementRow.id)).all()
    asked = ComputationRequest(
        kind="psi/2",
        agreements=(agreement,),
        purpose="research",
        own=OwnInput(source=str(tmp_path / "own.csv"), identifier="person"),
        deadline_s=60,
    )
    ordered: list[str] = []

    def play() -> None:
        while True:
            try:
                order = pair.consumer.life.node.computations.order(asked).id
                break
            except (Dead, Unavailable):
                pair.revive_the_dead()
        ordered.append(order)

        def ended() -> bool:
            for one in pair.both:
                with one.life.node.store.transaction() as tx:
                    row = tx.get(ComputationRow, order)
                    if row is None or row.status in ("REQUESTED", "RUNNING"):
                        return False
            return True

        pair.wait(ended)

    every_commit(pair, lambda it: getattr(it, side), play)
    for one in pair.both:
        node = one.life.node
        told = Counter(order for kind, _, order in entries(node) if kind == "completed")
        with node.store.transaction() as tx:
            for order in ordered:
                row = tx.get_one(ComputationRow, order)
                assert row.status == "COMPLETED", (side, ordered.index(order), row.reason)
                assert told[row.order_h] == 1
                if row.role == "consumer":
                    assert row.value is not None
                    assert row.value["count"] == COMMON
