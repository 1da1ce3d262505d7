"""A consumer fetches from a provider of any make, and believes as little of it as it can."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from contracts.transfer import TransferState
from contracts.transfer_strategy import PULL
from dataspace.errors import InputRejected, ProtocolViolation, Unavailable
from dataspace.node import Node
from dataspace.processes import Process
from dataspace.protocol.data_plane import MOVE
from dataspace.protocol.transfer_rows import new_address
from dataspace.store.tables import AgreementRow, TransferRow

from .transfer_nodes import AGREEMENT, CONSUMER_URL, DATASET, make_node

PROVIDER = "did:web:127.0.0.1%3A1"
ENDPOINT = "http://127.0.0.1:1/public/rows?of=ours"
PID = "urn:uuid:11111111-1111-4111-8111-111111111111"
DIGEST = {"content-digest": "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:"}

Answer = Callable[[httpx2.Request], httpx2.Response]
Fetch = Callable[[Answer], list[httpx2.Request]]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = make_node(tmp_path, CONSUMER_URL)
    with made.store.transaction() as tx:
        tx.add(
            AgreementRow(
                id=AGREEMENT,
                role="CONSUMER",
                provider=PROVIDER,
                consumer=made.did,
                dataset=DATASET,
                document={},
                document_h="0" * 64,
                negotiation="urn:uuid:negotiation",
                finalized_at=1.0,
            )
        )
    yield made
    made.store.close()


def start(node: Node, endpoint: str | None = ENDPOINT) -> None:
    """A pull that its provider has started, to be fetched from `endpoint`."""
    address = None
    if endpoint is not None:
        address = new_address(endpoint)[0].to_json()
    with node.store.transaction() as tx:
        tx.add(
            TransferRow(
                pid=PID,
                role="CONSUMER",
                peer=PROVIDER,
                peer_pid="urn:uuid:theirs",
                callback="http://127.0.0.1:1/dsp",
                agreement=AGREEMENT,
                format=PULL,
                state=TransferState.STARTED,
                computation="",
                order_jws="",
                order_h="",
                data_address=address,
                created_at=1.0,
                updated_at=1.0,
            )
        )


def fetch(node: Node, answer: Answer) -> list[httpx2.Request]:
    """Let the node move the rows once; the requests it made for that."""
    asked: list[httpx2.Request] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return answer(request)

    node.http = httpx2.Client(transport=httpx2.MockTransport(respond))
    node.data_plane.handlers()[MOVE].handle(Process(1, MOVE, PID, {}, 1, 1.0))
    return asked


def rows(body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx2.Response(200, content=iter([body]), headers=named)


def transfer(node: Node) -> TransferRow:
    with node.store.transaction() as tx:
        return tx.get_one(TransferRow, PID)


def nothing_was_kept(node: Node) -> bool:
    received = node.home.path / "received"
    return transfer(node).moved is None and not any(received.glob("*"))


def test_what_comes_is_kept_and_the_transfer_completed(node: Node) -> None:
    start(node)
    (asked,) = fetch(node, rows(b"abc", content_digest=DIGEST["content-digest"]))
    assert str(asked.url) == ENDPOINT
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["authorization"].startswith("Bearer ")
    done = transfer(node)
    assert done.state == TransferState.COMPLETED
    assert done.moved is not None
    assert Path(done.moved["file"]).read_bytes() == b"abc"


def test_rows_without_a_digest_come_from_providers_of_another_make(node: Node) -> None:
    start(node)
    fetch(node, rows(b"abc"))
    assert transfer(node).state == TransferState.COMPLETED


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (rows(b"abd", content_digest=DIGEST["content-digest"]), Unavailable),
        (rows(b"abc", content_encoding="x-other"), ProtocolViolation),
        (
            lambda _: httpx2.Response(302, headers={"location": "http://127.0.0.1:9/"}),
            InputRejected,
        ),
        (lambda _: httpx2.Response(406), InputRejected),
        (lambda _: httpx2.Response(401), Unavailable),
        (lambda _: httpx2.Response(404), Unavailable),
        (lambda _: httpx2.Response(503), Unavailable),
    ],
)
def test_any_other_answer_keeps_nothing(node: Node, answer: Answer, error: type[Exception]) -> None:
    start(node)
    with pytest.raises(error):
        fetch(node, answer)
    assert nothing_was_kept(node)
    assert transfer(node).state == TransferState.STARTED


def test_a_connection_that_breaks_is_tried_again(node: Node) -> None:
    def broken(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("reset", request=request)

    start(node)
    with pytest.raises(Unavailable, match="broke off"):
        fetch(node, broken)
    assert nothing_was_kept(node)


@pytest.mark.parametrize(
    "endpoint",
    [
        None,
        "http://127.0.0.1:9/elsewhere",
        "http://127.0.0.1:1.evil.example/",
        "http://127.0.0.1:1@evil.example/",
        "file:///etc/passwd",
        "",
    ],
)
def test_only_the_providers_own_node_is_called(node: Node, endpoint: str | None) -> None:
    start(node, endpoint)
    with pytest.raises(ProtocolViolation, match="dataAddress"):
        fetch(node, rows(b"abc"))
    assert nothing_was_kept(node)


@pytest.mark.parametrize("state", [TransferState.SUSPENDED, TransferState.TERMINATED])
def test_rows_of_a_transfer_that_was_interrupted_meanwhile_are_not_kept(
    node: Node, state: TransferState
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        with node.store.transaction() as tx:
            tx.get_one(TransferRow, PID).state = state
        return rows(b"abc")(request)

    start(node)
    with pytest.raises(Unavailable):
        fetch(node, answer)
    assert nothing_was_kept(node)
    assert transfer(node).state == state


def test_an_interrupted_transfer_is_not_fetched(node: Node) -> None:
    start(node)
    with node.store.transaction() as tx:
        tx.get_one(TransferRow, PID).state = TransferState.SUSPENDED
    assert fetch(node, rows(b"abc")) == []


def test_rows_that_never_come_end_the_transfer(node: Node) -> None:
    start(node)
    handler = node.data_plane.handlers()[MOVE]
    assert handler.on_failure is not None
    with node.store.transaction() as tx:
        handler.on_failure(tx, Process(1, MOVE, PID, {}, 9, 1.0), "nobody answered")
    ended = transfer(node)
    assert (ended.state, ended.reason) == (TransferState.TERMINATED, "nobody answered")
