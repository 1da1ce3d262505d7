"""A suspended transfer holds its computation: no frame is sent or taken until it is resumed."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import col, select

from contracts.transfer import TransferState
from dataspace.answer import Answer
from dataspace.computing.inbox import Chunk, Inbox, content_digest
from dataspace.computing.running import RUN
from dataspace.computing.sessions import Course, Session, Sessions
from dataspace.errors import SessionClosed, Unavailable
from dataspace.node import Node
from dataspace.protocol.delivery import DELIVER
from dataspace.store.tables import ComputationRow, ProcessRow, TransferRow
from privacy.role import Receive, Send

from .transfer_nodes import CONSUMER_URL, make_node

ORDER, SOON_S = "order", 10.0


class Wire:
    """Peers that take every frame, and say when one has come."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.came = threading.Event()

    def url_of(self, did: str) -> str:
        return "http://peer"

    def send(self, method: str, url: str, **_: object) -> Answer:
        self.sent.append(url)
        self.came.set()
        return Answer(204, {}, b"")


def session(order: str = ORDER) -> Session:
    return Session(
        order_id=order, role="left", dids={"right": "did:r"}, deadline=time.monotonic() + SOON_S
    )


def frame(inbox: Inbox, body: bytes = b"abc") -> None:
    inbox.put(Chunk("right", 0, 0, 1, "points", content_digest(body), body))


def test_a_held_inbox_takes_chunks_and_gives_no_frame_until_it_is_released() -> None:
    inbox, got = Inbox(), []
    inbox.hold()
    frame(inbox)

    def take() -> None:
        got.append(inbox.get(Receive("right", "points", 100), time.monotonic() + SOON_S))

    taking = threading.Thread(target=take)
    taking.start()
    assert got == []
    inbox.release()
    taking.join(SOON_S)
    assert got == [b"abc"]


def test_the_deadline_of_a_held_inbox_still_counts() -> None:
    inbox = Inbox()
    frame(inbox)
    inbox.hold()
    with pytest.raises(Unavailable, match="suspended until its deadline"):
        inbox.get(Receive("right", "points", 100), time.monotonic())
    with pytest.raises(Unavailable, match="suspended until its deadline"):
        inbox.await_release(time.monotonic())
    inbox.release()
    # A deadline that has passed does not matter where nothing has to be waited for.
    inbox.await_release(time.monotonic())


def test_a_closed_inbox_says_why_although_it_is_held() -> None:
    inbox = Inbox()
    inbox.hold()
    inbox.close(Unavailable("the peer ended it"))
    with pytest.raises(Unavailable, match="the peer ended it"):
        inbox.await_release(time.monotonic() + SOON_S)
    with pytest.raises(SessionClosed):
        frame(inbox)


def run(sessions: Sessions, one: Session) -> tuple[threading.Event, list[object]]:
    """Open a session whose role sends one frame; when it has ended, and how."""
    ends: list[object] = []
    over = threading.Event()

    def role():  # type: ignore[no-untyped-def]
        yield Send("right", "points", b"abc")
        return "result"

    def finish(end: object) -> None:
        ends.append(end)
        over.set()

    sessions.open(one, Course(role, finish))  # type: ignore[arg-type]
    return over, ends


def test_a_session_held_before_it_opens_sends_nothing_until_it_is_released() -> None:
    wire = Wire()
    sessions = Sessions(wire)  # type: ignore[arg-type]
    sessions.hold(ORDER)
    over, ends = run(sessions, session())
    other, _ = run(sessions, session("another"))
    assert other.wait(SOON_S)
    assert [url for url in wire.sent if f"/{ORDER}/" in url] == []
    sessions.release(ORDER)
    assert over.wait(SOON_S)
    assert ends == ["result"]
    assert [url for url in wire.sent if f"/{ORDER}/" in url] == [
        f"http://peer/compute/{ORDER}/left/0/0"
    ]


def test_a_held_session_that_is_cancelled_ends_and_is_not_held_again() -> None:
    wire = Wire()
    sessions = Sessions(wire)  # type: ignore[arg-type]
    sessions.hold(ORDER)
    over, ends = run(sessions, session())
    sessions.cancel(ORDER, Unavailable("it was ended"))
    assert over.wait(SOON_S)
    assert [str(end) for end in ends] == ["it was ended"]
    assert wire.sent == []


# ---- which transfers hold which session ----------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = make_node(tmp_path, CONSUMER_URL)
    yield made
    made.store.close()


