"""Versions: what changes gets a number, and what an agreement covers is what is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlmodel import select

from contracts.odrl import Agreement, Offer
from contracts.order import ComputationOrder
from dataspace.canonical import canonical_hash
from dataspace.computing.parameters import SteadyRows
from dataspace.errors import Denied, InputRejected, NotFound, Unavailable
from dataspace.evidence import Evidence
from dataspace.judging import AgreementJudge
from dataspace.node import Node
from dataspace.protocol.agreement_rows import described
from dataspace.publication import Publication
from dataspace.sight import NotAsPublished, digests_of, pinned, version_in
from dataspace.store.tables import AgreementRow, ComputationRow, DatasetRow, ProcessRow
from dataspace.versions import LOOK
from ledger.audit import Finding
from ledger.entry import Entry, EntryType, open_entry
from ledger.facts import fact_of
from privacy.kinds import Inputs

from .transfer_nodes import (
    AGREEMENT,
    DATASET,
    NAME,
    PROVIDER_URL,
    Pair,
    agreement_row,
    make_node,
    pair_of,
    publish,
)

CONSUMER = "did:web:consumer"
ORDER = "00000000-0000-4000-8000-000000000001"
NOW = datetime(2026, 11, 25, 4, tzinfo=UTC)
FIRST, SECOND = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def clause(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = make_node(tmp_path, PROVIDER_URL)
    yield made
    made.store.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("name,secret\nann,1\n", encoding="utf-8")
    return path


def publish_file(node: Node, file: Path, **more: Any) -> None:
    policy = {"use": ["open-data"], "with": {"not_after": "2099-01-01T00:00:00Z"}}
    node.datasets.publish(
        Publication.model_validate(
            {
                "id": DATASET,
                "title": "Rows",
                "source": str(file),
                "columns": [NAME],
                "policy": policy,
                **more,
            }
        )
    )


def dataset_of(node: Node) -> DatasetRow:
    with node.store.transaction() as tx:
        return node.datasets.get(tx, DATASET)


def policy_of(node: Node) -> Agreement:
    with node.store.transaction() as tx:
        return Agreement.model_validate(tx.get_one(AgreementRow, AGREEMENT).document)


def entries(evidence: Evidence, event: EntryType) -> list[Entry]:
    shown = [one for one in evidence.entries(0, evidence.size()) if one is not None]
    opened = [open_entry(one.body, one.salt, one.commitment) for one in shown]
    return [one for one in opened if one.type is event]


# ---- what is noticed ------------------------------------------------------------------------


def test_a_changed_source_is_a_new_version_with_its_entry_and_an_unchanged_one_is_not(
    node: Node, file: Path
) -> None:
    publish_file(node, file)
    assert not node.versions.check(DATASET)["changed"]
    file.write_text("name,secret\nann,1\nbob,2\n", encoding="utf-8")
    seen = node.versions.check(DATASET)
    assert (seen["changed"], seen["number"]) == (True, 2)
    assert not node.versions.check(DATASET)["changed"]
    newest, first = node.versions.versions(DATASET)
    assert (newest["number"], first["number"]) == (2, 1)
    assert newest["version"] == seen["version"] == dataset_of(node).content_version
    assert newest["version"] != first["version"]
    found = entries(node.evidence, EntryType.PUBLISHED)
    assert [one.outcome for one in found] == ["general", "version"]
    assert found[1].inputs_c == digests_of(seen["version"])


def test_data_that_are_changed_back_are_one_version_more_of_the_same_name(
    node: Node, file: Path
) -> None:
    publish_file(node, file)
    before = file.read_bytes()
    for content in (b"name,secret\ncyd,3\n", before):
        file.write_bytes(content)
        node.versions.check(DATASET)
    third, second, first = node.versions.versions(DATASET)
    assert third["version"] == first["version"] != second["version"]


def test_a_version_tells_nobody_who_guesses_the_rows_that_the_guess_is_right(
    node: Node, file: Path, tmp_path: Path
) -> None:
    publish_file(node, file)
    told = dataset_of(node).content_version
    assert told.removeprefix("sha256:") != hashlib.sha256(file.read_bytes()).hexdigest()
    other = make_node(tmp_path / "other", "http://127.0.0.1:3")
    publish_file(other, file)
    assert dataset_of(other).content_version != told
    other.store.close()


def test_a_dataset_from_before_versions_were_kept_begins_with_the_first_look(
    node: Node, file: Path
) -> None:
    publish(node, str(file), consumer=CONSUMER)
    assert node.versions.versions(DATASET) == []
    assert node.versions.check(DATASET)["number"] == 1
    assert entries(node.evidence, EntryType.PUBLISHED) == []


def test_every_offered_dataset_is_looked_at_in_its_time_and_a_withdrawn_one_no_more(
    node: Node, file: Path
) -> None:
    publish_file(node, file, frequency="hourly")
    node.versions.begin()
    with node.store.transaction() as tx:
        (planned,) = tx.exec(select(ProcessRow).where(ProcessRow.kind == LOOK)).all()
    assert 3500 < planned.due_at - planned.created_at <= 3600
    handler = node.versions.handlers()[LOOK].handle
    process = type("P", (), {"subject": DATASET})()
    assert handler(process).after_s == 3600
    file.rename(file.with_suffix(".away"))
    assert handler(process).after_s == 600
    node.datasets.withdraw(DATASET)
    assert handler(process) is None
    with pytest.raises(NotFound):
        node.versions.check(DATASET)


# ---- what is no longer what was published ----------------------------------------------------


@pytest.mark.parametrize(
    ("content", "word"),
    [("nome,secret\nann,1\n", "is no longer there"), (None, "there is no file")],
)
def test_a_dataset_in_trouble_is_told_to_its_owner_and_to_a_peer_without_a_reason(
    node: Node, file: Path, content: str | None, word: str
) -> None:
    publish_file(node, file)
    before = file.read_bytes()
    file.unlink() if content is None else file.write_text(content, encoding="utf-8")
    with pytest.raises(Unavailable) as caught:
        node.versions.look(Offer.model_validate(dataset_of(node).offer), dataset_of(node))
    assert isinstance(caught.value, NotAsPublished) is (content is not None)
    assert "name" not in str(caught.value)
    assert "rows.csv" not in str(caught.value)
    (trouble,) = node.versions.troubles()
    assert word in trouble["sentence"]
    file.write_bytes(before)
    node.versions.look(Offer.model_validate(dataset_of(node).offer), dataset_of(node))
    assert node.versions.troubles() == []


def test_only_columns_that_the_dataset_needs_have_to_stay(node: Node, file: Path) -> None:
    publish_file(node, file)
    file.write_text("other,name\n1,ann\n", encoding="utf-8")
    assert node.versions.check(DATASET)["changed"]
    with node.store.transaction() as tx:
        row = tx.get_one(DatasetRow, DATASET)
        row.conditions = [{"column": "secret", "comparison": "=", "values": ["1"]}]
        tx.add(row)
    with pytest.raises(InputRejected, match=r"column 'secret' of rows\.csv is no longer there"):
        node.versions.check(DATASET)


def test_a_column_that_changed_its_type_is_named_with_both(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"name": ["ann"]}), path)
    publish_file(node, path)
    pq.write_table(pa.table({"name": [1]}), path)
    with pytest.raises(InputRejected, match="holds int64 now and held string"):
        node.versions.check(DATASET)


# ---- what an agreement covers ------------------------------------------------------------------


def cover(pair: Pair, *versions: str) -> str:
    """Let the agreement cover these states of the rows only, or else the present one."""
    present = str(pair.provider.versions.check(DATASET)["version"])
    wanted = clause("ds:contentVersion", "isAnyOf", list(versions or (present,)))
    for node in (pair.provider, pair.consumer):
        with node.store.transaction() as tx:
            row = tx.get_one(AgreementRow, AGREEMENT)
            document = json.loads(json.dumps(row.document))
            document["permission"][0]["constraint"] = [wanted]
            row.document, row.document_h = document, canonical_hash(document)
            tx.add(row)
    return present


def test_rows_leave_in_the_state_that_the_agreement_names_and_an_auditor_sees_which(
    tmp_path: Path,
) -> None:
    with pair_of(tmp_path) as pair:
        version = cover(pair)
        pair.wait_for(pair.begin(), "COMPLETED")
        (decided,) = entries(pair.provider.evidence, EntryType.DECIDED)
        assert (decided.decision, version_in(decided.inputs_c)) == ("permit", version)
        assert findings(pair) == []
        # Under an agreement about another state the same decision is found.
        cover(pair, FIRST)
        assert [one.code for one in findings(pair)] == ["use-not-allowed"]


def test_once_they_have_changed_the_clause_refuses_on_both_sides_and_an_auditor_agrees(
    tmp_path: Path,
) -> None:
    with pair_of(tmp_path) as pair:
        version = cover(pair)
        (tmp_path / "rows.csv").write_text("name,secret\ncyd,3\n", encoding="utf-8")
        pid = pair.begin()
        pair.wait_for(pid, "TERMINATED")
        ours, theirs = pair.consumers(pid), pair.providers()
        assert ours.clause == theirs.clause == "permission[0].constraint[0]"
        assert ours.remedy == theirs.remedy
        assert "negotiate an agreement about them as they are now" in str(ours.remedy)
        assert version in str(ours.reason)
        (decided,) = entries(pair.provider.evidence, EntryType.DECIDED)
        now = dataset_of(pair.provider).content_version
        assert (decided.decision, version_in(decided.inputs_c)) == ("deny", now)
        assert now != version
        assert findings(pair) == []
        # The use was what noticed the change.
        assert len(pair.provider.versions.versions(DATASET)) == 2


def findings(pair: Pair) -> list[Finding]:
    """What an auditor who holds the agreement says of the provider's decisions."""
    evidence, node = pair.provider.evidence, pair.provider
    facts = [
        fact_of(evidence.origin, index, open_entry(one.body, one.salt, one.commitment), {})
        for index, one in enumerate(evidence.entries(0, evidence.size()))
        if one is not None
    ]
    judge = AgreementJudge({evidence.origin: evidence})
    return list(judge("a" * 64, policy_of(node).to_json(), facts))


