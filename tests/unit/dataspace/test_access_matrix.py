"""Every address of a node times every kind of caller, generated from what the node itself says.

What is expected follows from two things only: what each route declares in the OpenAPI document, and
the table of permissions. A route that declares nothing keeps the application from being made.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter, FastAPI

from dataspace.access.oidc import Provider
from dataspace.access.permissions import RULES, Caller, Permission, Role, may
from dataspace.access.principal import HOME
from dataspace.access.trust import Trust
from dataspace.evidence import Space, write_space
from dataspace.home import create_home
from dataspace.identity.tokens import Identity, issue_credential, issue_token
from dataspace.node import Node
from dataspace.settings import ParticipantKind
from dataspace.store.tables import AccessKeyRow, ParticipantRow
from dataspace.web import app as web_app
from dataspace.web.app import create_app
from dataspace.web.declarations import Undeclared, declarations

from .identity_provider import AUDIENCE, ISSUER, IdentityProvider

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
URL, NOBODY = "http://127.0.0.1:3", "http://127.0.0.1:9"
# A path parameter that is a number, and one that is a digest; any other is a name nobody has.
NUMBER, DIGEST = "7", "0" * 64
REFUSED_SESSION = 303


@dataclass
class KnownKeys:
    """A resolver that knows some participants' keys."""

    known: dict[str, Any] = field(default_factory=dict)

    def key(self, kid: str) -> Any:
        return self.known[kid]

    authentication_key = invocation_key = known_key = key


@dataclass
class House:
    """An operator's node without its engine, and everybody who might call it."""

    node: Node
    app: FastAPI
    idp: IdentityProvider
    members: dict[ParticipantKind, tuple[Identity, str]]
    keys: dict[str, str]
    addresses: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def token(self, kind: ParticipantKind) -> str:
        identity, credential = self.members[kind]
        now = int(time.time())
        return issue_token(identity, audience=self.node.did, now=now, membership=credential)

    async def call(self, method: str, path: str, authorization: str | None) -> int:
        """The status of one request without a body, each from an address of its own."""
        headers = [(b"host", b"127.0.0.1:3"), (b"content-length", b"0")]
        if authorization is not None:
            headers.append((b"authorization", authorization.encode("latin-1")))
        number = next(self.addresses)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1),
            "server": ("127.0.0.1", 3),
        }
        statuses: list[int] = []
        body = iter([{"type": "http.request", "body": b""}])

        async def receive() -> Any:
            return next(body, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await self.app(scope, receive, send)
        return statuses[0]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    values = {"name": "o", "kind": "operator", "founder": True, "chain": NOBODY, "url": URL}
    node = Node(create_home(tmp_path_factory.mktemp("house"), values))
    with node.store.transaction() as tx:
        write_space(tx, Space(node.did, NOBODY, "0x0", 1))
    now = int(time.time())
    rows: list[ParticipantRow] = []
    members, resolver = {}, KnownKeys({node.identity.kid: node.identity.key})
    for kind in (ParticipantKind.ENTERPRISE, ParticipantKind.REGULATOR):
        one = Identity.of(f"did:web:{kind}.example", Ed25519PrivateKey.generate())
        resolver.known[one.kid] = one.key
        credential = issue_credential(node.identity, subject=one.did, kind=kind, name="m", now=now)
        members[kind] = one, credential
        rows.append(
            ParticipantRow(did=one.did, kind=kind, name="m", credential=credential, joined_at=now)
        )
    as_member = issue_credential(
        node.identity, subject=node.did, kind=ParticipantKind.OPERATOR, name="o", now=now
    )
    members[ParticipantKind.OPERATOR] = node.identity, as_member
    rows.append(
        ParticipantRow(did=node.did, kind="operator", name="o", credential=as_member, joined_at=now)
    )
    with node.store.transaction() as tx:
        tx.add_all(rows)
    node.peers.resolver = resolver  # type: ignore[assignment]
    idp = IdentityProvider()
    trust = Trust(ISSUER, AUDIENCE, "roles", {"city-stewards": Role.STEWARD})
    node.access._provider = Provider(trust, idp.client(), local=True)
    # No two failures within a minute: what is looked at here is not how often one may fail.
    node.access.attempts.clock = itertools.count(0.0, 61.0).__next__
    keys = {role.value: add_key(node, role)[1] for role in Role}
    for name in ("expired", "revoked"):
        row, keys[name] = add_key(node, Role.OWNER)
        if name == "revoked":
            node.access.keys.revoke(row.id, by=HOME)
            continue
        with node.store.transaction() as tx:
            tx.get_one(AccessKeyRow, row.id).expires_at = time.time() - 1
    app = create_app(node)
    app.state.door.attempts.clock = node.access.attempts.clock
    # Thousands of refusals are logged, as they should be, and nobody reads them here.
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet)
    yield House(node, app, idp, members, keys)
    structlog.reset_defaults()
    node.store.close()


