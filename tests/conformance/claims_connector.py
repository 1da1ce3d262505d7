"""The node under test by the claims kit: an ordinary one, with what the kit's cases presuppose.

    python -m tests.conformance.claims_connector HOME PORT SECTION KIT_ADDRESS [--draft]

As verifier and issuer it is the operator of a space of its own, as holder a node that has joined
none. It trusts the kit's issuer, which is a setting; the kit's holder is a member, which is a row;
and the kit triggers a verification at an address of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import uuid
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import APIRouter, FastAPI, Request

from dataspace.claims import MEMBERSHIP
from dataspace.claims.jwts import sign_jwt
from dataspace.claims.messages import RequestStatus
from dataspace.home import Home, create_home
from dataspace.identity.did import did_of_url
from dataspace.identity.keys import SigningAlgorithm
from dataspace.identity.tokens import issue_credential
from dataspace.node import Node
from dataspace.peers import Peers
from dataspace.settings import ParticipantKind
from dataspace.store.tables import AskedCredentialRow, ParticipantRow
from dataspace.web.app import create_app
from tests.conformance.claims_cases import ISSUING, VERIFIER
from tests.conformance.draft import DraftPeers, play_by_the_draft

# The names the kit has for the parts it plays, below its own address.
KIT_HOLDER: Final = "holder"
KIT_ISSUER: Final = "issuer"
CLIENT: Final = "kit"
SECRET: Final = "the-kit's-secret-of-more-than-32-letters"
# Under this name the kit answers a request that our node is taken to have made.
CORRELATION: Final = "asked-by-us"
TRIGGER: Final = "/signals/verification"
SECOND_TYPE: Final = "SensitiveDataCredential"


def kit_did(kit: str, part: str) -> str:
    """The DID under which the kit at this address plays a part."""
    return f"{did_of_url(kit)}:{part}"


def add_trigger(app: FastAPI, node: Node) -> None:
    """Where the kit has our node verify whoever calls: the door that every member comes through."""
    router = APIRouter()

    @router.post(TRIGGER, status_code=204)
    def verify(request: Request) -> None:
        node.peers.authenticate(request.headers.get("authorization"))

    app.include_router(router)


def seed(node: Node, kit: str) -> None:
    """What happened before the kit's cases begin: its holder has joined, and we have asked."""
    holder, issuer = kit_did(kit, KIT_HOLDER), kit_did(kit, KIT_ISSUER)
    now = time.time()
    with node.store.transaction() as tx:
        if node.operator is not None:
            tx.add(
                ParticipantRow(
                    did=holder, kind="enterprise", name="kit", credential="", joined_at=now
                )
            )
        tx.add(
            AskedCredentialRow(
                holder_pid=CORRELATION,
                issuer=issuer,
                types=["MembershipCredential", SECOND_TYPE],
                status=RequestStatus.RECEIVED.value,
                asked_at=now,
                changed_at=now,
            )
        )


def _membership(node: Node, subject: str) -> str:
    """As the operator's own, but for its status: the kit's idea of a credential has room for one
    list, and an operator names two (revoked, suspended)."""
    return issue_credential(
        node.identity,
        subject=subject,
        kind=ParticipantKind.ENTERPRISE,
        name="kit",
        now=int(time.time()),
    )


def _sensitive(node: Node, subject: str) -> str:
    """The kit wants an issuer of two kinds of credential; a space's operator has one."""
    now = int(time.time())
    claims = {
        "iss": node.did,
        "sub": subject,
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "jti": f"urn:uuid:{uuid.uuid4()}",
        "vc": {
            "@context": ["https://www.w3.org/2018/credentials/v1"],
            "id": f"urn:uuid:{uuid.uuid4()}",
            "type": ["VerifiableCredential", SECOND_TYPE],
            "credentialSubject": {"id": subject, "cleared": True},
        },
    }
    return sign_jwt(claims, node.identity)


def main(home: Path, port: int, section: str, kit: str, *, draft: bool) -> None:
    """Make the node's home, seed it, and serve until ended."""
    founder = section in (VERIFIER, ISSUING)
    values = {
        "name": "node under test",
        "kind": "operator" if founder else "enterprise",
        "url": f"http://127.0.0.1:{port}",
        "port": port,
        "founder": founder,
        "operator": None if founder else "http://127.0.0.1:1",
        "trusted_issuers": [kit_did(kit, KIT_ISSUER)],
        "token_client_id": CLIENT,
        "token_client_secret_h": hashlib.sha256(SECRET.encode()).hexdigest(),
        # A case refused for coming too soon would count as refused for what is wrong with it.
        "rate_per_member": 1000.0,
        "rate_per_address": 1000.0,
    }
    # The kit reads no other keys than those of P-256.
    create_home(home, values, algorithm=SigningAlgorithm.ES256)
    node = Node(Home(home), peers=DraftPeers if draft else Peers)
    seed(node, kit)
    if node.claims.issuer is not None:
        node.claims.issuer.credentials[MEMBERSHIP] = lambda did: _membership(node, did)
        node.claims.issuer.credentials[SECOND_TYPE] = lambda did: _sensitive(node, did)
    if draft:
        play_by_the_draft(node)
    app = create_app(node)
    add_trigger(app, node)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("section")
    parser.add_argument("kit")
    parser.add_argument("--draft", action="store_true")
    asked = parser.parse_args()
    main(asked.home, asked.port, asked.section, asked.kit, draft=asked.draft)
