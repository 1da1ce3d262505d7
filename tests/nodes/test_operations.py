"""A running space as whoever runs it sees it."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dataspace.client import Refused
from dataspace.operations import probe

from .command_line import dataspace
from .conftest import City


@pytest.fixture(scope="module")
def worked(city: City) -> str:
    """A computation that has run, by its id."""
    return city.compute("psi-cardinality/2", ["residents", "contracts"]).id


def test_a_finished_and_a_refused_computation_say_what_became_of_them(
    city: City, worked: str
) -> None:
    home = city.node("institute").home.path
    told = json.loads(dataspace("why", worked, "--home", home, "--json").stdout)
    assert (told["what"], told["state"], told["outcome"]) == ("computation", "COMPLETED", "ended")
    with pytest.raises(Refused):
        city.compute("psi-cardinality/2", ["residents", "contracts"], purpose="marketing")
    refused = city.consumer.call("GET", "/api/computations")[0]
    done = dataspace("why", refused["id"], "--home", home)
    assert done.returncode == 0
    assert "REFUSED" in done.stdout
    assert "clause: permission[0].constraint[1]" in done.stdout


def test_the_status_of_a_working_node_fits_one_screen(city: City, worked: str) -> None:
    done = dataspace("status", "--home", city.node("institute").home.path)
    lines = done.stdout.splitlines()
    assert len(lines) <= 50
    assert any("anchored" in line for line in lines)
    assert any("credential ends" in line for line in lines)
    assert f"psi-cardinality/2 {worked} COMPLETED" in done.stdout


def test_metrics_of_work_name_nobody(city: City, worked: str, http: httpx2.Client) -> None:
    node = city.node("institute")
    answer = http.get(
        f"{node.url}/metrics", headers={"authorization": f"Bearer {node.home.api_key()}"}
    )
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    done = (("kind", "psi-cardinality/2"), ("outcome", "completed"))
    assert samples["dataspace_computation_seconds_count", *done] >= 1
    assert samples["dataspace_credential_days_left",] > 20
    assert samples["dataspace_database_up",] == 1
    hidden = [worked, "did:", "residents", *(node.name for node in city.space.nodes.values())]
    hidden += [node.url.rpartition(":")[2] for node in city.space.nodes.values()]
    labels = [line for line in answer.text.splitlines() if "{" in line]
    assert not [(name, line) for line in labels for name in hidden if f'"{name}' in line]


def test_the_logs_of_work_hold_no_key_no_token_and_nobodys_data(
    city: City, worked: str, token_from: Callable[..., str], http: httpx2.Client
) -> None:
    node = city.node("civil-affairs")
    # What a caller sends comes nowhere near a log, whether it was let in or not.
    for token in (token_from(node.did), token_from("did:web:somebody.else"), "x" * 40):
        headers = {"authorization": f"Bearer {token}"}
        http.get(f"{node.url}/dsp/2025-1/negotiations/urn:uuid:none", headers=headers)
    secrets = [token]
    for one in city.space.nodes.values():
        secrets += [one.home.api_key(), one.home.account_key()]
    people = (city.data / "residents.csv").read_text(encoding="utf-8").splitlines()[1:]
    secrets += [line.split(",")[0] for line in people[:200] if len(line.split(",")[0]) > 8]
    assert len(secrets) > 100
    for one in city.space.nodes.values():
        text = one.log_path.read_text(encoding="utf-8")
        assert "eyJ" not in text
        assert not [secret for secret in secrets if secret in text]
        for line in text.splitlines():
            event = json.loads(line)
            if "process" in event:
                assert len(event["trace"]) == 32


def test_a_running_node_is_ready_and_tells_a_probe_so(city: City) -> None:
    home = city.node("insurer").home.path
    assert probe.probe(home, "/health")
    assert probe.probe(home, "/ready")
    assert not probe.probe(home, "/metrics")
