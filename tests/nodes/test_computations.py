"""Between real nodes, a private result is the plain result, and what the contract forbids is not
computed."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.personal import ConsentBook
from dataspace.client import ApiError, Failed, Refused
from dataspace.demo import truth

from .conftest import DISTRICT, PURPOSE, RESIDENT_ID, City, terms

FORM = "resident-id/1"


def health_rows(city: City, *columns: str) -> list[truth.Row]:
    return truth.consented(
        truth.rows(city.data / "health.csv"),
        ConsentBook.load(city.data / "consents.jsonl"),
        subject="resident_id",
        columns=columns,
        purpose=PURPOSE,
        recipient=city.node("institute").did,
        at=datetime.now(UTC),
    )


def registered(city: City) -> set[str]:
    return truth.people(truth.rows(city.data / "residents.csv"), "resident_id", FORM)


def test_a_cardinality_equals_the_plain_count(city: City) -> None:
    patients = truth.people(health_rows(city, "resident_id"), "resident_id", FORM)
    result = city.compute("psi-cardinality/1", ["residents", "health"])
    assert result.value == {"count": len(registered(city) & patients)}


def test_an_intersection_names_the_consumers_own_people_only(city: City) -> None:
    listed = truth.people(truth.rows(city.data / "screening.csv"), "resident_id", FORM)
    result = city.compute("psi/1", ["residents"], own=(city.data / "screening.csv", "resident_id"))
    found = sorted(listed & registered(city))
    assert result.value == {"count": len(found), "identifiers": found}
    assert len(listed) > len(found)


def test_a_private_sum_equals_the_plain_join(city: City) -> None:
    expected = truth.joined_sum(
        truth.people(health_rows(city, "resident_id"), "resident_id", FORM),
        truth.rows(city.data / "contracts.csv"),
        column="resident_id",
        canonicaliser=FORM,
        value=lambda row: int(row["amount_cents"]),
    )
    assert city.compute("private-sum/2", ["health", "contracts"]).value == expected
    first = city.compute("private-sum/1", ["health", "contracts"]).value
    assert first == {"count": expected["count"], "sum": int(expected["sum"])}


def test_totals_by_district_equal_the_plain_totals(city: City) -> None:
    parts = [
        (truth.rows(city.data / "residents.csv"), "district", "subsidy_cents"),
        (truth.rows(city.data / "contracts.csv"), "district", "amount_cents"),
        (health_rows(city, "cost_cents", "district"), "district", "cost_cents"),
    ]
    groups = sorted({row["district"] for rows, _, _ in parts for row in rows})
    expected = truth.grouped(parts, groups=groups, min_cohort=5)
    result = city.compute("aggregate/1", ["residents", "contracts", "health"])
    assert result.value == expected


def test_every_participant_signs_the_same_transcript(city: City) -> None:
    result = city.compute("private-sum/1", ["health", "contracts"])
    assert set(result.signatures) == {"left", "right", "consumer"}
    for name in ("health-trust", "insurer"):
        seen = city.ended_at(name, result.id)
        assert seen["transcript_sha256"] == result.transcript_sha256
        assert seen["signatures"] == result.signatures
        assert seen["order_sha256"] == result.order_sha256


def test_providers_are_shown_no_result(city: City) -> None:
    result = city.compute("private-sum/1", ["health", "contracts"])
    right = city.ended_at("insurer", result.id)
    left = city.ended_at("health-trust", result.id)
    assert right["value"] is None
    # The left party learns how many people are shared: it applies the minimum cohort.
    assert left["value"] == {"count": result.value["count"]}


def test_a_purpose_outside_the_contract_is_refused_with_its_clause(city: City) -> None:
    with pytest.raises(Refused) as refused:
        city.compute("private-sum/1", ["health", "contracts"], purpose="marketing")
    assert refused.value.clause == "permission[0].constraint[1]"
    assert "marketing" in refused.value.sentence
    assert refused.value.remedy
    # Either provider may have answered first; both have the clause.
    providers = {city.node("health-trust").did, city.node("insurer").did}
    assert refused.value.refused_by in providers


def test_a_smaller_cohort_than_the_contract_demands_is_refused(city: City) -> None:
    with pytest.raises(Refused) as refused:
        city.compute("psi-cardinality/1", ["residents", "health"], min_cohort=2)
    assert refused.value.clause == "permission[0].constraint[2]"


def test_a_cohort_below_the_minimum_is_withheld_without_saying_by_how_much(
    city: City, tmp_path: Path
) -> None:
    few = sorted(registered(city))[:3]
    own = tmp_path / "few.csv"
    others = [f"other-{number}" for number in range(10)]
    own.write_text("person\n" + "\n".join([*few, *others]) + "\n", encoding="utf-8")
    with pytest.raises(Refused) as refused:
        city.compute("psi/1", ["residents"], own=(own, "person"))
    assert refused.value.clause == "ds:minCohort"
    assert "3" not in refused.value.sentence.replace("psi/1", "")


def test_the_number_of_uses_is_counted_and_then_refused(city: City) -> None:
    provider = city.node("civil-affairs")
    provider.client.publish(
        "twice", city.data / "residents.csv", [RESIDENT_ID], terms=terms(max_uses=2)
    )
    city.agreements["twice"] = city.consumer.negotiate(provider.url, "twice")
    for _ in range(2):
        city.compute("psi-cardinality/1", ["twice", "health"])
    with pytest.raises(Refused) as refused:
        city.compute("psi-cardinality/1", ["twice", "health"])
    assert refused.value.refused_by == provider.did
    assert refused.value.clause == "permission[0].constraint[4]"
    for client in (provider.client, city.consumer):
        path = f"/api/agreements/{city.agreements['twice']}"
        assert client.call("GET", path)["state"] == "used up"


def test_a_computation_the_contract_does_not_name_is_refused(city: City) -> None:
    provider = city.node("civil-affairs")
    only_counts = terms(computations=["psi-cardinality/1"])
    provider.client.publish("counts", city.data / "residents.csv", [RESIDENT_ID], terms=only_counts)
    city.agreements["counts"] = city.consumer.negotiate(provider.url, "counts")
    with pytest.raises(Refused) as refused:
        city.compute("psi/1", ["counts"], own=(city.data / "screening.csv", "resident_id"))
    assert refused.value.clause == "permission[0].constraint[0]"


def test_an_offer_for_other_kinds_of_participants_is_refused_at_negotiation(city: City) -> None:
    provider = city.node("insurer")
    provider.client.publish(
        "for-government",
        city.data / "contracts.csv",
        [RESIDENT_ID],
        terms=terms(recipient_kinds=["government"]),
    )
    with pytest.raises(Refused, match="consumer"):
        city.consumer.negotiate(provider.url, "for-government")


def test_a_withdrawn_consent_counts_from_the_next_use(city: City, tmp_path: Path) -> None:
    from connectors.personal import withdraw

    provider = city.node("health-trust")
    book = tmp_path / "consents.jsonl"
    book.write_bytes((city.data / "consents.jsonl").read_bytes())
    source = f"personal+file:{city.data / 'health.csv'}?consents={book}&subject=resident_id"
    provider.client.publish("withdrawing", source, [RESIDENT_ID], terms=terms())
    city.agreements["withdrawing"] = city.consumer.negotiate(provider.url, "withdrawing")
    before = city.compute("psi-cardinality/1", ["residents", "withdrawing"]).value["count"]
    patients = truth.people(health_rows(city, "resident_id"), "resident_id", FORM)
    leaving = next(iter(sorted(patients & registered(city))))
    for line in book.read_text(encoding="utf-8").splitlines():
        receipt = json.loads(line)
        if receipt["subject"] == leaving:
            withdraw(book, receipt["receipt_id"], datetime.now(UTC))
    after = city.compute("psi-cardinality/1", ["residents", "withdrawing"]).value["count"]
    assert after == before - 1


def test_data_that_went_bad_after_publication_ends_the_run_with_a_reason(
    city: City, tmp_path: Path
) -> None:
    provider = city.node("insurer")
    file = tmp_path / "amounts.csv"
    rows = truth.rows(city.data / "contracts.csv")

    def write(spoil: bool) -> None:
        with file.open("w", encoding="utf-8", newline="") as target:
            writer = csv.writer(target)
            writer.writerow(["resident_id", "amount_cents"])
            for number, row in enumerate(rows):
                value = "many" if spoil and number == 7 else row["amount_cents"]
                writer.writerow([row["resident_id"], value])

    write(spoil=False)
    amount = {"name": "amount_cents", "role": "value"}
    provider.client.publish("spoilt", file, [RESIDENT_ID, amount], terms=terms())
    city.agreements["spoilt"] = city.consumer.negotiate(provider.url, "spoilt")
    write(spoil=True)
    with pytest.raises(Failed, match="amount_cents") as failed:
        city.compute("private-sum/1", ["health", "spoilt"])
    assert "many" not in failed.value.sentence
    assert provider.client.status()["joined"]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"kind": "psi/9", "agreements": ["a"]}, "psi/9"),
        ({"kind": "private-sum/1", "agreements": ["a"]}, "takes 2 agreements"),
        ({"kind": "psi/1", "agreements": ["a"]}, "own identifiers"),
        ({"kind": "psi-cardinality/1", "agreements": ["a", "b"]}, "no agreement"),
        ({"kind": "psi-cardinality/1", "agreements": ["a", "a"]}, "named twice"),
        ({"kind": "psi/1", "agreements": []}, "agreements"),
        ({"kind": "psi/1", "agreements": ["a"], "colour": "red"}, "colour"),
    ],
)
def test_an_order_that_cannot_be_made_says_why(
    city: City, request_: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ApiError, match=sentence) as refused:
        city.consumer.call("POST", "/api/computations", {"purpose": PURPOSE, **request_})
    assert refused.value.status in (400, 404)


def test_two_datasets_with_other_canonicalisers_are_not_matched(city: City) -> None:
    provider = city.node("insurer")
    as_text = {"name": "resident_id", "role": "identifier", "canonicaliser": "text/1"}
    provider.client.publish("as-text", city.data / "contracts.csv", [as_text], terms=terms())
    city.agreements["as-text"] = city.consumer.negotiate(provider.url, "as-text")
    with pytest.raises(ApiError, match="differently"):
        city.compute("psi-cardinality/1", ["residents", "as-text"])


def test_a_dataset_past_its_date_cannot_be_published(city: City) -> None:
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="seconds")
    columns = [RESIDENT_ID, DISTRICT]
    with pytest.raises(ApiError, match="name a later date"):
        city.node("insurer").client.publish(
            "past", city.data / "contracts.csv", columns, terms=terms(not_after=past)
        )


def test_a_dataset_before_its_date_gives_no_agreement(city: City) -> None:
    provider = city.node("insurer")
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    begins = {"leftOperand": "dateTime", "operator": "gteq", "rightOperand": later}
    policy = {"permission": [{"action": "use", "constraint": [begins]}]}
    provider.client.publish(
        "early", city.data / "contracts.csv", [RESIDENT_ID, DISTRICT], policy=policy
    )
    with pytest.raises(Refused) as refused:
        city.consumer.negotiate(provider.url, "early")
    assert refused.value.clause == "permission[0].constraint[0]"
