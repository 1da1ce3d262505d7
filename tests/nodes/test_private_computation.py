"""Kinds of computation between real nodes, against the plain truth; and what ends one early."""

import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.personal import ConsentBook
from dataspace.client import ApiError, Failed, Refused
from dataspace.demo import truth

from .conftest import DISTRICT, PURPOSE, City, terms


def people(city: City, name: str) -> set[str]:
    return truth.people(truth.rows(city.data / f"{name}.csv"), "resident_id", "resident-id/1")


def own(city: City, name: str) -> tuple[str, str]:
    return (str(city.data / f"{name}.csv"), "resident_id")


@pytest.mark.parametrize("kind", ["psi/2", "psi-both/1", "psi-cached/1"])
def test_the_consumer_learns_which_of_its_own_are_known(city: City, kind: str) -> None:
    expected = sorted(people(city, "residents") & people(city, "contracts"))
    result = city.compute(kind, ["residents"], own=own(city, "contracts"))
    assert result.value == {"count": len(expected), "identifiers": expected}


def test_with_psi_both_the_provider_learns_the_same_and_with_psi_only_how_many(city: City) -> None:
    for kind, keys in (("psi-both/1", {"count", "identifiers"}), ("psi/2", {"count"})):
        result = city.compute(kind, ["residents"], own=own(city, "contracts"))
        seen = city.ended_at("civil-affairs", result.id)
        assert set(seen["value"]) == keys
        assert seen["value"]["count"] == result.value["count"]


def test_a_cached_set_answers_again_without_being_read_again(city: City) -> None:
    first = city.compute("psi-cached/1", ["residents"], own=own(city, "contracts"))
    again = city.compute("psi-cached/1", ["residents"], own=own(city, "contracts"))
    assert again.value == first.value
    cache = city.node("civil-affairs").home.path / "cache"
    assert len([path for path in cache.iterdir() if any(path.iterdir())]) == 1
    # The provider has no masked set to send any more, one point of 33 bytes for each of its people.
    moved = city.ended_at("civil-affairs", again.id)["progress"]["sent_bytes"]
    assert moved < 33 * len(people(city, "residents"))


def test_counts_alone(city: City) -> None:
    expected = len(people(city, "residents") & people(city, "contracts"))
    assert city.compute("psi-count/1", ["residents"], own=own(city, "contracts")).value == {
        "count": expected
    }
    two = city.compute("psi-cardinality/2", ["residents", "contracts"])
    assert two.value == {"count": expected}


def test_three_sets_have_in_common_what_they_have_in_common(city: City) -> None:
    patients = truth.people(
        truth.consented(
            truth.rows(city.data / "health.csv"),
            ConsentBook.load(city.data / "consents.jsonl"),
            subject="resident_id",
            columns=("resident_id",),
            purpose=PURPOSE,
            recipient=city.node("institute").did,
            at=datetime.now(UTC),
        ),
        "resident_id",
        "resident-id/1",
    )
    every = people(city, "residents") & people(city, "contracts") & patients
    size = city.compute("psi-multi-cardinality/1", ["residents", "health", "contracts"])
    assert size.value == {"count": len(every)}
    own_and_two = people(city, "screening") & people(city, "residents") & people(city, "contracts")
    which = city.compute("psi-multi/1", ["residents", "contracts"], own=own(city, "screening"))
    assert which.value == {"count": len(own_and_two), "identifiers": sorted(own_and_two)}


def test_a_provider_that_refuses_is_left_out_where_the_kind_allows_it_and_ends_it_elsewhere(
    city: City,
) -> None:
    client = city.node("insurer").client
    columns = [DISTRICT, {"name": "amount_cents", "role": "value"}]
    client.publish("once", str(city.data / "contracts.csv"), columns, terms=terms(max_uses=1))
    once = city.consumer.negotiate(city.node("insurer").url, "once")
    agreements = [city.agreements["residents"], city.agreements["health"], once]

    def ordered(kind: str) -> Any:
        return city.consumer.compute(kind, agreements, purpose=PURPOSE, timeout_s=120.0)

    whole = ordered("aggregate-partial/1")
    assert whole.value["providers"] == ["provider-1", "provider-2", "provider-3"]
    # The only use it permits is spent.
    rest = ordered("aggregate-partial/1")
    assert rest.value["providers"] == ["provider-1", "provider-2"]
    assert set(rest.signatures) == {"provider-1", "provider-2", "consumer"}
    of_two = city.compute("aggregate/2", ["residents", "health"])
    cells = {cell["group"]: cell for cell in rest.value["cells"]}
    for cell in of_two.value["cells"]:
        # The two name the same groups in another order, so other cells may be withheld besides.
        assert cells.get(cell["group"], cell) == cell
    with pytest.raises(Refused) as refused:
        ordered("aggregate/2")
    assert "count" in str(refused.value.sentence) or refused.value.clause


