"""Two nodes play transfers of rows: every order of moves the table allows, each move by itself."""

from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from contracts.transfer_strategy import PULL, PUSH, TransferVerb
from dataspace.store.tables import AgreementRow, DatasetRow, ProcessRow

from .transfer_nodes import AGREEMENT, DATASET, Pair, Script, pair_of

V = TransferVerb
CSV = b'"name"\n"ann"\n"bob"\n'


def clause(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


@pytest.mark.parametrize("pause_s", [0.0, 0.01])
def test_a_provider_starts_suspends_resumes_and_completes(tmp_path: Path, pause_s: float) -> None:
    provider = Script(REQUESTED=[V.START], STARTED=[V.SUSPEND, V.COMPLETE], SUSPENDED=[V.START])
    watching = Script()
    with pair_of(tmp_path, provider=provider, consumer=watching, pause_s=pause_s) as pair:
        pair.wait_for(pair.begin(), "COMPLETED")
    assert provider.seen == ["REQUESTED", "STARTED", "SUSPENDED", "STARTED"]
    # The request's own acknowledgement may come after the start that it led to.
    assert [one for one in watching.seen if one != "REQUESTED"] == provider.seen[1:]


@pytest.mark.parametrize("pause_s", [0.0, 0.01])
def test_a_consumer_suspends_resumes_and_completes(tmp_path: Path, pause_s: float) -> None:
    consumer = Script(STARTED=[V.SUSPEND, V.COMPLETE], SUSPENDED=[V.START])
    provider = Script(REQUESTED=[V.START])
    with pair_of(tmp_path, provider=provider, consumer=consumer, pause_s=pause_s) as pair:
        pair.wait_for(pair.begin(), "COMPLETED")
    assert [one for one in consumer.seen if one != "REQUESTED"] == [
        "STARTED",
        "SUSPENDED",
        "STARTED",
    ]


START: dict[str, list[V]] = {"REQUESTED": [V.START]}


@pytest.mark.parametrize(
    ("provider", "consumer"),
    [
        ({"REQUESTED": [V.TERMINATE]}, {}),
        ({**START, "STARTED": [V.TERMINATE]}, {}),
        ({**START, "STARTED": [V.SUSPEND], "SUSPENDED": [V.TERMINATE]}, {}),
        ({}, {"REQUESTED": [V.TERMINATE]}),
        (START, {"STARTED": [V.TERMINATE]}),
        (START, {"STARTED": [V.SUSPEND], "SUSPENDED": [V.TERMINATE]}),
    ],
)
def test_either_side_ends_a_transfer_from_any_state(
    tmp_path: Path, provider: dict[str, list[V]], consumer: dict[str, list[V]]
) -> None:
    with pair_of(tmp_path, provider=Script(**provider), consumer=Script(**consumer)) as pair:
        pid = pair.begin()
        pair.wait_for(pid, "TERMINATED")
        assert pair.consumers(pid).reason == pair.providers().reason == "The transfer was ended."


@pytest.mark.parametrize("format_", [PULL, PUSH])
def test_by_itself_a_pair_of_nodes_moves_the_rows_and_completes(
    tmp_path: Path, format_: str
) -> None:
    with pair_of(tmp_path) as pair:
        pid = pair.begin(format_)
        pair.wait_for(pid, "COMPLETED")
        moved = pair.consumers(pid).moved
        assert moved is not None
        assert Path(moved["file"]).read_bytes() == CSV


def refused(pair: Pair, pid: str) -> tuple[str | None, bool]:
    """The clause that ended the transfer on both sides, and whether anything was moved."""
    pair.wait_for(pid, "TERMINATED")
    ours, theirs = pair.consumers(pid), pair.providers()
    assert (ours.clause, ours.reason) == (theirs.clause, theirs.reason)
    return ours.clause, ours.moved is not None or theirs.moved is not None


def test_a_policy_that_names_computations_lets_no_rows_leave(tmp_path: Path) -> None:
    computations = clause("ds:computation", "isAnyOf", ["psi/1", "psi-cardinality/1"])
    with pair_of(tmp_path, computations) as pair:
        assert refused(pair, pair.begin()) == ("permission[0].constraint[0]", False)
        with pair.provider.store.transaction() as tx:
            assert tx.get_one(AgreementRow, AGREEMENT).use_count == 0


def test_an_ended_agreement_lets_no_rows_leave(tmp_path: Path) -> None:
    with pair_of(tmp_path) as pair:
        with pair.provider.store.transaction() as tx:
            agreement = tx.get_one(AgreementRow, AGREEMENT)
            agreement.ended_at, agreement.ended_by, agreement.ended_reason = 2.0, "us", "Over."
        assert refused(pair, pair.begin()) == ("agreement.ended", False)


def test_a_source_that_is_gone_keeps_a_request_waiting_until_it_is_back(tmp_path: Path) -> None:
    with pair_of(tmp_path) as pair:
        source, away = tmp_path / "rows.csv", tmp_path / "away.csv"
        source.rename(away)
        pid = pair.begin()
        pair.wait(lambda: "cannot be read at the moment" in str(last_error(pair)))
        (trouble,) = pair.provider.versions.troubles()
        assert "rows.csv" in trouble["sentence"]
        away.rename(source)
        pair.wait_for(pid, "COMPLETED")
        assert pair.provider.versions.troubles() == []


def last_error(pair: Pair) -> str | None:
    """Of the provider's only process, the step in which it decides."""
    with pair.provider.store.transaction() as tx:
        errors = [row.last_error for row in tx.exec(select(ProcessRow)).all()]
        return errors[0] if errors else None


def test_a_withdrawn_dataset_still_serves_the_agreements_about_it(tmp_path: Path) -> None:
    with pair_of(tmp_path) as pair:
        with pair.provider.store.transaction() as tx:
            tx.get_one(DatasetRow, DATASET).withdrawn_at = 2.0
        pair.wait_for(pair.begin(), "COMPLETED")
