"""The difference attack of somebody with a contract: two questions that differ in one person."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dataspace.client import ApiError, Refused
from dataspace.demo import truth
from ledger.entry import Entry, EntryType, SealedEntry, open_entry

from .conftest import DISTRICT, PURPOSE, City
from .test_faults import run_audit

BUDGET, EPSILON = "3", "1.2"
# The district in which the attacker knows somebody.
HOME = "宝安区"


def offered(city: City, node: str) -> str:
    """Publish the register for figures with noise within a budget; an agreement about it."""
    policy = {
        "use": ["private-statistics"],
        "with": {
            "computations": ["aggregate/2"],
            "purposes": [PURPOSE],
            "not_after": (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds"),
            "epsilon_budget": BUDGET,
        },
    }
    columns = [{"name": "subsidy_cents", "role": "value"}, DISTRICT]
    provider = city.node(node)
    published = provider.client.publish(
        "register", city.data / "residents.csv", columns, policy=policy
    )
    assert "not-enforced" not in {remark["code"] for remark in published["remarks"]}
    return str(city.consumer.negotiate(provider.url, "register"))


def subsidies(city: City) -> list[tuple[str, int]]:
    found = truth.rows(city.data / "residents.csv")
    return [(row["district"], int(row["subsidy_cents"])) for row in found]


def target_of(people: list[tuple[str, int]]) -> int:
    """A subsidy that the attacker knows of, and that one person of the district alone has."""
    paid = Counter(cents for district, cents in people if district == HOME)
    return min(cents for cents, persons in paid.items() if persons == 1 and cents >= 50_000)


@pytest.mark.slow
def test_two_questions_that_differ_in_one_person_tell_little_and_a_third_is_refused(
    city: City,
) -> None:
    agreements = [offered(city, "civil-affairs"), offered(city, "insurer")]
    people = subsidies(city)
    target = target_of(people)

    def counted(edge: int, epsilon: str | None = EPSILON) -> dict[tuple[str, bool], int]:
        """How many have less than `edge` (True) and how many have not, by district."""
        result = city.consumer.compute(
            "aggregate/2",
            agreements,
            purpose=PURPOSE,
            parameters={"statistics": ["count"], "binEdges": [edge]},
            epsilon=epsilon,
            timeout_s=60.0,
        )
        cells: list[Mapping[str, Any]] = result.value["cells"]
        return {(cell["group"], cell["below"] == edge): cell["count"] for cell in cells}

    # Without noise the two would differ by one person (at each of the two offices).
    with pytest.raises(Refused) as refused:
        counted(target, None)
    assert refused.value.remedy == "Ask for noise, with an epsilon above zero."

    surprises = []
    for edge in (target, target + 1):
        told = counted(edge)
        exact = Counter((district, cents < edge) for district, cents in people)
        assert {(HOME, True), (HOME, False)} <= set(told)
        # The smallest district is below the threshold in both bins, whatever the noise.
        assert not {("盐田区", True), ("盐田区", False)} & set(told)
        surprises += [count - 2 * exact[cell] for cell, count in told.items()]
    # Every count is blurred by either office. That all were right has odds below 10^-7.
    assert any(surprises)
    assert all(abs(each) < 60 for each in surprises)

    # 3 less twice 1.2 leaves 0.6, and what was spent does not come back.
    with pytest.raises(Refused) as refused:
        counted(target)
    assert refused.value.remedy == "Ask with a smaller epsilon; spent budget does not come back."
    assert "it is 3.6" in refused.value.sentence

    recorded = decisions(city, "civil-affairs")
    assert [one.decision for one in recorded] == ["deny", "permit", "permit", "deny"]
    assert [one.privacy_spend for one in recorded] == [None, None, 1.2, 2.4]
    city.space.wait_until_anchored()
    codes = {one["code"] for one in json.loads(run_audit(city).stdout)["findings"]}
    assert codes & {"decision-differs", "use-not-allowed", "budget-understated"} == set()


def test_noise_is_not_promised_where_none_is_added(city: City) -> None:
    with pytest.raises(ApiError, match="adds no noise"):
        city.compute("psi-cardinality/1", ["residents", "health"], epsilon=EPSILON)


def decisions(city: City, node: str) -> list[Entry]:
    """What the node recorded of its decisions about tables of totals."""
    client = city.node(node).client
    size = client.status()["log"]["size"]
    shown = client.call("GET", f"/api/log?start={max(0, size - 200)}&end={size}")
    sealed = [SealedEntry.parse(one) for one in shown if one is not None]
    entries = [open_entry(one.body, one.salt, one.commitment) for one in sealed]
    return [one for one in entries if one.type is EntryType.DECIDED and one.kind == "aggregate/2"]
