"""A privacy budget is charged once for each permitted use, for ever, and an auditor can tell."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlmodel import SQLModel

from contracts.odrl import Agreement, agreement_from
from contracts.order import ComputationOrder, OrderParticipant, order_hash, sign_order
from contracts.templates import build
from dataspace.computing.budgets import spend, spent
from dataspace.computing.permission import Judgement, judge, request_of
from dataspace.identity.tokens import Identity
from dataspace.judging import AgreementJudge
from dataspace.sight import Sight
from dataspace.store.engine import Store
from dataspace.store.tables import AgreementRow, DatasetRow
from ledger.audit import Fact, Finding
from ledger.entry import Entry, EntryType, SealedEntry, seal, uuid7
from ledger.facts import fact_of

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
CONSUMER = Identity.of("did:web:consumer.example", Ed25519PrivateKey.generate())
PROVIDER, ORIGIN, DATASET = "did:web:bureau.example", "bureau.example/tlog", "residents"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'node.sqlite'}")
    opened.migrate()
    yield opened
    opened.close()


def spent_now(store: Store, dataset: str = DATASET, consumer: str = CONSUMER.did) -> Decimal:
    with store.transaction() as tx:
        return spent(tx, dataset, consumer)


def test_epsilons_add_up_exactly_by_dataset_and_consumer(store: Store) -> None:
    assert spent_now(store) == 0
    for _ in range(3):
        with store.transaction() as tx:
            spend(tx, DATASET, CONSUMER.did, Decimal("0.1"))
    assert spent_now(store) == Decimal("0.3")
    assert spent_now(store, consumer="did:web:other") == spent_now(store, dataset="other") == 0


def charge_and_fail(store: Store) -> None:
    with store.transaction() as tx:
        spend(tx, DATASET, CONSUMER.did, Decimal(1))
        raise ZeroDivisionError


def test_what_is_spent_outlives_the_process_and_what_is_rolled_back_is_not_spent(
    store: Store,
) -> None:
    with store.transaction() as tx:
        spend(tx, DATASET, CONSUMER.did, Decimal("0.000001"))
    with pytest.raises(ZeroDivisionError):
        charge_and_fail(store)
    store.close()
    again = Store(store.url)
    assert spent_now(again) == Decimal("0.000001")
    again.close()


def test_uses_permitted_at_the_same_moment_are_all_charged(store: Store) -> None:
    def charge(_: int) -> None:
        with store.transaction() as tx:
            spend(tx, DATASET, CONSUMER.did, Decimal("0.5"))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(charge, range(20)))
    assert spent_now(store) == 10


def test_the_migrations_make_the_tables_of_the_models(store: Store) -> None:
    with store.transaction() as tx:
        context = MigrationContext.configure(tx.connection())
        assert compare_metadata(context, SQLModel.metadata) == []


# The policy.


def agreement(name: str = "1", budget: str = "1") -> Agreement:
    return agreement_from(
        build(
            ["private-statistics"],
            {
                "computations": ("aggregate/2",),
                "purposes": ("research",),
                "not_after": NOW + timedelta(days=1),
                "epsilon_budget": budget,
            },
            offer_id="offer:1",
        ),
        agreement_id=f"urn:uuid:agreement-{name}",
        target=DATASET,
        assigner=PROVIDER,
        assignee=CONSUMER.did,
        timestamp="2026-11-25T08:00:00Z",
    )


def order(epsilon: str | None, **changes: Any) -> ComputationOrder:
    fields: dict[str, Any] = {
        "id": "00000000-0000-4000-8000-000000000001",
        "kind": "aggregate/2",
        "consumer": CONSUMER.did,
        "participants": (
            OrderParticipant(
                role="provider-1",
                did=PROVIDER,
                agreement=agreement().id,
                dataset=DATASET,
                columns={"group": "district", "value": "cents"},
            ),
            OrderParticipant(role="consumer", did=CONSUMER.did),
        ),
        "purpose": "research",
        "min_cohort": 20,
        "epsilon": epsilon,
        "nonce": secrets.token_urlsafe(16),
        "issued_at": NOW,
        "expires_at": NOW + timedelta(minutes=5),
        **changes,
    }
    return ComputationOrder(**fields)


def judged(asked: ComputationOrder, before: str, source: Path) -> Judgement:
    document = agreement()
    return judge(
        asked,
        asked.participants[0],
        AgreementRow(
            id=document.id,
            role="provider",
            provider=PROVIDER,
            consumer=CONSUMER.did,
            dataset=DATASET,
            document=document.to_json(),
            document_h="",
            negotiation="",
            finalized_at=0.0,
        ),
        DatasetRow(
            id=DATASET,
            title="",
            source=str(source),
            columns=[
                {"name": "district", "role": "group", "scale": 0},
                {"name": "cents", "role": "value", "scale": 2},
            ],
            grade="general",
            offer={},
            content_version="1",
            created_at=0.0,
        ),
        Sight(consent=None, content_version=None),
        recipient_kind="consumer",
        recipient_zones=(),
        epsilon_spent=Decimal(before),
        now=NOW,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "residents.csv"
    path.write_text("district,cents\neast,1.50\n")
    return path


def test_the_budget_decides_with_what_was_spent_before_under_any_agreement(source: Path) -> None:
    assert judged(order("0.5"), "0.5", source).refusal is None
    refusal = judged(order("0.5"), "0.500001", source).refusal
    assert refusal is not None
    assert refusal.clause is not None
    assert refusal.clause.startswith("permission[0].constraint")
    assert "it is 1.000001" in refusal.sentence
    assert refusal.remedy == "Ask with a smaller epsilon; spent budget does not come back."


@pytest.mark.parametrize("epsilon", [None, "0"])
def test_a_use_without_noise_is_refused_where_there_is_a_budget(
    epsilon: str | None, source: Path
) -> None:
    refusal = judged(order(epsilon), "0", source).refusal
    assert refusal is not None
    assert refusal.remedy == "Ask for noise, with an epsilon above zero."


def test_an_order_that_takes_cents_for_yuan_is_refused(source: Path) -> None:
    refusal = judged(order("0.5", parameters={"decimals": 0}), "0", source).refusal
    assert refusal is not None
    assert refusal.clause == "order.decimals"
    assert judged(order("0.5", parameters={"decimals": 2}), "0", source).refusal is None


def test_the_second_group_of_a_cross_table_is_a_published_group(source: Path) -> None:
    def crossed(column: str) -> Judgement:
        part = order("0.5").participants[0]
        columns = {**part.columns, "across": column}
        other = part.model_copy(update={"columns": columns})
        asked = order("0.5")
        return judged(
            asked.model_copy(update={"participants": (other, asked.participants[1])}), "0", source
        )

    assert crossed("district").refusal is None
    refusal = crossed("cents").refusal
    assert refusal is not None
    assert refusal.clause == "order.columns"


# The auditor.


class ProviderLog:
    """The log of a provider that decides about orders with an epsilon."""

    def __init__(self) -> None:
        self.sealed: list[SealedEntry] = []
        self.facts: dict[str, list[Fact]] = {}
        self.orders: dict[str, str] = {}

    def decide(self, epsilon: str, decision: str, before: float | None, name: str = "1") -> None:
        """`before` is what the entry says was spent, under the agreement `name`."""
        text = sign_order(order(epsilon), CONSUMER.key, CONSUMER.kid, "Ed25519")
        order_h = order_hash(text)
        self.orders[order_h] = text
        entry = Entry(
            log=ORIGIN,
            id=uuid7(NOW, secrets.token_bytes(10)),
            ts=NOW.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            type=EntryType.DECIDED,
            actor=PROVIDER,
            peer=CONSUMER.did,
            order_h=order_h,
            decision=decision,
            clause=None if decision == "permit" else "permission[0].constraint[4]",
            recipients=("consumer",),
            categories=("general",),
            privacy_spend=before,
        )
        self.facts.setdefault(name, []).append(fact_of(ORIGIN, len(self.sealed), entry, {}))
        self.sealed.append(seal(entry, secrets.token_bytes(16)))

    def checkpoint(self) -> str:
        return ""

    def commitments(self, start: int, end: int) -> list[bytes]:
        return [one.commitment for one in self.sealed[start:end]]

    def entries(self, start: int, end: int) -> list[SealedEntry | None] | None:
        return list(self.sealed[start:end])

    def order(self, order_h: str) -> str | None:
        return self.orders.get(order_h)

    def judged(self, *names: str) -> list[tuple[str, int | None]]:
        judge_ = AgreementJudge({ORIGIN: self})
        found: list[Finding] = []
        for name in names:
            found += judge_("a" * 64, agreement(name).to_json(), self.facts[name])
        return [(one.code, one.index) for one in found]


@pytest.mark.parametrize("names", [("1", "2"), ("2", "1")])
def test_a_budget_kept_over_two_agreements_is_replayed(names: tuple[str, ...]) -> None:
    log = ProviderLog()
    log.decide("0.3", "permit", None)
    log.decide("0.4", "permit", 0.3, "2")
    log.decide("0.4", "deny", 0.7)
    log.decide("0.3", "permit", 0.7, "2")
    log.decide("0.000001", "deny", 1.0)
    assert log.judged(*names) == []


def test_an_overspent_budget_is_found_at_the_first_use_too_many() -> None:
    log = ProviderLog()
    for before in (None, 0.6, 1.2):
        log.decide("0.6", "permit", before)
    assert log.judged("1") == [("use-not-allowed", 1), ("use-not-allowed", 2)]


@pytest.mark.parametrize("names", [("1", "2"), ("2", "1")])
def test_a_budget_said_to_be_fresher_than_it_is_is_found_whichever_agreement_comes_first(
    names: tuple[str, ...],
) -> None:
    log = ProviderLog()
    log.decide("0.6", "permit", None)
    log.decide("0.6", "permit", 0.0, "2")
    assert log.judged(*names) == [("budget-understated", 1)]


def test_a_refusal_with_budget_left_is_found() -> None:
    log = ProviderLog()
    log.decide("0.5", "permit", None)
    log.decide("0.5", "deny", 0.5)
    assert log.judged("1") == [("decision-differs", 1)]


def test_an_auditor_asks_the_policy_for_the_epsilon_of_the_order() -> None:
    assert request_of(order("0.25")).epsilon == Decimal("0.25")
    assert request_of(order(None)).epsilon is None
