"""What the command line makes of what is written about a dataset, before any node is asked."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataspace.cli import app
from dataspace.client import Client

ADD = ["dataset", "add", "d", "d.csv", "--id", "name", "--allow", "psi/1", "--purpose", "research"]
MADE: dict[str, Any] = {"dataset": {}, "quality": [], "remarks": [], "classes": []}


class Recorder:
    """Stands where a node's client would, and keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def call(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append(body)
        return MADE

    def publish(self, *given: Any, **described: Any) -> Any:
        self.asked.append((given, described))
        return MADE

    def catalog(self, url: str, conditions: Any) -> Any:
        self.asked.append(conditions)
        return {}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(Client, "of_home", lambda home: recorder)
    return recorder


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def test_conditions_classes_and_blocks_are_read_from_options(node: Recorder) -> None:
    options = ["--where", "street^=440305", "--where", "age>=18", "--where", "a=b=c"]
    options += ["--class", "name=open", "--division-column", "street", "--theme", "health"]
    assert run(*ADD, *options)[0] == 0
    given, described = node.asked[0]
    assert given[2] == [{"name": "name", "role": "identifier", "class": "open"}]
    assert described["where"] == [
        {"column": "street", "comparison": "startsWith", "values": ["440305"]},
        {"column": "age", "comparison": "gteq", "values": ["18"]},
        {"column": "a", "comparison": "eq", "values": ["b=c"]},
    ]
    assert described["blocks"] == {"division": "street", "grid": None}
    assert (described["theme"], described["confirmed"]) == ("health", False)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--where", "street"], "expected COLUMN=VALUE"),
        (["--class", "name"], "expected COLUMN=CLASS"),
        (["--class", "name=secret"], "expected COLUMN=CLASS"),
        (["--class", "nom=open"], "has no such column"),
    ],
)
def test_an_option_that_says_nothing_is_refused_before_a_node_is_asked(
    node: Recorder, option: list[str], told: str
) -> None:
    code, output = run(*ADD, *option)
    assert code == 1
    assert told in output
    assert "remedy:" in output
    assert node.asked == []


def test_a_publications_relative_source_lies_beside_it_and_an_address_stays(
    node: Recorder, tmp_path: Path
) -> None:
    file = tmp_path / "publication.yaml"
    for source, expected in (
        ("visits.csv", str(tmp_path / "visits.csv")),
        ("postgresql://db.example/city?table=t", "postgresql://db.example/city?table=t"),
    ):
        file.write_text(f"id: d\nsource: {source}\ndivision: 440305\n", encoding="utf-8")
        assert run("publish", "--file", str(file))[0] == 0
        assert node.asked[-1] == {"id": "d", "source": expected, "division": 440305}
    file.write_text("id: d\nid: e\n", encoding="utf-8")
    code, output = run("publish", "--file", str(file))
    assert code == 1
    assert "publication.yaml, line 2: expected every name once" in output
    code, output = run("publish", "--file", str(tmp_path / "none.yaml"))
    assert code == 1
    assert "cannot be read" in output


def test_options_of_the_catalogue_are_a_filter(node: Recorder) -> None:
    options = ["--theme", "health", "--theme", "ecology", "--division", "4403", "--text", "就诊"]
    options += ["--grade", "important", "--kind", "psi/1"]
    assert run("catalog", "http://node.example", *options)[0] == 0
    assert [tuple(one.values()) for one in node.asked[0]] == [
        ("dcat:theme", "isAnyOf", ["health", "ecology"]),
        ("dct:spatial", "isPartOf", "4403"),
        ("ds:grade", "lteq", "important"),
        ("format", "isAnyOf", ["psi/1"]),
        ("ds:text", "hasPart", "就诊"),
    ]
    run("catalog", "http://node.example")
    assert node.asked[1] == []
