"""Rows whose connection broke go on from where they were, if they are still the same."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import delete, select

from connectors.personal import Consent, append_consent, withdraw
from contracts.transfer import TransferState
from contracts.transfer_strategy import PULL, PUSH
from dataspace.errors import Superseded, Unavailable
from dataspace.node import Node
from dataspace.processes import Later, Process
from dataspace.protocol import data_plane
from dataspace.protocol.data_plane import MOVE
from dataspace.protocol.rows_in import Sending
from dataspace.protocol.transfer_rows import commitment_of, new_address
from dataspace.protocol.transit import RowCounter, digest_header
from dataspace.store.tables import AgreementRow, DatasetRow, EntryRow, TransferRow
from dataspace.web.app import create_app
from ledger.entry import open_entry

from .transfer_nodes import (
    AGREEMENT,
    CONSUMER_URL,
    DATASET,
    PROVIDER_URL,
    Neighbours,
    make_node,
    pair_of,
    publish,
)

PID = "urn:uuid:11111111-1111-4111-8111-111111111111"
PEER = "did:web:127.0.0.1%3A1"
ENDPOINT = "http://127.0.0.1:1/public/rows"
ROWS = b'"name"\n"ann"\n"bob"\n"cy"\n'
DIGEST = digest_header(hashlib.sha256(ROWS).digest())


def transfer(node: Node) -> TransferRow:
    with node.store.transaction() as tx:
        return tx.get_one(TransferRow, PID)


def put(node: Node, role: str, format_: str, peer: str) -> str:
    """A transfer of this node that has started; the token for calls to it."""
    address, token_h = new_address(ENDPOINT)
    with node.store.transaction() as tx:
        tx.add(
            TransferRow(
                pid=PID,
                role=role,
                peer=peer,
                peer_pid="urn:uuid:theirs",
                callback="http://127.0.0.1:1/dsp",
                agreement=AGREEMENT,
                format=format_,
                state=TransferState.STARTED,
                computation="",
                order_jws="",
                order_h="",
                purpose="research",
                data_address=address.to_json(),
                token_h=token_h,
                created_at=1.0,
                updated_at=1.0,
            )
        )
    token = address.property_named("authorization")
    assert token is not None
    return token


def emptied(node: Node) -> Node:
    """A node that is used by one test after the other, as if it were new: making one takes long."""
    with node.store.transaction() as tx:
        for table in (TransferRow, AgreementRow, DatasetRow):
            tx.exec(delete(table))
    for directory in ("received", "outgoing"):
        shutil.rmtree(node.home.path / directory, ignore_errors=True)
    return node


@pytest.fixture(scope="module")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = make_node(tmp_path_factory.mktemp("consumer"), CONSUMER_URL)
    yield made
    made.store.close()


@pytest.fixture
def consumer(one_node: Node) -> Node:
    return agreed(one_node)


def agreed(node: Node) -> Node:
    """The node with an agreement about the peer's rows, and nothing else."""
    made = emptied(node)
    with made.store.transaction() as tx:
        tx.add(
            AgreementRow(
                id=AGREEMENT,
                role="CONSUMER",
                provider=PEER,
                consumer=made.did,
                dataset=DATASET,
                document={},
                document_h="0" * 64,
                negotiation="urn:uuid:negotiation",
                finalized_at=1.0,
            )
        )
    return made


class Provider:
    """Serves rows under a tag, breaks the first connections off after some bytes each, and notes
    which ranges it was asked for."""

    def __init__(self, rows: bytes, *breaks: int) -> None:
        self.rows, self.breaks = rows, list(breaks)
        self.asked: list[str | None] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        asked = request.headers.get("range")
        self.asked.append(asked)
        tag = f'"{hashlib.sha256(self.rows).hexdigest()}"'
        goes_on = asked is not None and request.headers["if-range"] == tag
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if goes_on and asked else 0
        rest = self.rows[begin:]
        headers = {"etag": tag, "content-length": str(len(rest))}
        if goes_on:
            headers["content-range"] = f"bytes {begin}-{len(self.rows) - 1}/{len(self.rows)}"
        else:
            headers["content-digest"] = digest_header(hashlib.sha256(self.rows).digest())
        return httpx2.Response(206 if goes_on else 200, headers=headers, content=self._some(rest))

    def _some(self, rest: bytes) -> Iterator[bytes]:
        if not self.breaks:
            yield rest
            return
        yield rest[: self.breaks.pop(0)]
        raise httpx2.ReadError("reset")


