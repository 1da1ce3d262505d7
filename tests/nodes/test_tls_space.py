"""A whole space under TLS with an authority of its own and `local = false`, as in production."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dataspace.auditing import AuditPolicy, audit_space
from dataspace.client import ApiError
from dataspace.demo.space import LocalSpace
from dataspace.home import Home
from dataspace.settings import ParticipantKind
from dataspace.tls import client_trust
from tests.authority import Authority

from .command_line import dataspace
from .conftest import terms

pytestmark = pytest.mark.slow
# So little that what is asked for below is more than a burst of it.
RATE, ASKED = 2.0, 20


@dataclass
class Secured:
    """The space, its authority, the files of the certificate that all nodes show, a regulator."""

    space: LocalSpace
    authority: Authority
    files: tuple[Path, Path]
    regulator: Home
    agreement: str

    def url(self, name: str) -> str:
        return self.space.nodes[name].url

    def http(self) -> httpx2.Client:
        return httpx2.Client(
            trust_env=False, timeout=10.0, verify=client_trust(self.authority.path)
        )


def write_rows(path: Path, first: int) -> set[str]:
    """A hundred people's rows, from number `first` on."""
    people = {f"P{number:06d}" for number in range(first, first + 100)}
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["person", "amount_cents"])
        table.writerows([one, "100"] for one in sorted(people))
    return people


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("secured")
    authority = Authority(directory)
    files = authority.issue("all-nodes")
    settings: dict[str, Any] = {
        "local": False,
        "allowed_networks": ["127.0.0.0/8", "::1/128"],
        "tls_certificate": str(files[0]),
        "tls_key": str(files[1]),
        "tls_ca": str(authority.path),
        "rate_per_member": RATE,
    }
    write_rows(directory / "provider.csv", 0)
    write_rows(directory / "consumer.csv", 60)
    with LocalSpace(directory, settings=settings, address="https://localhost") as space:
        space.found({"provider": ParticipantKind.GOVERNMENT, "consumer": ParticipantKind.CONSUMER})
        regulator = space.add_regulator("regulator")
        columns = [
            {"name": "person", "role": "identifier", "canonicaliser": "text/1"},
            {"name": "amount_cents", "role": "value"},
        ]
        space.nodes["provider"].client.publish(
            "people", directory / "provider.csv", columns, terms=terms()
        )
        agreement = space.nodes["consumer"].client.negotiate(space.nodes["provider"].url, "people")
        yield Secured(space, authority, files, regulator, agreement)


def test_a_space_agrees_computes_and_is_audited_over_tls_alone(
    secured: Secured, tmp_path: Path
) -> None:
    consumer = secured.space.nodes["consumer"]
    own = (secured.space.directory / "consumer.csv", "person")
    result = consumer.client.compute(
        "psi/1", [secured.agreement], purpose="public-health-research", own=own, timeout_s=60.0
    )
    assert result.value["identifiers"] == [f"p{number:06d}" for number in range(60, 100)]
    secured.space.wait_until_anchored()
    told = consumer.client.status()["space"]
    assert told["rpc_url"].startswith("https://localhost:")
    report = audit_space(
        told["rpc_url"], told["contract"], [], secured.regulator, policy=AuditPolicy()
    )
    assert report.findings == ()
    assert all(node.did.startswith("did:web:localhost%3A") for node in secured.space.nodes.values())


def test_the_command_line_knows_the_node_by_the_authority_in_its_home(secured: Secured) -> None:
    home = secured.space.nodes["consumer"].home.path
    shown = dataspace("status", "--home", home, "--json")
    assert json.loads(shown.stdout)["joined"] is True


def test_a_node_under_tls_says_nothing_in_the_clear(secured: Secured) -> None:
    port = int(secured.url("provider").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        said = b""
        with suppress(ConnectionResetError):
            while piece := raw.recv(4096):
                said += piece
    assert b"HTTP" not in said


def test_another_authority_is_no_reason_to_believe_the_node(
    secured: Secured, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "somebody else")
    with (
        httpx2.Client(trust_env=False, verify=client_trust(other.path)) as http,
        pytest.raises(httpx2.ConnectError, match="certificate verify failed"),
    ):
        http.get(f"{secured.url('provider')}/health")


def test_every_answer_has_its_headers_and_no_server_names_itself(secured: Secured) -> None:
    url = secured.url("provider")
    with secured.http() as http:
        for path, status in (("/health", 200), ("/api/status", 401), ("/nowhere", 404)):
            answer = http.get(f"{url}{path}")
            assert answer.status_code == status
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert "server" not in answer.headers


def test_a_request_for_another_host_is_sent_away(secured: Secured) -> None:
    with secured.http() as http:
        answer = http.get(f"{secured.url('provider')}/health", headers={"host": "evil.example"})
    assert answer.status_code == 421


def test_a_member_that_asks_too_often_waits_and_then_all_its_messages_arrive(
    secured: Secured,
) -> None:
    """More negotiations than the limit lets through at once: the consumer's node is told to wait,
    does so, and nothing is lost."""
    consumer, provider = secured.space.nodes["consumer"], secured.space.nodes["provider"]
    asked = {"provider": provider.did, "dataset": "people"}
    deadline = time.monotonic() + 60

    def begin() -> str:
        """One negotiation's id. The look at the catalogue that comes first has its answer at once,
        also where that is to wait."""
        while True:
            try:
                return str(consumer.client.call("POST", "/api/negotiations", asked)["id"])
            except ApiError as err:
                if "answered 429" not in err.sentence or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    pids = {begin() for _ in range(ASKED)}
    assert len(pids) == ASKED
    states: set[str] = set()
    while states != {"FINALIZED"} and time.monotonic() < deadline:
        shown = consumer.client.call("GET", "/api/negotiations")
        states = {one["state"] for one in shown if one["id"] in pids}
        time.sleep(0.3)
    assert states == {"FINALIZED"}
    assert "answered 429: too many messages of yours" in consumer.log_path.read_text()


def test_a_renewed_certificate_is_shown_after_sighup_while_the_node_runs(secured: Secured) -> None:
    provider = secured.space.nodes["provider"]
    assert provider.process is not None
    port = int(provider.url.rpartition(":")[2])
    trust = client_trust(secured.authority.path)

    def shown() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            trust.wrap_socket(raw, server_hostname="localhost") as secured_socket,
        ):
            return secured_socket.getpeercert(binary_form=True) or b""

    before = shown()
    for new, old in zip(secured.authority.issue("renewed"), secured.files, strict=True):
        os.replace(new, old)
    after = ssl.PEM_cert_to_DER_cert(secured.files[0].read_text())
    provider.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while (now := shown()) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert now == after != before
    with secured.http() as http:
        assert http.get(f"{provider.url}/health").status_code == 200
