"""The judge asks the agreement again, and must come to what the provider recorded."""

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.odrl import agreement_from
from contracts.order import ComputationOrder, OrderParticipant, order_hash, sign_order
from contracts.templates import build
from dataspace.identity.tokens import Identity
from dataspace.judging import AgreementJudge
from ledger.audit import Fact, Finding
from ledger.crossmatch import AGREEMENT_ENDED
from ledger.entry import Entry, EntryType, SealedEntry, seal, uuid7
from ledger.facts import fact_of

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
CONSUMER = Identity.of("did:web:consumer.example", Ed25519PrivateKey.generate())
PROVIDER, ORIGIN = "did:web:bureau.example", "bureau.example/tlog"
AGREEMENT = agreement_from(
    build(
        ["compute-only"],
        {
            "computations": ("psi/1",),
            "purposes": ("research",),
            "min_cohort": 20,
            "not_after": NOW + timedelta(days=1),
            "max_uses": 2,
            "recipient_roles": ("consumer",),
        },
        offer_id="offer:1",
    ),
    agreement_id="urn:uuid:agreement",
    target="residents",
    assigner=PROVIDER,
    assignee=CONSUMER.did,
    timestamp="2026-11-25T08:00:00Z",
)


def order(**changes: Any) -> str:
    fields: dict[str, Any] = {
        "id": "00000000-0000-4000-8000-000000000001",
        "kind": "psi/1",
        "consumer": CONSUMER.did,
        "participants": (
            OrderParticipant(role="sender", did=PROVIDER, agreement=AGREEMENT.id),
            OrderParticipant(role="consumer", did=CONSUMER.did),
        ),
        "purpose": "research",
        "min_cohort": 20,
        "nonce": "a" * 16,
        "issued_at": NOW,
        "expires_at": NOW + timedelta(minutes=5),
        **changes,
    }
    return sign_order(ComputationOrder(**fields), CONSUMER.key, CONSUMER.kid, "Ed25519")


class ProviderLog:
    """The log of a provider, with the orders it was given."""

    def __init__(self) -> None:
        self.sealed: list[SealedEntry] = []
        self.facts: list[Fact] = []
        self.orders: dict[str, str] = {}

    def decide(self, text: str, decision: str, *, at: datetime = NOW, **changes: Any) -> None:
        order_h = order_hash(text)
        self.orders[order_h] = text
        self.write(
            EntryType.DECIDED,
            at,
            order_h=order_h,
            decision=decision,
            recipients=changes.pop("recipients", ("consumer",)),
            categories=("general",),
            **changes,
        )

    def decide_rows(self, decision: str, **changes: Any) -> None:
        """A decision about rows that leave: there is no order, so the record says what for."""
        asked = {"kind": "HttpData-PULL", "purpose": "research", **changes}
        self.write(EntryType.DECIDED, NOW, decision=decision, recipients=("consumer",), **asked)

    def end(self) -> None:
        self.write(EntryType.NEGOTIATED, NOW, corr=AGREEMENT.id, outcome=AGREEMENT_ENDED)

    def write(self, event: EntryType, at: datetime, **fields: Any) -> None:
        entry = Entry(
            log=ORIGIN,
            id=uuid7(at, secrets.token_bytes(10)),
            ts=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            type=event,
            actor=PROVIDER,
            peer=CONSUMER.did,
            **fields,
        )
        self.facts.append(fact_of(ORIGIN, len(self.sealed), entry, {}))
        self.sealed.append(seal(entry, secrets.token_bytes(16)))

    # What the auditor's readers do.

    def checkpoint(self) -> str:
        return ""

    def commitments(self, start: int, end: int) -> list[bytes]:
        return [one.commitment for one in self.sealed[start:end]]

    def entries(self, start: int, end: int) -> list[SealedEntry | None] | None:
        return list(self.sealed[start:end])

    def order(self, order_h: str) -> str | None:
        return self.orders.get(order_h)

    def judged(self) -> list[Finding]:
        judge = AgreementJudge({ORIGIN: self})
        return list(judge("a" * 64, AGREEMENT.to_json(), self.facts))


@pytest.fixture
def log() -> ProviderLog:
    return ProviderLog()


def test_decisions_that_follow_the_agreement_are_not_found(log: ProviderLog) -> None:
    log.decide(order(), "permit")
    log.decide(order(purpose="marketing"), "deny", clause="permission[0].constraint[1]")
    log.decide(order(min_cohort=5), "deny", clause="permission[0].constraint[2]")
    assert log.judged() == []