def test_rows_that_change_while_they_are_read_do_not_leave(tmp_path: Path) -> None:
    with pair_of(tmp_path) as pair:
        cover(pair)
        write = pair.provider.data_plane.rows_out.write

        def changing(*asked: Any, **more: Any) -> Any:
            written = write(*asked, **more)
            (tmp_path / "rows.csv").write_text("name,secret\ncyd,3\n", encoding="utf-8")
            return written

        pair.provider.data_plane.rows_out.write = changing  # type: ignore[method-assign]
        pid = pair.begin()
        pair.wait_for(pid, "TERMINATED")
        assert pair.consumers(pid).moved is None
        assert pair.providers().moved is None
        assert pair.providers().clause == "permission[0].constraint[0]"
        assert entries(pair.provider.evidence, EntryType.ACCESSED) == []


def test_a_computation_reads_one_state_and_ends_where_the_data_change(
    node: Node, file: Path
) -> None:
    publish_file(node, file)
    version = str(node.versions.check(DATASET)["version"])
    offer = pinned(Offer.model_validate(dataset_of(node).offer), version)
    document = agreement_row(offer, node.did, CONSUMER, "PROVIDER").document
    agreement = Agreement.model_validate(document)
    covered = node.versions.covered(agreement, dataset_of(node))
    assert covered == version
    rows = SteadyRows(
        Inputs(("ann",)), lambda: node.versions.verify_still(dataset_of(node), version)
    )
    assert len(list(rows.batches())) == 1
    reading = rows.batches()
    next(reading)
    file.write_text("name,secret\ncyd,3\n", encoding="utf-8")
    with pytest.raises(Unavailable, match="changed while they were read"):
        next(reading)
    place = f"permission[0].constraint[{len(offer.permission[0].constraint) - 1}]"
    with pytest.raises(Denied) as caught:
        node.versions.covered(agreement, dataset_of(node))
    assert caught.value.clause == place


