"""The holder's part: a credential service over the node's database (§5.4, §6.5, §6.6).

It shows what an access token of ours allows and no more, keeps what issuers send in answer to what
we asked them for, and remembers what they offer.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog
from sqlmodel import Session, col, func, select

from dataspace.claims import MEMBERSHIP
from dataspace.claims.access import ACCESS_LIFETIME_S, issue_access, open_access
from dataspace.claims.credentials import Credential, open_credential_jwt, read_credential
from dataspace.claims.messages import (
    MAX_CREDENTIALS,
    CredentialMessage,
    CredentialOfferMessage,
    CredentialReference,
    CredentialRequestMessage,
    IssuerMetadata,
    PresentationQueryMessage,
    PresentationResponseMessage,
    RequestStatus,
    parse,
)
from dataspace.claims.outside import Outside
from dataspace.claims.presentations import issue_presentations
from dataspace.claims.scopes import MEMBERSHIP_SCOPE, Alias, Scope, entitled, parse_scopes
from dataspace.errors import (
    Denied,
    InputRejected,
    NotFound,
    ProtocolViolation,
    Unauthenticated,
)
from dataspace.evidence import read_space
from dataspace.identity.tokens import Claims
from dataspace.store.tables import (
    AskedCredentialRow,
    CredentialOfferRow,
    HeldCredentialRow,
    Setting,
)

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.claims")

ISSUER_TYPE: Final = "IssuerService"
# More than any participant has use for; what has expired is dropped before something is refused.
MAX_HELD: Final = 1000
MAX_OFFERS: Final = 100
MAX_ASKED: Final = 1000
# An access token that is sent still has most of its life before it.
RIDES_S: Final = ACCESS_LIFETIME_S / 5
MAX_RIDING: Final = 1024
_FORMAT: Final = "vc11-sl2021/jwt"
_ENVELOPED_FORMAT: Final = "vc20-bssl/jwt"


class Holder:
    """What this node holds, for those who may see it."""

    def __init__(self, node: Node, outside: Outside) -> None:
        self._node = node
        self._outside = outside
        self._access_key = node.derived_key("claims-access")
        # By bearer, with the time until which it is given again. Threads may both make one.
        self._riding: dict[str, tuple[str, float]] = {}

    # ---- access -----------------------------------------------------------------------------

    def membership_access(self, bearer: str) -> str:
        """An access token to our membership, as it rides in every request to `bearer`: the same one
        for a while, so that neither side does its work anew each time."""
        now = time.time()
        known = self._riding.get(bearer)
        if known is not None and now < known[1]:
            return known[0]
        if len(self._riding) >= MAX_RIDING:
            self._riding.clear()
        made = self.access_for(bearer, now=int(now))
        self._riding[bearer] = made, now + RIDES_S
        return made

    def access_for(
        self, bearer: str, scopes: Collection[Scope] = (MEMBERSHIP_SCOPE,), *, now: int
    ) -> str:
        """An access token with which `bearer` may ask for what the scopes name."""
        return issue_access(self._access_key, bearer=bearer, scopes=scopes, now=now)

    def open_access(self, bearer: str, token: object) -> frozenset[Scope]:
        """What an access token of ours lets `bearer` read. Raises Unauthenticated."""
        if not isinstance(token, str):
            raise Unauthenticated(
                "the token carries no access token of this node (claim `token`)",
                remedy="send the one that came with this node's request",
            )
        return open_access(token, self._access_key, bearer=bearer, now=int(time.time()))

    # ---- showing ----------------------------------------------------------------------------

    def show(
        self, tx: Session, claims: Claims, query: PresentationQueryMessage
    ) -> PresentationResponseMessage:
        """Presentations of what is asked for and allowed. Raises Unauthenticated, Unsupported, or
        ProtocolViolation for what is no scope."""
        granted = self.open_access(claims.did, claims.access)
        shown = entitled(parse_scopes(query.scopes()), granted)
        now = int(time.time())
        presentations = issue_presentations(
            self._node.identity, _covered(self._valid(tx, now), shown), audience=claims.did, now=now
        )
        return PresentationResponseMessage(presentation=tuple(presentations))

    def _valid(self, tx: Session, now: int) -> list[Credential]:
        """What we hold and is valid now, the newest first; our membership before all."""
        rows = tx.exec(
            select(HeldCredentialRow).order_by(col(HeldCredentialRow.received_at).desc())
        ).all()
        own = tx.get(Setting, "membership")
        jwts = [own.value] if own else []
        jwts += [row.jwt for row in rows if row.expires_at is None or row.expires_at > now]
        return [one for jwt in dict.fromkeys(jwts) if (one := _read_again(jwt, now)) is not None]

    # ---- keeping ----------------------------------------------------------------------------

    def verify_writer(self, tx: Session, did: str) -> None:
        """Whether `did` is one whose credentials and offers are taken: the operator, an issuer the
        owner trusts, or one that this node has asked. Raises Denied; nothing is fetched."""
        space = read_space(tx)
        trusted = self._node.home.settings.trusted_issuers
        if did in trusted or (space is not None and did == space.operator):
            return
        asked = select(AskedCredentialRow.holder_pid).where(AskedCredentialRow.issuer == did)
        if tx.exec(asked.limit(1)).first() is None:
            raise Denied(
                "this node takes credentials and offers from issuers it trusts or has asked",
                remedy="have its owner name you in the setting trusted_issuers",
            )

    def open_answer(self, claims: Claims, message: CredentialMessage) -> list[Credential]:
        """The credentials in an issuer's message, verified outside of any transaction: each by the
        sender, about us, and valid now. Raises ProtocolViolation."""
        credentials = []
        for one in message.credentials:
            credential = open_credential_jwt(
                one.payload, now=int(time.time()), key_of=self._node.key_of
            )
            if credential.issuer != claims.did:
                raise ProtocolViolation("a credential was issued by another than its sender")
            if credential.subject != self._node.did:
                raise ProtocolViolation("a credential is about another than this node")
            if one.credential_type not in credential.types:
                raise ProtocolViolation("a credential is of another type than its envelope says")
            credentials.append(credential)
        return credentials

    def keep(
        self,
        tx: Session,
        claims: Claims,
        message: CredentialMessage,
        credentials: Sequence[Credential],
    ) -> None:
        """Keep what an issuer sent in answer to a request of ours. The same message again changes
        nothing. Raises NotFound where we asked for nothing by this name."""
        asked = tx.get(AskedCredentialRow, message.holder_pid)
        if asked is None or asked.issuer != claims.did:
            raise NotFound("this node did not ask you for credentials under this holderPid")
        asked.status = message.status.value
        asked.issuer_pid = message.issuer_pid
        asked.reason = message.rejection_reason
        asked.changed_at = time.time()
        tx.add(asked)
        for credential in credentials:
            self._keep_one(tx, credential)
        log.info(
            "credentials answered",
            issuer=claims.did,
            request=message.holder_pid,
            status=message.status.value,
            credentials=len(credentials),
        )

    def _keep_one(self, tx: Session, credential: Credential) -> None:
        same = select(HeldCredentialRow).where(HeldCredentialRow.jwt == credential.jwt)
        if tx.exec(same).first() is not None:
            return
        self._make_room(tx)
        tx.add(
            HeldCredentialRow(
                id=str(uuid.uuid4()),
                issuer=credential.issuer,
                kind=credential.kind,
                credential_id=credential.id,
                format=_ENVELOPED_FORMAT if credential.enveloped else _FORMAT,
                jwt=credential.jwt,
                expires_at=credential.expires_at,
                received_at=time.time(),
            )
        )
        tx.flush()
        space = read_space(tx)
        if (
            space is not None
            and credential.issuer == space.operator
            and MEMBERSHIP in credential.types
        ):
            # From now on it rides in our tokens, as one that was renewed does.
            tx.merge(Setting(name="membership", value=credential.jwt))
            tx.flush()
            self._node.peers.forget_credential()
            self._node.keep_membership(tx)

    def _make_room(self, tx: Session) -> None:
        if tx.exec(select(func.count()).select_from(HeldCredentialRow)).one() < MAX_HELD:
            return
        gone = tx.exec(
            select(HeldCredentialRow).where(col(HeldCredentialRow.expires_at) <= time.time())
        ).all()
        for row in gone:
            tx.delete(row)
        tx.flush()
        if not gone:
            raise ProtocolViolation(f"this node holds {MAX_HELD} credentials already")

    def offered(self, tx: Session, claims: Claims, message: CredentialOfferMessage) -> None:
        """Remember what an issuer offers. Raises Denied where it speaks for another."""
        if message.issuer != claims.did:
            raise Denied("an offer is made by its issuer alone", remedy="send it yourself")
        rows = tx.exec(
            select(CredentialOfferRow)
            .where(CredentialOfferRow.issuer == claims.did)
            .order_by(col(CredentialOfferRow.offered_at))
        ).all()
        for row in rows[: max(0, len(rows) - MAX_OFFERS + 1)]:
            tx.delete(row)
        tx.add(
            CredentialOfferRow(
                id=str(uuid.uuid4()),
                issuer=claims.did,
                objects=message.to_json()["credentials"],
                offered_at=time.time(),
            )
        )

    # ---- asking -----------------------------------------------------------------------------

    def ask(self, issuer: str, types: Sequence[str]) -> str:
        """Ask an issuer for credentials of these types; the name of the request (§6.4).

        Raises InputRejected for a type it does not issue or where it refuses, ProtocolViolation,
        or Unavailable.
        """
        endpoint = self._node.peers.resolver.service(issuer, ISSUER_TYPE)
        metadata = parse(IssuerMetadata, self._outside.get(f"{endpoint}/metadata"))
        if metadata.issuer != issuer:
            raise ProtocolViolation("the issuer's metadata is that of another")
        objects = {one.credential_type: one.id for one in metadata.credentials_supported}
        missing = [one for one in types if one not in objects]
        if missing or not types:
            known = ", ".join(sorted(filter(None, objects)))[:500]
            raise InputRejected(
                "types: the issuer does not issue that" if missing else "types: expected one",
                remedy=f"it issues: {known}",
            )
        holder_pid = str(uuid.uuid4())
        self._remember_asking(holder_pid, issuer, types)
        message = CredentialRequestMessage(
            holder_pid=holder_pid,
            credentials=tuple(CredentialReference(id=objects[one]) for one in types),
        )
        answer = self._outside.post(f"{endpoint}/credentials", message, to=issuer, access=None)
        if answer.status >= 300:
            self._remember_refusal(holder_pid, answer.reason())
            raise InputRejected(f"the issuer refused: {answer.reason()}")
        return holder_pid

    def _remember_asking(self, holder_pid: str, issuer: str, types: Sequence[str]) -> None:
        # Before anything is sent: the answer may come while the acknowledgement is on its way.
        now = time.time()
        with self._node.store.transaction() as tx:
            if tx.exec(select(func.count()).select_from(AskedCredentialRow)).one() >= MAX_ASKED:
                oldest = tx.exec(
                    select(AskedCredentialRow).order_by(col(AskedCredentialRow.asked_at)).limit(1)
                ).one()
                tx.delete(oldest)
            tx.add(
                AskedCredentialRow(
                    holder_pid=holder_pid,
                    issuer=issuer,
                    types=list(types),
                    status=RequestStatus.RECEIVED.value,
                    asked_at=now,
                    changed_at=now,
                )
            )

    def _remember_refusal(self, holder_pid: str, reason: str) -> None:
        with self._node.store.transaction() as tx:
            row = tx.get(AskedCredentialRow, holder_pid)
            if row is not None:
                row.status, row.reason = RequestStatus.REJECTED.value, reason
                row.changed_at = time.time()
                tx.add(row)

    # ---- for the owner ----------------------------------------------------------------------

    def held(self, tx: Session) -> list[dict[str, Any]]:
        """What this node holds, without the credentials themselves."""
        now = int(time.time())
        found = []
        for credential in self._valid(tx, now):
            found.append(
                {
                    "type": credential.kind,
                    "issuer": credential.issuer,
                    "id": credential.id,
                    "expires_at": credential.expires_at,
                }
            )
        return found

    def asked(self, tx: Session) -> list[dict[str, Any]]:
        """What this node asked issuers for, the last first."""
        rows = tx.exec(
            select(AskedCredentialRow).order_by(col(AskedCredentialRow.asked_at).desc())
        ).all()
        return [
            {
                "request": row.holder_pid,
                "issuer": row.issuer,
                "types": row.types,
                "status": row.status,
                "reason": row.reason,
                "asked_at": row.asked_at,
            }
            for row in rows
        ]

    def offers(self, tx: Session) -> list[dict[str, Any]]:
        """What issuers have offered, the last first."""
        rows = tx.exec(
            select(CredentialOfferRow).order_by(col(CredentialOfferRow.offered_at).desc())
        ).all()
        return [
            {"issuer": row.issuer, "credentials": row.objects, "offered_at": row.offered_at}
            for row in rows
        ]


def _read_again(jwt: str, now: int) -> Credential | None:
    """A credential that was verified when it came; None once it has expired."""
    try:
        return read_credential(jwt, now=now)
    except ProtocolViolation:
        return None


def _covered(credentials: Sequence[Credential], scopes: frozenset[Scope]) -> list[Credential]:
    """What the scopes name. By type it is the newest of each issuer, which comes first; by id it is
    the very one."""
    by_type: dict[tuple[str, str], Credential] = {}
    by_id = []
    for one in credentials:
        covering = {scope.alias for scope in scopes if scope.covers(one.types, one.id)}
        if Alias.TYPE in covering:
            by_type.setdefault((one.issuer, one.kind), one)
        if Alias.ID in covering:
            by_id.append(one)
    unique = {one.jwt: one for one in (*by_type.values(), *by_id)}
    return list(unique.values())[:MAX_CREDENTIALS]