@pytest.mark.parametrize(
    ("change", "at", "recipients", "word"),
    [
        ({"purpose": "marketing"}, NOW, ("consumer",), "marketing"),
        ({"min_cohort": 5}, NOW, ("consumer",), "5"),
        ({"kind": "psi-cardinality/1"}, NOW, ("consumer",), "psi-cardinality/1"),
        ({}, NOW + timedelta(days=2), ("consumer",), "2026-11-26"),
        ({}, NOW, ("enterprise",), "enterprise"),
    ],
)
def test_a_permit_the_agreement_does_not_give_is_found_with_its_reason(
    log: ProviderLog, change: dict[str, Any], at: datetime, recipients: tuple[str, ...], word: str
) -> None:
    log.decide(order(**change), "permit", at=at, recipients=recipients)
    (finding,) = log.judged()
    assert (finding.code, finding.origin, finding.index) == ("use-not-allowed", ORIGIN, 0)
    assert word in finding.sentence


def test_an_overspent_number_of_uses_is_found_at_the_first_use_too_many(log: ProviderLog) -> None:
    for number in range(4):
        log.decide(order(nonce=f"nonce-number-{number}-aaaa"), "permit")
    assert [(one.code, one.index) for one in log.judged()] == [
        ("use-not-allowed", 2),
        ("use-not-allowed", 3),
    ]


def test_a_refusal_the_agreement_does_not_ask_for_is_found(log: ProviderLog) -> None:
    log.decide(order(), "deny", clause="permission[0].constraint[1]")
    assert [one.code for one in log.judged()] == ["decision-differs"]


def test_a_refusal_before_the_policy_was_asked_is_none_of_its(log: ProviderLog) -> None:
    log.decide(order(), "deny", clause="order.columns")
    assert log.judged() == []


def test_a_permit_is_judged_whatever_clause_its_record_names(log: ProviderLog) -> None:
    for clause in ("order.columns", "agreement.ended"):
        log.decide(order(purpose="marketing"), "permit", clause=clause)
    assert [one.code for one in log.judged()] == ["use-not-allowed", "use-not-allowed"]


def test_a_use_permitted_after_the_agreement_was_ended_is_found(log: ProviderLog) -> None:
    log.decide(order(), "permit")
    log.end()
    log.decide(order(nonce="b" * 16), "permit")
    (finding,) = log.judged()
    assert (finding.code, finding.origin, finding.index) == ("use-after-end", ORIGIN, 2)
    assert "entry 1 of the same log says that the agreement was ended" in finding.sentence


def test_uses_refused_after_the_end_are_not_found(log: ProviderLog) -> None:
    log.end()
    log.decide(order(), "deny", clause="agreement.ended")
    log.end()
    assert log.judged() == []


def test_a_refusal_for_an_end_that_nobody_recorded_is_found(log: ProviderLog) -> None:
    log.decide(order(), "deny", clause="agreement.ended")
    log.end()
    (finding,) = log.judged()
    assert (finding.code, finding.index) == ("decision-differs", 0)
    assert "no earlier entry of the same log says so" in finding.sentence


def test_rows_that_left_are_judged_by_their_record_alone(log: ProviderLog) -> None:
    log.decide_rows("deny", clause="permission[0].constraint[0]")
    assert log.judged() == []
    log.decide_rows("permit")
    (finding,) = log.judged()
    assert (finding.code, finding.index) == ("use-not-allowed", 1)
    assert "HttpData-PULL" in finding.sentence


def test_a_decision_without_its_order_cannot_be_replayed_and_is_named(log: ProviderLog) -> None:
    log.decide(order(), "permit")
    log.orders.clear()
    assert [one.code for one in log.judged()] == ["decision-not-replayable"]


def test_another_order_than_the_one_hashed_is_not_believed(log: ProviderLog) -> None:
    log.decide(order(purpose="marketing"), "permit")
    (order_h,) = log.orders
    log.orders[order_h] = order()
    assert [one.code for one in log.judged()] == ["decision-not-replayable"]


def test_a_record_that_does_not_open_is_not_believed(log: ProviderLog) -> None:
    log.decide(order(), "permit")
    log.sealed[0] = replace(log.sealed[0], body=b"{}")
    assert [one.code for one in log.judged()] == ["decision-not-replayable"]


def test_a_text_that_is_no_agreement_is_named(log: ProviderLog) -> None:
    log.decide(order(), "permit")
    judge = AgreementJudge({ORIGIN: log})
    assert [one.code for one in judge("a" * 64, {"@type": "Agreement"}, log.facts)] == [
        "agreement-unreadable"
    ]