def fetch(node: Node, provider: Provider) -> Later | None:
    node.http = httpx2.Client(transport=httpx2.MockTransport(provider))
    return node.data_plane.handlers()[MOVE].handle(Process(1, MOVE, PID, {}, 1, 1.0))


def test_a_fetch_that_broke_off_goes_on_with_the_byte_after_the_last(consumer: Node) -> None:
    put(consumer, "CONSUMER", PULL, PEER)
    provider = Provider(ROWS, 9, 5)
    for _ in range(2):
        with pytest.raises(Unavailable):
            fetch(consumer, provider)
    # A node that was killed has nothing but what is on its disk.
    revived = data_plane.DataPlane(consumer)
    consumer.data_plane = revived
    assert fetch(consumer, provider) is None
    assert provider.asked == [None, "bytes=9-", "bytes=14-"]
    done = transfer(consumer)
    assert done.state == TransferState.COMPLETED
    assert done.moved is not None
    file = Path(done.moved["file"])
    assert file.read_bytes() == ROWS
    assert file.stat().st_mode & 0o777 == 0o600
    assert (done.moved["rows"], done.moved["bytes"]) == (3, len(ROWS))
    assert list(file.parent.iterdir()) == [file]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(ROWS)), st.booleans()), max_size=4))
def test_however_often_it_breaks_and_the_rows_change_what_is_kept_is_one_state_of_them(
    one_node: Node, breaks: list[tuple[int, bool]]
) -> None:
    node = agreed(one_node)
    put(node, "CONSUMER", PULL, PEER)
    provider, states = Provider(ROWS), [ROWS]
    for after, changes in breaks:
        provider.breaks = [after]
        with suppress(Unavailable):
            fetch(node, provider)
        if changes:
            provider.rows = states[-1] + b'"dee"\n'
            states.append(provider.rows)
    provider.breaks = []
    if transfer(node).state == TransferState.STARTED:
        fetch(node, provider)
    moved = transfer(node).moved
    assert moved is not None
    kept = Path(moved["file"]).read_bytes()
    assert kept in states
    assert moved["rows"] == kept.count(b"\n") - 1
    assert moved["sha256"] == hashlib.sha256(kept).hexdigest()


def test_rows_that_changed_meanwhile_come_anew_and_are_never_mixed(consumer: Node) -> None:
    put(consumer, "CONSUMER", PULL, PEER)
    provider = Provider(ROWS, 15)
    with pytest.raises(Unavailable):
        fetch(consumer, provider)
    provider.rows = b'"name"\n"zed"\n'
    fetch(consumer, provider)
    assert provider.asked == [None, "bytes=15-"]
    moved = transfer(consumer).moved
    assert moved is not None
    assert Path(moved["file"]).read_bytes() == provider.rows


def test_a_part_that_was_spoilt_on_the_disk_is_not_taken_for_the_rows(consumer: Node) -> None:
    put(consumer, "CONSUMER", PULL, PEER)
    provider = Provider(ROWS, 9)
    with pytest.raises(Unavailable):
        fetch(consumer, provider)
    (part,) = (consumer.home.path / "received").iterdir()
    part.write_bytes(b"x" * 9)
    with pytest.raises(Unavailable, match="digest"):
        fetch(consumer, provider)
    assert not any((consumer.home.path / "received").iterdir())
    fetch(consumer, provider)
    assert provider.asked == [None, "bytes=9-", None]
    assert transfer(consumer).state == TransferState.COMPLETED


def test_all_that_had_come_when_the_node_died_is_not_asked_for_again(consumer: Node) -> None:
    put(consumer, "CONSUMER", PULL, PEER)
    provider = Provider(ROWS, len(ROWS))
    with pytest.raises(Unavailable):
        fetch(consumer, provider)
    fetch(consumer, provider)
    assert provider.asked == [None]
    assert transfer(consumer).state == TransferState.COMPLETED


def test_a_fetch_that_gets_on_is_not_given_up(
    consumer: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_plane, "CHUNK_BYTES", 4)
    put(consumer, "CONSUMER", PULL, PEER)
    provider = Provider(ROWS, 4, 3)
    assert isinstance(fetch(consumer, provider), Later)
    with pytest.raises(Unavailable):
        fetch(consumer, provider)


