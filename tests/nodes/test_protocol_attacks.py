"""A peer, an outsider and a careless owner get one clear answer, and the node goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dataspace.client import ApiError, Client
from dataspace.computing.inbox import content_digest
from dataspace.identity.tokens import TOKEN_LIFETIME_S, Identity, issue_token

from .conftest import RESIDENT_ID, City, terms

TokenFrom = Callable[..., str]
CONTEXT = "https://w3id.org/dspace/2025/1/context.jsonld"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def catalog(http: httpx2.Client, city: City, headers: dict[str, str]) -> httpx2.Response:
    return http.post(
        f"{city.node('civil-affairs').url}/dsp/2025-1/catalog/request",
        json={"@context": [CONTEXT], "@type": "CatalogRequestMessage"},
        headers=headers,
    )


def test_a_member_with_a_fresh_token_is_answered(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    answer = catalog(http, city, bearer(token_from(city.node("civil-affairs").did)))
    assert answer.status_code == 200
    assert answer.json()["participantId"] == city.node("civil-affairs").did


def test_who_shows_no_token_is_told_how(city: City, http: httpx2.Client) -> None:
    answer = catalog(http, city, {})
    assert answer.status_code == 401
    assert answer.json()["@type"] == "CatalogError"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_an_expired_token_is_refused(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    import time

    old = token_from(city.node("civil-affairs").did, now=int(time.time()) - 10 * TOKEN_LIFETIME_S)
    answer = catalog(http, city, bearer(old))
    assert answer.status_code == 401
    assert "expired" in answer.json()["reason"][0]


def test_a_token_for_another_node_is_refused(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    answer = catalog(http, city, bearer(token_from(city.node("insurer").did)))
    assert answer.status_code == 401


def test_a_token_is_good_for_one_request(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    headers = bearer(token_from(city.node("civil-affairs").did))
    assert catalog(http, city, headers).status_code == 200
    again = catalog(http, city, headers)
    assert again.status_code == 401
    assert "used before" in again.json()["reason"][0]


def test_a_did_without_membership_is_refused(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    answer = catalog(http, city, bearer(token_from(city.node("civil-affairs").did, member=False)))
    assert answer.status_code == 401
    assert "membership" in answer.json()["reason"][0]


def test_a_stranger_cannot_join_without_an_invitation(
    city: City, http: httpx2.Client, stranger: Identity
) -> None:
    import time

    operator = city.space.operator
    token = issue_token(stranger, audience=operator.did, now=int(time.time()), membership=None)
    application = {"name": "x", "kind": "regulator", "invitation": "guessed-guessed-guessed"}
    answer = http.post(
        f"{operator.url}/operator/participants", json=application, headers=bearer(token)
    )
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert "invitation" in answer.json()["detail"]


def test_an_invitation_is_good_for_one_participant_of_its_kind(
    city: City, http: httpx2.Client, stranger: Identity
) -> None:
    import time

    operator = city.space.operator
    code = operator.client.invite("consumer")

    def apply(kind: str) -> httpx2.Response:
        token = issue_token(stranger, audience=operator.did, now=int(time.time()), membership=None)
        application = {"name": "x", "kind": kind, "invitation": code}
        return http.post(
            f"{operator.url}/operator/participants", json=application, headers=bearer(token)
        )

    assert apply("regulator").status_code == 403
    assert apply("consumer").status_code == 200
    # The same applicant may repeat itself, as its first answer may have been lost.
    assert apply("consumer").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/dsp/2025-1/negotiations/urn:uuid:nobody",
        "/dsp/2025-1/transfers/urn:uuid:nobody",
        "/dsp/2025-1/catalog/datasets/nothing",
    ],
)
def test_what_is_not_there_and_what_is_not_theirs_look_the_same(
    city: City, http: httpx2.Client, token_from: TokenFrom, path: str
) -> None:
    provider = city.node("insurer")
    answer = http.get(f"{provider.url}{path}", headers=bearer(token_from(provider.did)))
    assert answer.status_code == 404
    assert answer.json()["@type"].endswith("Error")


def test_a_foreign_negotiation_cannot_be_seen_or_ended(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    # The institute's negotiation at the insurer, asked for at the insurer by another member would
    # be 404; here the institute asks the trust about it, which is not its party.
    theirs = city.node("insurer").client.call("GET", "/api/negotiations")[0]["id"]
    trust = city.node("health-trust")
    answer = http.get(
        f"{trust.url}/dsp/2025-1/negotiations/{theirs}", headers=bearer(token_from(trust.did))
    )
    assert answer.status_code == 404


BAD_BODIES = [
    b"",
    b"[]",
    b"nonsense",
    b"\xff\xfe",
    b'{"@type": "ContractRequestMessage"}',
    b"[" * 90_000,
    b'{"a":' * 90_000,
    b'{"@context": ["' + CONTEXT.encode() + b'"], "@type": "X", "a": 1e999}',
]


@pytest.mark.parametrize("number", range(len(BAD_BODIES)))
@pytest.mark.parametrize(
    "path",
    ["catalog/request", "negotiations/request", "transfers/request", "negotiations/urn:x/events"],
)
def test_malformed_messages_are_the_protocols_errors_and_change_nothing(
    city: City, http: httpx2.Client, token_from: TokenFrom, path: str, number: int
) -> None:
    provider = city.node("insurer")
    before = len(provider.client.call("GET", "/api/negotiations"))
    answer = http.post(
        f"{provider.url}/dsp/2025-1/{path}",
        content=BAD_BODIES[number],
        headers={**bearer(token_from(provider.did)), "content-type": "application/json"},
    )
    assert answer.status_code == 400
    assert answer.json()["@type"].endswith("Error")
    assert len(provider.client.call("GET", "/api/negotiations")) == before


@pytest.mark.parametrize(
    ("path", "body"), [("/operator/participants", b"[" * 90_000), ("/chain", b"[" * 90_000)]
)
def test_deep_nesting_elsewhere_does_not_kill_the_operator(
    city: City, http: httpx2.Client, path: str, body: bytes
) -> None:
    operator = city.space.operator
    headers = {"content-type": "application/json"}
    answer = http.post(f"{operator.url}{path}", content=body, headers=headers)
    assert 400 <= answer.status_code < 500
    assert http.get(f"{operator.url}/health").status_code == 200


def test_an_oversize_body_is_refused(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    provider = city.node("insurer")
    answer = http.post(
        f"{provider.url}/dsp/2025-1/catalog/request",
        content=b" " * (10 * 1024 * 1024),
        headers=bearer(token_from(provider.did)),
    )
    assert answer.status_code in (400, 413)


def test_an_offer_the_catalogue_does_not_have_is_refused(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    provider = city.node("insurer")
    offer = {
        "@id": "offer:invented",
        "@type": "Offer",
        "target": "contracts",
        "permission": [{"action": "use"}],
    }
    answer = http.post(
        f"{provider.url}/dsp/2025-1/negotiations/request",
        json={
            "@context": [CONTEXT],
            "@type": "ContractRequestMessage",
            "consumerPid": "urn:uuid:mine",
            "callbackAddress": f"{city.node('institute').url}/dsp/2025-1",
            "offer": offer,
        },
        headers=bearer(token_from(provider.did)),
    )
    assert answer.status_code == 400
    assert answer.json()["@type"] == "ContractNegotiationError"


def test_a_message_delivered_twice_is_acted_on_once(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    provider = city.node("insurer")
    dataset = city.consumer.catalog(provider.url)["dataset"][0]
    offer = {**dataset["hasPolicy"][0], "target": dataset["@id"]}
    body = {
        "@context": [CONTEXT],
        "@type": "ContractRequestMessage",
        "consumerPid": "urn:uuid:twice",
        "callbackAddress": f"{city.node('institute').url}/dsp/2025-1",
        "offer": {**offer, "permission": [{"action": "use"}]},
    }
    answers = [
        http.post(
            f"{provider.url}/dsp/2025-1/negotiations/request",
            json=body,
            headers={**bearer(token_from(provider.did)), "message-id": "one-and-the-same"},
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["providerPid"] == answers[1].json()["providerPid"]
    other = http.post(
        f"{provider.url}/dsp/2025-1/negotiations/request",
        json={**body, "consumerPid": "urn:uuid:another"},
        headers={**bearer(token_from(provider.did)), "message-id": "one-and-the-same"},
    )
    assert other.status_code == 400
    assert "another message came from you under this id" in other.json()["reason"][0]


def put_frame(
    http: httpx2.Client, city: City, token: str, order: str, **changes: Any
) -> httpx2.Response:
    body = changes.get("body", b"payload")
    headers = {
        **bearer(token),
        "content-digest": content_digest(body),
        "frame-name": "points",
        "frame-chunks": "1",
    }
    url = f"{city.node('insurer').url}/compute/{order}/{changes.get('sender', 'left')}/0/0"
    return http.put(url, content=body, headers={**headers, **changes.get("headers", {})})


def test_frames_for_an_order_nobody_made_are_not_taken(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    token = token_from(city.node("insurer").did)
    answer = put_frame(http, city, token, "00000000-0000-4000-8000-000000000000")
    assert answer.status_code == 404


def test_a_participant_cannot_send_in_anothers_role(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    done = city.compute("private-sum/1", ["health", "contracts"])
    # The institute is the consumer of this order; "left" is the health trust.
    answer = put_frame(http, city, token_from(city.node("insurer").did), done.id, sender="left")
    assert answer.status_code == 404
    own = put_frame(http, city, token_from(city.node("insurer").did), done.id, sender="consumer")
    assert own.status_code in (400, 410)


def test_the_owners_api_needs_the_owners_key(city: City, http: httpx2.Client) -> None:
    url = f"{city.node('insurer').url}/api/status"
    assert http.get(url).status_code == 401
    wrong = http.get(url, headers=bearer("x" * 43))
    assert wrong.status_code == 401
    assert wrong.json()["remedy"]


def test_entry_bodies_are_for_regulators(
    city: City, http: httpx2.Client, token_from: TokenFrom
) -> None:
    provider = city.node("insurer")
    url = f"{provider.url}/tlog/entries?start=0&end=1"
    assert http.get(url).status_code == 401
    answer = http.get(url, headers=bearer(token_from(provider.did)))
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"source": "/nowhere/at/all.csv"}, "all.csv"),
        ({"source": "gopher://x"}, "gopher"),
        ({"columns": [{"name": "resident", "role": "identifier"}]}, "resident_id"),
        ({"columns": [{"name": "name", "role": "value"}]}, "whole number"),
        ({"columns": [{**RESIDENT_ID, "canonicaliser": "passport/9"}]}, "passport/9"),
        ({"grade": "core"}, "never offered"),
        ({"grade": "secret"}, "secret"),
        ({"dataset": "Bad Id"}, "not usable"),
        ({"terms": {"computations": ["psi/1"]}}, "terms"),
        ({"terms": terms(computations=["sell/1"])}, "sell/1"),
        ({"terms": None}, "terms or with a policy"),
    ],
)
def test_what_cannot_be_published_is_named(
    city: City, change: dict[str, Any], sentence: str
) -> None:
    provider = city.node("civil-affairs")
    asked: dict[str, Any] = {
        "dataset": "never",
        "source": city.data / "residents.csv",
        "columns": [RESIDENT_ID],
        "terms": terms(),
        **change,
    }
    with pytest.raises(ApiError, match=sentence):
        provider.client.publish(**asked)
    offered = {one["@id"] for one in provider.client.call("GET", "/api/datasets")}
    assert "never" not in offered


def test_no_row_value_reaches_a_message_or_a_log(city: City, tmp_path: Path) -> None:
    provider = city.node("civil-affairs")
    secret = "surprising-cell-content"
    file = tmp_path / "amounts.csv"
    file.write_text(f"resident_id,amount\n44030519900101001X,{secret}\n", encoding="utf-8")
    amount = {"name": "amount", "role": "value"}
    with pytest.raises(ApiError) as refused:
        provider.client.publish("secret", file, [amount], terms=terms())
    assert secret not in f"{refused.value} {refused.value.remedy}"
    assert secret not in provider.log_path.read_text(encoding="utf-8")


def test_a_blank_identifier_column_is_refused(city: City, tmp_path: Path) -> None:
    file = tmp_path / "blank.csv"
    file.write_text("id,n\n" + " ,1\n" * 20, encoding="utf-8")
    with pytest.raises(ApiError, match="no usable identifier"):
        city.node("insurer").client.publish(
            "blank", file, [{"name": "id", "role": "identifier"}], terms=terms()
        )


@pytest.mark.parametrize(
    ("provider", "sentence"),
    [
        ("http://127.0.0.1:9", "cannot be"),
        ("did:web:127.0.0.1%3A9", "cannot be"),
        ("did:example:x", "did:web"),
        ("did:web:10.1.2.3", "private network"),
    ],
)
def test_a_provider_that_is_not_there_is_named(city: City, provider: str, sentence: str) -> None:
    with pytest.raises(ApiError, match=sentence) as refused:
        city.consumer.negotiate(provider, "residents")
    assert refused.value.status in (400, 503)


def test_a_dataset_that_is_not_there_is_named(city: City) -> None:
    with pytest.raises(ApiError, match="no dataset 'nothing'"):
        city.consumer.negotiate(city.node("insurer").url, "nothing")


def test_no_node_at_an_address_says_how_to_start_one() -> None:
    with Client("http://127.0.0.1:9", "key") as client, pytest.raises(ApiError) as refused:
        client.status()
    assert "dataspace serve" in (refused.value.remedy or "")


def test_every_problem_is_json_with_a_title_and_a_status(city: City, http: httpx2.Client) -> None:
    for path in ("/nothing", "/api/status", "/tlog/tile/9/999", "/tlog/entries?start=x&end=1"):
        answer = http.get(f"{city.node('insurer').url}{path}")
        assert answer.headers["content-type"] == "application/problem+json"
        problem = json.loads(answer.content)
        assert problem["status"] == answer.status_code
        assert problem["title"]
        assert problem["detail"]
