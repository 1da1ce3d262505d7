"""The connector under test: an ordinary node with a scripted strategy, for the conformance kit.

    python -m tests.conformance.connector HOME PORT

The kit has one peer with a fixed token, starts our side of a case through two addresses of its own,
and does not sign or verify tokens; so the node is given peers of this kind, and nothing else of it
is changed.
"""

from __future__ import annotations

import hmac
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx2
import uvicorn
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field

from contracts.odrl import agreement_from
from contracts.party import Party
from dataspace.answer import Answer
from dataspace.canonical import canonical_hash
from dataspace.errors import Unauthenticated, Unavailable
from dataspace.home import Home, create_home
from dataspace.identity.did import NO_SECOND_KEYS, SecondKeys
from dataspace.identity.tokens import Member
from dataspace.node import Node
from dataspace.peers import Peers, Visitor
from dataspace.protocol import Behaviour
from dataspace.settings import ParticipantKind
from dataspace.store.tables import AgreementRow, DatasetRow
from dataspace.web.app import create_app
from tests.conformance.cases import ABSENT, FORMAT, subjects
from tests.conformance.script import NegotiationScript, TransferScript, offer_of

# What the kit calls itself; the settings give it the token.
KIT: Final = "TCK_PARTICIPANT"
TOKEN: Final = "kit-token"
# Where the kit starts our side of a case.
SIGNALS: Final = "/signals"
# The kit makes ready for our next message only after it has seen what our last one led to.
PAUSE_S: Final = 0.5
# All the agreements are about one dataset.
AGREED_DATASET: Final = "ATP0101"


class KitPeers(Peers):
    """The kit as the only peer: known by a fixed token, reached where it says it is."""

    def recognise(self, authorization: str | None) -> Visitor:
        if not hmac.compare_digest(authorization or "", f"Bearer {TOKEN}"):
            raise Unauthenticated("this is not the kit's token")
        member = Member(did=KIT, kind=ParticipantKind.ENTERPRISE, name="conformance kit")
        return Visitor(member, None)

    def second_keys_of(self, did: str) -> SecondKeys:
        # It serves no DID document, and so lists none.
        return NO_SECOND_KEYS

    def url_of(self, did: str) -> str:
        # The kit says in every case where it is, so that this address is never called.
        return "http://kit.invalid"

    def callback_of(self, did: str, address: str) -> str:
        return address.rstrip("/")

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
        """As a node's own, but without a token: there is no membership to show, and nobody asks."""
        sent = {"content-type": "application/json", **(headers or {})}
        try:
            answer = self._client.request(
                method, url, content=body, headers=sent, timeout=timeout_s
            )
        except httpx2.HTTPError as err:
            raise Unavailable("the kit cannot be reached") from err
        if answer.status_code >= 500:
            raise Unavailable(f"the kit answered {answer.status_code}")
        return Answer(answer.status_code, dict(answer.headers), answer.content)


class NegotiationSignal(BaseModel):
    """The kit wants our node to ask it for an agreement."""

    provider: str = Field(alias="providerId")
    offer: str = Field(alias="offerId")
    dataset: str = Field(alias="datasetId")
    address: str = Field(alias="connectorAddress")


class TransferSignal(BaseModel):
    """The kit wants our node to ask it for a transfer."""

    provider: str = Field(alias="providerId")
    agreement: str = Field(alias="agreementId")
    format: str
    address: str = Field(alias="connectorAddress")


def add_signals(app: FastAPI, node: Node) -> None:
    """The two addresses at which the kit starts our side of a case."""
    router = APIRouter(prefix=SIGNALS)

    @router.post("/negotiations", status_code=204)
    def negotiate(signal: NegotiationSignal) -> None:
        offer = offer_of(signal.dataset).for_message(signal.dataset)
        offer = offer.model_copy(update={"id": signal.offer})
        node.negotiations.begin(signal.provider, signal.address.rstrip("/"), offer)

    @router.post("/transfers", status_code=204)
    def transfer(signal: TransferSignal) -> None:
        with node.store.transaction() as tx:
            agreement = tx.get_one(AgreementRow, signal.agreement)
            callback = signal.address.rstrip("/")
            node.transfers.begin(tx, agreement, signal.format, callback=callback)

    app.include_router(router)


def seed(node: Node, data: Path) -> None:
    """The datasets and agreements that the kit's configuration names."""
    data.write_text("name\nann\n", encoding="utf-8")
    catalogue = [one for one in subjects("CAT") if one != ABSENT]
    with node.store.transaction() as tx:
        for dataset in (*catalogue, *subjects("CN"), AGREED_DATASET):
            tx.add(
                DatasetRow(
                    id=dataset,
                    title=dataset,
                    source=str(data),
                    columns=[],
                    grade="general",
                    offer=offer_of(dataset).to_json(),
                    formats=[FORMAT],
                    classification="confirmed",
                    content_version="1",
                    created_at=time.time(),
                )
            )
        for agreement in subjects("TP"):
            tx.add(_agreement(agreement, Party.PROVIDER, provider=node.did, consumer=KIT))
        for agreement in subjects("TP_C"):
            tx.add(_agreement(agreement, Party.CONSUMER, provider=KIT, consumer=node.did))


def _agreement(name: str, role: Party, *, provider: str, consumer: str) -> AgreementRow:
    document = agreement_from(
        offer_of(AGREED_DATASET),
        agreement_id=name,
        target=AGREED_DATASET,
        assigner=provider,
        assignee=consumer,
        timestamp="2026-01-01T00:00:00Z",
    )
    return AgreementRow(
        id=name,
        role=role.value,
        provider=provider,
        consumer=consumer,
        dataset=AGREED_DATASET,
        document=document.to_json(),
        document_h=canonical_hash(document.to_json()),
        negotiation="seeded",
        finalized_at=time.time(),
    )


def main(home: Path, port: int) -> None:
    """Make the node's home, seed it, and serve until ended."""
    values = {
        "name": "connector under test",
        "kind": "enterprise",
        "url": f"http://127.0.0.1:{port}",
        "port": port,
        "operator": "http://127.0.0.1:1",
    }
    create_home(home, values)
    behaviour = Behaviour(NegotiationScript(), TransferScript(), pause_s=PAUSE_S)
    node = Node(Home(home), behaviour=behaviour, peers=KitPeers)
    seed(node, home / "rows.csv")
    app = create_app(node)
    add_signals(app, node)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
