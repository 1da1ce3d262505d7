"""What a provider's data plane gives for a transfer, and when it gives nothing."""

import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlmodel import select

from connectors.personal import Consent, append_consent, withdraw
from contracts import messages as dsp
from contracts.transfer import TransferState
from contracts.transfer_strategy import PULL
from dataspace.errors import Denied, InputRejected, NotFound, Unavailable
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.protocol import leaving, rows_out, transit
from dataspace.protocol.leaving import MAX_OPEN_A_CONSUMER
from dataspace.protocol.transfer_rows import new_address
from dataspace.settings import ParticipantKind
from dataspace.store.tables import AgreementRow, DatasetRow, EntryRow, TransferRow
from ledger.entry import open_entry

from .transfer_nodes import AGREEMENT, DATASET, NAME, PROVIDER_URL, make_node, publish

CONSUMER = "did:web:consumer"
PID = "urn:uuid:11111111-1111-4111-8111-111111111111"
PURPOSE = "research"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = make_node(tmp_path, PROVIDER_URL)
    yield made
    made.store.close()


def started(node: Node, *, pid: str = PID) -> str:
    """A pull of the consumer that was permitted and has started; the token for it."""
    address, token_h = new_address("http://unused")
    with node.store.transaction() as tx:
        tx.get_one(AgreementRow, AGREEMENT).use_count += 1
        tx.add(
            TransferRow(
                pid=pid,
                role="PROVIDER",
                peer=CONSUMER,
                peer_pid=f"{pid}-theirs",
                callback="http://unused",
                agreement=AGREEMENT,
                format=PULL,
                state=TransferState.STARTED,
                computation="",
                order_jws="",
                order_h="",
                purpose=PURPOSE,
                peer_kind="enterprise",
                token_h=token_h,
                created_at=1.0,
                updated_at=1.0,
            )
        )
    token = address.property_named("authorization")
    assert token is not None
    return token


def given(node: Node, token: str) -> bytes:
    return b"".join(node.data_plane.serve(PID, token).chunks())


def transfer(node: Node) -> TransferRow:
    with node.store.transaction() as tx:
        return tx.get_one(TransferRow, PID)


def entries(node: Node, kind: str) -> list[Any]:
    with node.store.transaction() as tx:
        rows = tx.exec(select(EntryRow).order_by(EntryRow.position)).all()
    opened = [open_entry(row.body or b"", row.salt or b"", row.commitment) for row in rows]
    return [entry for entry in opened if entry.type == kind]


def csv_file(directory: Path) -> Path:
    file = directory / "rows.csv"
    file.write_text("name,secret\nann,1\nbob,2\n", encoding="utf-8")
    return file


def test_rows_are_read_once_for_a_permit_and_their_leaving_is_evidence_once(
    node: Node, tmp_path: Path
) -> None:
    file = csv_file(tmp_path)
    publish(node, str(file), consumer=CONSUMER)
    token = started(node)
    first = given(node, token)
    file.write_text("name,secret\nzed,9\n", encoding="utf-8")
    assert given(node, token) == first == b'"name"\n"ann"\n"bob"\n'
    (entry,) = entries(node, "accessed")
    assert (entry.kind, entry.purpose, entry.peer) == (PULL, PURPOSE, CONSUMER)
    assert (entry.outcome, entry.corr) == ("sent", AGREEMENT)


@pytest.fixture
def consenting(node: Node, tmp_path: Path) -> tuple[str, Path]:
    """A pull of personal rows of ann and bob, who have both consented: its token, the receipts."""
    consents = tmp_path / "consents.jsonl"
    now = datetime.now(UTC)
    for subject in ("ann", "bob"):
        receipt = Consent(
            receipt_id=f"receipt-{subject}",
            subject=subject,
            columns=("name",),
            purposes=(PURPOSE,),
            recipients=(CONSUMER,),
            given_at=now - timedelta(days=1),
            expires_at=now + timedelta(days=1),
        )
        append_consent(consents, receipt)
    options = f"consents={consents}&subject=name&canonicaliser=text/1"
    publish(node, f"personal+file:{csv_file(tmp_path)}?{options}", consumer=CONSUMER)
    return started(node), consents


