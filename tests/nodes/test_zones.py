"""A zone's members, what they see and may do, and what they share: over real nodes."""

import base64
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dataspace.client import ApiError, Refused

from .command_line import dataspace
from .conftest import DISTRICT, PURPOSE, RESIDENT_ID, City
from .test_faults import run_audit

ZONE = "qianhai-park"
COLUMNS = [RESIDENT_ID, {"name": "amount_cents", "role": "value"}, DISTRICT]
NAMES = ("residents", "zone-contracts")


@pytest.fixture(scope="module")
def park(city: City) -> str:
    """A zone with the insurer in it, who keeps its policies."""
    insurer = city.node("insurer").did
    made = {"name": ZONE, "title": "Qianhai park", "title_zh": "前海园区", "steward": insurer}
    operator = city.space.operator.client
    operator.call("POST", "/api/zones", made)
    operator.call("POST", f"/api/zones/{ZONE}/admissions", {"did": insurer})
    return ZONE


def change(city: City, act: str, node: str) -> None:
    """Admit or expel a node, and have the provider fetch the list now."""
    asked = {"did": city.node(node).did}
    city.space.operator.client.call("POST", f"/api/zones/{ZONE}/{act}", asked)
    city.node("insurer").client.call("POST", "/api/zone-lists/refreshes")


def listed(city: City, node: str, dataset: str) -> bool:
    found = city.node(node).client.catalog(city.node("insurer").url)
    return dataset in [one["@id"] for one in found["dataset"]]


def zones_in_credential(city: City, node: str) -> list[str]:
    database = city.node(node).home.path / "node.sqlite"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        found = connection.execute("SELECT value FROM setting WHERE name = 'membership'")
        payload = str(found.fetchone()[0]).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    zones: list[str] = claims["vc"]["credentialSubject"].get("zones", [])
    return zones


