"""A member that lies about its order, drips its answers or names others' addresses gets nothing."""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from contracts.order import ComputationOrder, OrderParticipant, order_hash, sign_order
from dataspace.identity.did import did_of_url
from dataspace.identity.tokens import Identity

from .conftest import PURPOSE, RESIDENT_ID, City, terms

TokenFrom = Callable[..., str]
CONTEXT = "https://w3id.org/dspace/2025/1/context.jsonld"


class Liar:
    """The institute's identity in the hands of somebody who writes orders and messages by hand."""

    def __init__(self, city: City, http: httpx2.Client, token_from: TokenFrom) -> None:
        self.city = city
        self._http = http
        self._token_from = token_from
        home = city.node("institute").home
        self.identity = Identity.of(city.node("institute").did, home.signing_key())

    def order(self, provider: str, **changes: Any) -> str:
        """A signed psi/1 order about `residents`, with some fields of the sender's part changed."""
        now = datetime.now(UTC).replace(microsecond=0)
        part = {
            "role": "sender",
            "did": self.city.node(provider).did,
            "agreement": self.city.agreements["residents"],
            "dataset": "residents",
            "columns": {"identifier": "resident_id"},
            "canonicaliser": "resident-id/1",
            **changes.pop("part", {}),
        }
        own = OrderParticipant(role="consumer", did=self.identity.did)
        fields: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "kind": "psi/1",
            "consumer": self.identity.did,
            "participants": (OrderParticipant(**part), own),
            "purpose": PURPOSE,
            "min_cohort": 5,
            "nonce": uuid.uuid4().hex,
            "issued_at": now,
            "expires_at": now + timedelta(minutes=2),
            **changes,
        }
        order = ComputationOrder(**fields)
        return sign_order(order, self.identity.key, self.identity.kid, "Ed25519")

    def send(self, provider: str, order: str, **changes: Any) -> httpx2.Response:
        node = self.city.node(provider)
        message = {
            "@context": [CONTEXT],
            "@type": "TransferRequestMessage",
            "consumerPid": f"urn:uuid:{uuid.uuid4()}",
            "agreementId": self.city.agreements["residents"],
            "format": "psi/1",
            "callbackAddress": f"{self.city.node('institute').url}/dsp/2025-1",
            "ds:order": order,
            **changes,
        }
        headers = {"authorization": f"Bearer {self._token_from(node.did)}"}
        url = f"{node.url}/dsp/2025-1/transfers/request"
        return self._http.post(url, json=message, headers=headers)


@pytest.fixture
def liar(city: City, http: httpx2.Client, token_from: TokenFrom) -> Liar:
    return Liar(city, http, token_from)


def test_an_honest_order_by_hand_is_taken(liar: Liar) -> None:
    assert liar.send("civil-affairs", liar.order("civil-affairs")).status_code == 201


def test_an_agreement_about_one_dataset_opens_no_other(city: City, liar: Liar) -> None:
    city.node("civil-affairs").client.publish(
        "secret", city.data / "residents.csv", [RESIDENT_ID], terms=terms(purposes=["never"])
    )
    order = liar.order("civil-affairs", part={"dataset": "secret"})
    answer = liar.send("civil-affairs", order)
    assert answer.status_code == 400
    assert "dataset" in answer.json()["reason"][0]


def test_an_order_is_good_for_one_transfer(liar: Liar) -> None:
    order = liar.order("civil-affairs")
    assert liar.send("civil-affairs", order).status_code == 201
    again = liar.send("civil-affairs", order)
    assert again.status_code == 400
    assert "came before" in again.json()["reason"][0]


def test_an_altered_order_is_refused(liar: Liar) -> None:
    header, payload, signature = liar.order("civil-affairs").split(".")
    other = liar.order("civil-affairs").split(".")[1]
    answer = liar.send("civil-affairs", f"{header}.{other}.{signature}")
    assert payload != other
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"agreementId": "urn:uuid:of-nobody"},
        {"format": "private-sum/1"},
        {"ds:order": "a.b.c"},
        {"ds:order": ""},
    ],
)
def test_a_request_that_does_not_fit_its_order_is_refused(
    liar: Liar, changes: dict[str, str]
) -> None:
    answer = liar.send("civil-affairs", liar.order("civil-affairs"), **changes)
    assert answer.status_code in (400, 404)
    assert answer.json()["@type"] == "TransferError"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/dsp/2025-1",
        "ftp://127.0.0.1/",
        "javascript:alert(1)",
        "not a url",
        "http://[::1",
        "file:///etc/passwd",
        "http://user:pass@127.0.0.1:1/x",
    ],
)
def test_a_callback_leads_to_the_callers_own_node_or_nowhere(liar: Liar, address: str) -> None:
    order = liar.order("civil-affairs")
    answer = liar.send("civil-affairs", order, callbackAddress=address)
    assert answer.status_code == 400
    assert "callbackAddress" in answer.json()["reason"][0]


