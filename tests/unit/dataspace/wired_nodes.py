"""Real nodes in one process, wired without sockets: their doors, tokens and keys are real."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from fastapi.testclient import TestClient

from dataspace.evidence import Space, write_space
from dataspace.home import create_home
from dataspace.identity.did import Resolver
from dataspace.identity.keys import SigningAlgorithm
from dataspace.identity.tokens import issue_token
from dataspace.membership import apply_for_membership
from dataspace.node import Node
from dataspace.processes import Process
from dataspace.settings import ParticipantKind
from dataspace.store.tables import ParticipantRow, Setting
from dataspace.web.app import create_app

CHAIN = "http://127.0.0.1:9"


class Wire(httpx2.BaseTransport):
    """Hands each request to the node it is for: its DID document to every one that is not away,
    all else to the application of those that have a door."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.doors: dict[str, Any] = {}
        self.away: set[str] = set()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        origin = f"{request.url.scheme}://{request.url.netloc.decode()}"
        if origin in self.away or origin not in self.nodes:
            raise httpx2.ConnectError("nobody is there", request=request)
        if request.url.path == "/.well-known/did.json":
            return httpx2.Response(200, json=self.nodes[origin].document())
        answer: httpx2.Response = self.doors[origin].handle_request(request)
        return answer


@dataclass
class WiredSpace:
    """An operator, and whoever joins."""

    directory: Path
    wire: Wire = field(default_factory=Wire)
    nodes: list[Node] = field(default_factory=list)

    @property
    def operator(self) -> Node:
        return self.nodes[0]

    def add(
        self,
        name: str,
        port: int,
        *,
        kind: str = "enterprise",
        door: bool = False,
        algorithm: SigningAlgorithm = SigningAlgorithm.ED25519,
        **settings: Any,
    ) -> Node:
        values = {"name": name, "kind": kind, "url": f"http://127.0.0.1:{port}", **settings}
        node = Node(create_home(self.directory / name, values, algorithm=algorithm))
        self.open(node, door=door)
        return node

    def open(self, node: Node, *, door: bool = False) -> None:
        """Put a node, or a later life of one, behind its address. A door takes a while to make, so
        only those have one that are asked for more than their document."""
        self.nodes = [one for one in self.nodes if one.did != node.did]
        self.nodes.insert(0 if node.operator is not None else len(self.nodes), node)
        client = httpx2.Client(transport=self.wire)
        node.http = client
        node.peers._client = client
        node.peers.resolver = Resolver(client, local=True)
        origin = node.home.url
        self.wire.nodes[origin] = node
        if door:
            self.wire.doors[origin] = TestClient(create_app(node), base_url=origin)._transport

    @contextmanager
    def away(self, node: Node) -> Iterator[None]:
        """Nobody reaches this node."""
        self.wire.away.add(node.home.url)
        yield
        self.wire.away.remove(node.home.url)

    def join(self, node: Node, kind: ParticipantKind = ParticipantKind.ENTERPRISE) -> None:
        """Join by invitation, as the process that joins does, without a chain."""
        assert self.operator.operator is not None
        code = self.operator.operator.invite(kind)
        application = node.application(invitation=code)
        admission = apply_for_membership(
            node.http, self.operator.home.url, node.identity, application
        )
        with node.store.transaction() as tx:
            tx.merge(Setting(name="membership", value=admission.credential))
            write_space(tx, Space(admission.operator, CHAIN, "0x0", 1))
        node.peers.forget_credential()

    def ask(self, caller: Node, answering: Node, path: str = "/dsp/2025-1/catalog/request") -> Any:
        """A member's request at another's door."""
        url = f"{answering.home.url}{path}"
        return caller.peers.send("POST", url, to=answering.did, body=CATALOGUE_REQUEST)

    def token(self, caller: Node, audience: str) -> str:
        """A token as `caller` would send it now."""
        membership = caller.peers.membership()
        return issue_token(
            caller.identity, audience=audience, now=int(time.time()), membership=membership
        )


CATALOGUE_REQUEST = (
    b'{"@context": ["https://w3id.org/dspace/2025/1/context.jsonld"], '
    b'"@type": "CatalogRequestMessage"}'
)


@contextmanager
def wired_space(
    directory: Path,
    *,
    algorithm: SigningAlgorithm = SigningAlgorithm.ED25519,
    **settings: Any,
) -> Iterator[WiredSpace]:
    """A space whose operator has founded it, without a chain."""
    space = WiredSpace(directory)
    shared = {"founder": True, "chain": CHAIN, **settings}
    operator = space.add("operator", 3, kind="operator", door=True, algorithm=algorithm, **shared)
    assert operator.operator is not None
    with operator.store.transaction() as tx:
        write_space(tx, Space(operator.did, CHAIN, "0x0", 1))
        asked = operator.application(invitation="founder-needs-none")
        operator.operator._add(tx, operator.did, asked)
        credential = tx.get_one(ParticipantRow, operator.did).credential
        tx.merge(Setting(name="membership", value=credential))
    try:
        yield space
    finally:
        for node in space.nodes:
            node.http.close()
            node.store.close()


def process_of(kind: str, subject: str) -> Process:
    """A process as its handler gets it."""
    return Process(id=1, kind=kind, subject=subject, payload={}, attempts=1, created_at=0.0)