def test_a_consent_withdrawn_between_two_readings_counts_at_once(
    node: Node, consenting: tuple[str, Path]
) -> None:
    token, consents = consenting
    assert given(node, token) == b'"name"\n"ann"\n"bob"\n'
    withdraw(consents, "receipt-ann", datetime.now(UTC))
    assert given(node, token) == b'"name"\n"bob"\n'
    withdraw(consents, "receipt-bob", datetime.now(UTC))
    assert given(node, token) == b'"name"\n'
    # What left was different each time, so each is evidence.
    assert len(entries(node, "accessed")) == 3


def test_the_policy_is_asked_again_each_time_rows_are_given(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    bound = {
        "leftOperand": "dateTime",
        "operator": "lteq",
        "rightOperand": until.isoformat(timespec="seconds"),
    }
    publish(node, str(csv_file(tmp_path)), bound, consumer=CONSUMER)
    token = started(node)
    assert given(node, token)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return super().now(tz) + timedelta(hours=2)

    monkeypatch.setattr(leaving, "datetime", Later)
    with pytest.raises(Denied) as refused:
        node.data_plane.serve(PID, token)
    assert refused.value.clause == "permission[0].constraint[0]"
    ended = transfer(node)
    assert (ended.state, ended.clause) == ("TERMINATED", "permission[0].constraint[0]")
    assert [entry.decision for entry in entries(node, "decided")] == ["deny"]
    assert not any((node.home.path / "outgoing").iterdir())
    with pytest.raises(NotFound):
        node.data_plane.serve(PID, token)


def test_the_evidence_of_a_decision_names_the_ground_in_law(node: Node, tmp_path: Path) -> None:
    over = {"leftOperand": "dateTime", "operator": "lteq", "rightOperand": "2026-01-01T00:00:00Z"}
    publish(node, str(csv_file(tmp_path)), over, consumer=CONSUMER)
    with node.store.transaction() as tx:
        tx.get_one(DatasetRow, DATASET).legal_basis = "statutory-duty"
    with pytest.raises(Denied):
        node.data_plane.serve(PID, started(node))
    assert [entry.legal_basis for entry in entries(node, "decided")] == ["statutory-duty"]


def test_the_last_permitted_use_may_fetch_again(node: Node, tmp_path: Path) -> None:
    once = {"leftOperand": "count", "operator": "lteq", "rightOperand": "1"}
    publish(node, str(csv_file(tmp_path)), once, consumer=CONSUMER)
    token = started(node)
    assert given(node, token) == given(node, token)


@pytest.mark.parametrize("state", [TransferState.SUSPENDED, TransferState.TERMINATED])
def test_an_interruption_breaks_off_what_is_under_way(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: TransferState
) -> None:
    publish(node, str(csv_file(tmp_path)), consumer=CONSUMER)
    token = started(node)
    monkeypatch.setattr(rows_out, "CHUNK_BYTES", 8)
    chunks = node.data_plane.serve(PID, token).chunks()
    assert next(chunks) == b'"name"\n"'
    with node.store.transaction() as tx:
        tx.get_one(TransferRow, PID).state = state
    with pytest.raises(Unavailable, match=f"(?i){state}"):
        next(chunks)


def test_a_column_published_in_two_roles_leaves_once(node: Node, tmp_path: Path) -> None:
    both = [NAME, {**NAME, "role": "group", "canonicaliser": None}]
    publish(node, str(csv_file(tmp_path)), consumer=CONSUMER, columns=both)
    assert given(node, started(node)) == b'"name"\n"ann"\n"bob"\n'


def test_typed_columns_are_written_as_their_values(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    table = pa.table(
        {"name": ["a,b", None], "amount": pa.array([1, None]), "on": pa.array([0, 1], pa.date32())}
    )
    pq.write_table(table, file)
    columns = [{**NAME, "name": name} for name in ("on", "name", "amount")]
    publish(node, str(file), consumer=CONSUMER, columns=columns)
    assert given(node, started(node)) == b'"on","name","amount"\n1970-01-01,"a,b",1\n1970-01-02,,\n'


@pytest.mark.parametrize("trouble", ["gone", "columns", "type", "disk"])
def test_rows_that_cannot_be_read_are_nobodys_business_but_the_owners(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"name": ["ann"]}), file)
    publish(node, str(file), consumer=CONSUMER)
    token = started(node)
    if trouble == "gone":
        file.unlink()
    elif trouble == "columns":
        pq.write_table(pa.table({"other": ["ann"]}), file)
    elif trouble == "type":
        pq.write_table(pa.table({"name": [["ann"]]}), file)
    else:

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(transit.os, "fsync", full)
    with pytest.raises(Unavailable) as told:
        node.data_plane.serve(PID, token)
    assert str(tmp_path) not in str(told.value)
    assert "rows.parquet" not in str(told.value)
    assert told.value.remedy
    outgoing = node.home.path / "outgoing"
    assert not outgoing.exists() or not any(outgoing.iterdir())
    assert (transfer(node).state, transfer(node).moved) == ("STARTED", None)


