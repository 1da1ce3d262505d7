"""Agreements of one node: how they stand, how they end, when they are used again."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

from contracts.odrl import Offer
from dataspace.errors import InputRejected, NotFound
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.protocol.agreement_rows import described, standing
from dataspace.protocol.agreements import Ending
from dataspace.settings import ParticipantKind
from dataspace.store.tables import AgreementRow, ComputationRow, ProcessRow, TransferRow
from ledger.entry import Entry, EntryType, open_entry

from .agreement_examples import (
    COHORT,
    NOW,
    ONCE,
    OWN,
    PEER,
    Clauses,
    bureau,
    clause,
    numbers,
    row,
    until,
)

MEMBER = Member(PEER, ParticipantKind.CONSUMER, "Institute")


# ---- how an agreement stands ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "uses", "state"),
    [
        ([[]], 0, "in force"),
        ([[COHORT]], 0, "in force"),
        ([[until(NOW + timedelta(seconds=1))]], 0, "in force"),
        ([[until(NOW)]], 0, "in force"),
        ([[until(NOW, "lt")]], 0, "expired"),
        ([[until(NOW - timedelta(seconds=1))]], 0, "expired"),
        ([[{"and": [until(NOW - timedelta(days=1)), COHORT]}]], 0, "expired"),
        ([[until(NOW + timedelta(days=1), "gteq")]], 0, "not yet"),
        ([[until(NOW + timedelta(days=1), "gteq"), until(NOW + timedelta(days=2))]], 0, "not yet"),
        ([[ONCE]], 0, "in force"),
        ([[ONCE]], 1, "used up"),
        ([[ONCE, until(NOW - timedelta(days=1))]], 1, "expired"),
        # One permission that holds is enough.
        ([[until(NOW - timedelta(days=1))], [COHORT]], 0, "in force"),
        ([[ONCE], [clause("count", "lteq", "2")]], 1, "in force"),
        # What depends on the use waits for it.
        ([[{"or": [until(NOW - timedelta(days=1)), COHORT]}]], 0, "in force"),
    ],
)
def test_time_and_number_of_uses_say_how_an_agreement_stands(
    permissions: list[Clauses], uses: int, state: str
) -> None:
    found = standing(row(*permissions, use_count=uses), NOW)
    assert found.state == state
    assert found.in_force == (state == "in force")


def test_the_sentence_says_why_an_agreement_cannot_be_used() -> None:
    past = NOW - timedelta(days=1)
    assert standing(row([until(past)]), NOW).sentence == (
        "Its time was up at 2026-11-24T08:00:00+00:00."
    )
    assert "at most 1" in standing(row([ONCE], use_count=1), NOW).sentence
    future = until(NOW + timedelta(days=1), "gteq")
    assert "2026-11-26" in standing(row([future]), NOW).sentence


def test_an_ended_agreement_is_ended_whatever_its_clauses_say() -> None:
    ended = row([ONCE], ended_at=1.0, ended_by=PEER, ended_reason="No longer needed.")
    found = standing(ended, NOW)
    assert (found.state, found.sentence) == ("ended", f"Ended by {PEER}: No longer needed.")


def test_the_owner_sees_who_has_signed_and_until_when_it_holds() -> None:
    one = row([until(NOW + timedelta(days=1))], consumer_signature="a.b.c", renews="urn:uuid:0")
    shown = described(one, NOW)
    assert shown["signed_by"] == [PEER]
    assert shown["expires_at"] == "2026-11-26T08:00:00+00:00"
    assert (shown["state"], shown["renews"], shown["ended_at"]) == ("in force", "urn:uuid:0", None)


# ---- a node's agreements --------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = bureau(tmp_path_factory.mktemp("agreements") / "home")
    yield made
    made.stop()


@pytest.fixture
def store(node: Node) -> Callable[..., AgreementRow]:
    """Stores an agreement of the node, with whatever belongs to it."""

    def keep(agreement: AgreementRow, *more: Any) -> AgreementRow:
        with node.store.transaction() as tx:
            tx.add(agreement)
            tx.add_all(more)
        return agreement

    return keep


def transfer(agreement: AgreementRow, state: str, **changes: Any) -> TransferRow:
    number = next(numbers)
    fields: dict[str, Any] = {
        "pid": f"urn:uuid:transfer-{number}",
        "role": agreement.role,
        "peer": PEER,
        "peer_pid": f"urn:uuid:theirs-{number}",
        "callback": "http://127.0.0.1:8009/dsp/2025-1",
        "agreement": agreement.id,
        "format": "HttpData-PULL",
        "state": state,
        "computation": "",
        "order_jws": "",
        "order_h": "",
        "created_at": 1.0,
        "updated_at": 1.0,
    }
    return TransferRow(**(fields | changes))


def queued(node: Node, part_of_url: str) -> list[ProcessRow]:
    with node.store.transaction() as tx:
        rows = tx.exec(select(ProcessRow).where(ProcessRow.kind == "deliver")).all()
    return [one for one in rows if part_of_url in one.payload["url"]]


def evidence(node: Node, agreement: AgreementRow) -> list[Entry]:
    shown = node.evidence.entries(0, node.evidence.size())
    entries = [open_entry(one.body, one.salt, one.commitment) for one in shown if one]
    return [entry for entry in entries if entry.corr == agreement.id]


def test_an_end_is_stored_recorded_and_told_to_the_other_side(node: Node, store: Any) -> None:
    agreement = store(row())
    node.agreements.end(agreement.id, "No longer needed.")
    found = node.agreements.get(agreement.id)
    assert (found.ended_by, found.ended_reason) == (node.did, "No longer needed.")
    (entry,) = evidence(node, agreement)
    assert (entry.type, entry.outcome) == (EntryType.NEGOTIATED, "ended")
    assert (entry.peer, entry.agreement_h) == (PEER, agreement.document_h)
    # Evidence names organisations and hashes; the owner's sentence is for the other side only.
    assert "No longer needed." not in entry.model_dump_json()
    (message,) = queued(node, agreement.id.replace(":", "%3A"))
    assert message.payload["to"] == PEER
    assert message.payload["url"].startswith("http://127.0.0.1:8009/agreements/urn%3Auuid%3A")
    assert json.loads(message.payload["body"]) == {"reason": "No longer needed."}
    # Behind what the negotiation has still to deliver.
    assert message.lane == f"deliver:{agreement.negotiation}"


def test_an_agreement_ends_once(node: Node, store: Any) -> None:
    agreement = store(row())
    node.agreements.end(agreement.id, "first")
    with pytest.raises(InputRejected, match="was ended already by"):
        node.agreements.end(agreement.id, "second")
    assert node.agreements.get(agreement.id).ended_reason == "first"


def test_an_end_told_twice_is_recorded_once(node: Node, store: Any) -> None:
    agreement = store(row())
    for reason in ("first", "second"):
        with node.store.transaction() as tx:
            node.agreements.receive_end(tx, MEMBER, agreement.id, Ending(reason=reason))
    found = node.agreements.get(agreement.id)
    assert (found.ended_by, found.ended_reason) == (PEER, "first")
    assert len(evidence(node, agreement)) == 1
    # Who was told does not tell back.
    assert queued(node, agreement.id.replace(":", "%3A")) == []


def test_when_both_sides_end_it_each_keeps_its_own_word(node: Node, store: Any) -> None:
    agreement = store(row())
    node.agreements.end(agreement.id, "ours")
    with node.store.transaction() as tx:
        node.agreements.receive_end(tx, MEMBER, agreement.id, Ending(reason="theirs"))
    assert node.agreements.get(agreement.id).ended_by == node.did
    assert len(evidence(node, agreement)) == 1


def test_nobody_else_ends_an_agreement_or_learns_that_it_exists(node: Node, store: Any) -> None:
    agreement = store(row())
    mallory = Member("did:web:127.0.0.1%3A8666", ParticipantKind.ENTERPRISE, "Mallory")
    sentences = set()
    for agreement_id in (agreement.id, "urn:uuid:none"):
        with node.store.transaction() as tx, pytest.raises(NotFound) as refused:
            node.agreements.receive_end(tx, mallory, agreement_id, Ending(reason="mine"))
        sentences.add(refused.value.sentence)
    assert len(sentences) == 1
    assert node.agreements.get(agreement.id).ended_at is None


def test_an_unknown_agreement_is_not_found(node: Node) -> None:
    for act in (
        lambda: node.agreements.get("urn:uuid:none"),
        lambda: node.agreements.end("urn:uuid:none", "why not"),
        lambda: node.agreements.deed("urn:uuid:none"),
        lambda: node.agreements.renew("urn:uuid:none"),
    ):
        with pytest.raises(NotFound, match="no agreement 'urn:uuid:none'"):
            act()


def test_what_runs_under_an_agreement_ends_with_it_and_nothing_else_does(
    node: Node, store: Any
) -> None:
    agreement, other = row(), row()
    running = [transfer(agreement, state) for state in ("REQUESTED", "STARTED", "SUSPENDED")]
    over = transfer(agreement, "COMPLETED")
    elsewhere = transfer(other, "STARTED")
    store(agreement, other, *running, over, elsewhere)
    node.agreements.end(agreement.id, "No longer needed.")
    with node.store.transaction() as tx:
        states = [tx.get_one(TransferRow, one.pid) for one in (*running, over, elsewhere)]
    assert [one.state for one in states] == [*["TERMINATED"] * 3, "COMPLETED", "STARTED"]
    assert states[0].reason == "The agreement was ended: No longer needed."
    for one in running:
        (message,) = queued(node, f"/transfers/{one.peer_pid}/termination")
        assert "No longer needed." in message.payload["body"]


def test_a_computation_with_two_parts_under_the_agreement_ends_whole(
    node: Node, store: Any
) -> None:
    agreement = row(role="CONSUMER", provider=PEER, consumer=OWN)
    order = {"computation": "order-1", "order_jws": "a.b.c", "order_h": "b" * 64}
    parts = [transfer(agreement, "STARTED", **order), transfer(agreement, "REQUESTED", **order)]
    computation = ComputationRow(
        id="order-1",
        kind="psi/1",
        role="consumer",
        consumer=node.did,
        purpose="research",
        order_jws="a.b.c",
        order_h="b" * 64,
        status="RUNNING",
        created_at=1.0,
    )
    store(agreement, computation, *parts)
    with node.store.transaction() as tx:
        node.agreements.receive_end(tx, MEMBER, agreement.id, Ending(reason="Withdrawn."))
    with node.store.transaction() as tx:
        assert tx.get_one(ComputationRow, "order-1").status == "FAILED"
        assert [tx.get_one(TransferRow, one.pid).state for one in parts] == ["TERMINATED"] * 2


def terms(*constraints: dict[str, Any]) -> Offer:
    permission = {"action": "use", "constraint": list(constraints)}
    return Offer.model_validate({"@id": "offer:1", "@type": "Offer", "permission": [permission]})


def consumed(*permissions: Clauses, **changes: Any) -> AgreementRow:
    changes = {"role": "CONSUMER", "provider": PEER, "consumer": "did:web:x", **changes}
    return row(*permissions, **changes)


def test_an_agreement_in_force_in_the_same_terms_is_found_again_the_newest_first(
    node: Node, store: Any
) -> None:
    numbered = clause("ds:minCohort", "gteq", "31")
    store(consumed([numbered, ONCE], finalized_at=1.0))
    newer = store(consumed([ONCE, numbered], finalized_at=2.0))
    found = node.agreements.find_reusable(PEER, "residents", terms(numbered, ONCE))
    assert found is not None
    assert found.id == newer.id


@pytest.mark.parametrize(
    "changes",
    [
        {"ended_at": 1.0, "ended_by": PEER, "ended_reason": "over"},
        {"use_count": 1},
        {"dataset": "contracts"},
        {"provider": "did:web:127.0.0.1%3A8010"},
        {"role": "PROVIDER"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_agreement_that_is_over_or_another_is_not_used_again(
    node: Node, store: Any, changes: dict[str, Any]
) -> None:
    own = clause("ds:minCohort", "gteq", str(1000 + next(numbers)))
    store(consumed([own, ONCE], **changes))
    assert node.agreements.find_reusable(PEER, "residents", terms(own, ONCE)) is None


def test_an_expired_agreement_is_not_used_again(node: Node, store: Any) -> None:
    past = until(datetime.now(UTC) - timedelta(days=1))
    store(consumed([past]))
    assert node.agreements.find_reusable(PEER, "residents", terms(past)) is None


def test_other_terms_are_not_the_same_agreement(node: Node, store: Any) -> None:
    store(consumed([clause("ds:minCohort", "gteq", "61")]))
    wanted = terms(clause("ds:minCohort", "gteq", "60"))
    assert node.agreements.find_reusable(PEER, "residents", wanted) is None


def test_a_provider_cannot_renew_and_learns_what_it_can_do(node: Node, store: Any) -> None:
    with pytest.raises(InputRejected, match="renewed by its consumer") as refused:
        node.agreements.renew(store(row()).id)
    assert refused.value.remedy is not None
    assert "negotiation offer" in refused.value.remedy
