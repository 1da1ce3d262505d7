"""Negotiations between real nodes: what is agreed by itself, what a person decides, what ends."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dataspace.client import ApiError, Client, Refused, Waiting

from .conftest import PURPOSE, City, terms

SOON_S = 30.0
PROFILE = "https://w3id.org/city-dataspace/ns/v1"


def clause(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def policy(*clauses: dict[str, Any]) -> dict[str, Any]:
    return {"profile": PROFILE, "permission": [{"action": "use", "constraint": list(clauses)}]}


COHORT_20 = clause("ds:minCohort", "gteq", "20")
COHORT_5 = clause("ds:minCohort", "gteq", "5")
COUNT = clause("ds:computation", "isAnyOf", ["psi-cardinality/1"])
APPROVAL = clause("ds:approval", "eq", "required")


@pytest.fixture(scope="module")
def published(city: City, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Publishes small datasets of the insurer under the policy a test wants."""
    file = tmp_path_factory.mktemp("negotiations") / "few.csv"
    file.write_text("name\nann\nbob\n", encoding="utf-8")
    made = 0

    def publish(asked: dict[str, Any]) -> str:
        nonlocal made
        made += 1
        dataset = f"negotiated-{made}"
        columns = [{"name": "name", "role": "identifier", "canonicaliser": "text/1"}]
        city.node("insurer").client.publish(dataset, file, columns, policy=asked)
        return dataset

    return publish


def ended(client: Client, pid: str) -> dict[str, Any]:
    return client.poll(
        f"/api/negotiations/{pid}", lambda one: one["state"] in ("FINALIZED", "TERMINATED"), SOON_S
    )


def _only(client: Client, dataset: str) -> dict[str, Any]:
    """The one negotiation about `dataset`, as soon as this node knows of it."""
    path = "/api/negotiations"
    rows = client.poll(path, lambda rows: any(one["dataset"] == dataset for one in rows), SOON_S)
    (found,) = (one for one in rows if one["dataset"] == dataset)
    return found


def test_stricter_terms_than_the_offers_are_agreed_to_as_asked(city: City, published: Any) -> None:
    dataset = published(policy(COUNT, COHORT_5))
    provider = city.node("insurer")
    stricter = policy(COUNT, COHORT_20)
    agreement = city.consumer.negotiate(provider.url, dataset, policy=stricter)
    document = next(one for one in city.consumer.agreements() if one["id"] == agreement)
    constraints = document["document"]["permission"][0]["constraint"]
    assert COHORT_20 in constraints
    assert COHORT_5 not in constraints


def test_looser_terms_get_a_counter_offer_which_a_person_at_the_consumer_accepts(
    city: City, published: Any
) -> None:
    dataset = published(policy(COUNT, COHORT_20))
    provider = city.node("insurer")
    with pytest.raises(Waiting) as waiting:
        city.consumer.negotiate(provider.url, dataset, policy=policy(COUNT, COHORT_5))
    pid = waiting.value.negotiation
    shown = city.consumer.call("GET", f"/api/negotiations/{pid}")
    assert (shown["state"], shown["needs_person"], shown["rounds"]) == ("OFFERED", "here", 2)
    assert "20" in shown["waits_for"]
    assert pid in [one["id"] for one in city.consumer.negotiations(waiting=True)]
    city.consumer.approve(pid)
    agreement = city.consumer.agreement_of(pid, timeout_s=SOON_S)
    document = next(one for one in city.consumer.agreements() if one["id"] == agreement)
    assert COHORT_20 in document["document"]["permission"][0]["constraint"]


def test_a_declined_counter_offer_ends_the_negotiation_on_both_sides(
    city: City, published: Any
) -> None:
    dataset = published(policy(COUNT, COHORT_20))
    provider = city.node("insurer")
    with pytest.raises(Waiting) as waiting:
        city.consumer.negotiate(provider.url, dataset, policy=policy(COUNT, COHORT_5))
    city.consumer.approve(waiting.value.negotiation, declined=True)
    theirs = _only(provider.client, dataset)
    told = ended(provider.client, theirs["id"])
    assert (told["state"], told["reason"]) == (
        "TERMINATED",
        "A person at the consumer has declined this offer.",
    )


def test_a_consumer_may_answer_a_counter_offer_with_terms_of_its_own(
    city: City, published: Any
) -> None:
    dataset = published(policy(COUNT, COHORT_20))
    provider = city.node("insurer")
    with pytest.raises(Waiting) as waiting:
        city.consumer.negotiate(provider.url, dataset, policy=policy(COUNT, COHORT_5))
    pid = waiting.value.negotiation
    fifty = clause("ds:minCohort", "gteq", "50")
    city.consumer.call(
        "POST", f"/api/negotiations/{pid}/counter-offer", {"policy": policy(COUNT, fifty)}
    )
    agreement = city.consumer.agreement_of(pid, timeout_s=SOON_S)
    document = next(one for one in city.consumer.agreements() if one["id"] == agreement)
    assert fifty in document["document"]["permission"][0]["constraint"]