def add_key(node: Node, role: Role) -> tuple[AccessKeyRow, str]:
    return node.access.keys.add(name="k", person=f"the {role}", role=role, days=None, by=HOME)


def roles_of(house: House) -> dict[str, tuple[str, frozenset[Role]]]:
    """Everybody at the owner's side, with the roles they have."""
    found = {f"{role} by key": (house.keys[role], frozenset({role})) for role in Role}
    found["owner by the home's key"] = house.node.api_key, frozenset({Role.OWNER})
    found["steward by identity provider"] = house.idp.token(), frozenset({Role.STEWARD})
    found["nobody in particular"] = house.idp.token(roles=["cooks"]), frozenset()
    return found


def strangers_of(house: House) -> dict[str, str | None]:
    """Authorization headers that prove nothing to anybody."""
    wrong = house.keys[Role.OWNER]
    wrong = f"{wrong[:-1]}{'A' if wrong[-1] != 'A' else 'B'}"
    return {
        "no token": None,
        "an empty one": "",
        "no scheme": house.node.api_key,
        "another scheme": f"Basic {house.node.api_key}",
        "no key": "Bearer ",
        "a malformed key": "Bearer \xff\x00,;",
        "a wrong key": f"Bearer {wrong}",
        "an expired key": f"Bearer {house.keys['expired']}",
        "a revoked key": f"Bearer {house.keys['revoked']}",
        "a token for another audience": f"Bearer {house.idp.token(aud='https://other.example')}",
        "an access code": f"Bearer {'7' * 32}",
    }


@dataclass(frozen=True)
class Operation:
    method: str
    template: str
    caller: Caller
    permission: Permission | None

    @property
    def path(self) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] in ("index", "sequence", "number", "attempt"):
                return NUMBER
            return DIGEST if match[1] == "sha256" else "nobodys"

        return re.sub(r"{(\w+)}", value, self.template)

    @property
    def hides(self) -> bool:
        """Whether it says to whoever may not see it that there is nothing."""
        rest = self.template.removeprefix("/dsp/2025-1/")
        process = rest != self.template and rest.startswith(("negotiations", "transfers"))
        return process or self.caller in (Caller.TRANSFER, Caller.REPLICA)


def operations(app: FastAPI) -> list[Operation]:
    """Everything in the OpenAPI document, and the pages that are for browsers."""
    found = [
        Operation(
            method.upper(),
            path,
            Caller(one["x-callers"][0]),
            Permission(one["x-permission"]) if "x-permission" in one else None,
        )
        for path, methods in app.openapi()["paths"].items()
        for method, one in methods.items()
    ]
    documented = {(one.method, one.template) for one in found}
    for (method, path), said in declarations(app).items():
        if (method, path) not in documented:
            found.append(Operation(method, path, said.caller, said.permission))
    return found


@dataclass(frozen=True)
class Question:
    """Who asks, with what, and the statuses that may follow; None: they are let in."""

    who: str
    authorization: str | None
    expected: frozenset[int] | None

    def is_answered_by(self, status: int) -> bool:
        if self.expected is not None:
            return status in self.expected
        # Let in: it may find nothing there, or miss a body, but not ask who is calling.
        return status not in (401, 403, 405, 429) and (status < 500 or status == 503)


def refusals_of(one: Operation) -> frozenset[int]:
    """How an operation answers whoever proves nothing to it."""
    if one.hides:
        return frozenset({404})
    if one.template == "/me" or one.template.startswith("/me/"):
        return frozenset({REFUSED_SESSION})
    # The claims protocol tells a token that says too little from one that says nothing.
    return frozenset({401, 403} if one.template.startswith("/claims/") else {401})


def strangers(house: House, one: Operation) -> list[Question]:
    expected = None if one.caller is Caller.ANYBODY else refusals_of(one)
    return [Question(who, given, expected) for who, given in strangers_of(house).items()]


def own_people(house: House, one: Operation) -> list[Question]:
    asked = []
    for who, (key, roles) in roles_of(house).items():
        may_pass = one.permission is not None and may(roles, one.permission)
        refused = frozenset({403}) if one.caller is Caller.OWNER_SIDE else refusals_of(one)
        let_in = may_pass or one.caller is Caller.ANYBODY
        asked.append(Question(who, f"Bearer {key}", None if let_in else refused))
    return asked


# What members of each kind may call; others of them are known, and may not.
FOR_KINDS = {
    Caller.REGULATOR: {ParticipantKind.REGULATOR},
    Caller.OPERATOR: {ParticipantKind.OPERATOR},
    Caller.MEMBER: set(ParticipantKind),
    Caller.DID: set(ParticipantKind),
    Caller.ANYBODY: set(ParticipantKind),
}


