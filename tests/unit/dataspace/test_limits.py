"""What is refused before any route has seen it, and what every answer has."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Scope

from dataspace.settings import Settings
from dataspace.web import problems
from dataspace.web.headers import SecurityHeaders
from dataspace.web.limits import Limits, OwnHosts, address_of

PROXIES = tuple(ipaddress.ip_network(one) for one in ("10.0.0.0/8", "fd00::/8"))


def settings(**changes: Any) -> Settings:
    values = {"name": "n", "kind": "consumer", "url": "https://node.example:8443", "local": False}
    return Settings(**{**values, **changes})


def inner() -> Starlette:
    async def answer(_: Any) -> PlainTextResponse:
        return PlainTextResponse("here", headers={"referrer-policy": "same-origin"})

    methods = ["GET", "POST", "PUT"]
    return Starlette(
        routes=[Route("/{path:path}", answer, methods=methods)],
    )


def limited(address: str = "192.0.2.1", **changes: Any) -> TestClient:
    app = Limits(inner(), settings=settings(**changes), refuse=problems.refusal)
    return TestClient(app, client=(address, 1234))


def asked_from(connection: str, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    scope: Scope = {"type": "http", "client": (connection, 1), "headers": headers}
    return address_of(scope, PROXIES)


def test_an_address_that_asks_too_often_is_told_when_it_may_again() -> None:
    client = limited(rate_per_address=0.5)
    answers = [client.get("/health") for _ in range(7)]
    assert [one.status_code for one in answers] == [200] * 5 + [429] * 2
    refused = answers[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert "more than 0.5 a second" in refused.json()["detail"]


def test_a_protocol_message_is_refused_in_the_protocols_own_form() -> None:
    client = limited(rate_per_address=0.1)
    client.post("/dsp/2025-1/negotiations/request")
    refused = client.post("/dsp/2025-1/negotiations/request")
    assert refused.status_code == 429
    assert refused.json()["@type"] == "ContractNegotiationError"
    assert int(refused.headers["retry-after"]) == 10


def test_frames_are_bounded_by_bytes_and_not_counted() -> None:
    client = limited(rate_per_address=0.1)
    assert [client.put("/compute/o/consumer/0/0").status_code for _ in range(5)] == [200] * 5


def test_peers_on_one_machine_share_an_address_and_are_not_counted_by_it() -> None:
    client = limited("127.0.0.1", rate_per_address=0.1, local=True)
    assert [client.get("/health").status_code for _ in range(5)] == [200] * 5
    counted = limited("127.0.0.1", rate_per_address=0.1, local=False)
    assert [counted.get("/health").status_code for _ in range(2)] == [200, 429]


def test_who_comes_through_a_proxy_is_counted_by_its_own_address() -> None:
    client = limited("10.0.0.1", rate_per_address=0.1, trusted_proxies=["10.0.0.0/8"])

    def ask(address: str) -> int:
        return client.get("/", headers={"x-forwarded-for": address}).status_code

    assert [ask("192.0.2.1"), ask("192.0.2.1"), ask("192.0.2.2")] == [200, 429, 200]


@pytest.mark.parametrize(
    ("connection", "forwarded", "counted"),
    [
        # Whoever is no proxy of ours says what it likes.
        ("192.0.2.1", ("198.51.100.9",), "192.0.2.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.9",), "198.51.100.9"),
        # What stands left of the first stranger was written by it.
        ("10.0.0.1", ("127.0.0.1, 198.51.100.9",), "198.51.100.9"),
        ("10.0.0.1", ("127.0.0.1", "198.51.100.9"), "198.51.100.9"),
        ("10.0.0.1", ("198.51.100.9, 10.1.1.1",), "198.51.100.9"),
        ("10.0.0.1", ("203.0.113.4, 198.51.100.9, 10.1.1.1",), "198.51.100.9"),
        ("fd00::1", ("2001:db8::9",), "2001:db8::9"),
        # What is no address ends the walk at the last proxy.
        ("10.0.0.1", ("198.51.100.9, nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", (", ".join(["10.2.2.2"] * 40),), "10.2.2.2"),
    ],
)
def test_a_forwarded_address_counts_only_from_proxies_of_ours(
    connection: str, forwarded: tuple[str, ...], counted: str
) -> None:
    assert asked_from(connection, *forwarded) == counted


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "identity, gzip"])
def test_an_encoded_body_is_refused_unread(encoding: str) -> None:
    refused = limited().post("/api/x", content=b"\x1f\x8b", headers={"content-encoding": encoding})
    assert refused.status_code == 415
    assert refused.json()["remedy"] == "send it as it is"


def test_a_body_said_to_be_as_it_is_passes() -> None:
    plain = limited().post("/api/x", content=b"{}", headers={"content-encoding": "identity"})
    assert plain.status_code == 200


def hosted(**changes: Any) -> TestClient:
    return TestClient(OwnHosts(inner(), settings=settings(**changes), refuse=problems.refusal))


@pytest.mark.parametrize(
    "host",
    ["node.example:8443", "NODE.example", "localhost:1", "127.0.0.1:8001", "[::1]:8001", "inside"],
)
def test_a_node_answers_to_its_own_names(host: str) -> None:
    assert hosted(allowed_hosts=["inside"]).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "", "node.example.evil.example", "[", "inside"])
def test_a_request_for_another_host_is_sent_away(host: str) -> None:
    refused = hosted().get("/", headers={"host": host})
    assert refused.status_code == 421
    assert "allowed_hosts" in refused.json()["remedy"]


def headed(path: str, *, secure: bool = False) -> Any:
    return TestClient(SecurityHeaders(inner(), secure=secure)).get(path).headers


def test_every_answer_forbids_browsers_what_nobody_needs() -> None:
    headers = headed("/health")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers
    assert "cache-control" not in headers


def test_what_an_answer_says_itself_stands() -> None:
    assert headed("/health")["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/api/status", "/me", "/dsp/2025-1/catalog", "/data/x"])
def test_what_is_somebodys_own_stays_in_no_cache(path: str) -> None:
    assert headed(path)["cache-control"] == "no-store"


def test_only_a_node_under_https_binds_browsers_to_it() -> None:
    assert "strict-transport-security" not in headed("/health")
    assert headed("/health", secure=True)["strict-transport-security"].startswith("max-age=")