def test_an_agreement_that_needs_approval_waits_and_is_made_when_a_person_approves(
    city: City, published: Any
) -> None:
    dataset = published(policy(COUNT, COHORT_5, APPROVAL))
    provider = city.node("insurer")
    with pytest.raises(Waiting) as waiting:
        city.consumer.negotiate(provider.url, dataset)
    assert "person" in waiting.value.sentence
    theirs = provider.client.poll(
        "/api/negotiations?waiting=true",
        lambda rows: any(one["dataset"] == dataset for one in rows),
        SOON_S,
    )
    pid = next(one["id"] for one in theirs if one["dataset"] == dataset)
    provider.client.approve(pid)
    assert ended(city.consumer, waiting.value.negotiation)["state"] == "FINALIZED"
    with pytest.raises(ApiError, match="waits for nobody"):
        provider.client.approve(pid)


def test_a_declined_approval_is_told_to_the_consumer(city: City, published: Any) -> None:
    dataset = published(policy(COUNT, COHORT_5, APPROVAL))
    provider = city.node("insurer")
    with pytest.raises(Waiting) as waiting:
        city.consumer.negotiate(provider.url, dataset)
    provider.client.poll(
        "/api/negotiations?waiting=true",
        lambda rows: any(one["dataset"] == dataset for one in rows),
        SOON_S,
    )
    provider.client.approve(_only(provider.client, dataset)["id"], declined=True)
    assert ended(city.consumer, waiting.value.negotiation)["reason"] == (
        "A person at the provider has declined this agreement."
    )


def test_a_provider_offers_unasked_and_a_person_at_the_consumer_accepts(
    city: City, published: Any
) -> None:
    dataset = published(policy(COUNT, COHORT_5))
    provider = city.node("insurer")
    pid = provider.client.offer(city.node("institute").url, dataset)
    city.consumer.poll(
        "/api/negotiations?waiting=true",
        lambda rows: any(one["dataset"] == dataset for one in rows),
        SOON_S,
    )
    ours = _only(city.consumer, dataset)
    assert (ours["state"], ours["requested"]) == ("OFFERED", None)
    city.consumer.approve(ours["id"])
    assert ended(city.consumer, ours["id"])["state"] == "FINALIZED"
    assert ended(provider.client, pid)["state"] == "FINALIZED"


def test_a_negotiation_ended_by_its_owner_ends_on_both_sides_with_the_reason(
    city: City, published: Any
) -> None:
    dataset = published(policy(COUNT, COHORT_5, APPROVAL))
    provider = city.node("insurer")
    with pytest.raises(Waiting) as waiting:
        city.consumer.negotiate(provider.url, dataset)
    pid = waiting.value.negotiation
    reason = {"reason": "We found another source."}
    city.consumer.call("POST", f"/api/negotiations/{pid}/termination", reason)
    theirs = ended(provider.client, _only(provider.client, dataset)["id"])
    assert (theirs["state"], theirs["reason"]) == ("TERMINATED", "We found another source.")
    with pytest.raises(ApiError, match="not allowed in state TERMINATED"):
        city.consumer.call("POST", f"/api/negotiations/{pid}/termination", reason)


def test_who_can_never_use_the_data_is_refused_with_the_clause_and_the_remedy(
    city: City, published: Any
) -> None:
    roles = clause("ds:recipientRole", "isAnyOf", ["government"])
    dataset = published(policy(COUNT, COHORT_5, roles))
    provider = city.node("insurer")
    with pytest.raises(Refused, match="must be government; it is consumer") as refused:
        city.consumer.negotiate(provider.url, dataset)
    assert refused.value.clause == "permission[0].constraint[2]"
    assert refused.value.remedy is not None


def test_an_agreement_in_force_on_the_same_terms_is_used_again_when_asked(
    city: City, published: Any
) -> None:
    dataset = published(policy(COUNT, COHORT_5))
    provider = city.node("insurer")
    first = city.consumer.negotiate(provider.url, dataset)
    assert city.consumer.negotiate(provider.url, dataset, reuse=True) == first
    assert city.consumer.negotiate(provider.url, dataset) != first


def test_a_use_outside_the_contracts_division_is_refused_and_within_it_allowed(
    city: City, tmp_path: Path
) -> None:
    provider = city.node("civil-affairs")
    within = clause("spatial", "isPartOf", "4403")
    columns = [{"name": "resident_id", "role": "identifier", "canonicaliser": "resident-id/1"}]
    allowed = clause("ds:computation", "isAnyOf", ["psi-cardinality/1"])
    until = (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds")
    provider.client.publish(
        "shenzhen",
        city.data / "residents.csv",
        columns,
        policy=policy(allowed, COHORT_5, within, clause("dateTime", "lteq", until)),
    )
    city.agreements["shenzhen"] = city.consumer.negotiate(provider.url, "shenzhen")
    for spatial, path in ((None, "does not say"), ("4401", "4401")):
        with pytest.raises(Refused, match=path) as refused:
            city.compute("psi-cardinality/1", ["shenzhen", "health"], spatial=spatial)
        assert refused.value.clause == "permission[0].constraint[2]"
    found = city.compute("psi-cardinality/1", ["shenzhen", "health"], spatial="440305")
    assert found.value["count"] > 0
    assert PURPOSE in terms()["purposes"]