def test_a_role_that_finds_the_data_changed_is_refused_with_the_clause(node: Node) -> None:
    with node.store.transaction() as tx:
        tx.add(
            ComputationRow(
                id=ORDER,
                kind="psi/1",
                role="sender",
                consumer=CONSUMER,
                purpose="research",
                order_jws="",
                order_h="a" * 64,
                status="RUNNING",
                # Whoever runs it stores its end.
                replica=node.replicas.name,
                created_at=1.0,
            )
        )
    refusal = Denied("It changed.", clause="permission[0].constraint[1]", remedy="Ask anew.")
    # Of an order that ends without a result nothing is read.
    order = ComputationOrder.model_construct()
    node.computations.finish(ORDER, order, refusal, excluded=None)
    with node.store.transaction() as tx:
        row = tx.get_one(ComputationRow, ORDER)
    assert (row.status, row.reason, row.clause) == ("REFUSED", "It changed.", refusal.clause)
    assert row.remedy == "Ask anew."
    (refused,) = entries(node.evidence, EntryType.REFUSED)
    assert refused.clause == refusal.clause


def test_a_look_at_the_version_is_taken_only_for_a_policy_that_asks(
    node: Node, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_file(node, file)
    offer = Offer.model_validate(dataset_of(node).offer)
    seen = node.versions.look(pinned(offer, FIRST), dataset_of(node))
    assert seen.content_version == dataset_of(node).content_version

    def read(_: object) -> str:
        raise AssertionError("the source was read")

    monkeypatch.setattr(node.versions, "named", read)
    assert node.versions.look(offer, dataset_of(node)).content_version is None


def test_an_agreement_says_which_versions_it_covers(node: Node, file: Path) -> None:
    row = publish(node, str(file), consumer=CONSUMER)
    assert described(row, NOW)["covers_versions"] is None
    row.document = pinned(Offer.model_validate(dataset_of(node).offer), SECOND).to_json() | {
        "@type": "Agreement",
        "target": DATASET,
        "assigner": node.did,
        "assignee": CONSUMER,
    }
    assert described(row, NOW)["covers_versions"] == (SECOND,)
