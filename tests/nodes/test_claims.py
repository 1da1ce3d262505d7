"""The claims protocol between nodes over HTTP, with a participant of another make."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from dataspace.claims.credentials import read_credential
from dataspace.claims.documents import describe
from dataspace.claims.jwts import sign_jwt
from dataspace.claims.presentations import Keys, issue_presentations, open_presentations
from dataspace.client import ApiError
from dataspace.identity.did import ListedKey, Resolver, did_of_url, document_of_node
from dataspace.identity.keys import SigningAlgorithm, SigningKey
from dataspace.identity.tokens import Identity, issue_credential, issue_token, open_token
from dataspace.settings import ParticipantKind

from .conftest import City

CONTEXT = "https://w3id.org/dspace-dcp/v1.0/dcp.jsonld"
CATALOGUE = {
    "@context": ["https://w3id.org/dspace/2025/1/context.jsonld"],
    "@type": "CatalogRequestMessage",
}
MEMBERSHIP = "org.eclipse.dspace.dcp.vc.type:MembershipCredential:read"


class Foreigner:
    """A participant with a server of its own make: its document, a credential service that shows
    what a test says, and a catalogue that remembers who asked."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self, outer.document)

            def do_POST(self) -> None:
                length = int(self.headers["content-length"] or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                outer.received.append((self.path, self.headers["authorization"], body))
                asked_for_catalogue = "catalog" in self.path
                outer._answer(self, {"error": "none"} if asked_for_catalogue else outer._shown())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.identity = Identity.of(
            did_of_url(self.url), SigningKey.generate(SigningAlgorithm.ES256)
        )
        keys = [ListedKey(self.identity.key)]
        plain = document_of_node(did=self.identity.did, url=self.url, keys=keys)
        self.document = describe(plain, url=self.url, issues=False)
        self.received: list[tuple[str, str, dict[str, Any]]] = []
        self.credentials: list[str] = []
        self.audience = ""
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def _answer(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.end_headers()
        handler.wfile.write(json.dumps(body).encode())

    def _shown(self) -> dict[str, Any]:
        now = int(time.time())
        opened = [read_credential(one, now=now) for one in self.credentials]
        presentations = issue_presentations(self.identity, opened, audience=self.audience, now=now)
        return {
            "@context": [CONTEXT],
            "type": "PresentationResponseMessage",
            "presentation": presentations,
        }

    def token(self, audience: str, access: str | None) -> str:
        """A token without a membership credential, as others make them."""
        return issue_token(
            self.identity, audience=audience, now=int(time.time()), membership=None, access=access
        )


@pytest.fixture
def foreigner() -> Iterator[Foreigner]:
    made = Foreigner()
    yield made
    made.server.shutdown()
    made.server.server_close()


Knock = Callable[..., httpx2.Response]


@pytest.fixture
def knock(city: City, http: httpx2.Client, foreigner: Foreigner) -> Knock:
    """A catalogue request of the foreigner to the insurer."""
    insurer = city.node("insurer")
    foreigner.audience = insurer.did

    def request(access: str | None, token: str | None = None) -> httpx2.Response:
        token = token or foreigner.token(insurer.did, access)
        headers = {"authorization": f"Bearer {token}"}
        url = f"{insurer.url}/dsp/2025-1/catalog/request"
        return http.post(url, json=CATALOGUE, headers=headers)

    return request


def _membership(city: City, subject: str) -> str:
    operator = city.space.operator
    issuer = Identity.of(operator.did, operator.home.signing_key())
    return issue_credential(
        issuer,
        subject=subject,
        kind=ParticipantKind.ENTERPRISE,
        name="foreigner",
        now=int(time.time()),
    )


def test_a_member_of_another_make_is_asked_for_its_credential_and_let_in(
    city: City, foreigner: Foreigner, knock: Knock
) -> None:
    foreigner.credentials = [_membership(city, foreigner.identity.did)]
    answer = knock("opaque-to-you-1")
    assert answer.status_code == 200, answer.text
    assert answer.json()["@type"] == "Catalog"
    (path, authorization, body) = foreigner.received[0]
    assert path == "/claims/holder/presentations/query"
    assert body["scope"] == [MEMBERSHIP]
    # The insurer proves itself, and carries the access token back.
    with httpx2.Client(trust_env=False) as client:
        resolver = Resolver(client, local=True)
        claims = open_token(
            authorization.removeprefix("Bearer "),
            audience=foreigner.identity.did,
            now=int(time.time()),
            key_of=resolver.invocation_key,
        )
    assert (claims.did, claims.access) == (city.node("insurer").did, "opaque-to-you-1")
    # With the same access token it is not asked again so soon.
    assert knock("opaque-to-you-1").status_code == 200
    assert len(foreigner.received) == 1


def test_an_overheard_token_lets_nobody_in_and_asks_nobody(
    city: City, foreigner: Foreigner, knock: Knock
) -> None:
    foreigner.credentials = [_membership(city, foreigner.identity.did)]
    token = foreigner.token(city.node("insurer").did, "opaque-to-you-2")
    assert knock(None, token).status_code == 200
    assert knock(None, token).status_code == 401
    assert len(foreigner.received) == 1


@pytest.mark.parametrize("what", ["nothing", "another's", "its own"])
def test_who_shows_no_membership_of_the_operator_is_not_let_in(
    city: City, foreigner: Foreigner, knock: Knock, what: str
) -> None:
    own = foreigner.identity
    foreigner.credentials = {
        "nothing": [],
        "another's": [_membership(city, city.node("institute").did)],
        "its own": [
            issue_credential(
                own, subject=own.did, kind=ParticipantKind.OPERATOR, name="x", now=int(time.time())
            )
        ],
    }[what]
    assert knock(f"opaque {what}").status_code == 401
    assert len(foreigner.received) == 1


def test_without_an_access_token_nobody_is_asked(foreigner: Foreigner, knock: Knock) -> None:
    assert knock(None).status_code == 401
    assert foreigner.received == []


@pytest.fixture
def query(city: City, http: httpx2.Client, foreigner: Foreigner) -> Callable[..., httpx2.Response]:
    """Ask the institute's credential service, with what came in the institute's own request."""
    institute = city.node("institute")
    with pytest.raises(ApiError):
        # No catalogue comes of it; the token does.
        institute.client.catalog(foreigner.url)
    bearer = foreigner.received[-1][1].removeprefix("Bearer ")
    claims = _claims(bearer)
    assert claims["membership"]

    def request(
        *scopes: str, by: Identity | None = None, access: str | None = None
    ) -> httpx2.Response:
        token = issue_token(
            by or foreigner.identity,
            audience=institute.did,
            now=int(time.time()),
            membership=None,
            access=claims["token"] if access is None else access,
        )
        return http.post(
            f"{institute.url}/claims/holder/presentations/query",
            json={"@context": [CONTEXT], "type": "PresentationQueryMessage", "scope": scopes},
            headers={"authorization": f"Bearer {token}"},
        )

    return request


def _claims(token: str) -> dict[str, Any]:
    import base64

    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def test_a_verifier_of_another_make_is_shown_what_our_token_allows_and_no_more(
    city: City, foreigner: Foreigner, query: Callable[..., httpx2.Response], stranger: Identity
) -> None:
    institute = city.node("institute")
    every = "org.eclipse.dspace.dcp.vc.type:SensitiveDataCredential:read"
    answer = query(MEMBERSHIP, every)
    assert answer.status_code == 200
    with httpx2.Client(trust_env=False) as client:
        resolver = Resolver(client, local=True)
        (shown,) = open_presentations(
            answer.json()["presentation"],
            holder=institute.did,
            audience=foreigner.identity.did,
            now=int(time.time()),
            keys=Keys(resolver.authentication_key, resolver.key),
        )
    assert (shown.kind, shown.issuer) == ("MembershipCredential", city.space.operator.did)
    nothing = query(every)
    assert (nothing.status_code, nothing.json()["presentation"]) == (200, [])
    # The access token was made out to the foreigner alone.
    assert query(MEMBERSHIP, by=stranger).status_code == 401
    assert query(MEMBERSHIP, access="faketoken").status_code == 401
    assert query("no-scope").status_code == 400
    assert query().status_code == 400


def test_a_member_obtains_its_membership_from_the_operator_by_the_protocol(city: City) -> None:
    institute = city.node("institute").client
    asked = institute.call("POST", "/api/credentials/requests", {})
    assert asked["issuer"] == city.space.operator.did
    until = time.monotonic() + 30
    while True:
        found = institute.call("GET", "/api/credentials")
        (request,) = (one for one in found["requests"] if one["request"] == asked["request"])
        if request["status"] != "RECEIVED" or time.monotonic() > until:
            break
        time.sleep(0.05)
    assert request["status"] == "ISSUED"
    held = {(one["type"], one["issuer"]) for one in found["held"]}
    assert ("MembershipCredential", city.space.operator.did) in held


def test_an_issuer_says_what_it_issues_and_refuses_the_rest(city: City) -> None:
    institute = city.node("institute").client
    with pytest.raises(ApiError, match="does not issue") as refused:
        institute.call("POST", "/api/credentials/requests", {"types": ["DrivingLicence"]})
    assert "MembershipCredential" in (refused.value.remedy or "")


@pytest.mark.parametrize(
    ("node", "path", "status"),
    [
        # A stranger may ask an issuer nothing, and write to no holder.
        ("operator", "/claims/issuer/credentials", 403),
        ("insurer", "/claims/holder/credentials", 403),
        ("insurer", "/claims/holder/offers", 403),
        # There is no issuer but the operator, and no token service unless it is set.
        ("insurer", "/claims/issuer/credentials", 404),
        ("insurer", "/claims/token", 404),
    ],
)
def test_a_stranger_gets_nothing(
    city: City, http: httpx2.Client, stranger: Identity, node: str, path: str, status: int
) -> None:
    asked = city.space.operator if node == "operator" else city.node(node)
    token = issue_token(stranger, audience=asked.did, now=int(time.time()), membership=None)
    form = "grant_type=client_credentials&client_id=a&client_secret=b&audience=did:web:x"
    answer = http.post(
        f"{asked.url}{path}", content=form, headers={"authorization": f"Bearer {token}"}
    )
    assert answer.status_code == status, answer.text


def test_an_issuer_that_was_not_asked_cannot_leave_a_credential(
    city: City, http: httpx2.Client
) -> None:
    insurer, operator = city.node("insurer"), city.space.operator
    issuer = Identity.of(operator.did, operator.home.signing_key())
    message = {
        "@context": [CONTEXT],
        "type": "CredentialMessage",
        "issuerPid": "x",
        "holderPid": "never-asked",
        "status": "ISSUED",
        "credentials": [
            {
                "credentialType": "MembershipCredential",
                "payload": _membership(city, insurer.did),
                "format": "vc11-sl2021/jwt",
            }
        ],
    }
    token = issue_token(issuer, audience=insurer.did, now=int(time.time()), membership=None)
    headers = {"authorization": f"Bearer {token}"}
    url = f"{insurer.url}/claims/holder/credentials"
    assert http.post(url, json=message, headers=headers).status_code == 404
    # Refused or not, the token is spent.
    assert http.post(url, json=message, headers=headers).status_code == 401


def test_a_token_without_the_right_to_sign_claims_is_refused(
    city: City, foreigner: Foreigner, knock: Knock
) -> None:
    foreigner.document["capabilityInvocation"] = []
    foreigner.credentials = [_membership(city, foreigner.identity.did)]
    answer = knock("opaque-to-you-3")
    assert answer.status_code == 401
    assert foreigner.received == []


def test_a_token_that_is_not_valid_yet_is_refused(
    city: City, foreigner: Foreigner, knock: Knock
) -> None:
    now, own = int(time.time()), foreigner.identity
    claims = {
        "iss": own.did,
        "sub": own.did,
        "aud": city.node("insurer").did,
        "iat": now,
        "nbf": now + 600,
        "exp": now + 900,
        "jti": "not-valid-yet",
        "token": "opaque",
    }
    assert knock(None, sign_jwt(claims, own)).status_code == 401