def members(house: House, one: Operation) -> list[Question]:
    asked = []
    for kind in house.members:
        if one.caller is Caller.DID and one.template.startswith("/claims/"):
            # These want tokens of the claims protocol, which its own tests have.
            continue
        refused = frozenset({403}) if one.caller in FOR_KINDS else refusals_of(one)
        let_in = kind in FOR_KINDS.get(one.caller, set())
        # A token is good for one request, so it is made when it is used.
        asked.append(
            Question(f"member {kind}", f"Bearer {house.token(kind)}", None if let_in else refused)
        )
    return asked


def answers_otherwise(house: House, questions: list[tuple[Operation, Question]]) -> str:
    """What is answered otherwise than declared, a line each."""

    async def look() -> list[str]:
        wrong = []
        for one, question in questions:
            status = await house.call(one.method, one.path, question.authorization)
            if not question.is_answered_by(status):
                wanted = "in" if question.expected is None else sorted(question.expected)
                wrong.append(f"{one.method} {one.template}: {question.who}: {status}, not {wanted}")
        return wrong

    return "\n".join(asyncio.run(look()))


def test_every_address_knows_its_own_people_by_their_roles_and_nobody_else(house: House) -> None:
    """Every operation with every role and without a token. Wrong tokens and members take turns
    here, because the same code refuses them wherever they come; all of them are tried below."""
    questions = []
    for number, one in enumerate(operations(house.app)):
        nobody, *wrong = strangers(house, one)
        by_key = own_people(house, one)
        foreign = members(house, one)
        chosen = [nobody, wrong[number % len(wrong)], *by_key[: len(Role)]]
        chosen += [by_key[len(Role) + number % (len(by_key) - len(Role))]]
        chosen += [foreign[number % len(foreign)]] if foreign else []
        questions += [(one, each) for each in chosen]
    assert answers_otherwise(house, questions) == ""


@pytest.mark.slow
def test_every_address_lets_in_exactly_those_whom_it_declares(house: House) -> None:
    """Every operation times everybody."""
    questions = [
        (one, each)
        for one in operations(house.app)
        for ask in (strangers, own_people)
        for each in ask(house, one)
    ]
    assert answers_otherwise(house, questions) == ""
    for one in operations(house.app):
        assert answers_otherwise(house, [(one, each) for each in members(house, one)]) == ""


@pytest.mark.parametrize(
    "methods",
    [("DELETE",), pytest.param(METHODS, marks=pytest.mark.slow)],
    ids=["delete", "all"],
)
def test_what_is_not_declared_is_not_there(house: House, methods: tuple[str, ...]) -> None:
    """Another method at an address is 405, unless a wider address has it, which then asks who is
    calling; none of them is let in without a key."""
    known = operations(house.app)
    wider = [(one.method, re.compile(re.sub(r"{\w+}", ".+", one.template))) for one in known]

    async def look() -> list[str]:
        wrong = []
        for template in sorted({one.template for one in known}):
            one = next(each for each in known if each.template == template)
            for method in methods:
                if any(m == method and form.fullmatch(one.path) for m, form in wider):
                    continue
                status = await house.call(method, one.path, f"Bearer {house.node.api_key}")
                if status != 405:
                    wrong.append(f"{method} {template}: {status}")
        return wrong

    assert "\n".join(asyncio.run(look())) == ""


def test_an_address_that_declares_nothing_keeps_a_node_from_starting(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = APIRouter()

    @router.get("/api/forgotten")
    def forgotten() -> str:
        return "anybody may read this"

    monkeypatch.setattr(web_app, "ROUTERS", (*web_app.ROUTERS, router))
    with pytest.raises(Undeclared, match="GET /api/forgotten declares 0 callers"):
        create_app(house.node)


def test_the_document_says_of_every_operation_whom_it_is_for_and_how_it_refuses(
    house: House,
) -> None:
    document: Mapping[str, Any] = house.app.openapi()
    schemes = document["components"]["securitySchemes"]
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            (caller,) = one["x-callers"]
            # Replicas know one another by a tag in a header of their own.
            unproved = caller in (Caller.ANYBODY, Caller.REPLICA)
            assert (one["security"] == []) == unproved, (method, path)
            assert all(name in schemes for each in one["security"] for name in each)
            assert ("x-permission" in one) == (caller == Caller.OWNER_SIDE), (method, path)
            if not unproved and not path.startswith("/dsp/"):
                assert {"401", "403"} <= one["responses"].keys(), (method, path)


def test_every_permission_has_one_rule_an_owner_and_an_address_or_a_reason(house: House) -> None:
    assert set(RULES) == set(Permission)
    assert all(Role.OWNER in rule.roles for rule in RULES.values())
    assert not any(
        Role.AUDITOR in rule.roles for rule in RULES.values() if rule.nature.value != "read"
    ), "an auditor changes nothing"
    used = {one.permission for one in operations(house.app)}
    assert set(Permission) - used == set(), "a permission that opens nothing"
