"""What a node says of policies before anybody meets them, through its API and its command line."""

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from dataspace.client import ApiError

from .command_line import dataspace
from .conftest import PURPOSE, City

COHORT = {"leftOperand": "ds:minCohort", "operator": "gteq", "rightOperand": "20"}


def policy(*constraints: dict[str, Any]) -> dict[str, Any]:
    return {"permission": [{"action": "use", "constraint": list(constraints)}]}


def run(city: City, *arguments: str) -> CompletedProcess[str]:
    return dataspace(*arguments, "--home", city.node("insurer").home.path)


def test_a_decision_on_trial_names_the_clause_and_counts_nothing(city: City) -> None:
    client = city.node("insurer").client
    before = client.status()["log"]["size"]
    asked = {
        "dataset": "contracts",
        "purpose": "marketing",
        "computation": "private-sum/1",
        "min_cohort": 5,
        "recipient_kind": "consumer",
    }
    refused = client.call("POST", "/api/policies/decision", asked)
    assert (refused["allowed"], refused["refusal"]) == (False, "permission[0].constraint[1]")
    assert "marketing" in refused["reason"]
    allowed = client.call("POST", "/api/policies/decision", {**asked, "purpose": PURPOSE})
    assert allowed["allowed"]
    chinese = client.call("POST", "/api/policies/decision?language=zh", asked)
    assert "用途" in chinese["reason"]
    assert client.status()["log"]["size"] == before


def test_a_trial_and_the_use_itself_come_to_the_same_decision(city: City) -> None:
    provider = city.node("civil-affairs").client
    agreement = city.agreements["residents"]
    for cohort, allowed in ((5, True), (4, False)):
        asked = {
            "agreement": agreement,
            "purpose": PURPOSE,
            "computation": "psi-cardinality/1",
            "min_cohort": cohort,
            "recipient": city.node("institute").did,
            "recipient_kind": "consumer",
        }
        found = provider.call("POST", "/api/policies/decision", asked)
        assert found["allowed"] is allowed


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "exactly one of policy, dataset and agreement"),
        ({"dataset": "contracts", "agreement": "a"}, "exactly one of"),
        ({"dataset": "nowhere"}, "no dataset"),
        ({"policy": {"use": ["nothing"]}}, "expected names"),
        ({"policy": policy(), "spatial": "Shenzhen"}, "spatial"),
    ],
)
def test_a_wrong_trial_is_refused_by_the_field(
    city: City, asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ApiError, match=sentence):
        city.node("insurer").client.call("POST", "/api/policies/decision", asked)


def test_the_check_finds_a_contradiction_and_says_it_in_both_languages(city: City) -> None:
    small = {"leftOperand": "ds:minCohort", "operator": "lt", "rightOperand": "5"}
    given = {"policy": policy(COHORT, small)}
    found = city.consumer.call("POST", "/api/policies/check", given)
    (error,) = (one for one in found["remarks"] if one["severity"] == "error")
    assert error["code"] == "contradiction"
    assert error["sentence"] != error["sentence_zh"]


def test_two_policies_are_compared_clause_by_clause(city: City) -> None:
    stricter = {**COHORT, "rightOperand": "50"}
    body = {"candidate": policy(stricter), "reference": policy(COHORT)}
    assert city.consumer.call("POST", "/api/policies/comparison", body)["at_least_as_strict"]
    turned = {"candidate": policy(COHORT), "reference": policy(stricter)}
    found = city.consumer.call("POST", "/api/policies/comparison", turned)
    assert not found["at_least_as_strict"]
    assert "50" in found["differences"][0]["sentence"]


def test_a_policy_is_made_checked_and_explained_on_the_command_line(
    city: City, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    settings = {
        "computations": "psi-cardinality/1,private-sum/1",
        "purposes": "research",
        "min_cohort": "50",
        "not_after": "2036-01-01T00:00:00Z",
    }
    options = [part for name, one in settings.items() for part in ("--set", f"{name}={one}")]
    made = run(city, "policy", "new", "compute-only", "approval", *options, "--out", str(file))
    assert made.returncode == 0, made.stderr
    checked = run(city, "policy", "check", str(file), "--lang", "zh")
    assert checked.returncode == 0, checked.stderr
    assert "人工审批" in checked.stdout
    asked = ["--policy", str(file), "--purpose", "research", "--computation", "private-sum/1"]
    refused = run(city, "policy", "explain", *asked, "--min-cohort", "20", "--approved", "--json")
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["refusal"] == "permission[0].constraint[2]"
    allowed = run(city, "policy", "explain", *asked, "--min-cohort", "50", "--approved")
    assert allowed.returncode == 0, allowed.stderr
    assert run(city, "policy", "compare", str(file), str(file)).returncode == 0
