"""Who has no token, no agreement or another's address gets no rows, and can send none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from .conftest import City
from .rows_that_leave import (
    LEAVES,
    PULL,
    PUSH,
    SOON_S,
    Rows,
    address_of,
    begin,
    ended,
    get,
    offer,
    open_pull,
    reached,
    steer,
    theirs,
)


def test_only_the_token_of_a_running_transfer_opens_its_rows(
    city: City, tmp_path: Path, http: httpx2.Client, token_from: Callable[..., str]
) -> None:
    rows = offer(city, tmp_path)
    with open_pull(city, rows) as (pid, endpoint, token):
        wrong = [token[:-1], token + "x", token_from(city.node("insurer").did)]
        answers = [get(http, endpoint, one) for one in wrong]
        answers.append(http.get(endpoint))
        answers.append(get(http, endpoint.rpartition("/")[0] + f"/{pid}", token))
        assert {answer.status_code for answer in answers} == {404}
        assert token not in "".join(answer.text for answer in answers)
        # Rows that cannot be read are the provider's trouble: no path, no column is told.
        unreadable = get(http, endpoint, token)
        assert unreadable.status_code == 503
        assert rows.file.name not in unreadable.text
        rows.mend()
        steer(city.consumer, pid, "completion")
        reached(city.node("insurer").client, theirs(city, rows), "COMPLETED")
        assert get(http, endpoint, token).status_code == 404


def test_a_new_start_by_the_provider_has_a_new_token(
    city: City, tmp_path: Path, http: httpx2.Client
) -> None:
    rows = offer(city, tmp_path)
    with open_pull(city, rows) as (pid, endpoint, token):
        provider, their_pid = city.node("insurer").client, theirs(city, rows)
        steer(provider, their_pid, "suspension")
        reached(city.consumer, pid, "SUSPENDED")
        steer(provider, their_pid, "resumption")
        reached(city.consumer, pid, "STARTED")
        assert get(http, endpoint, token).status_code == 404
        rows.mend()
        assert ended(city.consumer, pid)["state"] == "COMPLETED"


@pytest.fixture
def ask(city: City, http: httpx2.Client, token_from: Callable[..., str]) -> Callable[..., Any]:
    """Sends a transfer request to the insurer as the institute's node would, with changes."""
    node = city.node("insurer")

    def send(rows: Rows, **changes: Any) -> httpx2.Response:
        message = {
            "@context": ["https://w3id.org/dspace/2025/1/context.jsonld"],
            "@type": "TransferRequestMessage",
            "consumerPid": "urn:uuid:00000000-0000-4000-8000-000000000001",
            "agreementId": rows.agreement,
            "format": PULL,
            "callbackAddress": f"{city.node('institute').url}/dsp/2025-1",
            **changes,
        }
        headers = {"authorization": f"Bearer {token_from(node.did)}"}
        return http.post(f"{node.url}/dsp/2025-1/transfers/request", json=message, headers=headers)

    return send


def pushed_to(endpoint: str | None) -> dict[str, Any]:
    address: dict[str, Any] = {"@type": "DataAddress", "endpointType": "urn:http"}
    if endpoint is not None:
        address["endpoint"] = endpoint
    return {"format": PUSH, "dataAddress": address}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "psi/1"}, f"{PULL}, {PUSH}"),
        ({"format": "AmazonS3-PUSH"}, f"{PULL}, {PUSH}"),
        ({"format": PUSH}, "must say where"),
        (pushed_to(None), "not on the node"),
        (pushed_to("http://127.0.0.1:9/data/inbox/x"), "not on the node"),
        (pushed_to("file:///etc/passwd"), "not on the node"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_at_once(
    city: City,
    tmp_path: Path,
    ask: Callable[..., httpx2.Response],
    changes: dict[str, Any],
    sentence: str,
) -> None:
    answer = ask(offer(city, tmp_path), **changes)
    assert (answer.status_code, answer.json()["@type"]) == (400, "TransferError")
    assert sentence in answer.json()["reason"][0]


def test_a_repeated_request_is_one_transfer_and_one_use(
    city: City, tmp_path: Path, ask: Callable[..., httpx2.Response]
) -> None:
    rows = offer(city, tmp_path)
    pid = "urn:uuid:00000000-0000-4000-8000-000000000002"
    first, second = ask(rows, consumerPid=pid), ask(rows, consumerPid=pid)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["state"] == "REQUESTED"
    assert first.json()["providerPid"] == second.json()["providerPid"]
    counted = city.node("insurer").client.poll(
        "/api/agreements",
        lambda all_: any(one["id"] == rows.agreement and one["use_count"] for one in all_),
        SOON_S,
    )
    (agreement,) = (one for one in counted if one["id"] == rows.agreement)
    assert agreement["use_count"] == 1


def test_another_participants_agreement_is_none(
    city: City, tmp_path: Path, ask: Callable[..., httpx2.Response]
) -> None:
    provider = city.node("insurer")
    rows = offer(city, tmp_path)
    held = city.node("health-trust").client.negotiate(provider.url, rows.dataset)
    assert ask(Rows(rows.dataset, rows.file, held)).status_code == 404


@pytest.fixture
def inbox(city: City, tmp_path: Path) -> tuple[str, str, str, Rows]:
    """A push that stays started, as the provider cannot read its rows: pid, endpoint, token."""
    rows = offer(city, tmp_path)
    rows.spoil()
    pid = begin(city, rows, PUSH)
    reached(city.consumer, pid, "STARTED")
    endpoint, token = address_of(city.node("insurer"), theirs(city, rows))
    return pid, endpoint, token, rows


def put(http: httpx2.Client, endpoint: str, token: str, body: bytes, **headers: str) -> int:
    authorization = {"authorization": f"Bearer {token}"}
    return http.put(endpoint, content=body, headers={**authorization, **headers}).status_code


def test_an_inbox_takes_only_what_has_its_token_and_its_digest(
    city: City, inbox: tuple[str, str, str, Rows], http: httpx2.Client
) -> None:
    pid, endpoint, token, rows = inbox
    other = "sha-256=:" + "A" * 43 + "=:"
    assert put(http, endpoint, "x", b"a\n") == 404
    assert put(http, endpoint, token, b"a\n", **{"content-digest": other}) == 503
    received = city.node("institute").home.path / "received"
    name = pid.rpartition(":")[2]
    assert not any(name in one.name for one in received.iterdir())
    steer(city.consumer, pid, "suspension")
    assert put(http, endpoint, token, b"a\n") == 503
    steer(city.consumer, pid, "resumption")
    assert put(http, endpoint, token, b"a\n", **{"content-digest": f"sha-512=:x:, {other}"}) == 503
    # Who gives no digest of ours is believed: HTTP itself says that all has come.
    assert put(http, endpoint, token, b"a\n", **{"content-digest": "sha-512=:x:"}) == 204
    assert (received / f"{name}.csv").read_bytes() == b"a\n"
    rows.mend()
    done = ended(city.consumer, pid)
    assert Path(done["moved"]["file"]).read_bytes() == LEAVES
    assert put(http, endpoint, token, b"late\n") == 404
    assert Path(done["moved"]["file"]).read_bytes() == LEAVES