def add_computation(node: Node, **states: TransferState) -> None:
    """A computation of this consumer with a transfer for each provider named."""
    with node.store.transaction() as tx:
        tx.add(
            ComputationRow(
                id=ORDER,
                kind="psi-cardinality/1",
                role="consumer",
                consumer=node.did,
                purpose="research",
                order_jws="",
                order_h="0" * 64,
                status="REQUESTED",
                created_at=1.0,
            )
        )
        for name, state in states.items():
            tx.add(
                TransferRow(
                    pid=name,
                    role="CONSUMER",
                    peer=f"did:web:{name}",
                    peer_pid=f"{name}-theirs",
                    callback="http://unused",
                    agreement=f"agreement-{name}",
                    format="psi-cardinality/1",
                    state=state,
                    computation=ORDER,
                    order_jws="jws",
                    order_h="",
                    created_at=1.0,
                    updated_at=1.0,
                )
            )


def do(node: Node, name: str, what: str) -> None:
    with node.store.transaction() as tx:
        row = node.transfers.get(tx, name)
        if what == "suspend":
            node.transfers.suspend(tx, row, "A moment, please.")
        else:
            getattr(node.transfers, what)(tx, row)


def scheduled(node: Node, kind: str) -> list[ProcessRow]:
    with node.store.transaction() as tx:
        found = select(ProcessRow).where(ProcessRow.kind == kind).order_by(col(ProcessRow.id))
        return list(tx.exec(found).all())


def test_a_computation_stands_still_while_any_of_its_transfers_is_suspended(node: Node) -> None:
    wire = Wire()
    node.sessions = Sessions(wire)  # type: ignore[arg-type]
    add_computation(node, left=TransferState.STARTED, right=TransferState.STARTED)
    do(node, "left", "suspend")
    do(node, "right", "suspend")
    over, ends = run(node.sessions, session())
    do(node, "left", "resume")
    assert wire.sent == []
    do(node, "right", "resume")
    assert over.wait(SOON_S)
    assert ends == ["result"]


def test_after_a_restart_what_was_suspended_is_held_until_it_is_resumed(node: Node) -> None:
    wire = Wire()
    node.sessions = Sessions(wire)  # type: ignore[arg-type]
    add_computation(node, left=TransferState.SUSPENDED, right=TransferState.STARTED)
    node.transfers.recover()
    over, ends = run(node.sessions, session())
    assert wire.sent == []
    do(node, "left", "resume")
    assert over.wait(SOON_S)
    assert ends == ["result"]


@pytest.mark.parametrize(
    ("other", "begins"), [(TransferState.STARTED, 1), (TransferState.REQUESTED, 0)]
)
def test_a_resumption_lets_a_computation_begin_that_waited_for_nothing_else(
    node: Node, other: TransferState, begins: int
) -> None:
    add_computation(node, left=TransferState.SUSPENDED, right=other)
    do(node, "left", "resume")
    assert len(scheduled(node, RUN)) == begins


def test_a_result_that_came_before_the_suspension_completes_by_way_of_a_start(node: Node) -> None:
    add_computation(node, left=TransferState.SUSPENDED)
    do(node, "left", "complete")
    with node.store.transaction() as tx:
        assert tx.get_one(TransferRow, "left").state == TransferState.COMPLETED
    assert [one.payload["url"].rpartition("/")[2] for one in scheduled(node, DELIVER)] == [
        "start",
        "completion",
    ]


def test_ending_a_suspended_transfer_ends_its_computation(node: Node) -> None:
    wire = Wire()
    node.sessions = Sessions(wire)  # type: ignore[arg-type]
    add_computation(node, left=TransferState.STARTED)
    do(node, "left", "suspend")
    over, ends = run(node.sessions, session())
    with node.store.transaction() as tx:
        node.transfers.end(tx, node.transfers.get(tx, "left"), "We stop here.", by=node.did)
    assert over.wait(SOON_S)
    assert ["We stop here." in str(end) for end in ends] == [True]
    with node.store.transaction() as tx:
        failed = tx.get_one(ComputationRow, ORDER)
        assert (failed.status, failed.refused_by) == ("FAILED", node.did)
    assert wire.sent == []


def test_a_computation_that_its_provider_resumes_has_no_rows_to_fetch(node: Node) -> None:
    add_computation(node, left=TransferState.SUSPENDED)
    with node.store.transaction() as tx:
        tx.get_one(TransferRow, "left").role = "PROVIDER"
    do(node, "left", "resume")
    (message,) = scheduled(node, DELIVER)
    assert "dataAddress" not in message.payload["body"]
    with node.store.transaction() as tx:
        assert tx.get_one(TransferRow, "left").token_h is None
