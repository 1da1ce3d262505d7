"""One search over the catalogues of all participants, as the consumer may see them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataspace.cli import app

from .conftest import RESIDENT_ID, City, terms

ROWS = "resident_id\n11010519491231002X\n440524188001010014\n"


@pytest.fixture(scope="module")
def offered(city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two offers of two providers, and one that is for governments only."""
    file = tmp_path_factory.mktemp("federated") / "people.csv"
    file.write_text(ROWS, encoding="utf-8")
    made = (
        ("civil-affairs", "dengue-cases", {"title_zh": "登革热病例", "theme": "health"}, {}),
        ("insurer", "dengue-claims", {"division": "440305"}, {}),
        ("insurer", "dengue-files", {}, {"recipient_kinds": ["government"]}),
    )
    for node, dataset, described, changes in made:
        city.node(node).client.publish(
            dataset, str(file), [RESIDENT_ID], terms=terms(**changes), title=dataset, **described
        )
    yield
    for node, dataset, _, _ in made:
        city.node(node).client.withdraw(dataset)


def search(city: City, *arguments: str) -> dict[str, Any]:
    home = str(city.node("institute").home.path)
    done = CliRunner().invoke(app, ["search", *arguments, "--home", home, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def names(found: dict[str, Any]) -> set[str]:
    return {hit["dataset"]["@id"] for hit in found["hits"]}


def test_a_consumer_finds_what_any_provider_shows_it_and_nothing_else(
    city: City, offered: None
) -> None:
    found = search(city, "dengue", "--refresh")
    assert names(found) == {"dengue-cases", "dengue-claims"}
    assert {hit["url"] for hit in found["hits"]} == {
        city.node("civil-affairs").url,
        city.node("insurer").url,
    }
    assert names(search(city, "登革热")) == {"dengue-cases"}
    assert names(search(city, "dengue", "--of", "enterprise")) == {"dengue-claims"}
    assert names(search(city, "dengue", "--division", "4403")) == {"dengue-claims"}


def test_what_was_withdrawn_is_gone_once_its_catalogue_is_read_again(
    city: City, offered: None, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    file.write_text(ROWS, encoding="utf-8")
    bureau = city.node("civil-affairs").client
    bureau.publish("measles", str(file), [RESIDENT_ID], terms=terms(), title="Measles")
    assert names(search(city, "measles", "--refresh")) == {"measles"}
    bureau.withdraw("measles")
    assert names(search(city, "measles")) == {"measles"}
    assert names(search(city, "measles", "--refresh")) == set()