def test_too_few_providers_fail_with_how_many_there_are(city: City) -> None:
    with pytest.raises(Failed, match="only 2 of 2 providers are there; 3 are asked for"):
        city.compute(
            "aggregate-partial/1", ["residents", "health"], parameters={"leastProviders": 3}
        )


def test_a_setting_that_is_not_the_kinds_is_refused_before_anybody_is_asked(city: City) -> None:
    with pytest.raises(ApiError, match="psi/2 has no setting 'speed'") as refused:
        city.compute("psi/2", ["residents"], own=own(city, "contracts"), parameters={"speed": 3})
    assert refused.value.status == 400


def test_a_computation_is_cancelled_by_who_ordered_it_and_ends_for_all(
    city: City, tmp_path: Path
) -> None:
    provider = city.node("civil-affairs")
    big = tmp_path / "many.csv"
    big.write_text("\n".join(["person", *(f"person-{n}" for n in range(9000))]), encoding="utf-8")
    provider.client.publish(
        "cancelled", big, [{"name": "person", "role": "identifier"}], terms=terms()
    )
    asked = {
        "kind": "psi/2",
        "agreements": [city.consumer.negotiate(provider.url, "cancelled")],
        "purpose": PURPOSE,
        "own": {"source": str(big), "identifier": "person"},
    }
    begun = city.consumer.call("POST", "/api/computations", asked)["id"]
    path = f"/api/computations/{begun}"
    city.consumer.poll(path, lambda one: one["progress"]["done_units"] > 0, 60.0)
    city.consumer.call("POST", f"{path}/cancellation")
    found = city.consumer.call("GET", path)
    assert (found["status"], found["refusal"]["reason"]) == (
        "FAILED",
        "it was cancelled by a participant",
    )
    theirs = provider.client.poll(path, lambda one: one["status"] == "FAILED", 60.0)
    assert "cancelled" in theirs["refusal"]["reason"]
    # Its role ends at its next step, and leaves nothing.
    spool = provider.home.path / "spool" / begun
    provider.client.poll(path, lambda _: not spool.exists(), 60.0)


def joined(city: City, left: str) -> list[tuple[str, int]]:
    """Person and cents of every contract of a person who is in the file `left` too."""
    known = people(city, left)
    found = truth.identified(
        truth.rows(city.data / "contracts.csv"), "resident_id", "resident-id/1"
    )
    return [(person, int(row["amount_cents"])) for person, row in found if person in known]


def totals_of(found: list[tuple[str, int]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for person, cents in found:
        totals[person] = totals.get(person, 0) + cents
    return totals


@pytest.mark.parametrize("kind", ["private-sum/2", "private-sum-hidden/1"])
def test_sum_mean_and_variance_over_the_people_in_common(city: City, kind: str) -> None:
    totals = list(totals_of(joined(city, "residents")).values())
    result = city.compute(
        kind,
        ["residents", "contracts"],
        parameters={"statistics": ["sum", "mean", "variance"], "valueBits": 40},
    )
    assert result.value["count"] == len(totals)
    assert result.value["sum"] == str(sum(totals))
    assert float(result.value["mean"]) == pytest.approx(statistics.mean(totals), rel=1e-9)
    assert float(result.value["variance"]) == pytest.approx(statistics.variance(totals), rel=1e-9)


def test_a_sum_by_the_group_of_the_provider_that_named_it(city: City) -> None:
    district: dict[str, str] = {}
    for person, row in truth.identified(
        truth.rows(city.data / "residents.csv"), "resident_id", "resident-id/1"
    ):
        district.setdefault(person, row["district"])
    expected: dict[str, int] = {}
    for person, cents in totals_of(joined(city, "residents")).items():
        expected[district[person]] = expected.get(district[person], 0) + cents
    result = city.compute(
        "private-sum/2",
        ["residents", "contracts"],
        columns={city.agreements["residents"]: {"group": "district"}},
    )
    shown = {group: one["sum"] for group, one in result.value["groups"].items()}
    assert shown == {g: str(total) for g, total in expected.items() if g in shown}
    assert set(shown) | set(result.value["withheld"]) >= set(expected)


def test_a_consumer_sums_its_own_values_over_the_people_a_provider_knows(city: City) -> None:
    totals = totals_of(joined(city, "residents"))
    result = city.compute(
        "private-sum-own/1",
        ["residents"],
        own={
            "source": str(city.data / "contracts.csv"),
            "identifier": "resident_id",
            "value": "amount_cents",
        },
    )
    assert (result.value["count"], result.value["sum"]) == (len(totals), str(sum(totals.values())))
