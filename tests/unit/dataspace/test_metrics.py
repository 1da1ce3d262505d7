"""What a scraper learns of a node: how much happens and how well, and nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from sqlmodel import select

from dataspace.computing.running import COMPLETED
from dataspace.errors import InputRejected
from dataspace.evidence import ANCHOR
from dataspace.home import create_home, free_port
from dataspace.node import Node
from dataspace.operations.condition import Unready
from dataspace.operations.metrics import Metrics, peer_label
from dataspace.operations.scraping import ScrapePort
from dataspace.operations.standing import MAX_PEERS, OTHERS, clause_kind, read_standing
from dataspace.settings import ParticipantKind, Settings
from dataspace.store.tables import (
    AgreementRow,
    ComputationRow,
    NegotiationRow,
    ProcessRow,
    Setting,
    TransferRow,
)
from dataspace.web.app import create_app

PEER, DATASET, REASON = "did:web:peer.example", "residents-of-futian", "resident 440304 is missing"


def firm(home: Path) -> Node:
    values = {
        "name": "firm",
        "kind": ParticipantKind.ENTERPRISE.value,
        "url": "http://127.0.0.1:9",
        "port": 9,
        "operator": "http://127.0.0.1:8",
        "metrics_token": "a-token-for-scrapers",
    }
    return Node(create_home(home / "firm", values))


def client_of(node: Node) -> TestClient:
    # Without its life: nothing here needs the engine.
    return TestClient(create_app(node), base_url="http://127.0.0.1:9")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with something of everything, that nobody changes."""
    made = firm(tmp_path_factory.mktemp("metrics"))
    fill(made)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def client(node: Node) -> TestClient:
    return client_of(node)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Node]:
    """A node to be broken."""
    made = firm(tmp_path)
    yield made
    made.stop()


def fill(node: Node) -> None:
    """Rows in which everything a label must not hold can be found."""
    now = time.time()
    times = {"created_at": now - 60, "updated_at": now}
    policy = {"permission": [{"constraint": [{"leftOperand": "purpose"}]}]}
    with node.store.transaction() as tx:
        tx.add(
            NegotiationRow(
                pid="urn:uuid:n1",
                role="CONSUMER",
                peer=PEER,
                callback="",
                dataset=DATASET,
                state="OFFERED",
                waiting=REASON,
                **times,
            )
        )
        tx.add(
            AgreementRow(
                id="agreement-1",
                role="PROVIDER",
                provider=node.did,
                consumer=PEER,
                dataset=DATASET,
                document=policy,
                document_h="h",
                negotiation="urn:uuid:n1",
                finalized_at=now,
            )
        )
        for number, clause in enumerate(("permission[0].constraint[0]", "name of a resident")):
            tx.add(
                TransferRow(
                    pid=f"urn:uuid:t{number}",
                    role="PROVIDER",
                    peer=PEER,
                    callback="",
                    agreement="agreement-1",
                    format="psi/2" if number else "a format of the peer's making",
                    state="TERMINATED",
                    computation="",
                    order_jws="",
                    order_h="",
                    reason=REASON,
                    clause=clause,
                    **times,
                )
            )
        tx.add(
            ComputationRow(
                id="c1",
                kind="psi/2",
                role="provider",
                consumer=PEER,
                purpose=REASON,
                order_jws="",
                order_h="h",
                status=COMPLETED,
                created_at=now,
            )
        )
        for number in range(MAX_PEERS + 5):
            tx.add(
                ProcessRow(
                    kind="deliver",
                    subject="urn:uuid:n1",
                    target=f"did:web:peer{number}.example",
                    payload={},
                    due_at=now - 30,
                    give_up_at=now + 600,
                    created_at=now - 30 - number,
                    last_error=REASON,
                )
            )


def scraped(client: TestClient, node: Node) -> dict[str, list[Any]]:
    answer = client.get("/metrics", headers={"authorization": f"Bearer {node.api_key}"})
    assert answer.status_code == 200
    found = text_string_to_metric_families(answer.text)
    return {family.name: family.samples for family in found}


def value(found: dict[str, list[Any]], name: str, **labels: str) -> float:
    [one] = [sample for sample in found[f"dataspace_{name}"] if sample.labels == labels]
    return float(one.value)


def test_what_waits_what_ended_and_what_was_refused_is_counted(
    node: Node, client: TestClient
) -> None:
    found = scraped(client, node)
    assert value(found, "negotiations", role="CONSUMER", state="OFFERED") == 1
    assert value(found, "negotiations_waiting_for_person") == 1
    assert value(found, "computations", kind="psi/2", status="COMPLETED") == 1
    assert value(found, "transfers", role="PROVIDER", format="other", state="TERMINATED") == 1
    assert value(found, "refusals", of="transfer", by="purpose") == 1
    assert value(found, "refusals", of="transfer", by="other") == 1
    assert value(found, "processes", kind="deliver", state="ready") == MAX_PEERS + 5
    assert value(found, "process_overdue_seconds", kind="deliver") >= 29
    assert value(found, "evidence_unanchored_entries") == 0


def test_the_outboxes_that_are_told_apart_are_bounded(node: Node, client: TestClient) -> None:
    samples = scraped(client, node)["dataspace_outbox_messages"]
    labels = {one.labels["peer"]: one.value for one in samples}
    assert len(labels) == MAX_PEERS + 1
    # Those that wait longest are shown, the others added up.
    assert labels[OTHERS] == 5
    assert peer_label(node, f"did:web:peer{MAX_PEERS + 4}.example") in labels


