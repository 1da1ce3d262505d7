"""Datasets that say what they are about, found over the wire, and bounded by what they hold."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataspace.cli import app
from dataspace.client import ApiError, Waiting

from .conftest import RESIDENT_ID, City, terms

STREET = {"name": "street", "role": "group"}
CONDITION = {"name": "condition", "role": "group"}
VISITS = """resident_id,street,condition
11010519491231002X,440305001,E11.9
440524188001010014,440306001,J45.0
"""


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("described") / "visits.csv"
    file.write_text(VISITS, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def published(city: City, visits: Path) -> Iterator[dict[str, Any]]:
    """A dataset published from a file, as its owner does on the command line."""
    written = {
        "id": "clinic-visits",
        "title": "Clinic visits",
        "title_zh": "门诊就诊记录",
        "theme": "health",
        "division": 440305,
        "frequency": "daily",
        "source": visits.name,
        "columns": [RESIDENT_ID, STREET, CONDITION],
        "where": [{"column": "street", "comparison": "startsWith", "values": 440305}],
        "blocks": {"division": "street"},
        "legal_basis": "public-health-emergency",
        "grade": "important",
        "terms": terms(),
    }
    file = visits.with_name("publication.json")
    file.write_text(json.dumps(written), encoding="utf-8")
    yield run(city, "civil-affairs", "publish", "--file", str(file))
    city.node("civil-affairs").client.withdraw("clinic-visits")


def run(city: City, node: str, *arguments: str) -> Any:
    """What a command of `node` prints as JSON."""
    home = str(city.node(node).home.path)
    done = CliRunner().invoke(app, [*arguments, "--home", home, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def found(city: City, *options: str) -> list[str]:
    url = city.node("civil-affairs").url
    return [
        one["@id"] for one in run(city, "institute", "catalog", url, *options).get("dataset", [])
    ]


def test_a_consumer_finds_a_dataset_by_field_place_and_words_in_either_language(
    city: City, published: dict[str, Any]
) -> None:
    assert found(city, "--theme", "health", "--division", "4403") == ["clinic-visits"]
    assert found(city, "--text", "就诊") == found(city, "--text", "clinic") == ["clinic-visits"]
    assert found(city, "--division", "4401") == []
    assert "clinic-visits" not in found(city, "--grade", "general")
    sensitive = ["--class", "sensitive-personal", "--kind", "psi/1", "--frequency", "daily"]
    assert found(city, *sensitive, "--legal-basis", "public-health-emergency") == ["clinic-visits"]
    shown = city.consumer.catalog(
        city.node("civil-affairs").url,
        [{"leftOperand": "@id", "operator": "eq", "rightOperand": "clinic-visits"}],
    )["dataset"][0]
    assert shown["dct:title"][1] == {"@language": "zh", "@value": "门诊就诊记录"}
    assert shown["ds:blocks"] == {"ds:division": "street"}
    # One row meets the condition; strangers are told a rounded number.
    assert shown["ds:quality"][0]["ds:rows"] == 0
    assert published["quality"][0]["rows"] == 1


def test_an_agreement_about_important_data_waits_for_a_person(
    city: City, published: dict[str, Any]
) -> None:
    provider = city.node("civil-affairs")
    with pytest.raises(Waiting):
        city.consumer.negotiate(provider.url, "clinic-visits")
    (waiting,) = [
        one
        for one in provider.client.negotiations(waiting=True)
        if one["dataset"] == "clinic-visits"
    ]
    provider.client.approve(waiting["id"], declined=True)
    change = {"policy": {"use": ["compute-only"], "with": terms()}}
    with pytest.raises(ApiError, match="only after a person has approved") as refused:
        provider.client.call("PUT", "/api/datasets/clinic-visits/policy", change)
    assert "approval" in str(refused.value.remedy)


def test_sensitive_data_without_a_ground_in_law_are_refused_and_nothing_is_kept(
    city: City, visits: Path
) -> None:
    client = city.node("civil-affairs").client
    with pytest.raises(ApiError, match="column condition holds sensitive personal data") as no:
        client.publish("no-ground", visits, [RESIDENT_ID, CONDITION], terms=terms())
    assert "legal basis" in str(no.value.remedy)
    assert "no-ground" not in [one["@id"] for one in client.call("GET", "/api/datasets")]


def test_a_person_confirms_the_classes_and_everybody_sees_that_it_was_done(
    city: City, published: dict[str, Any]
) -> None:
    assert published["dataset"]["ds:classification"] == "proposed"
    confirmed = ("dataset", "confirm", "clinic-visits", "--by", "Han Mei")
    made = run(city, "civil-affairs", *confirmed, "--class", "street=open")
    assert [one["code"] for one in made["remarks"]] == ["class-lowered"]
    shown = city.consumer.catalog(city.node("civil-affairs").url)
    (seen,) = [one for one in shown["dataset"] if one["@id"] == "clinic-visits"]
    assert seen["ds:classification"] == "confirmed"
    assert seen["ds:columns"][1]["ds:class"] == "open"
    assert "Han Mei" not in json.dumps(shown)
    classes = run(city, "civil-affairs", "dataset", "classes", "clinic-visits")
    assert classes[1]["confirmed_by"] == "Han Mei"