def test_what_had_come_of_a_transfer_that_ends_is_removed(consumer: Node) -> None:
    put(consumer, "CONSUMER", PULL, PEER)
    with pytest.raises(Unavailable):
        fetch(consumer, Provider(ROWS, 9))
    with consumer.store.transaction() as tx:
        consumer.transfers.terminate(tx, tx.get_one(TransferRow, PID), "over", code="ended")
    assert not any((consumer.home.path / "received").iterdir())


# ---- what a provider serves ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = make_node(tmp_path_factory.mktemp("provider"), PROVIDER_URL)
    made.peers = Neighbours(made.store, made.identity, made.http, local=True)
    yield made
    made.store.close()


@pytest.fixture
def provider(other_node: Node) -> Node:
    return emptied(other_node)


def of_people(node: Node, directory: Path, *clauses: dict[str, object]) -> Path:
    file = directory / "rows.csv"
    file.write_text("name,secret\nann,1\nbob,2\ncy,3\n", encoding="utf-8")
    publish(node, str(file), *clauses, consumer=PEER)
    return file


def test_a_provider_serves_the_rest_of_the_same_rows_and_all_of_others(
    provider: Node, tmp_path: Path
) -> None:
    of_people(provider, tmp_path)
    token = {"authorization": f"Bearer {put(provider, 'PROVIDER', PULL, PEER)}"}
    client, url = TestClient(create_app(provider)), f"/data/{PID}"
    whole = client.get(url, headers=token)
    tag = whole.headers["etag"]
    assert (whole.status_code, whole.content) == (200, ROWS)
    assert whole.headers["content-digest"] == whole.headers["repr-digest"] == DIGEST
    asked = token | {"range": "bytes=9-"}
    rest = client.get(url, headers=asked | {"if-range": tag})
    assert (rest.status_code, rest.content) == (206, ROWS[9:])
    assert rest.headers["content-range"] == f"bytes 9-{len(ROWS) - 1}/{len(ROWS)}"
    assert (rest.headers["etag"], rest.headers["repr-digest"]) == (tag, DIGEST)
    assert "content-digest" not in rest.headers
    assert client.get(url, headers=asked).status_code == 206
    assert client.get(url, headers=asked | {"if-range": '"other"'}).content == ROWS
    for unusual in ("bytes=-3", "bytes=0-3", "bytes=0-1,4-", "lines=1-", "bytes=x-"):
        assert client.get(url, headers=token | {"range": unusual}).status_code == 200
    beyond = client.get(url, headers=token | {"range": f"bytes={len(ROWS)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(ROWS)}")
    head = client.head(url, headers=token)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(ROWS))


def test_rows_under_consent_that_changed_between_two_attempts_have_another_tag(
    provider: Node, tmp_path: Path
) -> None:
    file = of_people(provider, tmp_path)
    consents, now = tmp_path / "consents.jsonl", datetime.now(UTC)
    for subject in ("ann", "bob"):
        receipt = Consent(
            receipt_id=f"receipt-{subject}",
            subject=subject,
            columns=("name",),
            purposes=("research",),
            recipients=(PEER,),
            given_at=now - timedelta(days=1),
            expires_at=now + timedelta(days=1),
        )
        append_consent(consents, receipt)
    with provider.store.transaction() as tx:
        dataset = provider.datasets.get(tx, DATASET)
        options = f"consents={consents}&subject=name&canonicaliser=text/1"
        dataset.source = f"personal+file:{file}?{options}"
        tx.add(dataset)
    token = {"authorization": f"Bearer {put(provider, 'PROVIDER', PULL, PEER)}"}
    client, url = TestClient(create_app(provider)), f"/data/{PID}"
    first = client.get(url, headers=token)
    again = token | {"range": "bytes=3-", "if-range": first.headers["etag"]}
    assert client.get(url, headers=again).status_code == 206
    withdraw(consents, "receipt-ann", datetime.now(UTC))
    then = client.get(url, headers=again)
    assert (then.status_code, then.content) == (200, b'"name"\n"bob"\n')