def test_no_label_holds_a_name_an_id_or_a_text_of_a_peer(node: Node, client: TestClient) -> None:
    client.get(f"/api/why/{DATASET}")
    client.get(f"/{DATASET}")
    text = client.get("/metrics", headers={"authorization": f"Bearer {node.api_key}"}).text
    for hidden in (
        PEER,
        ".example",
        DATASET,
        "resident",
        "urn:uuid",
        "agreement-1",
        "did:",
        "making",
    ):
        assert not re.search(rf'="[^"]*{re.escape(hidden)}', text), hidden
    assert node.home.settings.name not in text


def test_the_same_in_openmetrics(node: Node, client: TestClient) -> None:
    headers = {
        "authorization": f"Bearer {node.api_key}",
        "accept": "application/openmetrics-text; version=1.0.0",
    }
    answer = client.get("/metrics", headers=headers)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics.text_string_to_metric_families(answer.text)}
    assert {"dataspace_http_requests", "dataspace_build", "dataspace_outbox_messages"} <= names


def test_requests_are_counted_by_their_routes_template(node: Node, client: TestClient) -> None:
    before = node.figures.requests.counts().get(("GET", "/health", "503"), 0)
    client.get("/health")
    client.get("/api/why/anything", headers={"authorization": f"Bearer {node.api_key}"})
    found = scraped(client, node)
    # The engine does not run here, so the node is not live.
    labels = {"method": "GET", "route": "/health", "status": "503"}
    [health] = [one for one in found["dataspace_http_requests"] if one.labels == labels]
    assert health.value == before + 1
    routes = {one.labels["route"] for one in found["dataspace_http_requests"]}
    assert "/api/why/{id:path}" in routes
    assert "/api/why/anything" not in routes


def test_metrics_need_a_key_that_may_read_them(client: TestClient) -> None:
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_a_port_of_its_own_opens_with_a_token_that_opens_nothing_else(node: Node) -> None:
    settings = node.home.settings.model_copy(update={"metrics_port": free_port()})
    port = ScrapePort(Metrics(node), settings)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port.port}", trust_env=False) as http:
            token = {"authorization": "Bearer a-token-for-scrapers"}
            assert http.get("/metrics").status_code == 401
            assert http.get("/metrics", headers=token).status_code == 200
            assert http.get("/api/status", headers=token).status_code == 404
    finally:
        port.close()


def test_metrics_are_not_given_to_a_network_without_a_token(node: Node) -> None:
    changes = {"metrics_port": free_port(), "metrics_host": "0.0.0.0", "metrics_token": None}
    with pytest.raises(InputRejected) as refused:
        ScrapePort(Metrics(node), Settings.model_copy(node.home.settings, update=changes))
    assert refused.value.remedy is not None


@pytest.mark.parametrize(
    ("clause", "kind"),
    [
        ("permission[0].constraint[0]", "purpose"),
        ("permission[0].constraint[7]", "permission"),
        ("prohibition[9]", "prohibition"),
        ("ds:minCohort", "ds:minCohort"),
        ("order.columns", "order"),
        ("resident 440304", "other"),
        ("permission[0].constraint[0].x" * 99, "purpose"),
    ],
)
def test_a_clause_is_counted_under_a_name_that_is_ours(clause: str, kind: str) -> None:
    policy = {"permission": [{"constraint": [{"leftOperand": "purpose"}]}]}
    assert clause_kind(clause, policy) == kind


def test_an_operand_of_a_peers_making_is_no_label() -> None:
    policy = {"permission": [{"constraint": [{"leftOperand": "x:resident-4403"}]}]}
    assert clause_kind("permission[0].constraint[0]", policy) == "permission"


def parts(reasons: list[Unready]) -> set[str]:
    return {one.part for one in reasons}


def test_readiness_names_every_part_that_is_not(fresh: Node) -> None:
    assert parts(fresh.condition.unready()) == {"workers", "membership"}
    with fresh.store.transaction() as tx:
        tx.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
        tx.add(
            ProcessRow(
                kind=ANCHOR,
                subject="x",
                payload={},
                state="failed",
                due_at=0,
                give_up_at=0,
                created_at=0,
                last_error="the chain refused it",
            )
        )
    assert {"migrations", "evidence"} <= parts(fresh.condition.unready())
    answer = client_of(fresh).get("/ready")
    # Why not is nobody's business but the owner's.
    assert (answer.status_code, answer.json()) == (503, {"ready": False})
    assert client_of(fresh).get("/api/readiness").status_code == 401
    told = client_of(fresh).get(
        "/api/readiness", headers={"authorization": f"Bearer {fresh.api_key}"}
    )
    assert {one["part"] for one in told.json()["reasons"]} >= {"workers", "evidence"}
    assert all(one["remedy"] for one in told.json()["reasons"])


def test_a_database_that_does_not_answer_is_a_reason_and_no_error(fresh: Node) -> None:
    fresh.store.close()
    (fresh.home.path / "node.sqlite").unlink()
    (fresh.home.path / "node.sqlite").mkdir()
    assert "database" in parts(fresh.condition.unready())
    found = scraped(client_of(fresh), fresh)
    assert value(found, "database_up") == 0


def test_a_full_disk_and_a_node_that_drains_are_not_ready(
    fresh: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataspace.operations.condition.free_disk_bytes", lambda _: 255 * 2**20)
    fresh.engine.drain()
    assert {"disk", "draining"} <= parts(fresh.condition.unready())


def test_looking_holds_up_no_work(fresh: Node) -> None:
    with fresh.store.look() as reading:
        before = read_standing(reading)
        # A transaction begins and ends while somebody looks, and the look does not see it.
        with fresh.store.transaction() as tx:
            tx.add(Setting(name="x", value="y"))
        assert reading.exec(select(Setting).where(Setting.name == "x")).first() is None
    assert before.entries == 0
