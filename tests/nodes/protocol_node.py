"""One node in this process for tests that send it thousands of messages: its real routes and
database, one known peer, and no engine, so that nothing happens but what a message does."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlmodel import select

from contracts import messages as dsp
from contracts.odrl import Offer, agreement_from
from contracts.transfer_strategy import PULL
from dataspace.canonical import canonical_hash
from dataspace.errors import Unauthenticated
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.peers import Peers, Visitor
from dataspace.settings import Home, ParticipantKind, create_home
from dataspace.store.tables import (
    AgreementRow,
    DatasetRow,
    EntryRow,
    NegotiationRow,
    ProcessRow,
    TransferRow,
)
from dataspace.web.app import create_app

PEER, PEER_URL = "did:web:127.0.0.1%3A9", "http://127.0.0.1:9"
TOKEN = "Bearer known"
DATASET, AGREEMENT = "rows", "urn:uuid:agreed"
OFFER = Offer.model_validate({"@id": "offer:rows", "permission": [{"action": "use"}]})


class OnePeer(Peers):
    """The peer is known by a fixed token."""

    def recognise(self, authorization: str | None) -> Visitor:
        if authorization != TOKEN:
            raise Unauthenticated("this is not the peer's token")
        return Visitor(Member(did=PEER, kind=ParticipantKind.CONSUMER, name="peer"), None)


@dataclass
class OneNode:
    """The node, and the way to talk to it as its peer."""

    node: Node
    http: TestClient

    def post(self, path: str, body: bytes | dict[str, Any]) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"authorization": TOKEN, "content-type": "application/json"}
        return self.http.post(f"/dsp/2025-1{path}", content=content, headers=headers)

    def snapshot(self) -> list[Any]:
        """Everything a message could change, but for the note that it came."""
        with self.node.store.transaction() as tx:
            rows = [
                row.model_dump()
                for table in (NegotiationRow, TransferRow, AgreementRow, ProcessRow)
                for row in tx.exec(select(table)).all()
            ]
            return [*rows, len(tx.exec(select(EntryRow.position)).all())]

    def put_negotiation(self, role: str, state: str) -> str:
        """A negotiation that stands in `state`, in place of the last one."""
        agreed = agreement_from(
            OFFER,
            agreement_id="urn:uuid:new",
            target=DATASET,
            assigner=self.node.did if role == "PROVIDER" else PEER,
            assignee=PEER if role == "PROVIDER" else self.node.did,
            timestamp="2026-11-25T00:00:00Z",
        )
        offered = OFFER.for_message(DATASET)
        now = time.time()
        row = NegotiationRow(
            pid="urn:uuid:ours",
            role=role,
            peer=PEER,
            peer_pid="urn:uuid:theirs",
            callback=PEER_URL,
            dataset=DATASET,
            state=state,
            offer=offered.to_json(),
            agreement=(agreed if state in ("AGREED", "VERIFIED") else offered).to_json(),
            rounds=1,
            deadline_at=now + 900,
            created_at=now,
            updated_at=now,
        )
        self._put(row)
        return row.pid

    def put_transfer(self, role: str, state: str) -> str:
        """A transfer that stands in `state`, in place of the last one."""
        now = time.time()
        row = TransferRow(
            pid="urn:uuid:ours",
            role=role,
            peer=PEER,
            peer_pid="urn:uuid:theirs",
            callback=PEER_URL,
            agreement=AGREEMENT if role == "PROVIDER" else "urn:uuid:held",
            format=PULL,
            state=state,
            computation="",
            order_jws="",
            order_h="",
            created_at=now,
            updated_at=now,
        )
        self._put(row)
        return row.pid

    def _put(self, row: NegotiationRow | TransferRow) -> None:
        with self.node.store.transaction() as tx:
            for table in (NegotiationRow, TransferRow, ProcessRow):
                for old in tx.exec(select(table)).all():
                    tx.delete(old)
            for agreement in tx.exec(select(AgreementRow)).all():
                if agreement.id == "urn:uuid:new":
                    tx.delete(agreement)
            tx.flush()
            tx.add(row)


@contextmanager
def one_node(directory: Path) -> Iterator[OneNode]:
    """A node with one dataset, and an agreement about it in each role."""
    values = {"name": "node", "kind": "enterprise", "url": "http://127.0.0.1:8", "port": 8}
    create_home(directory / "home", {**values, "operator": "http://127.0.0.1:7"})
    node = Node(Home(directory / "home"), peers=OnePeer)
    rows = directory / "rows.csv"
    rows.write_text("name\nann\n", encoding="utf-8")
    with node.store.transaction() as tx:
        tx.add(
            DatasetRow(
                id=DATASET,
                title="Rows",
                source=str(rows),
                columns=[],
                grade="general",
                offer=OFFER.to_json(),
                formats=[PULL],
                content_version="1",
                created_at=time.time(),
            )
        )
        for name, role in ((AGREEMENT, "PROVIDER"), ("urn:uuid:held", "CONSUMER")):
            tx.add(_agreement(name, role, node.did))
    # Not as a context manager: the node's engine would begin to deliver.
    try:
        yield OneNode(node, TestClient(create_app(node), raise_server_exceptions=False))
    finally:
        node.stop()


def _agreement(name: str, role: str, did: str) -> AgreementRow:
    provider, consumer = (did, PEER) if role == "PROVIDER" else (PEER, did)
    document = agreement_from(
        OFFER,
        agreement_id=name,
        target=DATASET,
        assigner=provider,
        assignee=consumer,
        timestamp="2026-11-25T00:00:00Z",
    )
    return AgreementRow(
        id=name,
        role=role,
        provider=provider,
        consumer=consumer,
        dataset=DATASET,
        document=document.to_json(),
        document_h=canonical_hash(document.to_json()),
        negotiation="urn:uuid:before",
        finalized_at=time.time(),
    )


def pids(role: str) -> dict[str, str]:
    """The two names of the process that `put_…` made, as every message has them."""
    ours, theirs = "urn:uuid:ours", "urn:uuid:theirs"
    if role == "PROVIDER":
        return {"provider_pid": ours, "consumer_pid": theirs}
    return {"provider_pid": theirs, "consumer_pid": ours}


def negotiation_messages(role: str, did: str) -> dict[str, dsp.Document]:
    """A valid message of each kind to a negotiation in which the node plays `role`, by its path."""
    names = pids(role)
    offer = OFFER.for_message(DATASET)
    agreement = agreement_from(
        OFFER,
        agreement_id="urn:uuid:new",
        target=DATASET,
        assigner=PEER,
        assignee=did,
        timestamp="2026-11-25T00:00:00Z",
    )
    return {
        "request": dsp.ContractRequestMessage(**names, offer=offer),
        "offers": dsp.ContractOfferMessage(**names, offer=offer),
        "agreement": dsp.ContractAgreementMessage(**names, agreement=agreement),
        "agreement/verification": dsp.ContractAgreementVerificationMessage(**names),
        "events": dsp.ContractNegotiationEventMessage(
            **names, event_type="ACCEPTED" if role == "PROVIDER" else "FINALIZED"
        ),
        "termination": dsp.ContractNegotiationTerminationMessage(**names, reason=("enough",)),
    }


def transfer_messages(role: str) -> dict[str, dsp.Document]:
    """A valid message of each kind to a transfer in which the node plays `role`, by its path."""
    names = pids(role)
    address = dsp.DataAddress(endpoint_type="https://w3id.org/idsa/v4.1/HTTP", endpoint=PEER_URL)
    return {
        "start": dsp.TransferStartMessage(**names, data_address=address),
        "suspension": dsp.TransferSuspensionMessage(**names, reason=("wait",)),
        "completion": dsp.TransferCompletionMessage(**names),
        "termination": dsp.TransferTerminationMessage(**names, reason=("enough",)),
    }