def test_a_token_ends_and_only_the_consumer_gets_another(provider: Node, tmp_path: Path) -> None:
    of_people(provider, tmp_path)
    token = put(provider, "PROVIDER", PULL, PEER)
    with provider.store.transaction() as tx:
        tx.get_one(TransferRow, PID).token_until = 1.0
    client, url = TestClient(create_app(provider)), f"/data/{PID}"
    ended = client.get(url, headers={"authorization": f"Bearer {token}"})
    assert ended.status_code == 401
    assert "refreshEndpoint" in ended.json()["remedy"]
    for nobody in ("did:web:stranger", token):
        given = client.post(f"{url}/token", headers={"authorization": f"Bearer {nobody}"})
        assert given.status_code == 404
    given = client.post(f"{url}/token", headers={"authorization": f"Bearer {PEER}"})
    properties = {one["name"]: one["value"] for one in given.json()["endpointProperties"]}
    assert properties["expiresIn"] == "600"
    assert properties["refreshEndpoint"] == f"{PROVIDER_URL}/data/{PID}/token"
    fresh = {"authorization": f"Bearer {properties['authorization']}"}
    assert client.get(url, headers=fresh).content == ROWS
    assert client.get(url, headers={"authorization": f"Bearer {token}"}).status_code == 404


def test_a_consumer_whose_token_has_ended_asks_for_another_and_goes_on(tmp_path: Path) -> None:
    with pair_of(tmp_path) as pair:
        spoilt = tmp_path / "rows.csv"
        rows = spoilt.read_text(encoding="utf-8")
        spoilt.write_text("nobody\n1\n", encoding="utf-8")
        pid = pair.begin()
        pair.wait(lambda: pair.consumers(pid).state == "STARTED")
        theirs = pair.providers().pid
        with pair.provider.store.transaction() as tx:
            tx.get_one(TransferRow, theirs).token_until = 1.0
        spoilt.write_text(rows, encoding="utf-8")
        pair.wait_for(pid, "COMPLETED")
        moved = pair.consumers(pid).moved
        assert moved is not None
        assert (moved["rows"], Path(moved["file"]).read_bytes()) == (2, b'"name"\n"ann"\n"bob"\n')


def test_rows_leave_as_the_agreement_says_and_are_the_same_each_time(
    provider: Node, tmp_path: Path
) -> None:
    rules = ["name:pseudonym", "rows:where(name^=a)"]
    demanded = {"leftOperand": "ds:release", "operator": "isAllOf", "rightOperand": rules}
    of_people(provider, tmp_path, demanded)
    token = put(provider, "PROVIDER", PULL, PEER)
    left = b"".join(provider.data_plane.serve(PID, token).chunks())
    assert left.count(b"\n") == 2
    assert b"ann" not in left
    provider.data_plane.rows_out.forget(transfer(provider))
    assert b"".join(provider.data_plane.serve(PID, token).chunks()) == left


def test_rules_that_fit_the_dataset_no_longer_let_nothing_leave(
    provider: Node, tmp_path: Path
) -> None:
    demanded = {"leftOperand": "ds:release", "operator": "isAllOf", "rightOperand": ["gone:drop"]}
    of_people(provider, tmp_path, demanded)
    token = {"authorization": f"Bearer {put(provider, 'PROVIDER', PULL, PEER)}"}
    answer = TestClient(create_app(provider)).get(f"/data/{PID}", headers=token)
    assert answer.status_code == 403
    assert "'gone:drop'" in answer.json()["detail"]
    assert transfer(provider).state == TransferState.TERMINATED


# ---- what a provider pushes ---------------------------------------------------------------------


def pushed(node: Node, token: str, sending: Sending, *chunks: bytes) -> None:
    with node.data_plane.take_in(PID, token, sending) as incoming:
        for chunk in chunks:
            incoming.write(chunk)