def test_a_column_that_is_not_published_is_refused_by_name(
    city: City, liar: Liar, http: httpx2.Client
) -> None:
    order = liar.order("civil-affairs", part={"columns": {"identifier": "name"}})
    assert liar.send("civil-affairs", order).status_code == 201
    provider = city.node("civil-affairs").client

    def decided(_: dict[str, Any]) -> bool:
        rows = provider.call("GET", "/api/transfers")
        return any(
            row["order_sha256"] == order_hash(order) and row["state"] == "TERMINATED"
            for row in rows
        )

    provider.wait_until(decided)
    rows = provider.call("GET", "/api/transfers")
    row = next(one for one in rows if one["order_sha256"] == order_hash(order))
    assert row["clause"] == "order.columns"


@contextmanager
def dripping_server() -> Iterator[str]:
    """A server that answers one byte at a time and never ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000:
                if stop.wait(0.2):
                    return
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop.set()
    listener.close()


@pytest.mark.slow
def test_documents_that_drip_do_not_take_the_node_away_from_others(
    city: City, http: httpx2.Client
) -> None:
    operator = city.space.operator
    with dripping_server() as url:
        stranger = Identity.of(did_of_url(url), city.node("institute").home.signing_key())
        application = {"name": "x", "kind": "consumer", "invitation": "guessed-guessed-guessed"}
        answers: list[int] = []

        def knock() -> None:
            from dataspace.identity.tokens import issue_token

            token = issue_token(
                stranger, audience=operator.did, now=int(time.time()), membership=None
            )
            with httpx2.Client(trust_env=False, timeout=60.0) as client:
                answer = client.post(
                    f"{operator.url}/operator/participants",
                    json=application,
                    headers={"authorization": f"Bearer {token}"},
                )
            answers.append(answer.status_code)

        knocks = [threading.Thread(target=knock) for _ in range(45)]
        for one in knocks:
            one.start()
        # While they hang, everybody else is served.
        assert http.get(f"{operator.url}/health").status_code == 200
        assert http.get(f"{operator.url}/operator/participants").status_code == 200
        for one in knocks:
            one.join(60)
    assert len(answers) == 45
    assert set(answers) <= {401, 503}


def test_the_log_of_an_applicant_must_be_its_own(
    city: City, http: httpx2.Client, stranger: Identity
) -> None:
    from dataspace.identity.tokens import issue_token

    operator = city.space.operator
    token = issue_token(stranger, audience=operator.did, now=int(time.time()), membership=None)
    application = {
        "name": "squatter",
        "kind": "consumer",
        "invitation": operator.client.invite("consumer"),
        "url": "http://127.0.0.1:7777",
        "log_origin": "127.0.0.1:7777/tlog",
        "log_vkey": "x+00000000+AAAA",
        "account": "0x" + "11" * 20,
    }
    answer = http.post(
        f"{operator.url}/operator/participants",
        json=application,
        headers={"authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 403
    assert "DID" in answer.json()["detail"]


def test_a_member_gets_a_fresh_credential_and_a_stranger_none(
    city: City, http: httpx2.Client, token_from: TokenFrom, stranger: Identity
) -> None:
    from dataspace.identity.tokens import issue_token

    operator = city.space.operator
    url = f"{operator.url}/operator/renewals"
    own = http.post(url, headers={"authorization": f"Bearer {token_from(operator.did)}"})
    assert own.status_code == 200
    assert own.json()["credential"].count(".") == 2
    token = issue_token(stranger, audience=operator.did, now=int(time.time()), membership=None)
    assert http.post(url, headers={"authorization": f"Bearer {token}"}).status_code == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/catalog", {"url": "http://["}),
        ("/api/catalog", {"url": "http://user:pass@127.0.0.1:1"}),
        ("/api/negotiations", {"provider": "http://[", "dataset": "x"}),
    ],
)
def test_addresses_that_are_none_are_named(city: City, path: str, body: dict[str, str]) -> None:
    from dataspace.client import ApiError

    with pytest.raises(ApiError, match="address") as refused:
        city.consumer.call("POST", path, body)
    assert refused.value.status == 400


def test_strange_json_rpc_is_answered(city: City, http: httpx2.Client) -> None:
    body = b'{"jsonrpc":"2.0","id":"\\ud800","method":"eth_chainId","params":[]}'
    headers = {"content-type": "application/json"}
    answer = http.post(f"{city.space.operator.url}/chain", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["id"] == "\ud800"