def test_a_token_of_no_letters_and_one_of_strange_letters_open_nothing(
    node: Node, tmp_path: Path
) -> None:
    publish(node, str(csv_file(tmp_path)), consumer=CONSUMER)
    token = started(node)
    for wrong in ("", "é\u00a0", token.upper(), token + " "):
        with pytest.raises(NotFound):
            node.data_plane.serve(PID, wrong)
    with pytest.raises(NotFound):
        node.data_plane.serve("urn:uuid:of-nobody", token)


def test_a_consumer_may_have_so_many_transfers_open_and_no_more(node: Node, tmp_path: Path) -> None:
    publish(node, str(csv_file(tmp_path)), consumer=CONSUMER)
    for number in range(MAX_OPEN_A_CONSUMER):
        started(node, pid=f"urn:uuid:{number}")
    peer = Member(did=CONSUMER, kind=ParticipantKind.ENTERPRISE, name="c")
    asked = dsp.TransferRequestMessage(
        consumer_pid="urn:uuid:more",
        agreement_id=AGREEMENT,
        format=PULL,
        callback_address="https://consumer/dsp",
    )
    with pytest.raises(InputRejected, match="open here already"), node.store.transaction() as tx:
        node.transfers.receive_request(tx, peer, asked)
    with node.store.transaction() as tx:
        tx.get_one(TransferRow, "urn:uuid:0").state = TransferState.COMPLETED
    with node.store.transaction() as tx:
        assert node.transfers.receive_request(tx, peer, asked).state == "REQUESTED"


def test_two_requests_at_once_do_not_write_the_same_rows_twice(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(node, str(csv_file(tmp_path)), consumer=CONSUMER)
    token = started(node)
    writing, go_on = threading.Event(), threading.Event()
    write = rows_out._write_csv

    def slowly(*given: Any) -> int:
        writing.set()
        assert go_on.wait(10.0)
        return write(*given)

    monkeypatch.setattr(rows_out, "_write_csv", slowly)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(given, node, token)
        assert writing.wait(10.0)
        with pytest.raises(Unavailable, match="being prepared"):
            node.data_plane.serve(PID, token)
        go_on.set()
        assert first.result(10.0) == given(node, token)


def test_rows_that_were_written_for_a_transfer_that_has_ended_meanwhile_are_not_kept(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(node, str(csv_file(tmp_path)), consumer=CONSUMER)
    token = started(node)
    write = rows_out._write_csv

    def too_late(*given: Any) -> int:
        with node.store.transaction() as tx:
            tx.get_one(TransferRow, PID).state = TransferState.TERMINATED
        return write(*given)

    monkeypatch.setattr(rows_out, "_write_csv", too_late)
    with pytest.raises(Unavailable, match="TERMINATED"):
        node.data_plane.serve(PID, token)
    assert not any((node.home.path / "outgoing").iterdir())
    assert entries(node, "accessed") == []