def test_a_push_that_broke_off_goes_on_where_the_consumer_says(consumer: Node) -> None:
    token = put(consumer, "CONSUMER", PUSH, PEER)
    whole = Sending(DIGEST, size=len(ROWS))
    with pytest.raises(Unavailable, match="broke off"):
        pushed(consumer, token, whole, ROWS[:9])
    client = TestClient(create_app(consumer))
    asked = client.head(f"/data/inbox/{PID}", headers={"authorization": f"Bearer {token}"})
    assert asked.status_code == 204
    assert (asked.headers["upload-offset"], asked.headers["upload-complete"]) == ("9", "?0")
    assert asked.headers["repr-digest"] == DIGEST
    headers = {
        "authorization": f"Bearer {token}",
        "repr-digest": DIGEST,
        "content-range": f"bytes 9-{len(ROWS) - 1}/{len(ROWS)}",
    }
    given = client.put(f"/data/inbox/{PID}", content=ROWS[9:], headers=headers)
    assert given.status_code == 204
    moved = transfer(consumer).moved
    assert moved is not None
    assert (moved["rows"], Path(moved["file"]).read_bytes()) == (3, ROWS)
    asked = client.head(f"/data/inbox/{PID}", headers={"authorization": f"Bearer {token}"})
    assert asked.headers["upload-complete"] == "?1"


@pytest.mark.parametrize("begin_at", [0, 3, 9, 12])
def test_a_piece_that_does_not_follow_what_is_there_is_refused(
    consumer: Node, begin_at: int
) -> None:
    token = put(consumer, "CONSUMER", PUSH, PEER)
    whole = Sending(DIGEST, size=len(ROWS))
    with pytest.raises(Unavailable):
        pushed(consumer, token, whole, ROWS[:9])
    other = digest_header(hashlib.sha256(b"other").digest())
    wrong = Sending(other if begin_at == 9 else DIGEST, begin_at, len(ROWS))
    if begin_at == 0:
        # That one begins anew.
        pushed(consumer, token, wrong, ROWS)
        return
    with pytest.raises(Superseded):
        pushed(consumer, token, wrong, ROWS[begin_at:])
    assert transfer(consumer).moved is None


def test_a_sender_goes_on_and_does_not_send_what_has_come(tmp_path: Path) -> None:
    sent: list[tuple[str, str | None, int]] = []

    class Watching(TestClient):
        def stream(self, method: str, url: str, **options: object):  # type: ignore[no-untyped-def, override]
            headers = options["headers"]
            content = options.get("content")
            body = b"".join(content) if content is not None else b""  # type: ignore[call-overload]
            options["content"] = body
            sent.append((method, headers.get("content-range"), len(body)))  # type: ignore[union-attr, attr-defined]
            if method == "PUT" and len(sent) == 1:
                part = Sending(headers["repr-digest"], size=len(body))  # type: ignore[index]
                token = headers["authorization"].removeprefix("Bearer ")  # type: ignore[index]
                pid = url.rpartition("/")[2]
                with pair.consumer.data_plane.take_in(pid, token, part) as incoming:
                    incoming.write(body[:5])
            return super().stream(method, url, **options)  # type: ignore[arg-type]

    with pair_of(tmp_path) as pair:
        pair.provider.http = Watching(create_app(pair.consumer), raise_server_exceptions=False)
        pid = pair.begin(PUSH)
        pair.wait_for(pid, "COMPLETED")
        row, said = pair.consumers(pid), []
        for node in (pair.provider, pair.consumer):
            with node.store.transaction() as tx:
                rows = tx.exec(select(EntryRow)).all()
            opened = [open_entry(one.body or b"", one.salt or b"", one.commitment) for one in rows]
            said += [one.outputs_c for one in opened if one.type == "accessed"]
    moved = row.moved
    assert moved is not None
    # Both sides' evidence says the same, which nobody can guess who does not know both names.
    assert said == [(commitment_of(row, moved["sha256"], None),)] * 2
    row.pid = "urn:uuid:another"
    assert commitment_of(row, moved["sha256"], None) != said[0][0]
    size = moved["bytes"]
    assert sent == [
        ("PUT", None, size),
        ("HEAD", None, 0),
        ("PUT", f"bytes 5-{size - 1}/{size}", size - 5),
    ]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"", 0),
        (b'"a"\n', 0),
        (b'"a"\n1\n2\n', 2),
        (b'"a"\n1\n2', 2),
        (b'"a"\n"x\ny"\n"q""\n"\n', 2),
        (b'"a"\r\n1\r\n', 1),
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_rows_are_counted_as_they_pass(text: bytes, rows: int, piece: int) -> None:
    counter = RowCounter()
    for begin in range(0, len(text), piece):
        counter.feed(text[begin : begin + piece])
    assert counter.rows() == rows