def command(city: City, *arguments: str) -> Any:
    """What a command prints at the insurer's node."""
    home = str(city.node("insurer").home.path)
    done = dataspace(*arguments, "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def decisions(city: City) -> list[dict[str, Any]]:
    entries = city.node("insurer").client.call("GET", "/api/log")
    bodies = [json.loads(base64.b64decode(entry["body"])) for entry in entries if entry]
    return [one for one in bodies if one["type"] == "decided" and ZONE in json.dumps(one)]


def test_members_of_a_zone_see_and_use_its_data_until_they_are_expelled(
    city: City, park: str, http: httpx2.Client
) -> None:
    insurer, did = city.node("insurer"), city.node("institute").did
    source = str(city.data / "contracts.csv")
    columns = (
        "--id",
        "resident_id=resident-id/1",
        "--value",
        "amount_cents",
        "--group",
        "district",
    )
    allowed = ("--allow", "psi-cardinality/1", "--purpose", PURPOSE, "--min-cohort", "5")
    added = ("zone-contracts", source, *columns, *allowed, "--zone", park)
    command(city, "dataset", "add", *added)
    assert not listed(city, "institute", "zone-contracts")
    with pytest.raises(Refused) as refused:
        city.consumer.negotiate(insurer.url, "zone-contracts")
    clause = "permission[0].constraint[4]"
    assert (refused.value.clause, park in refused.value.sentence) == (clause, True)

    change(city, "admissions", "institute")
    assert listed(city, "institute", "zone-contracts")
    assert not listed(city, "civil-affairs", "zone-contracts")
    city.agreements["zone-contracts"] = city.consumer.negotiate(insurer.url, "zone-contracts")
    assert city.compute("psi-cardinality/1", list(NAMES)).value["count"] > 0
    assert decisions(city)[-1]["recipients"] == ["consumer", park]
    # The operator has told its node, which has asked for the credential that says so.
    city.consumer.wait_until(lambda _: zones_in_credential(city, "institute") == [park])

    change(city, "expulsions", "institute")
    assert not listed(city, "institute", "zone-contracts")
    with pytest.raises(Refused) as refused:
        city.compute("psi-cardinality/1", list(NAMES))
    assert (refused.value.clause, refused.value.refused_by) == (clause, insurer.did)
    city.consumer.wait_until(lambda _: zones_in_credential(city, "institute") == [])
    members = {one["did"]: one["zones"] for one in participants(city, http)}
    assert (members[did], members[insurer.did]) == ([], [park])
    city.space.wait_until_anchored()
    codes = {one["code"] for one in json.loads(run_audit(city).stdout)["findings"]}
    # Members that play tricks in other tests may have left findings of their own.
    assert codes & {"decision-differs", "use-not-allowed", "decision-not-replayable"} == set()


def participants(city: City, http: httpx2.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(
        f"{city.space.operator.url}/operator/participants"
    ).json()
    return found


def test_only_the_operator_says_that_a_credential_has_changed(
    city: City, http: httpx2.Client, token_from: Any
) -> None:
    insurer = city.node("insurer")
    headers = {"authorization": f"Bearer {token_from(insurer.did)}"}
    assert http.post(f"{insurer.url}/membership/renewals", headers=headers).status_code == 403
    assert http.post(f"{insurer.url}/membership/renewals").status_code == 401


def test_a_zone_list_is_for_everybody_and_its_policies_for_its_members(
    city: City, park: str, http: httpx2.Client, token_from: Any
) -> None:
    operator = city.space.operator
    answer = http.get(f"{operator.url}/operator/zones/{park}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jose")
    assert answer.headers["cache-control"] == "public, max-age=100"
    assert http.get(f"{operator.url}/operator/zones/nowhere").status_code == 404
    headers = {"authorization": f"Bearer {token_from(operator.did)}"}
    refused = http.get(f"{operator.url}/operator/zones/{park}/policies", headers=headers)
    assert refused.status_code == 403
    document = {"document": {"use": ["open-data"]}}
    headers = {"authorization": f"Bearer {token_from(operator.did)}"}
    path = f"{operator.url}/operator/zones/{park}/policies/mine"
    assert http.put(path, headers=headers, json=document).status_code == 403


def test_a_dataset_follows_a_policy_its_zone_shares_until_that_changes(
    city: City, park: str, tmp_path: Path
) -> None:
    insurer = city.node("insurer")
    file = tmp_path / "standard.yaml"
    shared = "use: [compute-only, zone-members]\nwith:\n  zones: [{}]\n  min_cohort: {}\n"
    file.write_text(shared.format(park, 20), encoding="utf-8")
    assert command(city, "zone", "policy", "put", park, "standard", str(file))["number"] == 1
    needed = ["computations", "purposes", "not_after"]
    (shown,) = command(city, "zone", "policy", "list", park)
    assert shown["open_parameters"] == needed

    until = (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds")
    given = {"computations": ["psi-cardinality/1"], "purposes": [PURPOSE], "not_after": until}
    policy = {"zone": f"{park}/standard", "with": given}
    source = city.data / "contracts.csv"
    for wrong, sentence in (
        ({**policy, "with": {}}, "computations: expected"),
        ({**policy, "with": {**given, "min_cohort": 2}}, "sets min_cohort itself"),
        ({**policy, "zone": f"{park}/other"}, "shares no policy of that name"),
        ({**policy, "zone": park}, "zone as ZONE/POLICY"),
    ):
        with pytest.raises(ApiError, match=sentence):
            insurer.client.publish("zone-standard", source, COLUMNS, policy=wrong)
    made = insurer.client.publish("zone-standard", source, COLUMNS, policy=policy)
    assert park in json.dumps(made["dataset"]["hasPolicy"])

    check = ("zone", "policy", "check")
    followed = {"dataset": "zone-standard", "zone": park, "policy": "standard", "follows": 1}
    assert command(city, *check) == [{**followed, "current": 1, "outdated": False}]
    file.write_text(shared.format(park, 30), encoding="utf-8")
    assert command(city, "zone", "policy", "put", park, "standard", str(file))["number"] == 2
    assert command(city, *check) == [{**followed, "current": 2, "outdated": True}]
    # The offer is what it was until its owner changes it.
    (now,) = (
        one for one in insurer.client.call("GET", "/api/datasets") if one["@id"] == "zone-standard"
    )
    assert now["hasPolicy"] == made["dataset"]["hasPolicy"]
    settings = [
        f"{name}={','.join(one) if isinstance(one, list) else one}" for name, one in given.items()
    ]
    options = [part for one in settings for part in ("--set", one)]
    command(city, "dataset", "policy", "zone-standard", f"zone:{park}/standard", *options)
    assert command(city, *check)[0]["outdated"] is False
    insurer.client.withdraw("zone-standard")
    assert command(city, *check) == []


def test_what_a_zone_shares_has_to_be_a_policy_that_can_do_what_it_says(
    city: City, park: str
) -> None:
    client = city.node("insurer").client
    for document, sentence in (
        ({"use": ["no-such"]}, "expected names out of"),
        ({"permission": []}, "permission"),
        ({"use": ["statistics"], "with": {"min_cohort": 3}}, "at least 20"),
    ):
        with pytest.raises(ApiError, match=sentence):
            client.call("PUT", f"/api/zones/{park}/policies/bad", {"document": document})
    with pytest.raises(ApiError, match="lower-case letters"):
        client.call("PUT", f"/api/zones/{park}/policies/Upper", {"document": {}})
