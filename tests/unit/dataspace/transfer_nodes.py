"""Two nodes in one process for the tests of transfers: real stores, engines and routes; what would
go over the network goes straight to the other's application."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fastapi.testclient import TestClient

from contracts.odrl import Offer, agreement_from
from contracts.transfer_strategy import (
    PULL,
    PUSH,
    TransferAction,
    TransferSituation,
    TransferStrategy,
    TransferVerb,
    default_transfer,
)
from dataspace.answer import Answer
from dataspace.canonical import canonical_hash
from dataspace.errors import Unavailable
from dataspace.home import create_home
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.peers import Peers, Visitor
from dataspace.protocol import Behaviour
from dataspace.settings import ParticipantKind
from dataspace.store.tables import AgreementRow, DatasetRow, TransferRow
from dataspace.web.app import create_app

SOON_S = 20.0
AGREEMENT, DATASET = "urn:uuid:agreement", "rows"
# Nobody listens there; the names only tell the nodes apart.
PROVIDER_URL, CONSUMER_URL = "http://127.0.0.1:1", "http://127.0.0.1:2"
NAME = {"name": "name", "role": "identifier", "canonicaliser": "text/1", "scale": 0, "values": []}


class Neighbours(Peers):
    """Peers whose token is their DID, and whose applications are at hand."""

    applications: ClassVar[dict[str, TestClient]] = {}

    def recognise(self, authorization: str | None) -> Visitor:
        did = (authorization or "").removeprefix("Bearer ")
        return Visitor(Member(did=did, kind=ParticipantKind.CONSUMER, name="neighbour"), None)

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
        token = {"authorization": f"Bearer {self._identity.did}"}
        answer = self.applications[to].request(
            method, url, content=body, headers={**token, **(headers or {})}
        )
        if answer.status_code >= 500:
            raise Unavailable(f"{to} answered {answer.status_code}")
        return Answer(answer.status_code, dict(answer.headers), answer.content)


class Script:
    """A strategy that plays the n-th move written for a state, and notes every state it saw."""

    def __init__(self, **moves: list[TransferVerb]) -> None:
        self._moves = moves
        self._lock = threading.Lock()
        self.seen: list[str] = []

    def __call__(self, situation: TransferSituation) -> TransferAction:
        with self._lock:
            turn = self.seen.count(situation.state)
            self.seen.append(str(situation.state))
        moves = self._moves.get(situation.state, [])
        return TransferAction(moves[turn] if turn < len(moves) else TransferVerb.NOTHING)


@dataclass
class Pair:
    provider: Node
    consumer: Node

    def begin(self, format_: str = PULL, purpose: str | None = None) -> str:
        with self.consumer.store.transaction() as tx:
            agreement = tx.get_one(AgreementRow, AGREEMENT)
            return self.consumer.transfers.begin(tx, agreement, format_, purpose=purpose)

    def consumers(self, pid: str) -> TransferRow:
        with self.consumer.store.transaction() as tx:
            return tx.get_one(TransferRow, pid)

    def providers(self) -> TransferRow:
        """The provider's only transfer."""
        (row,) = self.provider.transfers.newest()
        return row

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until it holds; the engines work meanwhile."""
        deadline = time.monotonic() + SOON_S
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.005)

    def wait_for(self, pid: str, state: str) -> None:
        """Until both sides are in `state`."""

        def there() -> bool:
            known = [row.state for row in self.provider.transfers.newest()]
            return [self.consumers(pid).state, *known] == [state, state]

        self.wait(there)


def make_node(
    directory: Path,
    url: str,
    *,
    transfer: TransferStrategy = default_transfer,
    pause_s: float = 0.0,
) -> Node:
    """A node that is not started, without a space and without a server."""
    values = {"name": "n", "kind": "enterprise", "url": url, "operator": "http://127.0.0.1:9"}
    home = create_home(directory / url.rpartition(":")[2], values)
    return Node(home, behaviour=Behaviour(transfer=transfer, pause_s=pause_s), peers=Neighbours)


def publish(
    node: Node,
    source: str,
    *clauses: dict[str, Any],
    consumer: str,
    columns: list[dict[str, Any]] | None = None,
) -> AgreementRow:
    """A dataset of `node` and an agreement of `consumer` about it, as if they had been made."""
    policy = {
        "@id": "offer:rows",
        "permission": [{"action": "use", **({"constraint": list(clauses)} if clauses else {})}],
    }
    offer = Offer.model_validate(policy)
    with node.store.transaction() as tx:
        tx.add(
            DatasetRow(
                id=DATASET,
                title="Rows",
                source=source,
                columns=columns or [NAME],
                grade="general",
                offer=offer.to_json(),
                formats=[PULL, PUSH],
                classification="confirmed",
                content_version="1",
                created_at=1.0,
            )
        )
        agreement = agreement_row(offer, node.did, consumer, "PROVIDER")
        tx.add(agreement)
        return agreement


def agreement_row(offer: Offer, provider: str, consumer: str, role: str) -> AgreementRow:
    document = agreement_from(
        offer,
        agreement_id=AGREEMENT,
        target=DATASET,
        assigner=provider,
        assignee=consumer,
        timestamp="2026-11-25T00:00:00Z",
    ).to_json()
    return AgreementRow(
        id=AGREEMENT,
        role=role,
        provider=provider,
        consumer=consumer,
        dataset=DATASET,
        document=document,
        document_h=canonical_hash(document),
        negotiation="urn:uuid:negotiation",
        finalized_at=1.0,
    )


@contextmanager
def pair_of(
    directory: Path,
    *clauses: dict[str, Any],
    provider: TransferStrategy = default_transfer,
    consumer: TransferStrategy = default_transfer,
    pause_s: float = 0.0,
) -> Iterator[Pair]:
    """A provider of two rows and a consumer with an agreement about them, both at work."""
    source = directory / "rows.csv"
    source.write_text("name,secret\nann,1\nbob,2\n", encoding="utf-8")
    giving = make_node(directory, PROVIDER_URL, transfer=provider, pause_s=pause_s)
    taking = make_node(directory, CONSUMER_URL, transfer=consumer, pause_s=pause_s)
    theirs = publish(giving, str(source), *clauses, consumer=taking.did)
    with taking.store.transaction() as tx:
        held = theirs.model_dump(exclude={"role"})
        tx.add(AgreementRow(**held, role="CONSUMER"))
    for node, other in ((giving, taking), (taking, giving)):
        client = TestClient(create_app(other), raise_server_exceptions=False)
        Neighbours.applications[other.did] = client
        node.http = client
        node.engine.start()
    try:
        yield Pair(giving, taking)
    finally:
        for node in (giving, taking):
            node.engine.stop()
            node.store.close()
