"""One node in this process for tests that send it thousands of messages: its real routes and
database, one known peer, and no engine, so that nothing happens but what a message does."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from fastapi.testclient import TestClient
from sqlmodel import SQLModel, select

from contracts import messages as dsp
from contracts.odrl import Offer, agreement_from
from contracts.transfer_strategy import PULL
from dataspace.canonical import canonical_hash
from dataspace.errors import Unauthenticated
from dataspace.home import Home, create_home
from dataspace.identity.did import NO_SECOND_KEYS, SecondKeys
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.peers import Peers, Visitor
from dataspace.processes import Process
from dataspace.protocol import Behaviour
from dataspace.protocol.transfer_moves import STEP
from dataspace.settings import ParticipantKind
from dataspace.store.tables import (
    AgreementRow,
    DatasetRow,
    NegotiationRow,
    ProcessRow,
    TransferRow,
)
from dataspace.web.app import create_app

PEER, PEER_URL = "did:web:127.0.0.1%3A9", "http://127.0.0.1:9"
TOKEN = "Bearer known"
DATASET = "rows"
# One in which the node is the provider, and one in which it is the consumer.
AGREEMENT, HELD = "urn:uuid:agreed", "urn:uuid:held"
# Its clauses permit every use of the tests, so that what they are changed to is what is looked at.
OFFER = Offer.model_validate(
    {
        "@id": "offer:rows",
        "permission": [
            {
                "action": "use",
                "constraint": [
                    {
                        "leftOperand": "dateTime",
                        "operator": "lt",
                        "rightOperand": "9999-01-01T00:00Z",
                    },
                    {
                        "or": [
                            {"leftOperand": "count", "operator": "lteq", "rightOperand": "1000000"},
                            {
                                "leftOperand": "ds:recipientRole",
                                "operator": "isAnyOf",
                                "rightOperand": ["consumer", "enterprise"],
                            },
                        ]
                    },
                ],
            }
        ],
    }
)
# What is noted of a message whether or not it does anything.
NOTED = frozenset({"received", "replay"})


class OnePeer(Peers):
    """The peer is known by a fixed token."""

    def recognise(self, authorization: str | None) -> Visitor:
        if authorization != TOKEN:
            raise Unauthenticated("this is not the peer's token")
        return Visitor(Member(did=PEER, kind=ParticipantKind.ENTERPRISE, name="peer"), None)

    def second_keys_of(self, did: str) -> SecondKeys:
        return NO_SECOND_KEYS


@dataclass
class OneNode:
    """The node, and the way to talk to it as its peer."""

    node: Node
    http: TestClient
    database: sqlite3.Connection

    def post(
        self, path: str, body: bytes | dict[str, Any], *, message_id: str | None = None
    ) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"authorization": TOKEN, "content-type": "application/json"}
        if message_id is not None:
            headers["message-id"] = message_id
        return self.http.post(f"/dsp/2025-1{path}", content=content, headers=headers)

    def take_steps(self) -> None:
        """Make the moves the node has planned: it looks at a source outside of the transaction in
        which a message comes, and no engine runs here that would."""
        with self.node.store.transaction() as tx:
            planned = tx.exec(select(ProcessRow).where(ProcessRow.kind == STEP)).all()
            for row in planned:
                tx.delete(row)
        for row in planned:
            process = Process(row.id, row.kind, row.subject, dict(row.payload), 1, row.created_at)
            self.node.transfers.handlers()[STEP].handle(process)

    def snapshot(self) -> dict[str, list[Any]]:
        """Every row of every table, but for the note that a message came."""
        return {
            table: self.database.execute(f"SELECT * FROM {table}").fetchall()
            for table in SQLModel.metadata.tables
            if table not in NOTED
        }

    def told(self) -> list[bytes]:
        """The messages this node has ready for its peer."""
        found = self.database.execute("SELECT payload FROM process WHERE kind = 'deliver'")
        return [json.loads(payload)["body"].encode() for (payload,) in found]

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
            agreement=AGREEMENT if role == "PROVIDER" else HELD,
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

    def clear(self) -> None:
        """Forget every process and what is left to do, but for the agreements of the beginning."""
        with self.node.store.transaction() as tx:
            for table in (NegotiationRow, TransferRow, ProcessRow):
                for old in tx.exec(select(table)).all():
                    tx.delete(old)
            for agreement in tx.exec(select(AgreementRow)).all():
                if agreement.id not in (AGREEMENT, HELD):
                    tx.delete(agreement)

    def _put(self, row: NegotiationRow | TransferRow) -> None:
        self.clear()
        with self.node.store.transaction() as tx:
            tx.add(row)


@contextmanager
def one_node(directory: Path, behaviour: Behaviour | None = None) -> Iterator[OneNode]:
    """A node with one dataset, and an agreement about it in each role."""
    values = {"name": "node", "kind": "enterprise", "url": "http://127.0.0.1:8", "port": 8}
    create_home(directory / "home", {**values, "operator": "http://127.0.0.1:7"})
    node = Node(Home(directory / "home"), behaviour=behaviour or Behaviour(), peers=OnePeer)
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
                classification="confirmed",
                content_version="1",
                created_at=time.time(),
            )
        )
        for name, role in ((AGREEMENT, "PROVIDER"), (HELD, "CONSUMER")):
            tx.add(_agreement(name, role, node.did))
    http = TestClient(create_app(node), raise_server_exceptions=False)
    database = sqlite3.connect(
        f"file:{directory / 'home' / 'node.sqlite'}?mode=ro", uri=True, isolation_level=None
    )
    # Not `with http`: the node's engine would begin to deliver. One event loop for all requests
    # all the same, as each would make its own.
    with start_blocking_portal() as portal:
        http.portal = portal
        try:
            yield OneNode(node, http, database)
        finally:
            database.close()
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
