"""The issuer's part, at the operator of a space (§6): members ask, credentials are delivered.

A request is answered at once with the address of its status. What is issued follows by a durable
process, so that it comes although the operator or the holder was away; the holder takes the same
message twice.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sqlmodel import Session, col, select

from dataspace.claims import ISSUER_SERVICE, MEMBERSHIP
from dataspace.claims.messages import (
    CredentialContainer,
    CredentialMessage,
    CredentialObject,
    CredentialRequestMessage,
    CredentialStatus,
    IssuerMetadata,
    RequestStatus,
    parse,
)
from dataspace.claims.outside import Outside
from dataspace.claims.verifier import SERVICE_TYPE
from dataspace.errors import Denied, InputRejected, NotFound, ProtocolViolation
from dataspace.identity.tokens import Claims
from dataspace.operator import Operator
from dataspace.processes import Handler, Pool, Process, schedule
from dataspace.settings import ParticipantKind
from dataspace.store.tables import CredentialRequestRow, ParticipantRow

if TYPE_CHECKING:
    from dataspace.node import Node

DELIVER: Final = "deliver-credentials"
PROFILE: Final = "vc11-sl2021/jwt"
# Of one member; the oldest is forgotten first.
MAX_REQUESTS: Final = 100
# A holder that is away for longer asks again.
GIVE_UP_S: Final = 7 * 86400.0

# Makes one credential for a member; raises Denied where it gets none.
Issue = Callable[[str], str]

# What the membership credential says of its subject (`credentialSchema`).
MEMBERSHIP_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2019-09/schema",
    "title": MEMBERSHIP,
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "kind": {"enum": [kind.value for kind in ParticipantKind]},
        "name": {"type": "string"},
        "zones": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["id", "kind", "name"],
}


class Issuer:
    """Issues what the operator knows of its members. `credentials` is what it can make, by type."""

    def __init__(self, node: Node, operator: Operator, outside: Outside) -> None:
        self._node = node
        self._outside = outside
        self.credentials: dict[str, Issue] = {
            MEMBERSHIP: lambda did: operator.renew(did).credential
        }
        self.format = PROFILE

    def handlers(self) -> dict[str, Handler]:
        return {DELIVER: Handler(self._deliver, self._given_up, Pool.PEERS)}

    def metadata(self) -> IssuerMetadata:
        """What can be asked for (§6.7)."""
        return IssuerMetadata(
            issuer=self._node.did,
            credentials_supported=tuple(self._object(kind) for kind in self.credentials),
        )

    def _object(self, kind: str) -> CredentialObject:
        return CredentialObject(
            id=object_id(self._node.did, kind),
            type="CredentialObject",
            credential_type=kind,
            credential_schema=f"{self._node.home.url}{ISSUER_SERVICE}/schemas/{kind}",
            offer_reason="reissue",
            binding_methods=("did:web",),
            profile=PROFILE,
            # Whoever is a member gets it; nothing else has to be shown.
            issuance_policy={"id": f"{kind}-policy", "input_descriptors": []},
        )

    def verify_member(self, tx: Session, did: str) -> None:
        """Raises Denied unless `did` is a member of the space."""
        if tx.get(ParticipantRow, did) is None:
            raise Denied(
                "credentials are issued to members of the space",
                remedy="join with an invitation: ask the operator",
            )

    def request(self, tx: Session, claims: Claims, message: CredentialRequestMessage) -> str:
        """Take a member's request in the caller's transaction; our name for it.

        Raises Denied for who is no member, InputRejected for what is not issued here.
        """
        self.verify_member(tx, claims.did)
        known = {object_id(self._node.did, kind): kind for kind in self.credentials}
        asked = [one.id for one in message.credentials]
        if any(one not in known for one in asked):
            raise InputRejected(
                "credentials: no credential has that id here",
                remedy=f"take one from the metadata: {ISSUER_SERVICE}/metadata",
            )
        self._forget_oldest(tx, claims.did)
        issuer_pid = str(uuid.uuid4())
        tx.add(
            CredentialRequestRow(
                issuer_pid=issuer_pid,
                holder=claims.did,
                holder_pid=message.holder_pid,
                objects=list(dict.fromkeys(known[one] for one in asked)),
                status=RequestStatus.RECEIVED.value,
                access=claims.access,
                asked_at=time.time(),
            )
        )
        schedule(tx, DELIVER, issuer_pid, target=claims.did, give_up_after_s=GIVE_UP_S)
        return issuer_pid

    def _forget_oldest(self, tx: Session, holder: str) -> None:
        rows = tx.exec(
            select(CredentialRequestRow)
            .where(CredentialRequestRow.holder == holder)
            .order_by(col(CredentialRequestRow.asked_at))
        ).all()
        for row in rows[: max(0, len(rows) - MAX_REQUESTS + 1)]:
            tx.delete(row)

    def status(self, tx: Session, claims: Claims, issuer_pid: str) -> CredentialStatus:
        """How far a request has come, for the one that made it (§6.8). Raises NotFound."""
        row = tx.get(CredentialRequestRow, issuer_pid)
        if row is None or row.holder != claims.did:
            raise NotFound("there is no such request of yours")
        return CredentialStatus(
            issuer_pid=row.issuer_pid,
            holder_pid=row.holder_pid,
            status=RequestStatus(row.status),
        )

    def schema(self, kind: str) -> dict[str, Any]:
        """The schema of what a credential of this type says. Raises NotFound."""
        if kind != MEMBERSHIP:
            raise NotFound("no credential of this type has a schema here")
        return MEMBERSHIP_SCHEMA

    def _deliver(self, process: Process) -> None:
        """Send the answer to the holder's credential service (§6.5)."""
        with self._node.store.transaction() as tx:
            row = tx.get(CredentialRequestRow, process.subject)
            if row is None or row.status != RequestStatus.RECEIVED.value:
                return
            holder, access, written = row.holder, row.access, row.message
        endpoint = self._node.peers.resolver.service(holder, SERVICE_TYPE)
        message = self._answer(process.subject) if written is None else _read(written)
        answer = self._outside.post(f"{endpoint}/credentials", message, to=holder, access=access)
        if answer.status >= 300:
            raise ProtocolViolation(f"the holder refused its credentials: {answer.reason()}")
        with self._node.store.transaction() as tx:
            self._end(tx, process.subject, message.status, message.rejection_reason)

    def _answer(self, issuer_pid: str) -> CredentialMessage:
        """Make the answer and keep it: a holder that is away must not cost a credential with every
        attempt, and gets the same one however often it is sent."""
        with self._node.store.transaction() as tx:
            row = tx.get_one(CredentialRequestRow, issuer_pid)
            holder, holder_pid, kinds = row.holder, row.holder_pid, list(row.objects)
        try:
            made = tuple(self._container(kind, holder) for kind in kinds)
            message = CredentialMessage(
                issuer_pid=issuer_pid,
                holder_pid=holder_pid,
                status=RequestStatus.ISSUED,
                credentials=made,
            )
        except Denied as err:
            message = CredentialMessage(
                issuer_pid=issuer_pid,
                holder_pid=holder_pid,
                status=RequestStatus.REJECTED,
                rejection_reason=err.sentence,
            )
        with self._node.store.transaction() as tx:
            row = tx.get_one(CredentialRequestRow, issuer_pid)
            row.message = message.to_bytes().decode()
            tx.add(row)
        return message

    def _container(self, kind: str, holder: str) -> CredentialContainer:
        return CredentialContainer(
            credential_type=kind, payload=self.credentials[kind](holder), format=self.format
        )

    def _given_up(self, tx: Session, process: Process, reason: str) -> None:
        self._end(tx, process.subject, RequestStatus.REJECTED, reason)

    def _end(self, tx: Session, issuer_pid: str, status: RequestStatus, reason: str | None) -> None:
        row = tx.get(CredentialRequestRow, issuer_pid)
        if row is not None:
            row.status, row.reason = status.value, reason
            row.access = row.message = None
            tx.add(row)


def _read(written: str) -> CredentialMessage:
    return parse(CredentialMessage, written.encode())


def object_id(issuer: str, kind: str) -> str:
    """The lasting name of a kind of credential, the same after every restart."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{issuer}#{kind}"))
