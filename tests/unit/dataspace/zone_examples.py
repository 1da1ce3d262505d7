"""An operator with zones and a member of its space, in one process and without a network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.testclient import TestClient

from dataspace.answer import Answer
from dataspace.errors import Unavailable
from dataspace.evidence import Space, write_space
from dataspace.home import create_home
from dataspace.identity.tokens import Identity, Member
from dataspace.membership import Application
from dataspace.node import Node
from dataspace.peers import Peers, Visitor
from dataspace.settings import ParticipantKind
from dataspace.store.tables import Setting
from dataspace.web.app import create_app
from dataspace.zones.documents import ZoneList, sign_list

OPERATOR_URL, MEMBER_URL = "http://127.0.0.1:3", "http://127.0.0.1:4"
NOBODY = "http://127.0.0.1:9"
OTHER = "did:web:firm.example"


def operators_identity() -> Identity:
    """The operator of a space in which nothing but its key is needed."""
    return Identity.of("did:web:operator.example", Ed25519PrivateKey.generate())


def zone_list(operator: Identity, zone: str, *members: str, **changes: Any) -> str:
    """A signed list that counts for five minutes from now."""
    now = int(time.time())
    fields = {"iss": operator.did, "iat": now, "exp": now + 300, "serial": 1, **changes}
    return sign_list(ZoneList(zone=zone, members=members, **fields), operator)


def make_known(node: Node, operator: Identity) -> None:
    """Let `node` be of the space of `operator`, whose key it has looked up before."""
    with node.store.transaction() as tx:
        write_space(tx, Space(operator.did, NOBODY, "0x0", 1))
    node.peers.resolver = OneKey(operator)  # type: ignore[assignment]


class OneKey:
    """A resolver that knows one participant's key."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def key(self, kid: str) -> Any:
        if kid != self._identity.kid:
            raise LookupError(kid)
        return self._identity.key


class AtHand(Peers):
    """Peers whose token is their DID; the operator's application is at hand unless it is away."""

    operators: ClassVar[dict[str, TestClient]] = {}
    away: ClassVar[bool] = False

    def recognise(self, authorization: str | None) -> Visitor:
        did = (authorization or "").removeprefix("Bearer ")
        return Visitor(Member(did=did, kind=ParticipantKind.ENTERPRISE, name="peer"), None)

    def send(
        self,
        method: str,
        url: str,
        *,
        to: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 20.0,
    ) -> Answer:
        if self.away:
            raise Unavailable(f"{to} cannot be reached")
        sent = {"authorization": f"Bearer {self._identity.did}", "content-type": "application/json"}
        answer = self.operators[to].request(method, url, content=body, headers=sent)
        return Answer(answer.status_code, dict(answer.headers), answer.content)


@dataclass
class Town:
    operator: Node
    member: Node

    @property
    def registry(self) -> Any:
        assert self.operator.operator is not None
        return self.operator.operator.zones

    def join(self, did: str, url: str | None = None) -> None:
        """Let a participant into the space."""
        operator, kind = self.operator.operator, ParticipantKind.ENTERPRISE
        assert operator is not None
        origin = f"{url.removeprefix('http://')}/tlog" if url else None
        code = operator.invite(kind)
        asked = Application(name="m", kind=kind, invitation=code, url=url, log_origin=origin)
        operator.admit(did, asked)


@contextmanager
def town_in(directory: Path) -> Iterator[Town]:
    """An operator and one member, both with their stores and without engines."""
    shared = {"founder": True, "chain": NOBODY, "kind": "operator", "url": OPERATOR_URL}
    operator = Node(create_home(directory / "operator", {"name": "o", **shared}), peers=AtHand)
    values = {"name": "m", "kind": "enterprise", "url": MEMBER_URL, "operator": OPERATOR_URL}
    member = Node(create_home(directory / "member", values), peers=AtHand)
    space = Space(operator.did, NOBODY, "0x0", 1)
    for node in (operator, member):
        with node.store.transaction() as tx:
            write_space(tx, space)
            tx.merge(Setting(name="membership", value="credential"))
    make_known(member, operator.identity)
    town = Town(operator, member)
    town.join(member.did, MEMBER_URL)
    town.join(OTHER)
    AtHand.away = False
    AtHand.operators[operator.did] = TestClient(create_app(operator))
    try:
        yield town
    finally:
        for node in (operator, member):
            node.store.close()
